"""Headers of files, where a repository wants them ([tool.hemma.verify] header): there, and as they were (S6-R13, C18).

What a header says is its owner's: presence and stability are checked, never the words. A header is the comment lines
that a file begins with, behind a `#!` line. Package inits, configuration and tests carry none.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterable, Iterator, Mapping

from manifests.verify import Finding, ModuleRow


@dataclasses.dataclass(frozen=True)
class Headers:
    """What is asked: `template`, for a project called `project`; and how each file begins, now and `before`, by path."""

    template: str
    project: str
    exempt: tuple[str, ...]
    now: Mapping[str, str]
    before: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])


def header_of(text: str) -> tuple[str, ...]:
    """The comment lines that a file begins with, without its `#!` line; none when it begins otherwise."""
    lines = text.removeprefix("\ufeff").splitlines()
    taken: list[str] = []
    for line in lines[1:] if lines and lines[0].startswith("#!") else lines:
        if not line.startswith("#"):
            break
        taken.append(line.rstrip())
    return tuple(taken)


def rendered(template: str, project: str, row: ModuleRow) -> str:
    """The template for one file: {project}, {path} and {name} filled in, all else as it is."""
    words = {"{project}": project, "{path}": row.path, "{name}": row.name}
    for place, word in words.items():
        template = template.replace(place, word)
    return template


def header_findings(headers: Headers, rows: Iterable[ModuleRow]) -> Iterator[Finding]:
    """A finding for each module whose header is missing, or is another than it was."""
    least = len(headers.template.splitlines())
    for row in rows:
        if row.path not in headers.now or is_exempt(row.path, headers.exempt):
            continue
        now, before = header_of(headers.now[row.path]), header_of(headers.before.get(row.path, ""))
        if len(now) < least:
            wanted = rendered(headers.template, headers.project, row).replace("\n", " | ")
            yield Finding.of(
                row, "header", "it has no header" if not now else "its header is too short", f"begin it with: {wanted}"
            )
        elif len(before) >= least and now != before:
            first = next((pair for pair in zip(before, now, strict=False) if pair[0] != pair[1]), (before[-1], now[-1]))
            yield Finding.of(
                row, "header", f"its header changed: {first[0]!r} became {first[1]!r}", f"put back {first[0]!r}"
            )


def is_exempt(path: str, patterns: Iterable[str]) -> bool:
    """Whether a file carries no header: package inits never do; a pattern is matched with the path and with the name."""
    name = path.rpartition("/")[2]
    if name == "__init__.py" or not name.endswith(".py"):
        return True
    return any(fnmatch.fnmatchcase(path, each) or fnmatch.fnmatchcase(name, each) for each in patterns)
