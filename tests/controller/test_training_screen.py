"""How the events of a training run read on a terminal, and that `--json` passes them on as they are."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.reports.training import BARS, EventScreen, alert_words, sparkline
from lanes.alert_rules import CAUSES, alert


@pytest.mark.req("S12-R04")
@pytest.mark.parametrize("code", sorted(CAUSES))
def test_every_alert_reads_as_a_sentence_with_its_numbers(code: str) -> None:
    told = alert(code, 48, "tokens_per_s", 1956.4, 4904.95, "usual=9809.9")
    said = alert_words(told.text)
    assert said.startswith(f"{told.title} at step 48: tokens_per_s 1,956 (limit 4,905)")
    assert said.endswith(told.action) == (told.action != "nothing")


def test_an_alert_without_a_limit_names_none() -> None:
    said = alert_words(alert("checkpoint", 30, "size_bytes", 3026150.0, math.nan).text)
    assert said == "Checkpoint saved at step 30: size_bytes 3,026,150"


@given(st.text())
def test_any_other_text_is_shown_as_it_is_or_shorter_but_never_fails(text: str) -> None:
    assert isinstance(alert_words(text), str)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), max_size=100))
def test_a_sparkline_has_one_bar_for_each_of_the_newest_values(values: list[float]) -> None:
    bars = sparkline(values, 40)
    assert len(bars) == min(len(values), 40)
    assert set(bars) <= set(BARS)
    if values:
        newest = values[-40:]
        assert bars[newest.index(min(newest))] == BARS[0]


def test_json_lines_are_the_events_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    events = [{"kind": "evaluated", "data": {"metric": "perplexity", "value": 389.36069383741295}}, {"kind": "new"}]
    screen = EventScreen(as_json=True)
    for event in events:
        screen.event(event)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == events


def test_a_person_reads_four_digits(capsys: pytest.CaptureFixture[str]) -> None:
    EventScreen(as_json=False).event(
        {"kind": "evaluated", "data": {"metric": "perplexity", "value": 389.36069383741295}}
    )
    assert "perplexity 389.4\n" in capsys.readouterr().out


@pytest.mark.parametrize("as_json", [False, True])
def test_the_code_of_a_failure_is_that_of_the_last_one_that_was_not_outlived(as_json: bool) -> None:
    screen = EventScreen(as_json=as_json)
    codes: list[str] = []
    for kind, data in (
        ("analysis", {"attempt": "job-1", "category": "oom", "code": "cuda-oom", "change": "smaller"}),
        ("stage", {"stage": "job", "outcome": "failed"}),
        ("stage", {"stage": "job", "outcome": "passed"}),
        ("analysis", {"attempt": "job-2", "category": "divergence_nan", "code": "nan-loss", "change": "less"}),
        ("stopped", {"reason": "job_retries_exhausted", "message": "m", "remedy": "r"}),
    ):
        screen.event({"kind": kind, "data": data})
        codes.append(screen.failure_code)
    assert codes == ["cuda-oom", "cuda-oom", "", "nan-loss", "nan-loss"]
    assert screen.last_stop is not None
