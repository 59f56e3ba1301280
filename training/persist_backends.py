"""Which back-end a manifest's `persist` part means."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.persist import Backend, DestinationRefused, Directory, concrete


def backend_for(spec: Mapping[str, Any], *, root: Path, name: str, part: str = "") -> Backend:
    """The back-end of a manifest's `persist` part; results go below its destination as `name` (RUN_NAME/RUN_ID).

    `part`: not the result itself but what lies beside it, as `name`-`part`; in the hub's one repository, in a folder of it.
    Raises DestinationRefused for a kind that there is not, and for a placeholder (S6-R05).
    """
    destination, kind = concrete(str(spec.get("destination") or "")), str(spec.get("kind") or "directory")
    own = _below(f"{name}-{part}" if part else name)
    if kind == "directory":
        return Directory(root / os.path.expanduser(destination), own)
    if kind == "host":
        from training.persist_host import Host

        return Host(destination, own)
    if kind == "hub":
        from training.persist_hub import Hub

        return Hub(destination, own, below=own.rpartition("/")[2] if part else "")
    raise DestinationRefused(f"persist.kind {kind!r} is none", remedy="one of: directory, host, hub")


def _below(name: str) -> str:
    """`name` if it stays below a destination. It is a run's, and may well be called `example`: that is no placeholder here."""
    if not name.strip() or name.startswith("/") or ".." in name.split("/") or re.search(r"[\0-\x1f]", name):
        raise DestinationRefused(f"{name!r} names no result", remedy="letters, digits, dot, dash and underscore")
    return name
