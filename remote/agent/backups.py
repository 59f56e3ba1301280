"""The backups of a clone: listed, found by what a person says, read, and forgotten when they are old or too many."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
from typing import Generator, NamedTuple

from . import backup_state, frames, kept_files, store
from .backup_clone import Clone, replace_file
from .backup_state import BACKUPS, Ref

KEEP_DAYS = 14
KEEP_BYTES = 1 << 30
PRUNE_EVERY_S = 86400.0
_NAME = re.compile(r"refs/hemma/backup/\d{8}T\d{6}(?:\.\d+)?Z-[0-9a-f]+")
_STAMP = b"pruned"


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
    """How many backups the clone has, the newest and the oldest, and the bytes they copied: for `hemma status`."""
    found = backups(root)
    return {
        "count": len(found),
        "newest_at": found[0].at if found else None,
        "oldest_at": found[-1].at if found else None,
        "copied_bytes": sum(each.copied_bytes for each in found),
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


def is_prune_due(root: str) -> bool:
    """Whether the clone at `root` was not tidied for a day; asking counts as having done it."""
    clone = Clone.at(root)
    if clone is None:
        return False
    stamp = clone.shared(_STAMP)
    try:
        if time.time() - os.stat(stamp).st_mtime < PRUNE_EVERY_S:
            return False
    except OSError:
        pass
    replace_file(stamp, b"")
    return True


def prune(root: str, keep_days: float = KEEP_DAYS, keep_bytes: int = KEEP_BYTES) -> Pruned:
    """Forget backups that are older than `keep_days`, then the oldest while they copied more than `keep_bytes`.

    The newest is always kept. Their objects are git's to free, when it next tidies up: only git knows exactly what else
    still reaches them. Raises store.Refused.
    """
    clone = Clone.at(root)
    if clone is None:
        return Pruned([], 0, 0)
    found = listed(clone)
    total = 0
    going: list[Backup] = []
    for number, each in enumerate(found):
        total += each.copied_bytes
        if number and (time.time() - each.at > keep_days * 86400 or total > keep_bytes):
            going.append(each)
    removed = [each.ref for each in going]
    removed += _old_ones_of_earlier(clone, keep_days)
    if removed:
        lines = b"".join(b"delete %s\0\0" % ref.encode() for ref in removed)
        clone.run("update-ref", "-z", "--stdin", given=lines)
    left = [each for each in found if each not in going]
    _forget_files(clone, left)
    return Pruned(removed, len(left), sum(each.copied_bytes for each in left) + _stored_bytes(clone))


def _old_ones_of_earlier(clone: Clone, keep_days: float) -> list[str]:
    oldest = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() - keep_days * 86400))
    return [name for name in older_kind(clone) if name[len(BACKUPS) :] < oldest]


def _forget_files(clone: Clone, left: list[Backup]) -> None:
    """Remove kept files that no backup names any more; a fresh one may belong to a backup that is just being made."""
    named: set[bytes] = set()
    for each in left:
        held = read(clone, each.ref).record
        for kind in ("linked", "precious"):
            named |= {kept.key.encode() for kept in kept_of(held, kind)}
    for folder in (kept_files.LINKED, kept_files.PRECIOUS):
        for above, _, names in os.walk(clone.shared(folder)):
            for name in names:
                path = os.path.join(above, name)
                if name not in named and time.time() - os.lstat(path).st_ctime > 3600:
                    os.unlink(path)


def _stored_bytes(clone: Clone) -> int:
    """What the kept files take that nothing else has."""
    total = 0
    for folder in (kept_files.LINKED, kept_files.PRECIOUS):
        for above, _, names in os.walk(clone.shared(folder)):
            found = [os.lstat(os.path.join(above, name)) for name in names]
            total += sum(each.st_size for each in found if each.st_nlink == 1)
    return total


def kept_of(record: dict[str, object], kind: str) -> list[kept_files.Kept]:
    """The files of one store that a record names."""
    listed_ones = record.get(kind)
    return [
        kept_files.Kept(frames.bytes_of(str(path)), str(key), int(size), int(mtime_ns), int(mode))
        for path, key, size, mtime_ns, mode in (listed_ones if isinstance(listed_ones, list) else [])
    ]
