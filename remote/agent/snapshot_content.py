"""The bytes of a backup: every listed file read, referred to by the object it is already, linked, or left out and named."""

from __future__ import annotations

import hashlib
import stat
from typing import NamedTuple

from . import backup_state, frames, kept_files, snapshot_objects
from .backup_clone import Clone, Stat
from .snapshot_objects import Entry

# A file written this shortly before it was looked at may change again without its time telling.
_RACY_NS = 20_000_000
_RACY_COARSE_NS = 2_000_000_000
# New files up to this much are held in memory, to find that nothing changed before anything is written.
_HELD_BYTES = 16 << 20
Blobs = dict[bytes, tuple[Stat, bytes, bytes]]  # path -> (what lstat said, mode, object)


class Limits(NamedTuple):
    """The bounds of one backup; what lies beyond them is linked or left out, and said."""

    file_bytes: int = 32 << 20
    total_bytes: int = 256 << 20
    files: int = 50_000
    precious: int = 2_000


class LeftOut(NamedTuple):
    """Something a backup does not hold."""

    path: str
    why: str


class Gathered(NamedTuple):
    """What `gather` found: entries of the tree, files beside it, modes that git has no word for."""

    entries: list[Entry]
    linked: list[kept_files.Kept]
    modes: dict[bytes, int]
    left_out: list[LeftOut]
    blobs: Blobs  # of files whose time can be trusted
    copied_bytes: int


def gather(clone: Clone, seen: backup_state.Look, limits: Limits, known: Blobs, kind: str, now_ns: int) -> Gathered:
    """Read what `seen` lists, within the limits. `known` are objects that need not be read again, `kind` the object format."""
    found = Gathered([], [], {}, [], {}, 0)
    copied = held = 0
    for number, (path, has) in enumerate(seen.files.items()):
        if number >= limits.files:
            over = len(seen.files) - number
            found.left_out.append(LeftOut("", "%d more files than the %d of one backup" % (over, number)))
            break
        if not (stat.S_ISREG(has.mode) or stat.S_ISLNK(has.mode)):
            found.left_out.append(LeftOut(frames.text_of(path), "neither a file nor a link"))
            continue
        before = known.get(path)
        if before is not None and before[0] == has:
            entry = Entry(b"files/" + path, before[1], before[2])
        elif has.size > limits.file_bytes or copied + has.size > limits.total_bytes:
            _link(clone, path, has, found)
            continue
        else:
            copied += has.size
            entry = _read(clone, path, has, kind, is_held=held + has.size <= _HELD_BYTES)
            held += len(entry.content or b"")
        found.entries.append(entry)
        if entry.oid and not is_racy(has, now_ns):
            found.blobs[path] = (has, entry.mode, entry.oid)
        if stat.S_ISREG(has.mode) and stat.S_IMODE(has.mode) not in (0o644, 0o755):
            found.modes[path] = stat.S_IMODE(has.mode)
    found.left_out.extend(LeftOut(frames.text_of(path), "a repository of its own") for path in seen.status.nested)
    return found._replace(copied_bytes=copied)


def _link(clone: Clone, path: bytes, has: Stat, found: Gathered) -> None:
    kept = kept_files.keep(clone, kept_files.LINKED, path, has, copies=False)
    if kept is None:
        why = "%d bytes: too big to copy, and it cannot be linked" % has.size
        found.left_out.append(LeftOut(frames.text_of(path), why))
    else:
        found.linked.append(kept)


def _read(clone: Clone, path: bytes, has: Stat, kind: str, *, is_held: bool) -> Entry:
    """The file as an entry: with its bytes while there is room to hold them, else with the place to read them from."""
    mode = b"120000" if stat.S_ISLNK(has.mode) else b"100755" if has.mode & 0o100 else b"100644"
    place = clone.place(path)
    content = snapshot_objects.read_file(place, mode) if is_held else None
    if content is None:
        return Entry(b"files/" + path, mode, source=place)
    return Entry(b"files/" + path, mode, blob_name(content, kind), content)


def blob_name(content: bytes, kind: str) -> bytes:
    """The name git gives to these bytes, in a repository of this object format."""
    made = hashlib.new(kind, b"blob %d\0" % len(content), usedforsecurity=False)
    made.update(content)
    return made.hexdigest().encode()


def is_racy(has: Stat, now_ns: int) -> bool:
    """Whether a file was written so shortly before `now_ns` that it may change again without its time telling."""
    newest = max(has.mtime_ns, has.ctime_ns)
    return newest > now_ns - (_RACY_NS if newest % 10**9 else _RACY_COARSE_NS)


def beside(clone: Clone, seen: backup_state.Look) -> list[Entry]:
    """Operations under way and the clone's settings, as entries."""
    found: list[Entry] = []
    for name in seen.beside:
        content = snapshot_objects.read_file(backup_state.place_beside(clone, name), b"100644")
        if content is not None:
            found.append(Entry(name, b"100644", content=content))
    return found
