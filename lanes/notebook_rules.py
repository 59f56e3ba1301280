"""Is this notebook thin? It may install, define paths and invoke committed commands; logic lives in the repository (S18-R01).

Code cells are read as Python with `ast`, after IPython's commands are taken out. A statement is allowed because it is one of few
known forms, so new ways to hide logic in a cell are found without a rule of their own. S9-R12, S9-R35, S18-R04, S18-R08.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

from manifests.commands import Remedy

from lanes.notebook_code import take_apart
from lanes.notebook_commands import Fault, judge
from lanes.notebook_format import BrokenNotebook, Cell, Raw, read
from lanes.notebook_python import judge_python
from lanes.notebook_secrets import secrets_in
from lanes.notebook_sections import sections
from lanes.slice_sealed import is_sealed, sealed_files

# rule -> what mends a finding of it
MENDS: dict[str, Remedy] = {
    "function": "move it into a committed module and call that: !python -m PACKAGE.MODULE",
    "class": "move it into a committed module and call that: !python -m PACKAGE.MODULE",
    "row-selection": "choose rows in a committed preprocessing module: !python -m PACKAGE.MODULE",
    "archive-resolution": "let a committed command find, fetch and open archives: !python -m PACKAGE.MODULE",
    "training-loop": "train with a committed module: !python -m PACKAGE.MODULE",
    "logic": "move it into a committed module; a cell installs, defines paths, or invokes a committed command",
    "command": "commit it as a module or script, then: !python -m PACKAGE.MODULE",
    "secret": "revoke it, then read it by name: userdata.get('NAME') in Colab, os.environ elsewhere",
    "stale": "hemma notebook build SLICE|MANIFEST --sealed --out FILE",
    "conflict": "choose between the two versions and delete the markers",
    "language": "run a committed command from a Python notebook",
    "unreadable": "mend the syntax of the cell",
    "broken": "git log --oneline -- FILE, and restore a version that opens",
}
# Where the row engine travels in a sealed cell.
ENGINE = "hemma_payload/"
_MARKER = re.compile(r"^`?(?:<{7} |>{7} |={7}`?$)", re.MULTILINE)


@dataclass(frozen=True)
class Finding:
    """One thing that does not belong into a thin notebook: where (cell from 0, its section, line from 1), what, and the mend."""

    index: int | None
    heading: str
    line: int | None
    rule: str
    fact: str
    mend: Remedy


def check_thin(notebook: Raw) -> list[Finding]:
    """Everything in a notebook that S18-R01 does not allow, in the order of the cells; empty when it is thin. Never raises."""
    try:
        found = read(notebook)
    except BrokenNotebook as error:
        return [Finding(None, "", None, "broken", str(error), MENDS["broken"])]
    language = found.language()
    is_python = "python" in language
    faults: list[Finding] = []
    for index, (cell, heading) in enumerate(zip(found.cells, sections(found.cells), strict=True)):
        each = list(_in_any_cell(cell))
        # A generated source cell is proven by its digests: what is in it is committed source, not logic of the cell.
        if cell.cell_type == "code" and not _MARKER.search(cell.source) and not is_sealed(cell.source):
            each += _in_code(cell.source) if is_python else _in_other_code(cell.source, language)
        faults += (Finding(index, heading, line, *fault, MENDS[fault[0]]) for line, fault in sorted(each, key=_by_line))
    return faults


def stale_source(notebook: Raw, present: Callable[[str], str | None]) -> list[Finding]:
    """Sealed cells that carry other source than the repository has now (S18-R07): the builder was not run after a change.

    `present` gives the sha256 of a path in the repository, None where there is none. The engine's own files, which no
    repository holds, are not compared. Never raises.
    """
    try:
        cells = read(notebook).cells
    except BrokenNotebook:
        return []
    found: list[Finding] = []
    for index, (cell, heading) in enumerate(zip(cells, sections(cells), strict=True)):
        sealed = (sealed_files(cell.source) or {}) if cell.cell_type == "code" else {}
        own = {path: digest for path, digest in sealed.items() if path != "__main__.py" and not path.startswith(ENGINE)}
        changed = [path for path, digest in own.items() if present(path) != digest]
        if changed:
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            fact = f"carries {', '.join(changed[:3])}{more} as it was before: the source has changed since"
            found.append(Finding(index, heading, None, "stale", fact, MENDS["stale"]))
    return found


def _by_line(found: tuple[int | None, Fault]) -> tuple[int, Fault]:
    return found[0] or 0, found[1]


def _in_any_cell(cell: Cell) -> Iterator[tuple[int | None, Fault]]:
    for line, what in secrets_in(cell.source):
        yield line, ("secret", f"holds what looks like {what}")
    shown = {what for output in cell.outputs for text in _texts(output) for _, what in secrets_in(text)}
    for what in sorted(shown):
        yield None, ("secret", f"its output shows what looks like {what}")
    if mark := _MARKER.search(cell.source):
        yield cell.source.count("\n", 0, mark.start()) + 1, ("conflict", "holds conflict markers of a merge")


def _texts(value: object) -> Iterator[str]:
    """Every string in a JSON value; images in base64 are not text."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            yield from _texts(item)
    elif isinstance(value, dict):
        for key, item in cast("dict[str, object]", value).items():
            if not key.startswith("image/"):
                yield from _texts(item)


def _in_other_code(source: str, language: str) -> Iterator[tuple[int | None, Fault]]:
    if source.strip():
        yield 1, ("language", f"is written in {language[:40]}, of which nothing else can be checked")


def _in_code(source: str) -> Iterator[tuple[int | None, Fault]]:
    code = take_apart(source)
    for command in code.commands:
        if fault := judge(command):
            yield command.line, fault
    try:
        with warnings.catch_warnings():
            # "\\d" in a cell's string is Python's complaint to its author, not to whoever checks.
            warnings.simplefilter("ignore")
            faults = list(judge_python(_parsed(code.python)))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = error.lineno if isinstance(error, SyntaxError) else None
        yield line - 1 if line else None, ("unreadable", "is not Python that can be read")
        return
    yield from ((line and line - 1, fault) for line, fault in faults)


def _parsed(python: str) -> list[ast.stmt]:
    """The statements of a cell, one line further down than they stand in it. Raises what ast.parse does."""
    # A module with a syntax error makes CPython open the file it came from, whose name here is made up; one interactive
    # statement does not. Inside strings the block adds a blank per line, which no rule looks at.
    block = "\n ".join(["if True:", *python.split("\n"), "pass\n"])
    tree = ast.parse(block, mode="single").body
    if len(tree) != 1 or not isinstance(tree[0], ast.If) or tree[0].orelse:
        raise SyntaxError("the cell closes the block around it")
    return tree[0].body[:-1]
