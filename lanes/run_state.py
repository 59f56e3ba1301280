"""What has become of a run, judged from its status file and from whether its processes still live (S9-R19, S9-R20).

A run that says "running" under an earlier boot, or whose supervisor is gone, is lost: never "running forever".
"""

from __future__ import annotations

import dataclasses
from typing import Any

STATES = ("starting", "running", "finished", "lost")
# A run directory this young without a status is still being started.
START_GRACE_S = 10.0


@dataclasses.dataclass(frozen=True)
class RunState:
    """`state` is one of STATES; `exit_code` is there when finished; `reason` says in words what is behind it."""

    state: str
    exit_code: int | None
    reason: str
    command_alive: bool = False

    @property
    def is_over(self) -> bool:
        """Whether nothing more can come of this run by itself."""
        return self.state in ("finished", "lost")


def judge(facts: dict[str, Any], now_s: float | None = None) -> RunState:
    """The state of one run. `facts` is what the agent tells of it; `now_s` (unix time) only matters for a run being started."""
    status = facts.get("status")
    alive, command_alive = bool(facts.get("supervisor_alive")), bool(facts.get("command_alive"))
    if not status:
        age = None if now_s is None else now_s - float(facts.get("modified_s") or 0.0)
        if age is None or age < START_GRACE_S:
            return RunState("starting", None, "being started")
        return RunState("lost", None, "it never started: the agent ended in between")
    if status.get("state") == "finished":
        return RunState("finished", status.get("exit_code"), _reason(status), command_alive)
    if alive:
        return RunState(str(status.get("state")), None, "", True)
    supervisor = status.get("supervisor") or {}
    if supervisor.get("boot_id") != facts.get("boot_id"):
        return RunState("lost", None, "the host was restarted while it ran")
    if command_alive:
        return RunState("lost", None, "its supervisor was killed; the command itself still runs", True)
    return RunState("lost", None, "its supervisor was killed, and the command with it")


def _reason(status: dict[str, Any]) -> str:
    reason = str(status.get("reason") or "")
    if reason == "signalled":
        return f"died of signal {status.get('signal')}"
    return reason if not status.get("detail") else f"{reason}: {status['detail']}"


def end_facts(end: dict[str, Any]) -> dict[str, Any]:
    """The facts to judge from the last frame of a followed run, which holds the status and, without a supervisor, liveness."""
    return {
        "status": end if end.get("state") else None,
        "supervisor_alive": end.get("supervisor_alive", False),
        "boot_id": end.get("boot_id_now"),
        "command_alive": end.get("command_alive", False),
    }
