"""The one way to disk: whole files only, written beside their place and moved there, private by default.

Standard library only. A reader sees the old file or the new one, never a part. Durable across power loss (file and
folder are synced); concurrent writers do not mix, the last one wins.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from typing import Any, cast

from manifests.commands import command
from manifests.errors import HemmaError


def read_json(path: str) -> dict[str, Any]:
    """The JSON object in `path`.

    Strings may hold lone surrogates: that is how bytes outside UTF-8 travel (argv, paths).
    Raises HemmaError, code `file-missing`, `file-unreadable` or `file-broken`, naming the file and the first fault.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read()
    except FileNotFoundError as error:
        raise HemmaError(
            f"{path} does not exist", remedy=command("ls -la {}", os.path.dirname(path)), code="file-missing"
        ) from error
    except OSError as error:
        raise HemmaError(
            f"{path} cannot be read: {error.strerror}", remedy=command("ls -la {}", path), code="file-unreadable"
        ) from error
    return parse_json(raw, path)


def parse_json(raw: bytes, name: str) -> dict[str, Any]:
    """The JSON object that `raw` holds; `name` is what an error calls it. Raises HemmaError, code `file-broken`."""
    try:
        value: object = json.loads(raw)
    except (ValueError, RecursionError) as error:
        what = "is empty" if not raw.strip() else f"is not valid JSON ({error})"
        raise broken(name, what) from error
    if not isinstance(value, dict):
        raise broken(name, "holds no JSON object")
    return cast("dict[str, Any]", value)


def broken(name: str, what: str) -> HemmaError:
    """The error for a file of ours that cannot be understood."""
    return HemmaError(f"{name} {what}", remedy=command("mv {} {}.broken", name, name), code="file-broken")


def write_json(path: str, value: dict[str, Any], *, mode: int | None = 0o600) -> None:
    """Write `value` as indented ASCII JSON; any string survives, lone surrogates too. See `atomic_write`."""
    atomic_write(path, json.dumps(value, indent=2).encode("ascii") + b"\n", mode=mode)


def atomic_write(path: str, data: bytes, *, mode: int | None = 0o600) -> None:
    """Replace `path` by `data` in one step: temporary file in the same folder, fsync, rename, fsync of the folder.

    `mode` None keeps the mode of the file that is there (0644 less the umask for a new one): for files that are the
    user's own. A symbolic link is followed, so a linked config.toml stays linked. Missing folders are made, 0700.
    Raises HemmaError, code `file-unwritable`; the old file is then untouched and no temporary file is left.
    """
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    temporary = os.path.join(folder, f".{os.path.basename(target)[:100]}.{os.getpid()}.{os.urandom(6).hex()}.tmp")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        _write_synced(temporary, data, mode, _mode_of(target))
        os.replace(temporary, target)
        _sync_folder(folder)
    except OSError as error:
        raise HemmaError(
            f"{path} cannot be written: {error.strerror}",
            remedy=command("df -h {}; ls -ld {}", folder, folder),
            code="file-unwritable",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _mode_of(path: str) -> int | None:
    try:
        return stat.S_IMODE(os.stat(path).st_mode)
    except FileNotFoundError:
        return None


def _write_synced(path: str, data: bytes, mode: int | None, present: int | None) -> None:
    # Without a mode of its own a new file gets the umask's, so it is opened with 0644 and not changed after.
    wanted = present if mode is None else mode
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644 if wanted is None else wanted & 0o700)
    with open(handle, "wb") as file:
        if wanted is not None and hasattr(os, "fchmod"):
            os.fchmod(handle, wanted)
        file.write(data)
        file.flush()
        os.fsync(handle)


def _sync_folder(folder: str) -> None:
    # Windows cannot open a folder; the rename is atomic there as well, only less durable.
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
