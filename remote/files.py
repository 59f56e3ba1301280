"""Files to and from the host's clone, whole and verified: a file takes its place only when its digest is right.

What goes over the wire is parts of a few MiB, each a request of its own; a link that breaks within a transfer costs one
part. What stands in the way of a new file is not lost: on the host it is kept aside when `keep` says so, here by `get`.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from manifests.commands import command
from manifests.errors import AWAY, ConnectionLost, HemmaError, no_answer
from remote.agent.frames import text_of
from remote.host import Host

# base64 in JSON must stay below frames.MAX_PAYLOAD, and a slow link must get a part across in its time.
PART_BYTES = 4 << 20
# The expected digest of a file that must not be there.
ABSENT = ""
# What a part may take; with the last one the host copies and syncs the whole file.
_PART_TIMEOUT_S = 300.0
_SYNCED_BYTES_PER_S = 20 << 20
# Within a transfer an outage of half a minute is waited out.
_PAUSES_S = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
# Who may read, write and run it; that a file runs as another user, a host may not say.
_MODE_BITS = 0o777
_OUTAGES = (ConnectionLost.code, *AWAY)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Place:
    """What is at a path on the host: `kind` is file, folder, missing or other; `path` is relative to the root."""

    path: str
    kind: str
    size: int = 0
    mode: int = 0
    digest: str | None = None


@dataclass(frozen=True)
class Transferred:
    """A file that arrived: where (relative to the root on the host), how much, and where the former one is kept."""

    path: str
    size: int
    digest: str
    is_new: bool = False
    is_changed: bool = True
    kept: str | None = None


def look(spec: dict[str, Any], path: str, *, with_digest: bool = False) -> Place:
    """What is at `path` on the host. Raises HemmaError (guard, outside-root, not-readable)."""
    facts = Host(spec).request(
        "file-read", path=_sent(path), facts_only=True, digest=with_digest, timeout_s=_PART_TIMEOUT_S
    )
    return Place(**{name: facts[name] for name in Place.__dataclass_fields__ if name in facts})


def get(
    spec: dict[str, Any], path: str, local: str, *, keep_in: str | None = None, progress: Progress | None = None
) -> Transferred:
    """Bring the host's file to `local`, in one rename once its digest is right; a new file gets the host's mode.

    A file in the way that differs is put into the folder `keep_in`. Raises HemmaError: file-missing, is-a-folder,
    changed-meanwhile (while it was read), digest-mismatch, file-unwritable; then `local` is as it was.
    """
    target = os.path.realpath(local)
    temporary = os.path.join(os.path.dirname(target), f".hemma-{os.urandom(8).hex()}.part")
    try:
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                first = _receive(spec, path, file, progress)
            return _place(first, temporary, target, keep_in)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
    except OSError as error:
        raise HemmaError(
            f"{local} cannot be written: {error.strerror}",
            remedy="make room, or name another place",
            code="file-unwritable",
        ) from error


def put(
    spec: dict[str, Any],
    local: str,
    path: str,
    *,
    expected_digest: str | None = None,
    create_mode: int | None = None,
    parents: bool = False,
    keep: bool = False,
    progress: Progress | None = None,
) -> Transferred:
    """Put the local file in place of the host's, in one rename there once its digest is right.

    `expected_digest`: only in place of that very file (ABSENT: of none), else changed-meanwhile. `create_mode`: of a new
    file, None is the local one's. `parents` makes missing folders, `keep` puts the former file aside on the host.
    Raises HemmaError: also not-writable, host-disk-full, no-such-folder, inside-git; then the host's file is as it was.
    """
    fields: dict[str, Any] = {"path": _sent(path), "expected_digest": expected_digest, "parents": parents, "keep": keep}
    try:
        with open(local, "rb") as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise HemmaError(f"{local} is no ordinary file", remedy="put files one by one", code="not-a-file")
            fields["create_mode"] = stat.S_IMODE(facts.st_mode) & 0o777 if create_mode is None else create_mode
            reply, size = _send(spec, file, facts.st_size, fields, progress)
    except OSError as error:
        raise HemmaError(
            f"{local} cannot be read: {error.strerror}", remedy=command("ls -la {}", local), code="file-unreadable"
        ) from error
    names = ("path", "digest", "is_new", "is_changed", "kept")
    return Transferred(size=size, **{name: reply[name] for name in names})


# --- from the host ---------------------------------------------------------------------------------------------------


def _receive(spec: dict[str, Any], path: str, file: IO[bytes], progress: Progress | None) -> dict[str, Any]:
    """Write every part of the host's file to `file`; returns the first part's facts once the digest is right.

    The first part announces the size and the digest; nothing beyond that size is asked for or taken.
    """
    seen, offset = hashlib.sha256(), 0
    first: dict[str, Any] = {}
    while True:
        fields = {"path": _sent(path), "offset": offset, "length": PART_BYTES, "version": first.get("version")}
        part = _ask(spec, "file-read", fields, is_under_way=bool(first))
        if not first:
            first = _announced(path, part, file)
        content = base64.b64decode(part["content_base64"])
        is_whole = offset + len(content) == first["size"]
        is_stuck = not content and not is_whole
        if offset + len(content) > first["size"] or part["is_last"] != is_whole or is_stuck:
            raise no_answer(f"parts of {path} that do not make up the {first['size']} bytes it announced")
        seen.update(content)
        file.write(content)
        offset += len(content)
        if progress:
            progress(offset, first["size"])
        if is_whole:
            break
    if seen.hexdigest() != first["digest"]:
        raise HemmaError(f"{path} did not arrive as it is on the host", remedy="try again", code="digest-mismatch")
    return {**first, "size": offset}


def _announced(path: str, part: dict[str, Any], file: IO[bytes]) -> dict[str, Any]:
    """The first part, once what it announces can be: a digest to check against, and a size that this disk has room for."""
    if part["digest"] is None:
        raise no_answer(f"{path} without its digest")
    if hasattr(os, "fstatvfs"):
        room = os.fstatvfs(file.fileno())
        if part["size"] > room.f_bavail * room.f_frsize:
            raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} for {part['size']} bytes")
    return part


def _place(first: dict[str, Any], temporary: str, target: str, keep_in: str | None) -> Transferred:
    before = os.stat(target) if os.path.exists(target) else None
    if before is not None and digest_of(target) == first["digest"]:
        return Transferred(first["path"], first["size"], first["digest"], is_changed=False)
    os.chmod(temporary, stat.S_IMODE(before.st_mode) if before is not None else first["mode"] & _MODE_BITS & ~_umask())
    kept = _keep(target, keep_in) if before is not None and keep_in else None
    os.replace(temporary, target)
    return Transferred(first["path"], first["size"], first["digest"], is_new=before is None, kept=kept)


def _umask() -> int:
    present = os.umask(0o077)
    os.umask(present)
    return present


def _keep(target: str, folder: str) -> str:
    """Copy the file at `target` aside; a link where the disk is the same."""
    import shutil

    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    kept = os.path.join(folder, f"{stamp}-{os.urandom(3).hex()}-{os.path.basename(target)[-50:]}")
    try:
        os.link(target, kept)
    except OSError:
        shutil.copyfile(target, kept)
        os.chmod(kept, 0o600)
    return kept


def digest_of(path: str) -> str:
    """The sha256 of a local file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- to the host -----------------------------------------------------------------------------------------------------


def _send(
    spec: dict[str, Any], file: IO[bytes], size: int, fields: dict[str, Any], progress: Progress | None
) -> tuple[dict[str, Any], int]:
    """Send every part; returns the last reply and how many bytes the file had."""
    seen, offset, upload = hashlib.sha256(), 0, os.urandom(16).hex()
    for content, is_last in _parts(file):
        seen.update(content)
        part = {**fields, "content_base64": base64.b64encode(content).decode("ascii"), "is_last": is_last}
        if offset or not is_last:
            part |= {"upload": upload, "offset": offset, "size": size}
        if is_last:
            part["digest"] = seen.hexdigest()
        reply = _ask(spec, "file-write", part, is_under_way=offset > 0)
        offset += len(content)
        if progress:
            progress(offset, max(size, offset))
        if is_last:
            if reply["digest"] != part["digest"]:
                raise no_answer("that it keeps another file than was sent")
            return reply, offset
    raise AssertionError("the last part is always there, an empty one if need be")


def _parts(file: IO[bytes]) -> Iterator[tuple[bytes, bool]]:
    """The file in parts, each with whether it is the last; an empty file is one empty part."""
    content = file.read(PART_BYTES)
    while True:
        following = file.read(PART_BYTES)
        yield content, not following
        if not following:
            return
        content = following


def _ask(spec: dict[str, Any], verb: str, fields: dict[str, Any], *, is_under_way: bool) -> dict[str, Any]:
    """One part there or back; once a transfer is under way an outage is waited out. Any part may be said twice."""
    timeout_s = _PART_TIMEOUT_S + fields.get("offset", 0) / _SYNCED_BYTES_PER_S
    for pause_s in (*(_PAUSES_S if is_under_way else ()), None):
        try:
            return Host(spec).request(verb, timeout_s=timeout_s, **fields)
        except ConnectionError as error:  # an OSError, but none of the local file
            if pause_s is None:
                raise ConnectionLost("the broker went away", remedy="try again") from error
        except HemmaError as error:
            if pause_s is None or error.code not in _OUTAGES:
                raise
        time.sleep(pause_s)
    raise AssertionError("the last try returns or raises")


def _sent(path: str) -> str:
    return text_of(os.fsencode(path))
