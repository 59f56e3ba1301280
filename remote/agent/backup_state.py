"""The state of a clone as a backup has to know it: what git does not hold, and where everything points.

One git call, `status`; the rest is read from files of the git directory while it runs. Of a large clone the untracked files
are asked for beside it: both walk the whole tree, and together they take hardly longer than the slower one.
"""

from __future__ import annotations

import json
import os
import re
import time
from typing import Iterator, NamedTuple

from . import frames, raw_refs, store
from .backup_clone import Clone, Question, Stat, filters_in, read_bytes, stat_of
from .raw_refs import OURS, Ref

STATUS = ("status", "--porcelain=v2", "-z", "--no-renames", "--ignore-submodules=dirty")
_UNTRACKED = ("ls-files", "--others", "--exclude-standard", "-z")
# An index of about 5,000 files; below it a second git costs more than it saves.
_LARGE_INDEX = 500_000
BACKUPS = b"refs/hemma/backup/"
# What a merge, rebase, pick or bisection under way keeps beside the index.
_OPERATION_FILES = (
    b"MERGE_HEAD",
    b"MERGE_MSG",
    b"MERGE_MODE",
    b"MERGE_AUTOSTASH",
    b"SQUASH_MSG",
    b"CHERRY_PICK_HEAD",
    b"REVERT_HEAD",
    b"REBASE_HEAD",
    b"ORIG_HEAD",
    b"AUTO_MERGE",
    b"BISECT_LOG",
    b"BISECT_NAMES",
    b"BISECT_START",
    b"BISECT_TERMS",
    b"BISECT_EXPECTED_REV",
    b"BISECT_ANCESTORS_OK",
    b"BISECT_FIRST_PARENT",
)
OPERATION_FOLDERS = (b"rebase-merge", b"rebase-apply", b"sequencer")
# Settings of the clone itself; an undo brings back only what is missing of them.
_SETTINGS = (b"config", b"info/exclude", b"info/attributes", b"info/sparse-checkout")
_OPERATION_BYTES = 4 << 20
_OPERATION_COUNT = 1000
_COMMIT = re.compile(rb"[0-9a-f]{40}(?:[0-9a-f]{24})?")
# `ls-files -v`: a small letter is assume-unchanged, S is skip-worktree.
_FLAGGED = re.compile(rb"(?:^|\0)([a-zS]) ([^\0]+)")


class Side(NamedTuple):
    """One stage of a conflicted path in the index."""

    stage: int
    mode: bytes
    oid: bytes


class Status(NamedTuple):
    """What `git status` told. Paths are bytes, relative to the top of the work tree."""

    changed: list[bytes]  # differ from the index, or are untracked: their bytes are nowhere in git
    deleted: list[bytes]  # in the index, not in the work tree
    untracked: list[bytes]  # those of them that git does not track
    nested: list[bytes]  # repositories inside this one
    unmerged: dict[bytes, list[Side]]
    intended: list[bytes]  # added by `git add -N`
    is_staged: bool


class Head(NamedTuple):
    """HEAD: the ref it names (None when detached) and the commit it comes to (None when unborn)."""

    ref: bytes | None
    commit: bytes | None


class Look(NamedTuple):
    """One look at a clone; `digest_parts` changes whenever anything that a backup keeps may have changed."""

    status: Status
    refs: dict[bytes, Ref]  # less refs/hemma/*
    head: Head
    files: dict[bytes, Stat]  # every listed file that is there
    beside: dict[bytes, Stat]  # operation files and settings, by their place relative to the git directories
    flagged: list[tuple[bytes, bytes]]
    index_stat: Stat | None
    stash: Stat | None
    status_ms: float
    filters_key: list[object]
    digest_parts: list[bytes]


class Asked(NamedTuple):
    """What git was asked about a clone and works on."""

    status: Question
    untracked: Question | None  # asked for by itself where the tree is large
    flags: Question | None  # only where the index is another than last time
    index_stat: Stat | None
    filters_key: list[object]
    started: float

    def told(self) -> tuple[bytes, bytes | None]:
        """What `git status` and, where it was asked for them, `ls-files -v` printed. Raises store.Refused."""
        try:
            told = self.status.answer()
            if self.untracked is not None:
                told += b"".join(b"? %s\0" % path for path in self.untracked.answer().split(b"\0") if path)
            return told, self.flags.answer() if self.flags is not None else None
        finally:
            for question in (self.status, self.untracked, self.flags):
                if question is not None:
                    question.end()


def has_idle_processor() -> bool:
    """Whether a second git beside the first gets a processor of its own; where none is idle it only costs a tenth more work."""
    try:
        return os.getloadavg()[0] < (os.cpu_count() or 1) - 0.5
    except OSError:
        return False


def ask(clone: Clone, known: dict[str, object]) -> Asked:
    """Begin a look at the clone: git works while the caller goes on. `known` is what was noted last time."""
    filters_key = _filters(clone, known)
    index = stat_of(os.path.join(clone.git_dir, b"index"))
    started = time.monotonic()
    is_large = index is not None and index.size > _LARGE_INDEX and has_idle_processor()
    return Asked(
        clone.ask(*STATUS, "--untracked-files=%s" % ("no" if is_large else "all")),
        clone.ask(*_UNTRACKED) if is_large else None,
        clone.ask("ls-files", "-v", "-z") if [index] != [_stat(known.get("index"))] else None,
        index,
        filters_key,
        started,
    )


def look(clone: Clone, known: dict[str, object], extra: list[bytes], asked: Asked | None = None) -> Look:
    """Look at the clone, as was `asked`. `known` is what was noted last time, `extra` are more files to keep.

    Raises store.Refused.
    """
    asked = asked or ask(clone, known)
    refs = _refs(clone)
    beside = dict(_beside(clone))
    stash = stat_of(os.path.join(clone.common_dir, b"logs", b"refs", b"stash"))
    head = _head(clone, refs)
    parts = [repr((head, stash, beside)).encode(), *(b"%s %s %s" % (name, *ref) for name, ref in refs.items())]
    early = _stats(clone, [*extra, *_paths(known.get("listed"))], {})
    told, flags = asked.told()
    status_ms = (time.monotonic() - asked.started) * 1000
    flagged = _pairs(known.get("flagged")) if flags is None else flagged_in(flags, clone)
    status = _status_of(told)
    files = _stats(clone, [*status.changed, *(path for _, path in flagged), *extra], early)
    parts += [told, repr((flagged, files)).encode()]
    return Look(
        status, refs, head, files, beside, flagged, asked.index_stat, stash, status_ms, asked.filters_key, parts
    )


def _refs(clone: Clone) -> dict[bytes, Ref]:
    if raw_refs.are_files(clone):
        return raw_refs.read(clone)
    listing = clone.run("for-each-ref", "--format=%(objectname) %(refname) %(symref)")
    return {name: ref for name, ref in refs_in(listing) if not name.startswith(OURS)}


def ref_of_ours(clone: Clone, name: bytes) -> bytes | None:
    """The commit that a ref of Hemma's own names; None when there is none."""
    if raw_refs.are_files(clone):
        return raw_refs.read_one(clone, name)
    return (clone.try_run("rev-parse", "-q", "--verify", name) or b"").strip() or None


def _filters(clone: Clone, known: dict[str, object]) -> list[object]:
    """Find the clean filters to switch off, from memory when no settings file changed since; returns what they depend on."""
    home = os.path.expanduser("~")
    personal = os.path.join(os.environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config"), "git", "config")
    places = [os.path.join(clone.common_dir, b"config"), os.path.join(clone.git_dir, b"config.worktree")]
    places += [os.fsencode(path) for path in (os.path.join(home, ".gitconfig"), personal, "/etc/gitconfig")]
    key: list[object] = [list(stat) if stat else None for stat in map(stat_of, places)]
    names = known.get("filters")
    if known.get("filters_key") == key and isinstance(names, list):
        clone.filters = [str(name) for name in names]
        return key
    listing = clone.run("config", "--list", "-z")
    clone.filters = filters_in(listing)
    # An included file may change without any of these changing.
    has_includes = any(entry.startswith((b"include.", b"includeif.")) for entry in listing.split(b"\0"))
    return [] if has_includes else key


def _status_of(told: bytes) -> Status:
    found = Status([], [], [], [], {}, [], False)
    is_staged = False
    for field in told.split(b"\0"):
        kind = field[:2]
        if kind == b"? ":
            (found.nested if field.endswith(b"/") else found.untracked).append(field[2:].rstrip(b"/"))
        elif kind == b"1 ":
            _, xy, sub, _, _, _, _, _, path = field.split(b" ", 8)
            if xy == b".A":
                found.intended.append(path)
            is_staged = is_staged or xy[:1] != b"."
            if xy[1:] == b"D":
                found.deleted.append(path)
            elif sub[:1] == b"S":
                found.nested.append(path)
            elif xy[1:] != b".":
                found.changed.append(path)
        elif kind == b"u ":
            _, _, sub, *modes, _, one, two, three, path = field.split(b" ", 10)
            sides = zip((1, 2, 3), modes, (one, two, three))
            found.unmerged[path] = [Side(stage, mode, oid) for stage, mode, oid in sides if mode != b"000000"]
            (found.nested if sub[:1] == b"S" else found.changed).append(path)
    return found._replace(is_staged=is_staged, changed=found.changed + found.untracked)


def refs_in(listing: bytes) -> Iterator[tuple[bytes, Ref]]:
    """Name and ref of each line `<object> <name> <target>`."""
    for line in listing.split(b"\n"):
        if line:
            oid, name, target = line.split(b" ", 2)
            yield name, Ref(oid, target)


def _head(clone: Clone, refs: dict[bytes, Ref]) -> Head:
    text = read_bytes(os.path.join(clone.git_dir, b"HEAD")).strip()
    if text == b"ref: refs/heads/.invalid":  # a reftable repository keeps it elsewhere
        said = clone.try_run("symbolic-ref", "-q", "HEAD")
        text = (
            b"ref: " + said.strip() if said else (clone.try_run("rev-parse", "-q", "--verify", "HEAD") or b"").strip()
        )
    if not text.startswith(b"ref: "):
        return Head(None, text or None)
    name = text[len(b"ref: ") :]
    ref = refs.get(name)
    return Head(name, ref.oid if ref else None)


def _stats(clone: Clone, paths: list[bytes], known: dict[bytes, Stat]) -> dict[bytes, Stat]:
    found = ((path, known.get(path) or stat_of(clone.place(path))) for path in dict.fromkeys(paths))
    return {path: stat for path, stat in found if stat is not None}


def flagged_in(listing: bytes, clone: Clone) -> list[tuple[bytes, bytes]]:
    """Files that git was told not to look at: they may differ, and `status` does not say so."""
    found = _FLAGGED.findall(listing)
    # Where a sparse checkout is used git itself takes the mark from a file that is there.
    is_no_mark = any(letter == b"S" for letter, _ in found) and is_sparse(clone)
    return [pair for pair in found if not (is_no_mark and pair[0] == b"S")]


def is_sparse(clone: Clone) -> bool:
    """Whether the work tree is a sparse checkout; its list of patterns stays behind when it is one no longer."""
    if stat_of(os.path.join(clone.git_dir, b"info", b"sparse-checkout")) is None:
        return False
    return (clone.try_run("config", "--type=bool", "core.sparseCheckout") or b"").strip() == b"true"


def _beside(clone: Clone) -> Iterator[tuple[bytes, Stat]]:
    there = set(os.listdir(clone.git_dir))
    names = [b"state/" + name for name in _OPERATION_FILES if name in there]
    for folder in there.intersection(OPERATION_FOLDERS):
        for above, _, inside in os.walk(os.path.join(clone.git_dir, folder)):
            names += [b"state/" + os.path.relpath(os.path.join(above, name), clone.git_dir) for name in inside]
    names += [b"common/" + name for name in _SETTINGS]
    names.append(b"state/config.worktree")
    if clone.git_dir != clone.common_dir:
        names.append(b"state/info/sparse-checkout")
    for name in names[:_OPERATION_COUNT]:
        stat = stat_of(place_beside(clone, name))
        if stat is not None and stat.size <= _OPERATION_BYTES:
            yield name, stat


def place_beside(clone: Clone, name: bytes) -> bytes:
    """Where a file of `Look.beside` lies."""
    kind, _, rest = name.partition(b"/")
    return os.path.join(clone.common_dir if kind == b"common" else clone.git_dir, rest)


def commits_in(content: bytes) -> list[bytes]:
    """The full object names that stand on lines of their own in an operation's file."""
    return [word for line in content[:65536].split(b"\n") for word in line.split()[:1] if _COMMIT.fullmatch(word)]


def stash_entries(clone: Clone, refs: dict[bytes, Ref]) -> list[tuple[bytes, bytes]]:
    """(commit, message) of every stash, newest first."""
    if b"refs/stash" not in refs:
        return []
    if raw_refs.are_files(clone):
        return raw_refs.stashes(clone)
    said = clone.run("reflog", "show", "-z", "--format=%H %gs", "refs/stash")
    pairs = [entry.partition(b" ") for entry in said.split(b"\0") if entry]
    return [(oid, message) for oid, _, message in pairs]


def read_notes(clone: Clone, name: bytes) -> dict[str, object]:
    """What was noted in this work tree's git directory, or nothing when it is missing or broken."""
    try:
        found = json.loads(read_bytes(clone.own(name), 256 << 20) or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _stat(value: object) -> Stat | None:
    return Stat(*value) if isinstance(value, list) and len(value) == len(Stat._fields) else None


def _paths(value: object) -> list[bytes]:
    return [frames.bytes_of(str(path)) for path in (value if isinstance(value, list) else [])]


def _pairs(value: object) -> list[tuple[bytes, bytes]]:
    pairs = value if isinstance(value, list) else []
    return [(frames.bytes_of(str(pair[0])), frames.bytes_of(str(pair[1]))) for pair in pairs]


def is_locked(clone: Clone) -> bool:
    """Whether another git command is changing the index right now."""
    return os.path.lexists(os.path.join(clone.git_dir, b"index.lock"))


def refuse_if_locked(clone: Clone) -> None:
    """Raises store.Refused when another git command is changing the index right now."""
    if is_locked(clone):
        raise store.Refused("git-busy", "another git command is at work in this clone", "try again when it is done", 75)
