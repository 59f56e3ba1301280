"""Which back-end a manifest's `persist` part means."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.persist import Backend, DestinationRefused, Directory, concrete


def backend_for(spec: Mapping[str, Any], *, root: Path, name: str) -> Backend:
    """The back-end of a manifest's `persist` part; results go below its destination as `name` (RUN_NAME/RUN_ID).

    Raises DestinationRefused for a kind that there is not, and for a placeholder (S6-R05).
    """
    destination, kind = concrete(str(spec.get("destination") or "")), str(spec.get("kind") or "directory")
    if kind == "directory":
        return Directory(root / os.path.expanduser(destination), concrete(name))
    if kind == "host":
        from training.persist_host import Host

        return Host(destination, concrete(name))
    if kind == "hub":
        from training.persist_hub import Hub

        return Hub(destination, concrete(name))
    raise DestinationRefused(f"persist.kind {kind!r} is none", remedy="one of: directory, host, hub")
