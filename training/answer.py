"""What a tool that runs on the host by itself says to the controller: JSON lines (controller/flows/host_tools.py reads them)."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any


def tell(kind: str, **data: Any) -> None:
    """Print one event; a controller that has gone is no reason to stop."""
    with contextlib.suppress(OSError):
        sys.stdout.write(json.dumps({"kind": kind, "data": data}) + "\n")
        sys.stdout.flush()
