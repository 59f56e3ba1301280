"""A page of a runbook taken apart: front matter, headings with their anchors, contents list, links; each with its line.

Lines count from 1, as editors do. Nothing here opens a file; what a link leads to is the caller's knowledge.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

_FENCE = re.compile(r"^(?:```|~~~)")
_HEADING = re.compile(r"^(#{1,6}) +(.+?) *$")
_LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
CONTENTS = "Contents:"
JUMP = "Jump:"


@dataclass(frozen=True)
class Heading:
    """A heading: how deep, its words, the anchor that GitHub makes of it, its line."""

    level: int
    title: str
    anchor: str
    line: int


@dataclass(frozen=True)
class Link:
    """A link in the text of a page."""

    says: str
    target: str
    line: int


@dataclass(frozen=True)
class Page:
    """A page. `matter` is None where there is no front matter that can be read, and `broken` then says why."""

    path: str
    text: str
    matter: dict[str, Any] | None
    broken: str
    body_line: int
    headings: tuple[Heading, ...]
    links: tuple[Link, ...]

    @property
    def title(self) -> str:
        """What the front matter calls it, else its first heading, else its path."""
        named = (self.matter or {}).get("title")
        return str(named) if named else next((heading.title for heading in self.headings), self.path)

    @property
    def sections(self) -> list[Heading]:
        """The headings of the second level, in order."""
        return [heading for heading in self.headings if heading.level == 2]

    def marked(self, mark: str) -> tuple[int, str] | None:
        """The line that begins with `mark` and its number, or None."""
        for number, line in _prose(self.text, self.body_line):
            if line.startswith(mark):
                return number, line
        return None


def parse(path: str, text: str) -> Page:
    """The page that `text` is; a page without front matter, or with a broken one, is a page all the same."""
    matter, broken, body_line = _matter(text)
    headings: list[Heading] = []
    links: list[Link] = []
    seen: dict[str, int] = {}
    for number, line in _prose(text, body_line):
        if found := _HEADING.match(line):
            headings.append(_heading(found, number, seen))
        links += [Link(says, target, number) for says, target in _LINK.findall(_without_code(line))]
    return Page(path, text, matter, broken, body_line, tuple(headings), tuple(links))


def load_yaml(text: str) -> object:
    """The data of a YAML text, by the quick parser where there is one. Raises YAMLError, ValueError, RecursionError."""
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe


def links_in(line: str) -> list[tuple[str, str]]:
    """The words and targets of the links in a line, code in their words included."""
    return _LINK.findall(line)


def anchor_of(title: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")


def line_of(text: str, words: str, start: int = 1) -> int:
    """The number of the first line from `start` on that holds `words`, else `start`."""
    for number, line in enumerate(text.splitlines(), 1):
        if number >= start and words in line:
            return number
    return start


def _heading(found: re.Match[str], number: int, seen: dict[str, int]) -> Heading:
    """The second of two equal headings gets `-1` at its anchor, the third `-2`."""
    anchor = anchor_of(found[2])
    count = seen.get(anchor, 0)
    seen[anchor] = count + 1
    return Heading(len(found[1]), found[2], f"{anchor}-{count}" if count else anchor, number)


def _matter(text: str) -> tuple[dict[str, Any] | None, str, int]:
    """Front matter, why it cannot be read, and the line where the body begins."""
    lines = text.splitlines()
    if not lines or lines[0].rstrip() != "---":
        return None, "has no front matter between two lines of dashes", 1
    end = next((at for at, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None)
    if end is None:
        return None, "has front matter that does not end", 1
    try:
        value: object = load_yaml("\n".join(lines[1:end]))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return None, f"has front matter that is no YAML: {_first_line(error)}", end + 2
    if not isinstance(value, dict):
        return None, "has front matter that is no list of keys", end + 2
    return {str(key): item for key, item in value.items()}, "", end + 2


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]


def _prose(text: str, start: int) -> Iterator[tuple[int, str]]:
    """The lines outside front matter and outside fenced code."""
    is_code = False
    for number, line in enumerate(text.splitlines(), 1):
        if number < start:
            continue
        if _FENCE.match(line):
            is_code = not is_code
        elif not is_code:
            yield number, line


def _without_code(line: str) -> str:
    return re.sub(r"`[^`]*`", "", line)
