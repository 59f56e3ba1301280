"""A training run as it goes, on a terminal or as JSON lines: stages, progress with a sparkline of the loss, alerts."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from controller.reports import console

BARS = "▁▂▃▄▅▆▇█"
_OUTCOMES = {"passed": "ok", "partial": "warn", "failed": "fail", "not-checked": "not checked"}
_LEVELS = {"ERROR": "fail", "WARN": "warn", "INFO": "ok"}


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """The values as bars of eight heights, the newest `width` of them; empty for none."""
    shown = list(values)[-width:]
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    span = (high - low) or 1.0
    return "".join(BARS[min(7, int((value - low) / span * 8))] for value in shown)


def alert_words(text: str) -> str:
    """An alert's text for people: `step=7 metric=loss value=9 threshold=nan | Title: action` as a sentence."""
    numbers, _, words = text.partition(" | ")
    pairs = (word.partition("=") for word in numbers.split())
    fields = {name: value for name, sign, value in pairs if sign}
    title, _, action = words.partition(": ")
    if not title or "metric" not in fields:
        return text
    limit = fields.get("threshold", "nan")
    said = f"{title} at step {fields.get('step', '?')}: {fields['metric']} {_short(fields.get('value', '?'))}"
    said += "" if limit == "nan" else f" (limit {_short(limit)})"
    return said + (f"; {action}" if action not in ("", "nothing") else "")


def _short(number: str) -> str:
    """A number as written, in four digits; whole numbers whole."""
    try:
        value = float(number)
    except ValueError:
        return number
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


class EventScreen:
    """Shows events one by one. `last_stop` is the executor's word for why it ended, if it did; `seen` counts events."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.last_stop: dict[str, Any] | None = None
        self.seen = 0
        self._losses: list[float] = []
        self._out = console.out()
        self._is_tty = sys.stdout.isatty()
        self._is_line_open = False
        self._tenth = -1
        self._run_id: str | None = None

    def event(self, event: dict[str, Any]) -> None:
        """Show one event."""
        self.seen += 1
        if event["kind"] == "stopped":
            self.last_stop = event
        if self.as_json:
            sys.stdout.write(json.dumps(event) + "\n")
            sys.stdout.flush()
        else:
            self._show(event["kind"], event.get("data") or {}, str(event.get("at", ""))[11:19])

    def _show(self, kind: str, data: dict[str, Any], time: str) -> None:
        if self._is_line_open and kind != "progress":
            sys.stdout.write("\n")
            self._is_line_open = False
        show = getattr(self, "_on_" + kind.replace("-", "_"), None)
        if show:
            show(data, time)

    def _line(self, word: str, text: str) -> None:
        console.line(self._out, word, text)

    def _on_started(self, data: dict[str, Any], time: str) -> None:
        self._run_id = data.get("run_id")
        self._out.print(console.plain(f"{time}  {data['name']}: up to {data['until']}", "bold"))

    def _on_begin(self, data: dict[str, Any], time: str) -> None:
        self._out.print(console.plain(f"{time}  {data['stage']} ...", "dim"))

    def _on_stage(self, data: dict[str, Any], _: str) -> None:
        word = _OUTCOMES.get(str(data.get("outcome")), "fail")
        taken = data.get("from_run")
        self._line(
            word, f"{data.get('stage')}" + (f", proven by run {taken}" if taken and taken != self._run_id else "")
        )

    def _on_alert(self, data: dict[str, Any], _: str) -> None:
        level = str(data.get("level"))
        self._line(_LEVELS.get(level, "warn"), f"alert {data.get('sequence')}: {alert_words(str(data.get('text')))}")

    def _on_analysis(self, data: dict[str, Any], _: str) -> None:
        self._line("warn", f"{data.get('attempt')}: {data.get('category')} ({data.get('code')}); {data.get('change')}")

    def _on_first_metric(self, data: dict[str, Any], _: str) -> None:
        self._line("ok", f"healthy: step {data.get('step')}, {data.get('metric')} {data.get('value'):.4g}")

    def _on_progress(self, data: dict[str, Any], _: str) -> None:
        if isinstance(data.get("loss"), int | float):
            self._losses.append(float(data["loss"]))
        text = console.printable(f"  {data.get('line', '')}  {sparkline(self._losses)}")
        if self._is_tty:
            # One line that stays: what passed is in the log.
            sys.stdout.write(f"\r\x1b[2K{text}")
            sys.stdout.flush()
            self._is_line_open = True
        elif self._is_next_tenth(data):
            self._out.print(console.plain(text))

    def _is_next_tenth(self, data: dict[str, Any]) -> bool:
        """Whether a tenth more is done than when this was last so: a pipe gets ten lines, not one for each step."""
        step, total = data.get("step"), data.get("total")
        if not isinstance(step, int) or not isinstance(total, int) or not total:
            return False
        tenth, self._tenth = self._tenth, max(self._tenth, step * 10 // total)
        return self._tenth > tenth

    def _on_evaluated(self, data: dict[str, Any], _: str) -> None:
        value = data.get("value")
        self._line("ok", f"{data.get('metric')} " + (f"{value:.4g}" if isinstance(value, float) else str(value)))

    def _on_persisted(self, data: dict[str, Any], _: str) -> None:
        self._line("ok", f"kept at {data.get('destination')}, read back as {str(data.get('sha256'))[:12]}")

    def _on_committed(self, data: dict[str, Any], _: str) -> None:
        self._line("ok", f"committed on the host: {str(data.get('commit'))[:12]}")
