"""Names for runs. Standard library only: the `hemma run` path."""

from __future__ import annotations

import os
import time


def new_run_id(now_s: float | None = None) -> str:
    """A run id: UTC time to the millisecond first, so that ids sort by age, then enough chance to never meet another."""
    now_s = time.time() if now_s is None else now_s
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now_s))
    return f"{stamp}{int(now_s % 1 * 1000):03d}-{os.urandom(4).hex()}"
