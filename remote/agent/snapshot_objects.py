"""A backup as git objects: one `git fast-import` writes the files, the trees, the commit and its ref.

The commit's tree has `files/` (raw bytes, no filters), `staged/` (the tree of the index, where it differs from HEAD),
`sides/` (the stages of conflicts), `state/` and `common/` (operations under way, settings), `refs` and `record` (JSON).
Its parents are HEAD and every tip that something points to, so that git itself keeps all of it.
"""

from __future__ import annotations

import os
import stat
import subprocess
from typing import Iterable, NamedTuple

from . import backup_room, store
from .backup_clone import Clone, failure, read_bytes, replace_file

# A commit of more parents than this is put together from others.
_MOST_PARENTS = 64
_MUCH_BYTES = 4 << 20
_MARKER = b"importing-"


class Entry(NamedTuple):
    """One entry of a backup's tree: an object that is known, or bytes; those of `source` are read when they are written."""

    path: bytes
    mode: bytes
    oid: bytes = b""
    content: bytes | None = None
    source: bytes = b""


def write(
    clone: Clone,
    name: bytes,
    entries: Iterable[Entry],
    parents: list[bytes],
    message: bytes,
    seconds: int,
    *,
    size: int,
) -> tuple[bytes, list[bytes]]:
    """Write a backup of about `size` new bytes and its ref; returns its commit and the paths that could not be read.

    Raises store.Refused with git's words.
    """
    # Much is kept as it comes, in one pack: a run waits for it, and git packs it better when it next tidies up.
    is_much = size > _MUCH_BYTES
    level, loose = ("0", "1") if is_much else ("1", "100")
    flags = ["core.ignoreCase=false", "core.compression=" + level, "pack.compression=" + level]
    flags.append("fastimport.unpackLimit=" + loose)
    settings = [word for flag in flags for word in ("-c", flag)]
    # No deltas: each file would be compared with the one before it, which has nothing to do with it.
    store.make_private(os.fsdecode(clone.shared()))
    noted = b"--export-pack-edges=" + clone.shared(backup_room.PACKS)
    process = clone.start(*settings, "fast-import", "--quiet", "--done", "--depth=0", noted, stdin=subprocess.PIPE)
    marker = clone.own(_MARKER + b"%d" % process.pid)
    replace_file(marker, b"")
    unread: list[bytes] = []
    out = b""
    try:
        assert process.stdin is not None
        try:
            for piece in _stream(name, entries, parents, message, seconds, unread):
                process.stdin.write(piece)
        except BrokenPipeError:
            pass  # its own words follow
        out, err = process.communicate()
    except BaseException:
        process.kill()
        process.communicate()
        raise
    finally:
        _tidy(clone, process.pid)
    if process.returncode or not out.strip():
        raise failure(process, err)
    return out.strip(), unread


def _stream(
    name: bytes, entries: Iterable[Entry], parents: list[bytes], message: bytes, seconds: int, unread: list[bytes]
) -> Iterable[bytes]:
    committer = b"committer hemma <hemma@localhost> "
    heads = list(parents)
    if len(parents) > _MOST_PARENTS:
        heads = parents[:1]
        for number, at in enumerate(range(1, len(parents), _MOST_PARENTS), 2):
            # The same tips make the same commit, whichever backup it is for.
            yield b"commit %s\nmark :%d\n%s0 +0000\n%s" % (name, number, committer, _data(b"tips\n"))
            yield _parents(parents[at : at + _MOST_PARENTS]) + b"deleteall\n\n"
            heads.append(b":%d" % number)
    yield b"commit %s\nmark :1\n%s%d +0000\n%s" % (name, committer, seconds, _data(message))
    yield _parents(heads) + b"deleteall\n"
    for entry in entries:
        content = entry.content
        if entry.source:
            content = read_file(entry.source, entry.mode)
            if content is None:
                unread.append(entry.path)
                continue
        if content is None:
            yield b"M %s %s %s\n" % (entry.mode, entry.oid, _quoted(entry.path))
        else:
            yield b"M %s inline %s\n" % (entry.mode, _quoted(entry.path))
            yield _data(content)
    yield b"\nget-mark :1\ndone\n"


def _parents(commits: list[bytes]) -> bytes:
    return b"".join(b"%s %s\n" % (b"merge" if number else b"from", oid) for number, oid in enumerate(commits))


def _data(content: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(content), content)


def _quoted(path: bytes) -> bytes:
    return b'"' + path.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"'


def read_file(place: bytes, mode: bytes) -> bytes | None:
    """The bytes of a plain file, or the target of a link; None when it is no longer there or something else."""
    try:
        if mode == b"120000":
            return os.readlink(place)
        # Not through a link that took the file's place, and without waiting for the writer of a pipe.
        handle = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as file:
            return file.read() if stat.S_ISREG(os.fstat(handle).st_mode) else None
    except OSError:
        return None


def _tidy(clone: Clone, pid: int) -> None:
    """Remove the marker of an import, and the report that git leaves in a repository when an import ends too soon."""
    for path in (clone.own(_MARKER + b"%d" % pid), os.path.join(clone.git_dir, b"fast_import_crash_%d" % pid)):
        try:
            os.unlink(path)
        except OSError:
            pass


def tidy_after_crash(clone: Clone) -> None:
    """Remove what imports left whose makers were killed."""
    try:
        names = [name for name in os.listdir(clone.own()) if name.startswith(_MARKER)]
    except OSError:
        return
    for name in names:
        pid = name[len(_MARKER) :]
        if pid.isdigit() and b"fast-import" not in read_bytes(b"/proc/%s/cmdline" % pid):
            _tidy(clone, int(pid))
