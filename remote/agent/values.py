"""Things that travel by value and are kept under their digest: the training payload, a job's request (S8-R01).

What is here is what was sent: a name is the sha256 of the content, checked before it takes its place.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import time

from . import frames, store

# Nothing refers to a value for long: a run has its own job.json, and the payload is sent again when it is not here.
KEPT_S = 30 * 86400.0
_NAME = re.compile(r"[0-9a-f]{64}\.(zip|json)")


def missing(request: dict[str, object]) -> dict[str, object]:
    """Which of `names` (sha256 and suffix) are not here, the folder that holds those that are, and, if asked, which of `paths` exist."""
    folder = _folder(request)
    names = request.get("names")
    absent: list[str] = []
    for name in [str(each) for each in names] if isinstance(names, list) else []:
        path = os.path.join(folder, _checked(name))
        try:
            os.utime(path)
        except OSError:
            absent.append(name)
    known: dict[str, object] = {"missing": absent, "folder": folder}
    paths = request.get("paths")
    if isinstance(paths, list):
        known["exist"] = {str(path): os.path.lexists(_expanded(str(path))) for path in paths}
    return known


def put(request: dict[str, object]) -> dict[str, object]:
    """Keep `content_base64` under `name`; refused when it is not what the name says. A second time changes nothing."""
    name = _checked(str(request.get("name")))
    content = base64.b64decode(str(request.get("content_base64") or ""))
    if hashlib.sha256(content).hexdigest() != name.partition(".")[0]:
        raise store.Refused("digest-mismatch", "what came is not what %s names" % name[:12], "try again")
    folder = _folder(request)
    store.make_private(folder)
    _forget_old(folder)
    path = os.path.join(folder, name)
    staged = "%s.%d.tmp" % (path, os.getpid())
    try:
        handle = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(staged, path)
    finally:
        if os.path.exists(staged):
            os.unlink(staged)
    return {"path": path}


def _expanded(path: str) -> bytes:
    return os.path.expanduser(frames.bytes_of(path))


def _forget_old(folder: str) -> None:
    limit = time.time() - KEPT_S
    for entry in os.scandir(folder):
        if entry.stat().st_mtime < limit:
            os.unlink(entry.path)


def _folder(request: dict[str, object]) -> str:
    state_dir = request.get("state_dir")
    runs = store.runs_folder(str(state_dir) if state_dir else None)
    return store.private(os.path.join(os.path.dirname(runs), "values"))


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise store.Refused("usage", "%r is no name of a value" % name, exit_code=2)
    return name
