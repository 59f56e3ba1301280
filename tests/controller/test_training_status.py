"""What stays at the foot of a terminal while a training run goes on, and what of it a pipe gets."""

from __future__ import annotations

import datetime as dt
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from controller.reports.training import EventScreen
from controller.reports.training_status import CURVE_WIDTH, Status, curve, duration


def drawn(status: Status, width: int = 100) -> str:
    """The foot as a terminal of this width shows it."""
    out = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    out.print(status)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def running(step: int = 50) -> Status:
    """The foot amid a job."""
    status = Status()
    status.begin("job", (dt.datetime.now(dt.UTC) - dt.timedelta(seconds=125)).isoformat())
    status.progress({"step": step, "total": 200, "loss": 3.25, "tokens_per_s": 1234.5, "eta_s": 83.2})
    status.alert("warn", "alert 3: Throughput fell")
    return status


@pytest.mark.req("S11-R16")
def test_foot_has_stage_bar_loss_rate_time_left_and_newest_alert() -> None:
    head, bar, loss, alert = drawn(running()).splitlines()[:4]
    assert "job" in head
    assert "2:05  stage 7 of 13" in head
    assert all(part in bar for part in ("50/200", "25 %", "1,234 tok/s", "1:23 left"))
    assert "loss 3.2500" in loss
    assert "alert 3: Throughput fell" in alert


@pytest.mark.parametrize("width", [20, 40, 60, 200])
def test_foot_is_never_wider_than_the_terminal(width: int) -> None:
    status = running()
    for number in range(500):
        status.progress({"step": number, "total": 500, "loss": 1 / (number + 1)})
    status.alert("warn", "a word " * 100 + "\x1b[2J\n")
    lines = drawn(status, width).splitlines()
    assert max(map(len, lines)) <= width
    assert "\x1b[2J" not in "".join(lines)


def test_between_stages_and_without_numbers_nothing_is_made_up() -> None:
    status = Status()
    assert drawn(status).strip() == ""
    status.begin("a stage of later", "no time")
    status.progress({"step": 1})
    assert drawn(status).split()[1:] == ["a", "stage", "of", "later", "0", "s"]
    assert status.end() is None


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), max_size=300))
def test_curve_shows_the_whole_way_in_a_line(values: list[float]) -> None:
    assert len(curve(values)) == min(len(values), CURVE_WIDTH)


def test_curve_of_a_long_fall_falls() -> None:
    bars = curve([1000.0 - number for number in range(1000)])
    assert list(bars) == sorted(bars, reverse=True)
    assert (bars[0], bars[-1]) == ("█", "▁")


@pytest.mark.parametrize(
    ("seconds", "said"), [(-1, "0 s"), (7.4, "7 s"), (59.7, "1:00"), (125, "2:05"), (3725, "1:02:05")]
)
def test_durations_read_as_a_clock(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_pipe_gets_lines_and_no_foot(capsys: pytest.CaptureFixture[str]) -> None:
    events = [
        {"kind": "begin", "at": "2026-01-02T03:04:05.000+00:00", "data": {"stage": "job"}},
        *(
            {"kind": "progress", "data": {"step": step, "total": 20, "loss": 1.0, "line": f"step {step}"}}
            for step in range(20)
        ),
        {"kind": "resume", "data": {"run": "r", "checkpoint": "checkpoint-4", "step": 4}},
        {"kind": "alert", "data": {"level": "INFO", "sequence": 0, "text": "saved"}},
        {"kind": "stage", "data": {"stage": "job", "outcome": "passed", "from_run": None}},
    ]
    with EventScreen(as_json=False) as screen:
        for event in events:
            screen.event(event)
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert said.startswith("03:04:05  job ...\n")
    assert said.count("step ") == 10
    assert "ok       run r goes on from checkpoint-4\n" in said
    assert said.endswith("ok       alert 0: saved\nok       job\n")
