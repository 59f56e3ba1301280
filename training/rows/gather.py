"""What goes into a slice, read from the clone it is issued in: its commit, rows, files and source (S9-R31, S9-R35)."""

from __future__ import annotations

import ast
import csv
import glob
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from lanes.slice_rows import RowsWrong, kept, keyed, row_lines
from lanes.slice_sources import SourceMissing, chosen, module_file, required
from lanes.slice_spool import Completed, entries
from manifests.commands import command
from manifests.errors import HemmaError, UsageError
from manifests.slices import SliceManifest

# What no glob of a manifest may take along.
_NEVER = (".git/", ".venv/", "__pycache__/", ".hemma/")


class SliceRefused(HemmaError):
    """The slice cannot be issued as it stands; nothing was written."""

    code = "slice-refused"


@dataclass(frozen=True)
class Clone:
    """The clone at `root`: the commit it stands at, and its tracked files."""

    root: str
    commit: str
    tracked: frozenset[str]


def clone_at(root: str) -> Clone:
    """The clone, proven to be at its commit. Raises SliceRefused for changes that are not committed, or without a commit."""
    changed = _git(root, "status", "--porcelain=v1", "-z", "--untracked-files=no").split("\0")
    paths = [entry[3:] for entry in changed if entry]
    if paths:
        more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
        raise SliceRefused(
            f"not committed: {', '.join(paths[:3])}{more}; a slice names the commit it was made from",
            remedy="hemma commit -m '...'   (or: git commit)",
            code="dirty-tree",
        )
    commit = _git(root, "rev-parse", "--verify", "HEAD").strip()
    return Clone(root, commit, frozenset(name for name in _git(root, "ls-files", "-z").split("\0") if name))


def sources_of(clone: Clone, manifest: SliceManifest) -> dict[str, bytes]:
    """path -> content of the processor's modules, of what they import from the repository, and of `include`; tracked files only."""

    def parsed(path: str) -> ast.Module:
        return ast.parse(_bytes(clone.root, path), path)

    try:
        paths = set(required([manifest.processor.partition(":")[0]], clone.tracked, parsed))
        for pattern, names in chosen(manifest.include, clone.tracked).items():
            if not names:
                raise SliceRefused(f"include: {pattern} is no tracked file", remedy=command("git ls-files {}", pattern))
            python = [name for name in names if name.endswith(".py")]
            paths |= {*names, *required([_module(name) for name in python], clone.tracked, parsed)}
    except SourceMissing as error:
        raise SliceRefused(
            f"the processor's source: {error}", remedy="git add and commit it, or mend the name"
        ) from error
    return {path: _bytes(clone.root, path) for path in sorted(paths)}


def files_of(clone: Clone, manifest: SliceManifest) -> dict[str, bytes]:
    """path -> content of the data files that the manifest names; links that lead out of the clone are refused."""
    found: dict[str, bytes] = {}
    for pattern in manifest.files:
        matched = [name for name in _matching(clone.root, pattern) if not any(part in f"{name}/" for part in _NEVER)]
        if not matched:
            raise SliceRefused(
                f"files: nothing matches {pattern}", remedy=command("ls -la {}; or take it out of files", pattern)
            )
        for name in matched:
            real = os.path.realpath(os.path.join(clone.root, name))
            if not real.startswith(os.path.realpath(clone.root) + os.sep):
                raise SliceRefused(f"files: {name} leads out of the repository", remedy="name a file inside it")
            found[name] = _bytes(clone.root, name)
    return found


def rows_of(
    clone: Clone, manifest: SliceManifest, without: Iterable[str], on_row: Callable[[int], None]
) -> list[bytes]:
    """The lines of rows.jsonl, chosen as the manifest says. Raises SliceRefused naming the row and what is wrong with it.

    `without` are directories of earlier runs: rows that have a result there are left out.
    """
    spec = manifest.rows
    rows = kept(_source_rows(clone.root, spec.source, on_row), spec.where, as_text=spec.source.endswith(".csv"))
    try:
        selected: Iterable[object] = _function(clone, spec.select)(rows) if spec.select else rows
        lines = row_lines(keyed(selected, spec.key), _done_in(clone.root, without), spec.limit)
    except RowsWrong as error:
        raise SliceRefused(f"{spec.source}: {error}", remedy="mend the rows, or `rows:` in the manifest") from error
    if not lines:
        raise SliceRefused("no row is left for this slice", remedy="look at rows.where, rows.select and --without")
    return lines


# --- rows -----------------------------------------------------------------------------------------------------------


def _source_rows(root: str, source: str, on_row: Callable[[int], None]) -> Iterator[dict[str, Any]]:
    path = os.path.join(root, source)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows: Iterable[Any] = csv.DictReader(file) if source.endswith(".csv") else _json_lines(file)
            for at, row in enumerate(rows, 1):
                on_row(at)
                yield row
    except OSError as error:
        raise SliceRefused(f"rows.source: {source}: {error.strerror}", remedy=command("ls -la {}", source)) from error
    except UnicodeDecodeError as error:
        raise SliceRefused(f"rows.source: {source} is not UTF-8", remedy=command("file {}", source)) from error


def _json_lines(file: Iterable[str]) -> Iterator[dict[str, Any]]:
    for at, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            value: object = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RowsWrong(f"line {at} is no JSON: {error}") from error
        if not isinstance(value, dict):
            raise RowsWrong(f"line {at} is no JSON object")
        yield cast("dict[str, Any]", value)


def _function(clone: Clone, name: str) -> Callable[[Iterator[dict[str, Any]]], Iterable[object]]:
    module, _, function = name.partition(":")
    if module_file(module, clone.tracked) is None:
        raise SliceRefused(
            f"rows.select: {module} is no tracked module of the repository", remedy="git add and commit it"
        )
    # This process was started for this one slice; the repository's own modules are found in it and nowhere before it.
    sys.path.insert(0, clone.root)
    try:
        return cast("Callable[..., Iterable[object]]", getattr(importlib.import_module(module), function))
    except Exception as error:
        fact = f"rows.select: {name} cannot be loaded: {type(error).__name__}: {error}"
        raise SliceRefused(fact, remedy=command("python -c {}", f"import {module}")) from error


def _done_in(root: str, runs: Iterable[str]) -> set[str]:
    known = Completed()
    for run in runs:
        folder = os.path.join(root, os.path.expanduser(run), "spool")
        if not os.path.isdir(folder):
            raise UsageError(
                f"--without {run}: no directory of a row run (no spool/)", remedy=command("ls -la {}", run)
            )
        for name in sorted(os.listdir(folder)):
            known.take(entries(_bytes(folder, name)))
    return known.done


# --- files ----------------------------------------------------------------------------------------------------------


def _matching(root: str, pattern: str) -> list[str]:
    whole = os.path.join(root, pattern)
    if os.path.isdir(whole):
        pattern = f"{pattern.rstrip('/')}/**"
    names = glob.glob(pattern, root_dir=root, recursive=True, include_hidden=True)
    return sorted(name.replace(os.sep, "/") for name in names if os.path.isfile(os.path.join(root, name)))


def _bytes(root: str, path: str) -> bytes:
    with open(os.path.join(root, path), "rb") as file:
        return file.read()


def _module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _git(root: str, *arguments: str) -> str:
    environ = {**os.environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
    done = subprocess.run(["git", "-C", root, *arguments], env=environ, capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode("utf-8", "backslashreplace").strip().rpartition("fatal: ")[2]
        raise SliceRefused(
            f"git {arguments[0]}: {said}", remedy=command("git -C {} {}", root, arguments[0]), code="git-failed"
        )
    return os.fsdecode(done.stdout)
