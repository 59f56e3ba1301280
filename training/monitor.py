"""What every training tells of itself, whichever engine runs it: metrics, alerts, heartbeat, progress, and when to stop (S12).

Calls from the training thread only append a line or set a field; the heartbeat has a thread of its own. An alert is on the
disk when the call that raised it returns. A number that is not finite is told and then raised, before the next step (S11-R22).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from lanes.alert_rules import Alert, alert
from lanes.alerts import Watch
from manifests.commands import Command
from training.checkpoint_writer import Saved
from training.checkpoints import Damage
from training.errors import NoRoom, NotFinite, TrainingError
from training.events import AlertLog, EventLog, MetricsLog, keep_reserve, read_metrics
from training.progress import progress_line

PROGRESS = "progress.json"
STOP_FILE = "stop"
HEARTBEAT_S = 1.0
PRINT_EVERY_S = 1.0
# The tokens that a method has seen so far: TRL's name, and the Trainer's own.
_TOKEN_COUNTS = ("num_tokens", "num_input_tokens_seen")
# Counters and clocks: no rule looks at them, and each series that is watched costs time at every step.
_COUNTED = frozenset(("step", "at", "epoch", "total_flos", "train_runtime", *_TOKEN_COUNTS))
# What these find is told at once and ends the attempt; a stall ends nothing, it may pass.
_ENDING = {
    "non-finite": "nan-loss",
    "diverged": "loss-diverged",
    "zero-loss": "nan-loss",
    "zero-gradient": "zero-gradient",
}

Clock = Callable[[], float]


class Monitor:
    """One training's logs and signals. Open it before the model is loaded, `close` it last."""

    def __init__(self, folder: Path, *, method: str, clock: Clock = time.monotonic) -> None:
        """Open the logs below `folder`; mends what a crash cut, and says so in the events."""
        self.folder = folder
        self.method = method
        self.stop_reason: str | None = None
        self.failure: Exception | None = None
        folder.mkdir(parents=True, exist_ok=True)
        keep_reserve(folder)
        self.events = EventLog(folder / "events.jsonl")
        self.alerts = AlertLog(folder / "alerts.jsonl")
        self.metrics = MetricsLog(folder / "metrics.jsonl")
        self.watch = Watch(method=method)
        self._clock = clock
        self._guard = threading.Lock()
        self._state: dict[str, Any] = {
            "state": "starting",
            "step": 0,
            "total": None,
            "step_at": None,
            "loss": None,
            "tokens_per_s": None,
        }
        self._rate = _Rate()
        self._printed_at = -math.inf
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        for log in (self.events, self.alerts):
            if log.torn_bytes:
                self.events.append("log-repaired", {"log": log.path.name, "moved_bytes": log.torn_bytes})

    # --- the training's own calls ---

    def begin(self, total: int | None, step: int = 0) -> None:
        """The first step is about to run: `total` optimizer steps in all, `step` of them done."""
        if not step:
            # An attempt that ended before its first checkpoint: this one writes the series anew.
            self.metrics.supersede_after(-1)
        self._note(state="training", step=step, total=total)
        self._rate.begin(self._clock(), step)
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def step(self, step: int) -> str | None:
        """A step is done; returns why the training should stop here, or None. Raises what a save failed with."""
        # In place, and only values of names that are there: the heartbeat may copy it at any time.
        self._state["step"] = step
        self._state["step_at"] = time.time()
        self._rate.step(self._clock(), step)
        if self.failure is not None:
            raise self.failure
        return self.stop_reason

    def log(self, step: int, row: Mapping[str, Any]) -> list[Alert]:
        """A line of metrics: into the series, before the watch, and now and then on the screen.

        Raises TrainingError after the alert is durable when the training cannot go on (not finite, diverged).
        """
        now = self._clock()
        tokens = next((row[name] for name in _TOKEN_COUNTS if name in row), None)
        rate = self._rate.tokens(now, tokens)
        line = {"step": step, "at": round(time.time(), 3), **row}
        if rate is not None:
            line["tokens_per_s"] = round(rate, 1)
        self.metrics.append(line)
        if "loss" in row:
            self._state["loss"] = row["loss"]
            self._state["tokens_per_s"] = rate
        self._print(now, step)
        with self._guard:
            found = self.watch.observe(step, {name: line[name] for name in line if name not in _COUNTED}, now)
        self.tell(found)
        self._end_on(found)
        return found

    def check_finite(self, step: int, **values: float) -> None:
        """Look at loss and gradient norm of one step before the weights take it. Raises NotFinite after the ERROR alert."""
        for name, value in values.items():
            if not math.isfinite(value):
                self.poisoned(name, step, value)

    def poisoned(self, where: str, step: int, value: float = math.nan) -> None:
        """Tell of a NaN or an infinity, durably, and raise NotFinite."""
        self.tell([alert("non-finite", step, where, value, math.inf)])
        raise NotFinite(where, step, str(value))

    def tell(self, found: list[Alert]) -> None:
        """Append alerts; they are on the disk when this returns (S12-R13)."""
        for each in found:
            self.alerts.append(each.as_dict())

    def note(self, code: str, step: int, metric: str, value: float) -> None:
        """An alert for something that is known: a checkpoint, the end, an early stop."""
        self.tell([alert(code, step, metric, value, math.nan)])

    def cursors(self) -> dict[str, Any]:
        """Where the logs and the watch are, for a checkpoint (S11-R12)."""
        with self._guard:
            watch = self.watch.state()
        return {"tracker_cursor": {"metrics_bytes": self.metrics.end, "alerts": self.alerts.count}, "watch": watch}

    def resumed(self, own: Mapping[str, Any]) -> None:
        """Go on from a checkpoint's cursors: later rows of the series make way, what was told is not told again."""
        step = int(own["step"])
        rows = self.metrics.supersede_after(step)
        if "watch" in own:
            with self._guard:
                self.watch = Watch.resumed(own["watch"])
        self.events.append("resumed", {"step": step, "superseded_rows": rows, "data_cursor": own.get("data_cursor")})

    # --- checkpoints: called from the writing thread ---

    def saved(self, saved: Saved) -> None:
        """A checkpoint is whole."""
        facts = {"stall_s": round(saved.stall_s, 4), "write_s": round(saved.write_s, 4), "size_bytes": saved.size_bytes}
        name = saved.checkpoint.path.name
        self.events.append("checkpoint", {"checkpoint": name, "step": saved.checkpoint.step, **facts})
        self.note("checkpoint", saved.checkpoint.step, "size_bytes", saved.size_bytes)
        self._note(checkpoint=name)

    def save_failed(self, step: int, error: Exception) -> None:
        """A checkpoint did not become one: told at once, raised in the training thread at its next step."""
        self.failure = error
        facts = {"step": step, "error": str(error)}
        if isinstance(error, NotFinite):
            self.tell([alert("non-finite", step, error.where, math.nan, math.inf)])
        elif isinstance(error, NoRoom):
            facts |= {"needed_bytes": error.needed_bytes, "free_bytes": error.free_bytes}
            self.tell([_no_room(step, error)])
        self.events.append("checkpoint-failed", facts)

    def damaged(self, damage: Damage) -> None:
        """A checkpoint that cannot be used was met on the way to one that can (S11-R15)."""
        self.events.append("checkpoint-damaged", damage.as_dict())

    # --- stopping ---

    def listen(self) -> None:
        """SIGTERM, SIGINT and SIGHUP ask for a checkpoint and an orderly end; only in the main thread."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, self._on_signal)

    def close(self, state: str) -> None:
        """Write the last heartbeat with this state, and give the logs back."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(5)
        if state == "completed" and self._state["loss"] is None:
            self._say_last_again()
        self._note(state=state)
        self._write_progress()
        self.metrics.close()
        self.alerts.close()
        self.events.close()

    def _say_last_again(self) -> None:
        """The checkpoint was of the last step: nothing was trained here, and whoever waits for a metric gets that step's."""
        rows = [row for row in read_metrics(self.metrics.path) if isinstance(row.get("loss"), int | float)]
        if rows:
            last = rows[-1]
            self.metrics.supersede_after(last["step"])
            # In place of the closing row; `last_loss` is no second point of the series at this step.
            summary = {
                "step": last["step"],
                "at": round(time.time(), 3),
                "last_loss": last["loss"],
                "train_runtime": 0.0,
            }
            self.metrics.append(summary)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.stop_reason = self.stop_reason or signal.Signals(number).name

    def _end_on(self, found: list[Alert]) -> None:
        for each in found:
            if each.code == "non-finite":
                raise NotFinite(each.metric, each.step, str(each.value))
            if each.code in _ENDING:
                raise TrainingError(f"{each.title}: {each.text}", remedy=Command(each.action), code=_ENDING[each.code])

    # --- heartbeat and progress ---

    def _beat(self) -> None:
        while not self._ending.wait(HEARTBEAT_S):
            self._write_progress()
            if (self.folder / STOP_FILE).exists():
                self.stop_reason = self.stop_reason or "stop file"
            with self._guard:
                found = self.watch.tick(self._clock())
            self.tell(found)

    def _note(self, **facts: Any) -> None:
        self._state = {**self._state, **facts}

    def _write_progress(self) -> None:
        # Not synced: it is worth nothing after a crash, and a sync a second is a share of the training's time.
        facts = {**self._state, "eta_s": self._eta_s(), "updated_at": time.time(), "pid": os.getpid()}
        path = self.folder / PROGRESS
        temporary = path.with_name(f".{PROGRESS}.tmp")
        try:
            temporary.write_text(json.dumps(facts), encoding="utf-8")
            temporary.replace(path)
        except OSError:
            return

    def _eta_s(self) -> float | None:
        return self._rate.eta_s(self._state["step"], self._state["total"])

    def _print(self, now: float, step: int) -> None:
        if now < self._printed_at + PRINT_EVERY_S:
            return
        self._printed_at = now
        with contextlib.suppress(OSError):  # whoever read it is gone; the training is to reach its checkpoint
            print(progress_line(self._state | {"step": step}, self._eta_s()), flush=True)


class _Rate:
    """Steps and tokens per second since the training began here; the first step, which warms up, does not count."""

    def __init__(self) -> None:
        self._step: tuple[float, int] | None = None
        self._last: tuple[float, int] | None = None
        self._tokens: tuple[float, float] | None = None

    def begin(self, now: float, step: int) -> None:
        self._last = (now, step)

    def step(self, now: float, step: int) -> None:
        self._step = self._step or (now, step)
        self._last = (now, step)

    def tokens(self, now: float, count: object) -> float | None:
        if not isinstance(count, int | float):
            return None
        before, self._tokens = self._tokens, (now, float(count))
        if before is None or now <= before[0] or count < before[1]:
            return None
        return (float(count) - before[1]) / (now - before[0])

    def eta_s(self, step: int, total: int | None) -> float | None:
        if total is None or self._step is None or self._last is None or self._last[1] <= self._step[1]:
            return None
        per_step = (self._last[0] - self._step[0]) / (self._last[1] - self._step[1])
        return max(0.0, (total - step) * per_step)


def _no_room(step: int, error: NoRoom) -> Alert:
    text = f"step={step} metric=free_bytes value={error.free_bytes} threshold={error.needed_bytes} | {error.message}"
    return Alert(
        "disk-full", "ERROR", step, "No room for a checkpoint", text, "free_bytes", error.free_bytes, error.needed_bytes,
        error.remedy,
    )  # fmt: skip
