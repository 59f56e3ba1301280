"""Which failure that the executor analysed a training has not outlived (S13-R04)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def standing(before: Mapping[str, Any] | None, kind: str, data: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The analysis that stands after one more event, None when none does: a stage that was passed ends it."""
    if kind == "analysis":
        return data or None
    return None if kind == "stage" and data.get("outcome") in ("passed", "partial") else before
