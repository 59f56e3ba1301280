"""Which old runs may go. Never a live one, never one of unknown state; the oldest first."""

from __future__ import annotations

from typing import Any

from lanes import run_state

MAX_AGE_S = 14 * 86400.0
MAX_BYTES = 5 << 30
# What to ask a host for: the oldest runs, without their records, and how much all of them keep.
ASKED = {"brief": True, "oldest": True, "with_total": True}


def expired(
    runs: list[dict[str, Any]],
    now_s: float,
    *,
    max_age_s: float = MAX_AGE_S,
    max_bytes: int = MAX_BYTES,
    total_bytes: int | None = None,
) -> list[str]:
    """Ids of the runs to remove: those that ended more than `max_age_s` ago, then the oldest until `max_bytes` is kept.

    `runs` are the agent's facts of each run, `total_bytes` what all keep where there are more than these. The bytes of live runs count towards the total but are never chosen.
    """
    over = [facts for facts in runs if _may_go(facts, now_s)]
    over.sort(key=lambda facts: (float(facts["modified_s"]), str(facts["run_id"])))
    total = sum(_bytes(facts) for facts in runs) if total_bytes is None else total_bytes
    chosen: list[str] = []
    for facts in over:
        if now_s - float(facts["modified_s"]) > max_age_s or total > max_bytes:
            chosen.append(str(facts["run_id"]))
            total -= _bytes(facts)
    return chosen


def _may_go(facts: dict[str, Any], now_s: float) -> bool:
    alive = facts.get("supervisor_alive") or facts.get("command_alive")
    return not alive and run_state.judge(facts, now_s).is_over


def _bytes(facts: dict[str, Any]) -> int:
    return sum(int(size) for size in facts.get("sizes", {}).values())
