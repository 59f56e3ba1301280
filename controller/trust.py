"""Which repositories' settings a person has allowed: what of [tool.hemma] says where commands run and with what (direnv's way).

Kept by digest of exactly those keys and the folder, in the state folder, mode 0600. A change of one of them asks again.
Lanes, notebooks and the like need no leave: they say what edits are, and run nothing. `lease_s` is a time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from controller import snapshot
from manifests.commands import command
from manifests.errors import HemmaError, NotTrusted
from manifests.files import atomic_write
from manifests.places import private_dir
from manifests.settings import ProjectSettings

# host, root: which machine and which clone. python, env, login: what is executed there, and in what surroundings.
# drive: where slices, which hold data, are sent.
KEYS = ("host", "root", "python", "env", "login", "drive")
_FORMAT = 1


class Trusted(NamedTuple):
    """A folder that was allowed: the digest of its keys then, and when (ISO 8601, UTC)."""

    folder: str
    digest: str
    at: str


def asked(project: ProjectSettings) -> dict[str, Any]:
    """What of these settings needs leave, by its key; empty where nothing does."""
    said = {key: getattr(project, key) for key in KEYS if key != "env"}
    found = {key: value for key, value in said.items() if value is not None}
    return {**found, **{f"env.{name}": value for name, value in sorted(project.env.items())}}


def digest_of(keys: dict[str, Any]) -> str:
    """The sha256 of these keys with their values, hex."""
    return hashlib.sha256(json.dumps(keys, sort_keys=True).encode("ascii")).hexdigest()


def is_trusted(folder: str, project: ProjectSettings) -> bool:
    """Whether a person has allowed exactly these keys for this folder, or there is nothing to allow."""
    keys = asked(project)
    return not keys or _read(snapshot.trust_path(folder)) == (folder, digest_of(keys))


def demand(pyproject_path: str | None, project: ProjectSettings) -> None:
    """Raise NotTrusted where these settings need leave and have none. Their values are shown by `hemma trust` alone."""
    if pyproject_path is None or is_trusted(os.path.dirname(pyproject_path), project):
        return
    names = ", ".join(asked(project))
    raise NotTrusted(
        f"{pyproject_path} [tool.hemma] says where commands run and with what, and you have not allowed it as it is now: {names}",
        remedy=command("hemma trust   (shows the values, and asks)"),
    )


def allow(folder: str, project: ProjectSettings) -> None:
    """Keep that a person has allowed these keys for this folder. Raises HemmaError when it cannot be written."""
    path = snapshot.trust_path(folder)
    private_dir(os.path.dirname(path))
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    record = {"format": _FORMAT, "folder": folder, "digest": digest_of(asked(project)), "at": at}
    atomic_write(path, json.dumps(record).encode("ascii") + b"\n")


def revoke(folder: str) -> bool:
    """Forget the leave for this folder; whether there was one."""
    try:
        os.unlink(snapshot.trust_path(folder))
    except FileNotFoundError:
        return False
    except OSError as error:
        raise HemmaError(f"{error.filename}: {error.strerror}", remedy=command("hemma trust --list")) from error
    return True


def listed() -> list[Trusted]:
    """Every folder that was allowed, by its name."""
    return sorted(_records())


def _records() -> Iterator[Trusted]:
    folder = os.path.dirname(snapshot.trust_path(""))
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(folder):
            record = _loaded(os.path.join(folder, name))
            if record is not None:
                yield Trusted(record["folder"], record["digest"], str(record.get("at", "")))


def _read(path: str) -> tuple[str, str] | None:
    record = _loaded(path)
    return (record["folder"], record["digest"]) if record else None


def _loaded(path: str) -> dict[str, Any] | None:
    """The record at `path`, if it is one, and nobody else could have written it."""
    try:
        with open(path, "rb") as file:
            known = os.fstat(file.fileno())
            if hasattr(os, "getuid") and (known.st_uid != os.getuid() or known.st_mode & 0o022):
                return None
            record: Any = json.loads(file.read(1 << 16))
    except (OSError, ValueError, RecursionError):
        return None
    is_one = isinstance(record, dict) and record.get("format") == _FORMAT
    return (
        record if is_one and isinstance(record.get("folder"), str) and isinstance(record.get("digest"), str) else None
    )
