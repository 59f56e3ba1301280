"""What one Python file says about wiring, as plain data: which names it takes from where, and which of its parts use them.

A *part* of a module is its body (``""``), one top-level function or class, or its ``if __name__ == "__main__"`` block.
A *target* is written ``module:chain``; the chain may be empty, and then the module itself is meant.
"""

from __future__ import annotations

import dataclasses
from typing import Any

BODY = ""
MAIN_BLOCK = "if __name__"
# Version of what a scan notes down: facts kept on disk by another one are not read.
SCAN_VERSION = 1


@dataclasses.dataclass(slots=True)
class Pattern:
    """A dynamic import: `parts` of its name in order, None where a value is put in; `every` takes all submodules."""

    part: str
    parts: list[str | None]
    every: bool = False


@dataclasses.dataclass(slots=True)
class Facts:
    """One file. `bindings`: name -> targets of its module-level imports, joined by `|`; `uses`: part -> chains of names,
    or targets with `:`.

    `imports`: every module or `module:name` that it imports anywhere, with its line; `type_only`: those for types alone.
    `inside`: first and last line of each function body, for what a coverage trace says (S19-R09).
    """

    bindings: dict[str, str] = dataclasses.field(default_factory=dict[str, str])
    stars: list[str] = dataclasses.field(default_factory=list[str])
    assigned: list[str] = dataclasses.field(default_factory=list[str])
    uses: dict[str, list[str]] = dataclasses.field(default_factory=dict[str, list[str]])
    imports: list[tuple[str, int]] = dataclasses.field(default_factory=list[tuple[str, int]])
    type_only: list[str] = dataclasses.field(default_factory=list[str])
    dynamic: list[Pattern] = dataclasses.field(default_factory=list[Pattern])
    constants: list[str] = dataclasses.field(default_factory=list[str])
    named: dict[str, list[str]] = dataclasses.field(default_factory=dict[str, list[str]])
    inside: list[tuple[int, int]] = dataclasses.field(default_factory=list[tuple[int, int]])
    public: dict[str, str] = dataclasses.field(default_factory=dict[str, str])
    digest: str = ""
    bodies: str = ""
    stub: str = ""
    stub_functions: list[tuple[str, int]] = dataclasses.field(default_factory=list[tuple[str, int]])
    broken: str = ""
    broken_line: int = 0

    def as_row(self) -> list[Any]:
        """The facts as JSON can keep them."""
        values = [getattr(self, field.name) for field in dataclasses.fields(self)]
        values[_DYNAMIC] = [[found.part, found.parts, found.every] for found in self.dynamic]
        return values


_DYNAMIC = [field.name for field in dataclasses.fields(Facts)].index("dynamic")


def from_row(row: list[Any]) -> Facts:
    """The facts that `as_row` gave. Raises TypeError or ValueError for anything else."""
    facts = Facts(*row)
    if facts.dynamic:
        facts.dynamic = [Pattern(*each) for each in row[_DYNAMIC]]
    return facts
