"""trackio as the mirror of our logs: a process of its own reads metrics.jsonl and alerts.jsonl and delivers what is new (S12-R05, S12-R13).

The training never imports, waits for or breaks with the tracker. trackio drops a batch it cannot write and says nothing, so
what was delivered is read back before the cursor moves; what was not is delivered later, by the next round, the next
attempt, or `deliver` on its own. At least once: a round that was cut may come again.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from training.events import read, read_metrics

CURSOR = "tracker.json"
LOG = "logs/tracker.log"
INTERVAL_S = 5.0
GRACE_S = 10.0
# One round's share of a backlog: a tracker that is slow gets it in pieces that can be confirmed.
ROUND_ROWS = 2000
# The mirror is the same code in another process, by the name that this module has here (in a payload it has a prefix).
_BOOT = (
    "import importlib, sys; sys.path.insert(0, sys.argv[1]); importlib.import_module(sys.argv[2]).main(sys.argv[3:])"
)


class Mirror:
    """The mirror's process. `stop` lets it deliver the rest, but not for long."""

    def __init__(self, folder: Path, *, project: str, run: str, space: str | None = None) -> None:
        """Start mirroring `folder`. Never raises: without a mirror the training is as good, and the logs are all there."""
        self._process: subprocess.Popen[bytes] | None = None
        environ = {**os.environ, **({} if space else {"HF_HUB_OFFLINE": "1"})}
        with contextlib.suppress(OSError):
            (folder / LOG).parent.mkdir(parents=True, exist_ok=True)
            with open(folder / LOG, "ab") as log:
                self._process = subprocess.Popen(
                    [*command(), str(folder), project, run, space or ""],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env=environ,
                )

    def stop(self, grace_s: float = GRACE_S) -> bool:
        """Tell the mirror to deliver what is left; returns whether it did within `grace_s`. It is ended then."""
        process, self._process = self._process, None
        if process is None:
            return False
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            return process.wait(grace_s) == 0
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return False


def command() -> list[str]:
    """What starts the mirror, without its arguments."""
    place = Path(__file__).parents[__name__.count(".")]
    return [sys.executable, "-I", "-c", _BOOT, str(place), __name__]


def main(arguments: list[str]) -> None:
    """Mirror until stdin ends (the training is over, or is no more), then once again. Exits 0 when nothing is left."""
    folder, (project, run, space) = Path(arguments[0]), arguments[1:4]
    is_over = False
    while True:
        left: int | None = None
        try:
            left = deliver(folder, project=project, run=run, space=space or None)["left"]
        except Exception as error:  # noqa: BLE001 - whatever the tracker raises: it is told, and tried again
            print(f"tracker: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        if is_over and not left:
            sys.exit(1 if left is None else 0)
        is_over = is_over or _stdin_ended(INTERVAL_S)


def deliver(folder: Path, *, project: str, run: str, space: str | None = None) -> dict[str, int]:
    """Bring rows and alerts that the tracker does not have yet; returns how many were confirmed and how many are left.

    Raises whatever the tracker raises; the cursor stands where it was confirmed last.
    """
    cursor = _cursor(folder)
    rows = [row for row in read_metrics(folder / "metrics.jsonl") if row.get("at", 0) > cursor["at"]]
    alerts = read(folder / "alerts.jsonl", cursor["alerts"])
    some, told = rows[:ROUND_ROWS], alerts[:ROUND_ROWS]
    if not some and not told:
        return {"delivered": 0, "left": 0}
    import trackio

    before = 0 if space else _stored(project, run)
    opened = trackio.init(
        project=project, name=run, resume="allow", space_id=space, embed=False, auto_log_gpu=False, auto_log_cpu=False
    )
    for row in some:
        opened.log(_numbers(row), step=int(row.get("step", 0)))
    for alert in told:
        # trackio's alerts have no step of ours: title and text carry ours, so that they can be told apart (S12-R14).
        title = f"#{alert['seq']} {alert['title']}"
        trackio.alert(title=title, text=str(alert.get("text", "")), level=_level(trackio, str(alert["level"])))
    trackio.finish()
    if not space:
        _confirm(trackio, project, run, before + len(some), told)
    _move(folder, some, told, cursor)
    return {"delivered": len(some) + len(told), "left": len(rows) + len(alerts) - len(some) - len(told)}


def _confirm(trackio: Any, project: str, run: str, wanted: int, told: list[dict[str, Any]]) -> None:
    """Read back what was written: a batch that failed was dropped with nothing but a warning."""
    stored = _stored(project, run)
    if stored < wanted:
        raise RuntimeError(f"{wanted - stored} rows did not arrive")
    titles = {str(alert["title"]) for alert in trackio.Api().alerts(project, run=run)} if told else set[str]()
    missing = [alert["seq"] for alert in told if f"#{alert['seq']} {alert['title']}" not in titles]
    if missing:
        raise RuntimeError(f"alerts {missing} did not arrive")


def _stored(project: str, run: str) -> int:
    """Rows of this run that the tracker has on its disk."""
    from trackio.sqlite_storage import SQLiteStorage

    return SQLiteStorage.get_log_count(project, run)


def _move(folder: Path, rows: list[dict[str, Any]], alerts: list[dict[str, Any]], cursor: Mapping[str, Any]) -> None:
    moved = {
        "at": max((float(row.get("at", 0)) for row in rows), default=cursor["at"]),
        "alerts": alerts[-1]["seq"] + 1 if alerts else cursor["alerts"],
    }
    temporary = folder / f".{CURSOR}.tmp"
    temporary.write_text(json.dumps(moved), encoding="utf-8")
    temporary.replace(folder / CURSOR)


def _cursor(folder: Path) -> dict[str, Any]:
    try:
        return {"at": 0.0, "alerts": 0, **json.loads((folder / CURSOR).read_text(encoding="utf-8"))}
    except (OSError, ValueError):
        return {"at": 0.0, "alerts": 0}


def _numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    """What of a row is a metric."""
    return dict(_metrics(row))


def _metrics(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in row.items():
        if isinstance(value, int | float) and not isinstance(value, bool) and name not in ("step", "at"):
            yield (name if name.startswith("eval_") else f"train/{name}"), value


def _level(trackio: Any, level: str) -> Any:
    return getattr(trackio.AlertLevel, level, trackio.AlertLevel.INFO)


def _stdin_ended(wait_s: float) -> bool:
    """Whether stdin was closed within `wait_s`: then the training is over, however it ended."""
    import select

    until = time.monotonic() + wait_s
    while (left := until - time.monotonic()) > 0:
        if select.select([0], [], [], left)[0] and not os.read(0, 4096):
            return True
    return False
