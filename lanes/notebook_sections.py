"""Which section of a notebook a cell stands in: people find a cell by its heading, tools by its index (S18-R04)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lanes.notebook_format import Cell

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r"^ {0,3}#{1,6}(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")


def sections(cells: Iterable[Cell]) -> list[str]:
    """The heading that each cell stands below, its own first one for a cell that has one; empty before the first."""
    found: list[str] = []
    current = ""
    for cell in cells:
        own = _headings(cell.source) if cell.cell_type == "markdown" else []
        found.append(own[0] if own else current)
        current = own[-1] if own else current
    return found


def _headings(markdown: str) -> list[str]:
    titles: list[str] = []
    fence = ""
    for line in markdown.splitlines():
        mark = _FENCE.match(line)
        if mark and (not fence or mark[1].startswith(fence)):
            fence = "" if fence else mark[1]
        elif not fence and (title := _HEADING.match(line)) and title[1]:
            titles.append(title[1].strip())
    return titles
