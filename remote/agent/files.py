"""Files of the repository on the host: read in parts, replaced whole by one rename (S9-R02).

Paths are relative to the root; symbolic links are followed and may not lead out of it. A file too big for one frame
comes in parts that are collected in the state folder; a part, and the last one too, may be sent twice.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import re
import stat
import time
from typing import BinaryIO, Iterator

from . import frames, launch, replace, store

# What a reply holds of a file unless asked for less or more; base64 in JSON must stay below frames.MAX_PAYLOAD.
PART_BYTES = 4 << 20
MAX_PART_BYTES = 11 << 20
# An upload that nobody finished is kept this long.
STALE_S = 86400.0
ABSENT = ""


def read(request: dict[str, object]) -> dict[str, object]:
    """A part of the file at `path` from `offset` on: content_base64, size, mode, version, is_last; digest with the first.

    With `facts_only` just kind (file, folder, missing, other), size, mode and, if asked for, digest. A `version` from an
    earlier part that no longer holds is refused (changed-meanwhile): parts never mix two states of a file.
    """
    root, path = _place(request)
    try:
        known = _stat(path)
        if request.get("facts_only"):
            return _facts(root, path, known, bool(request.get("digest")))
        _refuse_unless_file(known, root, path)
        # Not blocking: a file that has become a pipe since must not hold us up.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            return dict(_part(request, root, path, file), path=_shown(root, path))
    except OSError as error:
        message = "%s cannot be read on the host: %s" % (_shown(root, path), error.strerror)
        raise store.Refused("not-readable", message, "hemma run -- ls -la") from None


def write(request: dict[str, object]) -> dict[str, object]:
    """Replace the file at `path` by what was sent; returns digest, is_changed, is_new, and where the former one is kept.

    `expected_digest` refuses (changed-meanwhile) unless the file is still that one; an empty one, unless there is none.
    Owner, group, mode and extended attributes stay; `mode` sets the mode, `create_mode` that of a new file. `keep` puts
    the former file aside, `parents` makes missing folders. With `is_last` false the part is only collected, under `upload`.
    A full disk, or any other fault, leaves everything as it was.
    """
    root, path = _place(request)
    if ".git" in [part.lower() for part in os.path.relpath(path, root).split(os.sep)]:
        raise store.Refused("inside-git", "%s belongs to git itself" % _shown(root, path), "use git to change it", 2)
    content = base64.b64decode(str(request.get("content_base64") or ""))
    try:
        if request.get("is_last", True):
            return dict(_finish(request, root, path, content), path=_shown(root, path))
        return _collect(request, path, content)
    except OSError as error:
        raise _refusal(error, _shown(root, path)) from None


# --- where -----------------------------------------------------------------------------------------------------------


def _place(request: dict[str, object]) -> tuple[str, str]:
    """(root, the file's real path). Raises Refused with the guard's facts, or when the path leads out of the root."""
    given = request.get("root")
    facts = launch.guard_facts(str(given) if given else None, None)
    for name in ("root_exists", "is_repository", "is_toplevel"):
        if not facts[name]:
            refused = store.Refused("guard", "%s does not hold" % name)
            refused.fields.update(guard=name, facts=facts)
            raise refused
    root = str(facts["root"])
    wanted = os.fsdecode(frames.bytes_of(str(request.get("path") or "")))
    if not wanted or "\0" in wanted:
        raise store.Refused("usage", "%r is no path" % wanted, "give a path relative to the root", 2)
    path = os.path.realpath(os.path.join(root, wanted))
    if path != root and not path.startswith(root.rstrip("/") + "/"):
        message = "%s lies outside the repository %s" % (_text(wanted), _text(root))
        raise store.Refused("outside-root", message, "give a path relative to the root", 2)
    if wanted.endswith("/") and not os.path.isdir(path) and not request.get("facts_only"):
        raise store.Refused("not-a-folder", "%s is no folder on the host" % _text(wanted), "leave the last / out", 2)
    return root, path


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _refuse_unless_file(known: os.stat_result | None, root: str, path: str) -> None:
    shown = _shown(root, path)
    if known is None:
        raise store.Refused("file-missing", "%s does not exist on the host" % shown)
    if stat.S_ISDIR(known.st_mode):
        raise store.Refused("is-a-folder", "%s is a folder on the host" % shown, "name a file in it", 2)
    if not stat.S_ISREG(known.st_mode):
        raise store.Refused("not-a-file", "%s is no ordinary file on the host" % shown, "", 2)


# --- reading ---------------------------------------------------------------------------------------------------------


def _facts(root: str, path: str, known: os.stat_result | None, with_digest: bool) -> dict[str, object]:
    if known is None:
        return {"path": _shown(root, path), "kind": "missing"}
    is_file = stat.S_ISREG(known.st_mode)
    return {
        "path": _shown(root, path),
        "kind": "file" if is_file else "folder" if stat.S_ISDIR(known.st_mode) else "other",
        "size": known.st_size,
        "mode": stat.S_IMODE(known.st_mode),
        "digest": _digest_of(path) if is_file and with_digest else None,
    }


def _part(request: dict[str, object], root: str, path: str, file: BinaryIO) -> dict[str, object]:
    known = os.fstat(file.fileno())
    version = "%d.%d.%d.%d" % (known.st_dev, known.st_ino, known.st_size, known.st_mtime_ns)
    if request.get("version") not in (None, version):
        raise _changed(root, path)
    offset = _whole(request.get("offset"), 0)
    digest = _digest(file) if offset == 0 else None
    file.seek(offset)
    content = file.read(min(_whole(request.get("length"), PART_BYTES), MAX_PART_BYTES))
    return {
        "content_base64": base64.b64encode(content).decode("ascii"),
        "digest": digest,
        "size": known.st_size,
        "mode": stat.S_IMODE(known.st_mode),
        "version": version,
        "is_last": offset + len(content) >= known.st_size,
    }


def _digest_of(path: str) -> str:
    with open(path, "rb") as file:
        return _digest(file)


def _digest(file: BinaryIO) -> str:
    seen = hashlib.sha256()
    for piece in iter(lambda: file.read(1 << 20), b""):
        seen.update(piece)
    return seen.hexdigest()


# --- writing ---------------------------------------------------------------------------------------------------------


def _finish(request: dict[str, object], root: str, path: str, content: bytes) -> dict[str, object]:
    """All parts are here, or there was but one: put them in place."""
    staged = _staged(request) if request.get("upload") else None
    digest = str(request.get("digest") or hashlib.sha256(content).hexdigest())
    folder = os.path.dirname(path)
    try:
        with replace.parents(folder, _shown(root, path), bool(request.get("parents"))), replace.locked(folder):
            before = _stat(path)
            # Also when this is the second time: the first one took its upload along, only its reply was lost.
            if before is not None and stat.S_ISREG(before.st_mode) and _digest_of(path) == digest:
                return {"digest": digest, "is_changed": _set_mode(request, path, before), "is_new": False, "kept": None}
            _judge(request, root, path, before)
            if staged:
                _collect(request, path, content)
            kept = replace.install(request, path, before, _pieces(staged, content), digest)
    finally:
        if staged and os.path.exists(staged):
            os.unlink(staged)
    return {"digest": digest, "is_changed": True, "is_new": before is None, "kept": kept}


def _set_mode(request: dict[str, object], path: str, before: os.stat_result) -> bool:
    mode = request.get("mode")
    if not isinstance(mode, int) or isinstance(mode, bool) or stat.S_IMODE(before.st_mode) == mode:
        return False
    os.chmod(path, mode)
    return True


def _judge(request: dict[str, object], root: str, path: str, before: os.stat_result | None) -> None:
    """Refuse what may not be replaced: no ordinary file, one we may not write, another than the expected."""
    if before is not None:
        _refuse_unless_file(before, root, path)
        if not os.access(path, os.W_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), path)
    expected = request.get("expected_digest")
    if expected is not None and expected != (_digest_of(path) if before is not None else ABSENT):
        raise _changed(root, path)


def _pieces(staged: str | None, content: bytes) -> Iterator[bytes]:
    if staged is None:
        yield content
        return
    with open(staged, "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            yield piece


# --- parts -----------------------------------------------------------------------------------------------------------


def _collect(request: dict[str, object], path: str, content: bytes) -> dict[str, object]:
    """Put a part where it belongs in the upload's own file; sent twice, it does no harm."""
    staged, offset = _staged(request), _whole(request.get("offset"), 0)
    if offset == 0:
        _prepare(os.path.dirname(staged), os.path.dirname(path), _whole(request.get("size"), 0))
    try:
        handle = os.open(staged, os.O_WRONLY | (os.O_CREAT if offset == 0 else 0), 0o600)
    except FileNotFoundError:
        raise store.Refused("upload-lost", "the earlier parts are gone from the host", "try again") from None
    try:
        view = memoryview(content)
        while view:
            written = os.pwrite(handle, view, offset)
            view, offset = view[written:], offset + written
    except OSError:
        os.unlink(staged)
        raise
    finally:
        os.close(handle)
    return {"received": offset}


def _prepare(incoming: str, folder: str, size: int) -> None:
    """Before the first byte is stored: forget uploads that nobody finished; both copies must fit, also on one disk."""
    store.make_private(incoming)
    for entry in os.scandir(incoming):
        if time.time() - entry.stat().st_mtime > STALE_S:
            os.unlink(entry.path)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    is_one_disk = os.stat(incoming).st_dev == os.stat(folder).st_dev
    for place in (incoming, folder):
        room = os.statvfs(place)
        if room.f_bavail * room.f_frsize < (2 * size if is_one_disk else size):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), place)


def _staged(request: dict[str, object]) -> str:
    name = str(request.get("upload"))
    if not re.match("[0-9a-f]{8,64}$", name):
        raise store.Refused("usage", "%r is no name for an upload" % name, exit_code=2)
    return os.path.join(store.private(os.path.join(replace.state_folder(request), "incoming")), name)


# --- refusals --------------------------------------------------------------------------------------------------------


def _changed(root: str, path: str) -> store.Refused:
    return store.Refused("changed-meanwhile", "%s has changed on the host meanwhile" % _shown(root, path), "", 75)


def _refusal(error: OSError, shown: str) -> store.Refused:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "free some space or inodes there, e.g. `hemma prune`"
        return store.Refused("host-disk-full", "the host has no room for %s: nothing was written" % shown, remedy, 255)
    message = "%s cannot be written on the host: %s" % (shown, error.strerror)
    return store.Refused("not-writable", message, "hemma run -- ls -la, and make it writable for your user")


def _shown(root: str, path: str) -> str:
    return _text(os.path.relpath(path, root))


def _text(path: str) -> str:
    return frames.text_of(os.fsencode(path))


def _whole(value: object, default: int) -> int:
    return value if isinstance(value, int) and value >= 0 else default
