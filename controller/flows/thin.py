"""Notebooks in commits under way, read where the commits are: whose they are, and whether logic moves into cells (S9-R12)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.flows.lane import facts_in
from lanes.classification import Facts
from lanes.logic_in_cells import logic_gained
from lanes.notebook_rules import Finding
from remote.repository import Repository

# What is read at most: of one notebook, of all, and in one round trip. What goes beyond is not judged.
_ONE_BYTES = 4 << 20
_ALL_BYTES = 64 << 20
_AT_ONCE = 6
_SHOWN = 40


@dataclass(frozen=True)
class Versions:
    """A notebook as the receiver of a change has it, and as the change would make it; None: it has none."""

    before: bytes | None
    after: bytes | None


def changes(repository: Repository, before: str, after: str, paths: Iterable[str]) -> dict[str, Versions]:
    """Both versions of each notebook among `paths`, from objects of this clone: at the revision `before` and at `after`.

    The revision `:0` is the index. A notebook that is too large is left out.
    """
    found: dict[str, Versions] = {}
    names, total = sorted(path for path in set(paths) if path.endswith(".ipynb")), 0
    for start in range(0, len(names), _AT_ONCE):
        part = names[start : start + _AT_ONCE]
        steps = [_read(f"{revision}:{path}") for path in part for revision in (before, after)]
        texts = [_bytes(result) for result in repository.steps(steps)]
        for path, one, other in zip(part, texts[::2], texts[1::2], strict=True):
            if max(len(one or b""), len(other or b"")) < _ONE_BYTES:
                found[path] = Versions(one, other)
        total += sum(len(text or b"") for text in texts)
        if total > _ALL_BYTES:
            break
    return found


def _read(name: str) -> dict[str, Any]:
    return {"argv": ["cat-file", "blob", name], "may_fail": True, "keep_bytes": _ONE_BYTES}


def _bytes(result: Mapping[str, Any]) -> bytes | None:
    return None if result["code"] else str(result["stdout"]).encode("utf-8", "surrogateescape")


def lane_facts(found: Mapping[str, Versions]) -> dict[str, Facts]:
    """What these notebooks say about their own lane: as the change makes them, or as they were before it removes them."""
    return {path: facts_in(each.after or each.before or b"") for path, each in found.items()}


def logic(found: Mapping[str, Versions]) -> dict[str, tuple[Finding, ...]]:
    """The notebooks that were thin, or were not there, and would hold logic; with each finding."""
    judged = {path: logic_gained(each.before, each.after) for path, each in found.items()}
    return {path: findings for path, findings in judged.items() if findings}


def as_lines(found: Mapping[str, Sequence[Finding]]) -> list[str]:
    """The findings as people read them: file, cell by index and section, line, fact, and the mend (S18-R04)."""
    lines: list[str] = []
    for path, findings in sorted(found.items()):
        for each in findings[:_SHOWN]:
            section = f" ({each.heading})" if each.heading else ""
            line = f" line {each.line}" if each.line else ""
            lines.append(f"{os.fspath(path)}: cell {each.index}{section}{line}: {each.fact} [{each.rule}]: {each.mend}")
    return lines
