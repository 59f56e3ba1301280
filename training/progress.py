"""How far a training is, as one line. No torch: the executor says it as well, and starts without it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def progress_line(state: Mapping[str, Any], eta_s: float | None) -> str:
    """`step 12/100  loss 2.3456  1234 tok/s  ETA 00:01:23`; a part that is not known is left out (S11-R16)."""
    total = f"/{state['total']}" if state.get("total") else ""
    parts = [f"step {state['step']}{total}"]
    if isinstance(state.get("loss"), int | float):
        parts.append(f"loss {state['loss']:.4f}")
    if state.get("tokens_per_s"):
        parts.append(f"{state['tokens_per_s']:.0f} tok/s")
    if eta_s is not None:
        minutes, seconds = divmod(round(eta_s), 60)
        parts.append(f"ETA {minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}")
    return "  ".join(parts)
