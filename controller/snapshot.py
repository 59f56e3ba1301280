"""Settings for the hot path: what `resolve` found last time, valid while every byte it depended on is the same.

Standard library only, and little of it: `hemma run` reads this before it does anything else. The full bytes of both
settings files are compared, not their times or digests (no false hit; hashlib costs more than the comparison).
"""

from __future__ import annotations

import json
import os
import zlib

from manifests.ownership import read_own
from manifests.places import cache_dir, config_dir, private_dir, state_dir

TYPE_CHECKING = False  # `typing` itself would be the dearest import here
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

VARIABLES = (
    "HEMMA_HOST",
    "HEMMA_ROOT",
    "HEMMA_PYTHON",
    "HEMMA_SSH_CONFIG",
    "HEMMA_HOST_STATE_DIR",
    "HEMMA_LEASE_S",
    "HEMMA_KEEPALIVE_S",
    "HEMMA_CONNECT_TIMEOUT_S",
    "HEMMA_LOGIN",
)
FORMAT = 1
KEPT = 64  # snapshots on disk; one for each mix of project, user config and variables


class Sources:
    """Everything the settings depend on, as read in one go: both files' bytes (None: no such file) and the variables."""

    __slots__ = ("config", "config_path", "pyproject", "pyproject_path", "trust", "variables")

    def __init__(self, start: str, environ: Mapping[str, str]) -> None:
        self.pyproject_path, self.pyproject = find_project(start)
        self.config_path = os.path.join(config_dir(), "config.toml")
        self.config = own_bytes_of(self.config_path, is_config=True)
        self.variables = variables(start, environ)
        folder = os.path.dirname(self.pyproject_path) if self.pyproject_path else None
        # What was resolved holds only as long as the leave that it was resolved with: `hemma trust --revoke`.
        self.trust = None if folder is None else _bytes_of(trust_path(folder))

    def key(self) -> dict[str, Any]:
        """What a snapshot's head must say for the snapshot to be about these sources."""
        return {
            "format": FORMAT,
            "code": _code_stamp(),
            "pyproject_path": self.pyproject_path,
            "config_path": self.config_path,
            "variables": self.variables,
            "trust": None if self.trust is None else self.trust.hex(),
            "sizes": [-1 if data is None else len(data) for data in (self.pyproject, self.config)],
        }

    def body(self) -> bytes:
        """Both files' bytes; with the sizes in the key there is one way to cut them."""
        return (self.pyproject or b"") + (self.config or b"")


def read(start: str, environ: Mapping[str, str]) -> dict[str, Any] | None:
    """The settings for the folder `start` from their snapshot, or None when there is no valid one.

    Raises NotPrivate where it, or the user's config, is not this user's; nothing else.
    """
    try:
        return lookup(Sources(start, environ))
    except (OSError, ValueError, LookupError, TypeError):  # a damaged snapshot is a miss
        return None


def lookup(sources: Sources) -> dict[str, Any] | None:
    """The settings that were recorded for exactly these sources, or None."""
    raw = own_bytes_of(_place(sources))
    if raw is None:
        return None
    head, _, body = raw.partition(b"\n")
    if body != sources.body():
        return None
    record = json.loads(head)
    return record["settings"] if record["key"] == sources.key() else None


def write(sources: Sources, settings: dict[str, Any]) -> None:
    """Record `settings` for `sources`, mode 0600. A cache that cannot be written is no error: the next call resolves again."""
    import contextlib

    from manifests.errors import HemmaError
    from manifests.files import atomic_write

    head = json.dumps({"key": sources.key(), "settings": settings}, separators=(",", ":")).encode("ascii")
    place = _place(sources)
    with contextlib.suppress(OSError, HemmaError):
        private_dir(os.path.dirname(place))
        atomic_write(place, head + b"\n" + sources.body())
        _prune(os.path.dirname(place))


def trust_path(folder: str) -> str:
    """Where it is kept that a person has allowed the settings of the repository in `folder` (controller/trust.py)."""
    crc = zlib.crc32(folder.encode("utf-8", "surrogateescape"))
    return os.path.join(state_dir(), "trusted", f"{crc:08x}.json")


def find_project(start: str) -> tuple[str | None, bytes | None]:
    """The nearest pyproject.toml at or above `start` with a [tool.hemma] table, and its bytes; (None, None) without one."""
    folder = os.path.abspath(start)
    while True:
        path = os.path.join(folder, "pyproject.toml")
        data = _bytes_of(path)
        if data is not None and has_section(data):
            return path, data
        above = os.path.dirname(folder)
        if above == folder:
            return None, None
        folder = above


def has_section(data: bytes) -> bool:
    """Whether a line of this TOML opens [tool.hemma] or a table below it (comments do not count)."""
    at = data.find(b"[tool.hemma")
    while at >= 0:
        line_start = data.rfind(b"\n", 0, at) + 1
        before = data[line_start:at].removeprefix(b"\xef\xbb\xbf")
        if not before.strip(b" \t[") and data[at + 11 : at + 12] in (b"]", b".", b" ", b"\t"):
            return True
        at = data.find(b"[tool.hemma", at + 1)
    return False


def variables(start: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The settings variables that are set (an empty one is not); a relative HEMMA_SSH_CONFIG made absolute from `start`."""
    found = {name: environ[name] for name in VARIABLES if environ.get(name)}
    if "HEMMA_SSH_CONFIG" in found:
        path = os.path.expanduser(found["HEMMA_SSH_CONFIG"])
        found["HEMMA_SSH_CONFIG"] = os.path.abspath(os.path.join(start, path))
    found["HOME"] = environ.get("HOME", "")  # `~` in the user's config depends on it
    return found


def _code_stamp() -> list[int]:
    # Another Hemma may read the same files differently; its settings code has another time or size.
    rooms = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    found = [os.stat(os.path.join(rooms, room, "settings.py")) for room in ("controller", "manifests")]
    return [number for stat in found for number in (stat.st_mtime_ns, stat.st_size)]


def _place(sources: Sources) -> str:
    seed = "\0".join((sources.pyproject_path or "", sources.config_path, *map("=".join, sources.variables.items())))
    folder = os.path.basename(os.path.dirname(sources.pyproject_path or "")) or "none"
    # A collision of two names costs a miss, never a wrong hit: the key inside is compared in full.
    crc = zlib.crc32(seed.encode("utf-8", "surrogateescape"))
    safe = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_") else "_" for letter in folder)
    return os.path.join(cache_dir(), "settings", f"{safe[:40]}-{crc:08x}.json")


def _bytes_of(path: str) -> bytes | None:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def own_bytes_of(path: str, *, is_config: bool = False) -> bytes | None:
    """The bytes of a file of ours, None when there is none. Raises NotPrivate where somebody else may have written it."""
    try:
        return read_own(path, is_config=is_config)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def _prune(folder: str) -> None:
    found = [os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".json")]
    for path in sorted(found, key=os.path.getmtime)[: -KEPT or None]:
        os.unlink(path)
