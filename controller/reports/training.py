"""A training run as it goes, on a terminal or as JSON lines: stages, progress with a sparkline of the loss, alerts."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.live import Live

from controller.reports import console
from controller.reports.training_status import BARS, Status, duration, sparkline
from lanes.analyses import standing
from manifests import visible

__all__ = ["BARS", "EventScreen", "alert_words", "sparkline"]

_OUTCOMES = {"passed": "ok", "partial": "warn", "failed": "fail", "not-checked": "not checked"}
_LEVELS = {"ERROR": "fail", "WARN": "warn", "INFO": "ok"}


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
    """Shows events one by one; entered on a terminal, it keeps the foot of the screen for what runs now.

    `last_stop` is the executor's word for why it ended, if it did; `failure_code` that of the last failure it analysed and
    did not outlive; `seen` counts events.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.last_stop: dict[str, Any] | None = None
        self._analysis: Mapping[str, Any] | None = None
        self.seen = 0
        self._out = console.out()
        self._status = Status()
        self._live: Live | None = None
        self._tenth = -1
        self._run_id: str | None = None

    def __enter__(self) -> Self:
        if not self.as_json and self._out.is_terminal and not self._out.is_dumb_terminal:
            # What the foot showed goes when the run ends; what stays is in the lines above.
            self._live = Live(
                self._status, console=self._out, transient=True, redirect_stdout=False, redirect_stderr=False
            )
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def event(self, event: dict[str, Any]) -> None:
        """Show one event."""
        self.seen += 1
        if event["kind"] == "stopped":
            self.last_stop = event
        self._analysis = standing(self._analysis, event["kind"], event.get("data") or {})
        if self.as_json:
            sys.stdout.write(visible.json_text(event) + "\n")
            sys.stdout.flush()
        else:
            self._show(event["kind"], event.get("data") or {}, str(event.get("at", "")))

    @property
    def failure_code(self) -> str:
        """The code of the failure that stands, empty where none does."""
        return str((self._analysis or {}).get("code") or "")

    def _show(self, kind: str, data: dict[str, Any], at: str) -> None:
        show = getattr(self, "_on_" + kind.replace("-", "_"), None)
        if show:
            show(data, at)

    def _line(self, word: str, text: str) -> None:
        console.line(self._out, word, text)

    def _on_started(self, data: dict[str, Any], at: str) -> None:
        self._run_id = data.get("run_id")
        self._out.print(console.plain(f"{at[11:19]}  {data['name']}: up to {data['until']}", "bold"))

    def _on_begin(self, data: dict[str, Any], at: str) -> None:
        self._status.begin(str(data["stage"]), at)
        if self._live is None:
            self._out.print(console.plain(f"{at[11:19]}  {data['stage']} ...", "dim"))

    def _on_stage(self, data: dict[str, Any], _: str) -> None:
        word, taken, took = _OUTCOMES.get(str(data.get("outcome")), "fail"), data.get("from_run"), self._status.end()
        more = f", proven by run {taken}" if taken and taken != self._run_id else ""
        if self._live is not None and not more and took is not None:
            more = f"  {duration(took)}"
        self._line(word, f"{data.get('stage')}{more}")

    def _on_resume(self, data: dict[str, Any], _: str) -> None:
        where = f"goes on from {data['checkpoint']}" if data.get("checkpoint") else "begins anew: it has no checkpoint"
        self._line("ok", f"run {data.get('run')} {where}")

    def _on_resume_changed(self, data: dict[str, Any], _: str) -> None:
        changes = data.get("changes")
        names = ", ".join(sorted(changes)) if isinstance(changes, dict) else "unknown"
        self._line("warn", f"run {data.get('run')} was asked with other arguments: {names}")

    def _on_proposal(self, data: dict[str, Any], _: str) -> None:
        self._line("info", f"for this GPU, if you choose so in the manifest: {data.get('text')}")

    def _on_checkpoint_damaged(self, data: dict[str, Any], _: str) -> None:
        self._line("warn", f"{data.get('checkpoint')} cannot be used: {data.get('fact')}")

    def _on_alert(self, data: dict[str, Any], _: str) -> None:
        verdict = _LEVELS.get(str(data.get("level")), "warn")
        said = f"alert {data.get('sequence')}: {alert_words(str(data.get('text')))}"
        self._status.alert(verdict, said)
        if self._live is None or verdict != "ok":  # a checkpoint that was saved is worth the foot, not a line for ever
            self._line(verdict, said)

    def _on_analysis(self, data: dict[str, Any], _: str) -> None:
        self._line("warn", f"{data.get('attempt')}: {data.get('category')} ({data.get('code')}); {data.get('change')}")

    def _on_first_metric(self, data: dict[str, Any], _: str) -> None:
        self._line("ok", f"healthy: step {data.get('step')}, {data.get('metric')} {data.get('value'):.4g}")

    def _on_progress(self, data: dict[str, Any], _: str) -> None:
        self._status.progress(data)
        if self._live is None and self._is_next_tenth(data):
            self._out.print(console.plain(f"  {data.get('line', '')}  {sparkline(self._status.losses)}"))

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
