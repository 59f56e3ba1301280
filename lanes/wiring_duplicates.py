"""Which files are copies of others: the same content, the same public definitions, or a name that hides another's.

Two modules that offer the same interface on purpose (two back ends) are no copies: names and arguments alone make a
duplicate only when nothing reaches one of the two. Files that hold no function and fewer than three statements are too
small to be called a copy of anything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from lanes.wiring_graph import Program, Source

_ENOUGH_DEFINITIONS = 2


@dataclasses.dataclass(frozen=True)
class Copy:
    """`source` is a copy of, or is hidden by, `original` (a path or the name of a library)."""

    source: Source
    original: str
    why: str
    kind: str = "duplicate"


def copies(program: Program, hidden: Sequence[Source], wired: Iterable[str], taken: Mapping[str, str]) -> list[Copy]:
    """Every duplicate, each once, in order of path (S19-R03).

    `hidden`: files whose dotted name an earlier root has already. `taken`: top-level names of others -> whose they are.
    """
    reached = set(wired)
    found: dict[str, Copy] = {}
    for source in hidden:
        first = program.modules[source.name].path
        found[source.path] = Copy(source, first, f"{first} has the same import name and comes first")
    modules = [source for source in program.modules.values() if source.role == "module"]
    for source in modules:
        owner = taken.get(source.name)
        if owner is not None and "." not in source.name:
            found[source.path] = Copy(source, source.name, f"its name hides {owner}", "shadow")
    _same(modules, reached, found, "digest", "the same content as")
    _same(modules, reached, found, "bodies", "the same public definitions as")
    _same_interface(modules, reached, found)
    return [found[path] for path in sorted(found)]


def _order(source: Source, reached: set[str]) -> tuple[bool, int, str]:
    """The original of a group comes first: the one that is reached, then the one with the plainest path."""
    return (source.name not in reached, len(source.path), source.path)


def _same(modules: list[Source], reached: set[str], found: dict[str, Copy], key: str, why: str) -> None:
    groups: dict[str, list[Source]] = {}
    for source in modules:
        value = getattr(source.facts, key)
        if value and source.path not in found:
            groups.setdefault(value, []).append(source)
    for group in groups.values():
        first, *others = sorted(group, key=lambda each: _order(each, reached))
        for source in others:
            found[source.path] = Copy(source, first.path, f"{why} {first.path}")


def _same_interface(modules: list[Source], reached: set[str], found: dict[str, Copy]) -> None:
    groups: dict[tuple[tuple[str, str], ...], list[Source]] = {}
    for source in modules:
        public = source.facts.public
        if len(public) >= _ENOUGH_DEFINITIONS and source.path not in found:
            groups.setdefault(tuple(sorted(public.items())), []).append(source)
    for group in groups.values():
        first, *others = sorted(group, key=lambda each: _order(each, reached))
        for source in others:
            if source.name not in reached and first.name in reached:
                why = f"the same {len(source.facts.public)} public names and arguments as {first.path}, and nothing uses it"
                found[source.path] = Copy(source, first.path, why)
