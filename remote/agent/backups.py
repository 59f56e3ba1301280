"""The backups of a clone: listed, found by what a person says, read, and forgotten when they are old or too many."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
from typing import Generator, NamedTuple

from . import backup_room, backup_state, frames, kept_files, store
from .backup_clone import Clone
from .backup_state import BACKUPS, Ref

KEEP_DAYS = 14
KEEP_BYTES = 1 << 30
_NAME = re.compile(r"refs/hemma/backup/\d{8}T\d{6}(?:\.\d+)?Z-[0-9a-f]+")
_FRESH_S = 3600.0


class Backup(NamedTuple):
    """One backup as it is listed."""

    ref: str
    commit: str
    at: float
    reason: str
    run_id: str | None
    files: int
    copied_bytes: int
    left_out: int


class Held(NamedTuple):
    """What a backup holds: its record, the refs of then, and (mode, object) by path for each part of its tree."""

    ref: str
    record: dict[str, object]
    refs: dict[bytes, Ref]
    files: dict[bytes, tuple[bytes, bytes]]
    beside: dict[bytes, bytes]
    staged: bytes | None
    tags: bytes | None


class Pruned(NamedTuple):
    """What was forgotten, what is left, and how many bytes of it."""

    removed: list[str]
    kept: int
    kept_bytes: int


def backups(root: str) -> list[Backup]:
    """The backups of the clone at `root`, newest first; none where there is no clone. Raises store.Refused."""
    clone = Clone.at(root)
    return listed(clone) if clone is not None else []


def summary(root: str) -> dict[str, object]:
    """How many backups the clone has, the newest and the oldest, and the bytes of disk they take: for `hemma status`."""
    clone = Clone.at(root)
    found = listed(clone) if clone is not None else []
    return {
        "count": len(found),
        "newest_at": found[0].at if found else None,
        "oldest_at": found[-1].at if found else None,
        "disk_bytes": backup_room.used_bytes(clone) if clone is not None else 0,
    }


def listed(clone: Clone) -> list[Backup]:
    """The backups of a clone, newest first. Raises store.Refused."""
    form = "--format=%(refname)%00%(objectname)%00%(committerdate:unix)%00%(contents)%00%00"
    found: list[Backup] = []
    for entry in clone.run("for-each-ref", "--sort=-refname", form, "refs/hemma/backup/").split(b"\0\0\n"):
        parts = entry.decode("utf-8", "replace").split("\0", 3)
        if len(parts) == 4 and _NAME.fullmatch(parts[0]):
            found.append(_backup(*parts))
    return found


def _backup(ref: str, commit: str, at: str, message: str) -> Backup:
    subject, _, body = message.partition("\n")
    told: dict[str, str] = {}
    for line in body.splitlines():
        name, _, value = line.partition(": ")
        told[name] = value

    def number(name: str) -> int:
        said = told.get(name, "0")
        return int(said) if said.isdigit() else 0

    run = told.get("Run", "-")
    fraction = re.search(r"\.(\d+)Z-", ref)
    moment = float(at or 0) + (float("0." + fraction.group(1)) if fraction else 0.0)
    reason = subject.removeprefix("hemma: ")
    numbers = (number("Files"), number("Bytes"), number("Left-out"))
    return Backup(ref, commit, moment, reason, None if run == "-" else run, *numbers)


def older_kind(clone: Clone) -> list[str]:
    """Refs that `hemma sync` of an earlier Hemma kept its backups under: commits, which git itself gives back."""
    said = clone.run("for-each-ref", "--format=%(refname)", "refs/hemma/backup/").decode("utf-8", "replace")
    return [name for name in said.split("\n") if name and not _NAME.fullmatch(name)]


def read(clone: Clone, ref: str) -> Held:
    """Everything a backup says. Raises store.Refused when it is none."""
    listing = clone.try_run(
        "ls-tree", "-r", "-z", "--full-tree", ref, "files", "state", "common", "refs", "tags", "record"
    )
    entries: dict[bytes, tuple[bytes, bytes]] = {}
    for line in (listing or b"").split(b"\0")[:-1]:
        about, _, path = line.partition(b"\t")
        mode, _, oid = about.split(b" ")
        entries[path] = (mode, oid)
    if b"record" not in entries or b"refs" not in entries:
        raise store.Refused("no-such-backup", "%s is no backup of this clone" % ref, "hemma undo --list", 2)
    with reading(clone) as objects:
        record = json.loads(objects.read(entries[b"record"][1]) or b"{}")
        refs = dict(backup_state.refs_in(objects.read(entries[b"refs"][1]) or b""))
    staged = clone.try_run("rev-parse", "-q", "--verify", ref + ":staged")
    prefix = len(b"files/")
    files = {path[prefix:]: entry for path, entry in entries.items() if path.startswith(b"files/")}
    beside = {p: oid for p, (_, oid) in entries.items() if p.startswith((b"state/", b"common/"))}
    tags = entries.get(b"tags")
    return Held(ref, record, refs, files, beside, staged.strip() if staged else None, tags[1] if tags else None)


@contextlib.contextmanager
def reading(clone: Clone) -> Generator[Objects, None, None]:
    """A reader of objects, for as long as it is needed."""
    objects = Objects(clone)
    try:
        yield objects
    finally:
        objects.close()


class Objects:
    """Reads objects by name, with one `git cat-file` for all of them."""

    def __init__(self, clone: Clone) -> None:
        self._process = clone.start("cat-file", "--batch", stdin=subprocess.PIPE)

    def close(self) -> None:
        """End git."""
        self._process.communicate()

    def read(self, oid: bytes) -> bytes | None:
        """The content of an object, or None when it is not there."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(oid + b"\n")
        process.stdin.flush()
        fields = process.stdout.readline().split()
        if len(fields) != 3 or not fields[2].isdigit():
            return None
        content = process.stdout.read(int(fields[2]))
        process.stdout.read(1)
        return content


# --- found by what a person says --------------------------------------------------------------------------------------


def find(found: list[Backup], ref: str) -> Backup:
    """The backup of this name: all of it, its last part, or an unambiguous beginning of that. Raises store.Refused."""
    named = [each for each in found if each.ref == ref or each.ref.rpartition("/")[2].startswith(ref)]
    exact = [each for each in named if ref in (each.ref, each.ref.rpartition("/")[2])]
    if len(exact or named) == 1:
        return (exact or named)[0]
    if named:
        said = "%r is the beginning of %d backups" % (ref, len(named))
        raise store.Refused("ambiguous-backup", said, "give more of it; see: hemma undo --list", 2)
    raise store.Refused("no-such-backup", "there is no backup %r" % ref, "hemma undo --list", 2)


# --- retention --------------------------------------------------------------------------------------------------------


def is_prune_due(root: str, keep_bytes: int = KEEP_BYTES) -> bool:
    """Whether the clone at `root` was not tidied for a day, or its backups grew much since."""
    clone = Clone.at(root)
    return clone is not None and backup_room.is_due(clone, keep_bytes)


def prune(root: str, keep_days: float = KEEP_DAYS, keep_bytes: int = KEEP_BYTES) -> Pruned:
    """Forget backups that are older than `keep_days`, then the oldest while they take more than `keep_bytes` of the disk.

    The newest is always kept. What only they had is removed, see backup_room. Raises store.Refused.
    """
    clone = Clone.at(root)
    if clone is None:
        return Pruned([], 0, 0)
    backup_room.note(clone, backup_room.noted(clone)._replace(at=time.time()))  # nobody begins the same beside this
    found = listed(clone)
    young = [each for number, each in enumerate(found) if not number or time.time() - each.at <= keep_days * 86400]
    names = _kept_names(clone, young)
    count = _most_within(clone, young, names, keep_bytes)
    going = found[count:]
    removed = [each.ref for each in going]
    removed += _old_ones_of_earlier(clone, keep_days)
    own = backup_room.own_objects(clone, [each.commit for each in going])
    if removed:
        lines = b"".join(b"delete %s\0\0" % ref.encode() for ref in removed)
        clone.run("update-ref", "-z", "--stdin", given=lines)
    left = found[:count]
    _forget_files(clone, set().union(*names[:count]))
    backup_room.free(clone, own)
    used = backup_room.object_bytes(clone, [each.commit for each in left])
    used = sum(each.copied_bytes for each in left) if used is None else used
    files = backup_room.stored_bytes(clone)
    backup_room.note(clone, backup_room.Noted(time.time(), used, files, 0))
    return Pruned(removed, len(left), used + files)


def _most_within(clone: Clone, young: list[Backup], names: list[set[str]], keep_bytes: int) -> int:
    """How many of these, newest first and at least one, take no more than `keep_bytes` together."""

    def is_within(count: int) -> bool:
        objects = backup_room.object_bytes(clone, [each.commit for each in young[:count]])
        objects = sum(each.copied_bytes for each in young[:count]) if objects is None else objects
        return objects + backup_room.stored_bytes(clone, set().union(*names[:count])) <= keep_bytes

    if is_within(len(young)):
        return len(young)
    low, high = min(1, len(young)), len(young)  # low is kept in any case, high is too much
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_within(middle) else (low, middle)
    return low


def _old_ones_of_earlier(clone: Clone, keep_days: float) -> list[str]:
    oldest = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() - keep_days * 86400))
    return [name for name in older_kind(clone) if name[len(BACKUPS) :] < oldest]


def _kept_names(clone: Clone, found: list[Backup]) -> list[set[str]]:
    """For each backup the names of its files in the stores beside git."""
    names: list[set[str]] = []
    with reading(clone) as objects:
        for each in found:
            record = json.loads(objects.read(each.commit.encode() + b":record") or b"{}")
            names.append({kept.key for kind in ("linked", "precious") for kept in kept_of(record, kind)})
    return names


def _forget_files(clone: Clone, named: set[str]) -> None:
    """Remove kept files that no backup names any more; a fresh one may belong to a backup that is just being made."""
    for folder in (kept_files.LINKED, kept_files.PRECIOUS):
        for above, _, names in os.walk(clone.shared(folder)):
            for name in names:
                path = os.path.join(above, name)
                if name.decode("ascii", "replace") not in named and time.time() - os.lstat(path).st_ctime > _FRESH_S:
                    os.unlink(path)


def kept_of(record: dict[str, object], kind: str) -> list[kept_files.Kept]:
    """The files of one store that a record names."""
    listed_ones = record.get(kind)
    return [
        kept_files.Kept(frames.bytes_of(str(path)), str(key), int(size), int(mtime_ns), int(mode))
        for path, key, size, mtime_ns, mode in (listed_ones if isinstance(listed_ones, list) else [])
    ]
