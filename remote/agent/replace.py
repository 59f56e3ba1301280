"""One file in place of another, by one rename: the new one looks like the former one, which can be kept.

A reader sees the old file or the new one, never a part of it. Writers of ours take turns (a lock on the folder); what
another program writes between a comparison and the rename is not seen. A hard link is broken, as by every rename.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import time
from typing import Generator, Iterable

from . import frames, store

# What was replaced is kept this long.
KEPT_S = 14 * 86400.0


def install(
    request: dict[str, object], path: str, before: os.stat_result | None, pieces: Iterable[bytes], digest: str
) -> str | None:
    """Put `pieces`, whose sha256 must be `digest`, in place of `path`; returns where the former file is kept, if asked to.

    Raises OSError or Refused (digest-mismatch); then `path` is as it was and no temporary file is left.
    """
    temporary = os.path.join(os.path.dirname(path), ".hemma-%s.part" % os.urandom(8).hex())
    created = request.get("create_mode")
    # A new file gets the mode that was asked for less the umask; one that replaces another is private until it has its mode.
    first_mode = 0o600 if before is not None else created if isinstance(created, int) else 0o666
    try:
        with os.fdopen(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, first_mode), "wb") as file:
            if _write(file.fileno(), pieces) != digest:
                raise store.Refused(
                    "digest-mismatch", "the file did not arrive whole: nothing was written", "try again"
                )
            if before is not None:
                _dress(temporary, path, before)
            mode = request.get("mode")
            if isinstance(mode, int):
                os.chmod(temporary, mode)
            os.fsync(file.fileno())
        kept = _keep(request, path) if before is not None and request.get("keep") else None
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
    return kept


def _write(handle: int, pieces: Iterable[bytes]) -> str:
    seen = hashlib.sha256()
    for piece in pieces:
        seen.update(piece)
        view = memoryview(piece)
        while view:
            view = view[os.write(handle, view) :]
    return seen.hexdigest()


def _dress(temporary: str, path: str, before: os.stat_result) -> None:
    """Give the new file what the old one has: extended attributes, owner and group as far as we may, mode."""
    with contextlib.suppress(OSError):  # attributes that this file system or user cannot set
        shutil.copystat(path, temporary)
    os.utime(temporary)
    mode = stat.S_IMODE(before.st_mode)
    try:
        os.chown(temporary, before.st_uid, before.st_gid)
    except PermissionError:
        try:
            os.chown(temporary, -1, before.st_gid)
        except PermissionError:  # another group may do no more than everybody
            mode = mode & ~0o6070 | (mode & 0o007) << 3
    os.chmod(temporary, mode)


def _keep(request: dict[str, object], path: str) -> str:
    """Put the file at `path` aside for two weeks: nothing that is overwritten is lost (design principle 2)."""
    folder = os.path.join(state_folder(request), "replaced")
    store.make_private(folder)
    # By name, not by the file's time: a link shares that with the file it was made of.
    oldest = _stamp(time.time() - KEPT_S)
    for name in os.listdir(folder):
        if name < oldest:
            os.unlink(os.path.join(folder, name))
    name = "%s-%s-%s" % (_stamp(time.time()), os.urandom(3).hex(), os.path.basename(path)[-50:])
    kept = os.path.join(folder, name)
    try:
        os.link(path, kept)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(path, kept)
        os.chmod(kept, 0o600)
    return frames.text_of(os.fsencode(kept))


def _stamp(seconds: float) -> str:
    return time.strftime("%Y%m%d-%H%M%S", time.gmtime(seconds))


def state_folder(request: dict[str, object]) -> str:
    """The folder of everything Hemma keeps on this host."""
    state_dir = request.get("state_dir")
    return os.path.dirname(store.runs_folder(str(state_dir) if state_dir else None))


@contextlib.contextmanager
def parents(folder: str, shown: str, may_make: bool) -> Generator[None, None, None]:
    """Within this `folder` exists; one that was made for a file that then failed is removed again.

    Raises Refused (no-such-folder) when it is missing and may not be made.
    """
    missing: list[str] = []
    above = folder
    while not os.path.lexists(above):
        missing.append(above)
        above = os.path.dirname(above)
    if missing and not may_make:
        raise store.Refused(
            "no-such-folder", "the folder of %s does not exist on the host" % shown, "--parents makes it"
        )
    made: list[str] = []
    try:
        for each in reversed(missing):
            os.mkdir(each)
            made.append(each)
        yield
    except BaseException:
        for each in reversed(made):
            with contextlib.suppress(OSError):  # somebody else uses it already
                os.rmdir(each)
        raise


@contextlib.contextmanager
def locked(folder: str) -> Generator[None, None, None]:
    """One writer of ours in this folder at a time; at the end what changed in the folder is on disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
        os.fsync(handle)
    finally:
        os.close(handle)
