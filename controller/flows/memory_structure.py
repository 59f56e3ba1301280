"""The modules of a repository: what the code has, what verify says of it, and the log that the structure comes from."""

from __future__ import annotations

import ast
import datetime as dt
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from controller.flows import verify
from controller.flows.memory import Memory, dumped, parsed, today
from lanes import memory as decide
from lanes import memory_structure as structure
from manifests.errors import HemmaError, UsageError
from manifests.memory import CHANGES, STRUCTURE, StructureModule
from manifests.verify import VerifyReport
from remote.agent import gitcall

Module = dict[str, Any]
Step = Callable[[list[Module]], list[Module]]


class Unmeasured(HemmaError):
    """A percentage was asked for of what nobody measured."""

    code = "progress-unmeasured"
    remedy = "hemma memory structure --progress --run-tests --active COVERAGE_DATA   (or --verify REPORT.json)"


# --- the file, and the log that it comes from -----------------------------------------------------------------------


def update(memory: Memory, request: verify.Request, stored: str | None = None) -> dict[str, Any]:
    """Merge what the code and verify say into the structure; returns it (S2-R14, S2-R15).

    `stored`: the file of an earlier report of verify. What changed goes to the change log first, from which the structure
    can be made again (C2). Raises UsageError or HemmaError as verify does.
    """
    found, now, before = _looked(memory, request, stored)

    def with_what_is_found(whole: list[Module]) -> list[Module]:
        return structure.merged(whole, structure.judged(found, whole, now, before), today().isoformat())

    with memory.locked():
        return _written(memory, "verify", with_what_is_found)


def plan(memory: Memory, name: str, purpose: str) -> dict[str, Any]:
    """Note a module that is to be written, before there is code of it (S2-R18); returns the structure.

    Raises UsageError for one that has code already.
    """

    def with_plan(whole: list[Module]) -> list[Module]:
        stands = next((each for each in whole if each.get("name") == name), {})
        if stands.get("path") and stands.get("status") != "removed":
            raise UsageError(f"{name} is there already ({stands['path']})", remedy="hemma memory structure")
        planned = StructureModule(name=name, status="planned", purpose=purpose).model_dump(exclude_unset=True)
        rest = [each for each in whole if each.get("name") != name]
        return [*rest, {**stands, **planned}]

    with memory.locked():
        return _written(memory, "plan", with_plan)


def rebuild(memory: Memory) -> dict[str, Any]:
    """Write the structure as its change log has it; returns it. For one that is lost, or in conflict after a merge."""
    with memory.locked():
        made = {"schema_version": 1, "modules": structure.replayed(_changes(memory).entries)}
        memory.write(STRUCTURE, dumped(made))
    return made


def progress(memory: Memory, request: verify.Request, stored: str | None = None) -> dict[str, Any]:
    """Counts by status and the share that is complete, from a report made now; nothing is written (S19-R04, S19-R06).

    Raises Unmeasured when tests or a real run of some module were not measured: then there is no percentage.
    """
    found, now, before = _looked(memory, request, stored)
    standing = _whole(memory, memory.structure()["modules"])
    modules = structure.merged(standing, structure.judged(found, standing, now, before), today().isoformat())
    counts, unmeasured = structure.progress(modules)
    if unmeasured:
        more = f" and {len(unmeasured) - 1} more" if unmeasured[1:] else ""
        raise Unmeasured(f"whether {unmeasured[0]}{more} can be called complete was never measured")
    total = sum(counts.values())
    return {**counts, "modules": total, "percent": round(100 * counts["complete"] / total, 1) if total else None}


def _looked(
    memory: Memory, request: verify.Request, stored: str | None
) -> tuple[list[Module], VerifyReport, VerifyReport | None]:
    """What the code has, what verify says now, and what it said."""
    before = _stored(stored) if stored is not None else None
    looked = verify.look(request)
    names = {source.path: source.name for source in looked.program.modules.values()}
    return modules_of(Path(memory.root), names), looked.report, before


def _stored(name: str) -> VerifyReport:
    """The report in a file. Raises UsageError: the file is the user's own, and stays where it is."""
    try:
        return VerifyReport.read(os.path.abspath(name))
    except HemmaError as error:
        remedy = "hemma verify --run-tests --json --out report.json"
        raise UsageError(f"{name} is no report of hemma verify: {error.message}", remedy=remedy) from error


def _written(memory: Memory, by: str, step: Step) -> dict[str, Any]:
    """Put a step's changes into the log, and then into the file. Edits by hand are in the log too, before it."""
    standing = memory.structure()
    log = _changes(memory)
    replay = structure.replayed(log.entries)
    whole = structure.restored(standing["modules"], replay)
    after = step(whole)
    moments = (("hand", structure.changes(replay, whole)), (by, structure.changes(whole, after)))
    new = [_entry(who, changed) for who, changed in moments if changed]
    if new:
        memory.write(CHANGES, decide.with_more(log, new))
    if after != standing["modules"]:
        memory.write(STRUCTURE, dumped({**standing, "modules": after}))
    return {**standing, "modules": after}


def _entry(by: str, changed: list[structure.Change]) -> dict[str, Any]:
    now = dt.datetime.now(dt.UTC)
    return {"date": now.strftime("%Y-%m-%d"), "time": now.strftime("%H:%M:%S"), "by": by, "changes": changed}


def _changes(memory: Memory) -> decide.Log:
    return parsed(memory.text(CHANGES, decide.EMPTY), memory.path(CHANGES))


def _whole(memory: Memory, standing: Sequence[Module]) -> list[Module]:
    return structure.restored(standing, structure.replayed(_changes(memory).entries))


# --- what the code has ----------------------------------------------------------------------------------------------


def modules_of(root: Path, names: Mapping[str, str] | None = None) -> list[Module]:
    """Every tracked Python file of the clone at `root` (S2-R14). One that cannot be parsed is there, and says so.

    `names`: what imports call a file, by path, as verify knows it (a `src/` is in no name); else its path says it.
    """
    changed, known = _changed_at(root), names or {}
    return [_module(root, path, known.get(path) or _name(path), changed.get(path, "")) for path in _tracked(root)]


def _name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _tracked(root: Path) -> list[str]:
    told = subprocess.run(
        gitcall.argv("-C", str(root), "ls-files", "-z", "--", "*.py"), capture_output=True, check=True
    ).stdout
    names = [name.decode("utf-8", "replace") for name in told.split(b"\0") if name]
    return sorted(name for name in names if (root / name).is_file())


def _changed_at(root: Path) -> dict[str, str]:
    """path -> time of the newest commit that touched it, from one walk over history."""
    told = subprocess.run(
        gitcall.argv("-C", str(root), "log", "--format=%x01%cI", "--no-renames", "--name-only", "-z", "--", "*.py"),
        capture_output=True,
        check=False,
    ).stdout.decode("utf-8", "replace")
    found: dict[str, str] = {}
    for block in told.split("\x01")[1:]:
        when, _, names = block.partition("\0")
        for name in names.split("\0"):
            if name.strip():
                found.setdefault(name.strip("\n"), when.strip())
    return found


def _module(root: Path, path: str, name: str, changed: str) -> dict[str, Any]:
    try:
        tree = ast.parse((root / path).read_bytes())
    except (SyntaxError, ValueError) as error:
        return {**_fields(name, path, [], [], changed), "notes": f"cannot be parsed: {error}"}
    package = name if path.endswith("/__init__.py") else name.rpartition(".")[0]
    return _fields(name, path, sorted(set(_imports(tree, package))), list(_public(tree)), changed)


def _fields(name: str, path: str, uses: list[str], public: list[str], changed: str) -> dict[str, Any]:
    made = StructureModule(name=name, path=path, dependencies=uses, public_api=public, last_modified=changed)
    return made.model_dump(mode="json", exclude_unset=True)


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            yield ".".join([*base, *([node.module] if node.module else [])])


def _public(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield f"{node.name}({ast.unparse(node.args)})"
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name
