"""A small backup written without git: its few new objects as loose ones, each in place by one rename.

Starting git to write five objects costs more than all the rest of a backup. Objects that are there already are only marked
as used now, as git does it, so that no tidying takes them before the ref is there.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zlib
from typing import Iterable, Union

from .backup_clone import Clone
from .snapshot_objects import Entry

_FOLDER_MODE = b"40000"
# More than this is git's to write, in one pack.
_MOST_OBJECTS = 200
_MOST_BYTES = 4 << 20
_MOST_PARENTS = 64
# What fits into one block of a disk takes no more room there when it is not compressed, and compressing takes longer than writing.
_ONE_BLOCK = 4000
Tree = dict[bytes, Union["Tree", tuple[bytes, bytes]]]  # name -> a folder, or (mode, object)


def is_little(entries: list[Entry], parents: list[bytes]) -> bool:
    """Whether a backup is small enough to be written here."""
    contents = [entry.content for entry in entries if entry.content is not None]
    is_known = not any(entry.source for entry in entries)
    is_short = len(contents) <= _MOST_OBJECTS and len(parents) <= _MOST_PARENTS
    return is_known and is_short and sum(map(len, contents)) <= _MOST_BYTES


def write(
    clone: Clone, entries: Iterable[Entry], parents: list[bytes], message: bytes, seconds: int, kind: str
) -> bytes:
    """Write the objects of a backup in a repository of object format `kind`; returns its commit. Raises OSError."""
    writer = _Writer(os.path.join(clone.common_dir, b"objects"), kind)
    top: Tree = {}
    for entry in entries:
        oid = entry.oid if entry.content is None else writer.put(b"blob", entry.content)
        *above, name = entry.path.split(b"/")
        folder = top
        for part in above:
            inside = folder.setdefault(part, {})
            folder = inside if isinstance(inside, dict) else {}
        folder[name] = (entry.mode.lstrip(b"0"), oid)
    who = b"hemma <hemma@localhost> %d +0000" % seconds
    lines = [b"tree " + writer.put_tree(top), *(b"parent " + oid for oid in parents), b"author " + who]
    return writer.put(b"commit", b"\n".join([*lines, b"committer " + who, b"", message]))


class _Writer:
    def __init__(self, folder: bytes, kind: str) -> None:
        self.folder = folder
        self.kind = kind
        self.folder_mode = stat.S_IMODE(os.stat(folder).st_mode)

    def put_tree(self, tree: Tree) -> bytes:
        """Write a folder and all folders in it; returns its name."""
        found: list[tuple[bytes, bytes, bytes]] = []
        for name, value in tree.items():
            mode, oid = (_FOLDER_MODE, self.put_tree(value)) if isinstance(value, dict) else value
            # git sorts a folder as if its name ended in a slash.
            found.append((name + b"/" if mode == _FOLDER_MODE else name, b"%s %s\0" % (mode, name), oid))
        return self.put(b"tree", b"".join(head + bytes.fromhex(oid.decode()) for _, head, oid in sorted(found)))

    def put(self, kind: bytes, content: bytes) -> bytes:
        """Write one object, or mark it as used where it is there; returns its name."""
        whole = b"%s %d\0%s" % (kind, len(content), content)
        oid = hashlib.new(self.kind, whole, usedforsecurity=False).hexdigest().encode()
        above = os.path.join(self.folder, oid[:2])
        place = os.path.join(above, oid[2:])
        try:
            os.utime(place)
            return oid
        except OSError:
            pass  # not there, or another user's: then it is written anew
        # By this name git knows what a crash left behind, and removes it.
        staged = os.path.join(above, b"tmp_obj_hemma%d" % os.getpid())
        if not os.path.isdir(above):
            os.makedirs(above, exist_ok=True)
            os.chmod(above, self.folder_mode)
        handle = os.open(staged, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o444)
        with os.fdopen(handle, "wb") as file:
            file.write(_packed(whole))
        os.rename(staged, place)
        return oid


def _packed(whole: bytes) -> bytes:
    if len(whole) > _ONE_BLOCK:
        return zlib.compress(whole, 1)
    size = len(whole).to_bytes(2, "little") + (len(whole) ^ 0xFFFF).to_bytes(2, "little")
    return b"\x78\x01\x01" + size + whole + zlib.adler32(whole).to_bytes(4, "big")
