"""Notebooks from files and from git's history: what the `hemma notebook` verbs and git's own calls do with them."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

from controller.flows import work_tree
from lanes.notebook_format import DEFAULT_POLICY, NotebookPolicy
from lanes.notebook_merge import Conflict, merge
from lanes.notebook_rules import Finding, check_thin, stale_source
from lanes.notebooks import NotebookDiff, compare, strip
from lanes.slice_sealed import FIRST
from manifests.commands import command
from manifests.errors import NotARepository, UsageError
from manifests.files import atomic_write
from remote.agent import gitcall

# How a file that is not there compares: as a notebook without cells.
EMPTY = b'{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
# Git calls an external diff with: path, old file, its id, its mode, new file, id, mode; a rename brings two more.
EXTERNAL_DIFF_WORDS = (7, 9)


class Sides(NamedTuple):
    """The two sides of a diff: a name to show, and the bytes."""

    before: tuple[str, bytes]
    after: tuple[str, bytes]


def load(spec: str) -> bytes:
    """The bytes of a file, or of `REV:path` as git names them (`HEAD:nb.ipynb`, `:nb.ipynb` for the index).

    A file that is there wins. Raises UsageError.
    """
    if os.path.exists(spec) or ":" not in spec:
        return _from_file(spec)
    # cat-file, not show: no textconv and no pager come between.
    told = subprocess.run(gitcall.argv("cat-file", "blob", "--", spec), capture_output=True, check=False)
    if told.returncode:
        reason = told.stderr.decode("utf-8", "replace").strip().rpartition("fatal: ")[2]
        raise UsageError(f"{spec} is neither a file nor in git: {reason}", remedy=command("git rev-parse {}", spec))
    return told.stdout


def _from_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", remedy=command("ls -l {}", path)) from error


def sides(words: Sequence[str]) -> Sides:
    """What `hemma notebook diff WORDS` compares: one path against HEAD, two, or what git passes to an external diff.

    Raises UsageError for another number of words, and as `load` does.
    """
    if len(words) in EXTERNAL_DIFF_WORDS:
        name, old, new = words[0], words[1], words[4]
        return Sides((name, load(old)), (words[7] if len(words) == EXTERNAL_DIFF_WORDS[1] else name, load(new)))
    if len(words) not in {1, 2}:
        raise UsageError("one or two notebooks are compared", remedy="hemma notebook diff HEAD:nb.ipynb nb.ipynb")
    before = words[0] if len(words) == 2 else _committed(words[0])
    return Sides((before, load(before)), (words[-1], load(words[-1])))


def _committed(path: str) -> str:
    return f"HEAD:./{os.path.relpath(path)}"


def diff(both: Sides, policy: NotebookPolicy = DEFAULT_POLICY) -> NotebookDiff:
    """How the two sides differ; an empty one counts as a notebook without cells."""
    before, after = (text if text.strip() else EMPTY for _, text in both)
    return compare(before, after, policy)


def check(specs: Sequence[str]) -> dict[str, list[Finding]]:
    """For each notebook what does not belong into a thin one, and sealed source that is stale. Raises UsageError: unreadable."""
    return {spec: [*check_thin(text), *_stale(spec, text)] for spec, text in zip(specs, map(load, specs), strict=True)}


def _stale(spec: str, text: bytes) -> list[Finding]:
    """Source that a notebook of the work tree carries and that the repository around it has otherwise by now."""
    if FIRST.encode("ascii") not in text or not os.path.exists(spec):
        return []
    try:
        top = work_tree.top(os.path.dirname(os.path.abspath(spec)))
    except NotARepository:
        return []  # nothing to compare with

    def present(path: str) -> str | None:
        try:
            with open(os.path.join(top, *path.split("/")), "rb") as file:
                return hashlib.sha256(file.read()).hexdigest()
        except OSError:
            return None

    return stale_source(text, present)


def merge_files(
    base: str, ours: str, theirs: str, policy: NotebookPolicy = DEFAULT_POLICY, *, is_stripped: bool = False
) -> tuple[Conflict, ...]:
    """Merge three files into the place of `ours`, as git's merge driver must; returns what conflicts.

    `is_stripped`: the result is in its normal form, as a clone with the clean filter has it. Raises HemmaError; `ours` is then
    as it was.
    """
    present = _from_file(ours)
    merged = merge(_from_file(base), present, _from_file(theirs), policy)
    result = strip(merged.notebook, policy) if is_stripped else merged.notebook
    if result != present:
        atomic_write(ours, result, mode=None)
    return merged.conflicts
