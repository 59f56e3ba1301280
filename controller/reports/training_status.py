"""The lines that stay at the foot of a terminal while a training run goes on: stage, bar, loss curve, newest alert (S11-R16)."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.text import Text

from controller.reports import console
from controller.reports.console import Table
from lanes.gates import STAGES

BARS = "▁▂▃▄▅▆▇█"
CURVE_WIDTH = 60


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """The values as bars of eight heights, the newest `width` of them; empty for none."""
    shown = list(values)[-width:]
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    span = (high - low) or 1.0
    return "".join(BARS[min(7, int((value - low) / span * 8))] for value in shown)


def curve(values: Sequence[float], width: int = CURVE_WIDTH) -> str:
    """All of the values in at most `width` bars, each the mean of its share: the whole way, not its last piece."""
    count = len(values)
    if count <= width:
        return sparkline(values, width)
    cuts = [number * count // width for number in range(width + 1)]
    means = [sum(values[begin:end]) / (end - begin) for begin, end in itertools.pairwise(cuts)]
    return sparkline(means, width)


def duration(seconds: float) -> str:
    """`8 s`, `2:05`, `1:02:05`."""
    whole = max(0, round(seconds))
    minutes, rest = divmod(whole, 60)
    if minutes < 1:
        return f"{rest} s"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


class Status:
    """What the foot of the screen shows, set event by event and drawn a few times a second."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self._stage: str | None = None
        self._begun: dt.datetime | None = None
        self._progress: dict[str, Any] = {}
        self._alert: tuple[str, str] | None = None
        self._spinner = Spinner("dots")

    def begin(self, stage: str, at: str) -> None:
        """This stage runs since `at`."""
        self._stage, self._begun, self._progress = stage, _moment(at), {}

    def end(self) -> float | None:
        """The stage is over; returns how long it took in seconds, None when its beginning was not seen."""
        begun, self._stage, self._progress = self._begun, None, {}
        self._begun = None
        return None if begun is None else (dt.datetime.now(dt.UTC) - begun).total_seconds()

    def progress(self, data: dict[str, Any]) -> None:
        """The job is at this step."""
        self._progress = data
        if isinstance(data.get("loss"), int | float):
            self.losses.append(float(data["loss"]))

    def alert(self, verdict: str, text: str) -> None:
        """The newest alert."""
        self._alert = (verdict, text)

    def __rich__(self) -> RenderableType:
        if self._stage is None:
            return Text("")
        lines: list[RenderableType] = [self._head()]
        if isinstance(self._progress.get("total"), int):
            lines.append(self._bar())
        if self.losses:
            loss = Text(f"  loss {self.losses[-1]:.4f}  ")
            lines.append(loss + Text(console.printable(curve(self.losses)), style="cyan"))
        if self._alert:
            verdict, text = self._alert
            lines.append(Text("  ") + console.word(verdict) + console.plain(f"  {text}", "dim"))
        for each in lines:
            if isinstance(each, Text):
                each.no_wrap, each.overflow = True, "ellipsis"
        return Group(*lines)

    def _head(self) -> RenderableType:
        grid = Table.grid(padding=(0, 1))
        since = (dt.datetime.now(dt.UTC) - self._begun).total_seconds() if self._begun else 0.0
        stage = str(self._stage)
        number = f"stage {[*STAGES].index(stage) + 1} of {len(STAGES)}" if stage in STAGES else ""  # type: ignore[arg-type]
        grid.add_row(self._spinner, console.plain(stage, "bold"), Text(f"{duration(since)}  {number}", style="dim"))
        return grid

    def _bar(self) -> RenderableType:
        step, total = int(self._progress.get("step") or 0), max(1, int(self._progress["total"]))
        grid = Table.grid(padding=(0, 1))
        parts = [f"{step}/{total}", f"{step * 100 // total} %"]
        if self._progress.get("tokens_per_s"):
            parts.append(f"{self._progress['tokens_per_s']:,.0f} tok/s")
        if isinstance(self._progress.get("eta_s"), int | float):
            parts.append(f"{duration(self._progress['eta_s'])} left")
        grid.add_row(
            Text(" "), ProgressBar(total=total, completed=step, width=40), Text("  ".join(parts), no_wrap=True)
        )
        return grid


def _moment(at: str) -> dt.datetime | None:
    try:
        found = dt.datetime.fromisoformat(at)
    except ValueError:
        return None
    return found if found.tzinfo else None
