"""Refs and stashes read from git's own files: one process less for each look at a clone.

Only where refs are files. A repository whose refs are in tables (reftable, git >= 2.45) has git asked. Hemma's own refs are
left out: a clone has hundreds of them, and none is part of its state.
"""

from __future__ import annotations

import os
import re
from typing import Iterator, NamedTuple

from .backup_clone import Clone, read_bytes

OURS = b"refs/hemma/"
# In a linked work tree these are its own; all others lie in the git directory that it shares.
_OF_WORK_TREE = (b"refs/bisect/", b"refs/worktree/", b"refs/rewritten/")
_OBJECT = re.compile(rb"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_DEEPEST = 5  # as git follows symbolic refs


class Ref(NamedTuple):
    """One ref: the object it names and, for a symbolic one, the ref it points to."""

    oid: bytes
    target: bytes


def are_files(clone: Clone) -> bool:
    """Whether the clone's refs can be read from files."""
    return not os.path.isdir(os.path.join(clone.common_dir, b"reftable"))


def read(clone: Clone) -> dict[bytes, Ref]:
    """Every ref as `git for-each-ref` lists them, by name, less Hemma's own."""
    said = dict(_packed(clone))
    said.update(_loose(clone.common_dir, b"refs"))
    if clone.git_dir != clone.common_dir:
        said = {name: value for name, value in said.items() if not name.startswith(_OF_WORK_TREE)}
        said.update(_loose(clone.git_dir, b"refs"))
    found: dict[bytes, Ref] = {}
    for name in sorted(said):
        value, target = said[name], b""
        for _ in range(_DEEPEST):
            if not value.startswith(b"ref:"):
                break
            following = value[4:].strip()
            target, value = following, said.get(following, b"")
        if _OBJECT.fullmatch(value):
            found[name] = Ref(value, target)
    return found


def read_one(clone: Clone, name: bytes) -> bytes | None:
    """The object that a ref of the shared git directory names; None when there is none."""
    value = read_bytes(os.path.join(clone.common_dir, name)).strip() or dict(_packed(clone, b"")).get(name)
    return value if value and _OBJECT.fullmatch(value) else None


def _packed(clone: Clone, left_out: bytes = OURS) -> Iterator[tuple[bytes, bytes]]:
    for line in read_bytes(os.path.join(clone.common_dir, b"packed-refs"), 1 << 30).split(b"\n"):
        oid, _, name = line.partition(b" ")
        if name and line[:1] not in (b"#", b"^") and not (left_out and name.startswith(left_out)):
            yield name, oid


def _loose(above: bytes, name: bytes) -> Iterator[tuple[bytes, bytes]]:
    try:
        entries = list(os.scandir(os.path.join(above, name)))
    except OSError:
        return
    for entry in entries:
        inside = b"%s/%s" % (name, entry.name)
        if entry.is_dir():
            if inside + b"/" != OURS:
                yield from _loose(above, inside)
        elif not inside.endswith(b".lock"):
            yield inside, read_bytes(entry.path, 4096).strip()


def stashes(clone: Clone) -> list[tuple[bytes, bytes]]:
    """(commit, message) of every stash, newest first."""
    lines = read_bytes(os.path.join(clone.common_dir, b"logs", b"refs", b"stash"), 1 << 30).split(b"\n")
    heads = [line.partition(b"\t") for line in lines if line]
    return [(head.split(b" ", 2)[1], message) for head, _, message in reversed(heads) if head.count(b" ") > 1]


def write_new(clone: Clone, name: bytes, oid: bytes) -> None:
    """Make a ref that nobody else makes, as git does: by a lock beside it and one rename. Raises OSError."""
    place = os.path.join(clone.common_dir, name)
    os.makedirs(os.path.dirname(place), exist_ok=True)
    handle = os.open(place + b".lock", os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
    with os.fdopen(handle, "wb") as file:
        file.write(oid + b"\n")
    os.rename(place + b".lock", place)
