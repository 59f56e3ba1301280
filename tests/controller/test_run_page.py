"""The run report as text: all of it is there, whatever the run directory holds, and nothing of it is markup."""

from __future__ import annotations

import datetime as dt
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.reports.plots import curves, ticks
from controller.reports.run_page import facts_from, page
from lanes.gates import STAGES
from tests.controller.run_facts import HOSTILE, RUN_ID, facts, files

NOW = dt.datetime(2026, 11, 21, 12, 0, tzinfo=dt.UTC)


def text_of(made: str) -> str:
    """The page without its tags."""
    return re.sub(r"<script.*?</script>|<style.*?</style>|<[^>]+>", " ", made, flags=re.DOTALL)


@pytest.mark.req("S14-R10")
def test_page_shows_every_stage_number_and_place() -> None:
    shown = text_of(page(facts_from(RUN_ID, files(facts())), NOW))
    wanted = [
        *STAGES, "94.2 %", "142.7", "8.21", "NaN in the gradient", "cuda-oom", "micro-batch 8 to 4", "66dee5f1c0ffee",
        "taken over from run", "not covered: the real model on a GPU", "/srv/models/tiny-text", "transformers: 5.23.0",
        "sequence length", "0.09", "conforms", RUN_ID,
    ]  # fmt: skip
    assert [each for each in wanted if each not in shown] == []


@pytest.mark.req("S8-R22")
def test_head_says_where_of_what_and_when_and_alerts_are_those_of_the_gates() -> None:
    started = {"name": "x", "until": "job", "host": "gpu-box", "commit": "f" * 40}
    log = [
        {"kind": "started", "at": "2026-05-01T10:20:30.000+00:00", "data": started},
        *({"kind": "alert", "data": {"level": level}} for level in ("ERROR", "INFO")),
    ]
    lines = "".join(json.dumps(each) + "\n" for each in log).encode()
    kept = {"events.jsonl": lines, "alerts.jsonl": b'{"level": "INFO"}\n' * 5, "job.json": b"{}"}
    text = text_of(page(facts_from("run-1", kept), NOW))
    assert f"on gpu-box, commit {'f' * 12}, begun 2026-05-01 10:20 UTC" in text
    assert "2 (1 ERROR)" in text


def test_stopped_run_says_why_and_what_to_do() -> None:
    found = {**facts(), "finished": None, "evidence": facts()["evidence"][:3]}
    found["stopped"] = {"reason": "cpu_smoke_failed", "message": "KeyError: 'text'", "remedy": "hemma gates last"}
    shown = text_of(page(found, NOW))
    assert "cpu_smoke_failed" in shown
    assert "hemma gates last" in shown
    assert shown.count("not run") == len(STAGES) - 3


def test_facts_survive_the_way_through_the_files_and_the_page() -> None:
    found = facts_from(RUN_ID, files(facts(said=" ".join(HOSTILE))))
    made = page(found, NOW)
    held = re.search(r'<script type="application/json" id="run-facts">(.*?)</script>', made, re.DOTALL)
    assert held is not None
    # NaN is a word of JSON as Python writes it; compared as text, for it equals nothing.
    assert json.dumps(json.loads(held[1]), sort_keys=True) == json.dumps(found, sort_keys=True)


@pytest.mark.parametrize("said", HOSTILE)
def test_page_is_well_formed_whatever_is_said(said: str) -> None:
    made = page(facts(said=said), NOW)
    assert made.encode("utf-8")
    assert _unclosed(made) == []
    assert "<img" not in made
    assert made.count("<script") == 1


def test_page_loads_nothing() -> None:
    made = page(facts(), NOW)
    assert "default-src 'none'" in made
    assert re.findall(r'(?:src|href)="(?!data:|https://example\.invalid)[^"]*"', made) == []


@pytest.mark.parametrize("name", list(files(facts())))
@pytest.mark.parametrize("content", [None, b"", b"{", b"[1]\n2\nnull\n", b'{"a": ', b"\xff\xfe\x00"])
def test_missing_or_torn_file_is_an_empty_part(name: str, content: bytes | None) -> None:
    made = page(facts_from(RUN_ID, {**files(facts()), name: content}), NOW)
    assert _unclosed(made) == []


def test_run_that_has_only_begun_has_a_page() -> None:
    shown = text_of(page(facts_from(RUN_ID, {}), NOW))
    assert "under way" in shown
    assert "No numbers yet." in shown


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=8)  # fmt: skip
PATHS = st.sampled_from([
    ("job",), ("job", "name"), ("job", "task"), ("evidence",), ("evidence", 1), ("evidence", 1, "facts"), ("evidence", 1, "checks"),
    ("evidence", 1, "facts", "gpus"), ("evidence", 1, "facts", "plan"), ("evidence", 0, "hashes"), ("evidence", 0, "not_covered"),
    ("hashes",), ("stopped",), ("finished",), ("events",), ("events", 3), ("events", 3, "data"), ("events", 0, "at"), ("alerts",),
    ("alerts", 0), ("alerts", 0, "level"), ("metrics",), ("metrics", 3), ("results",), ("results", "rows"), ("results", "rows", 0),
    ("results", "not_covered"), ("results", "conditions"), ("evidence", 12, "facts"), ("evidence", 6, "facts", "spent"),
])  # fmt: skip


@given(PATHS, JSON)
def test_any_json_in_any_place_makes_a_page(path: tuple[Any, ...], value: Any) -> None:
    found: Any = facts()
    place = found
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert _unclosed(page(facts_from(RUN_ID, files_of(found)), NOW)) == []


def files_of(found: dict[str, Any]) -> dict[str, bytes | None]:
    """As `files`, for facts of any shape."""
    lists = {
        kind: found[kind] if isinstance(found[kind], list) else [found[kind]]
        for kind in ("events", "alerts", "metrics")
    }
    return files({**found, **lists})


def test_spike_is_not_lost_in_a_long_series() -> None:
    points = [(float(step), 2.0) for step in range(100_000)]
    points[54_321] = (54_321.0, 99.0)
    made = curves([("loss", points)], label="loss")
    assert len(made) < 20_000
    assert min(float(y) for y in re.findall(r",([\d.]+)", made.partition("points=")[2])) < 40


@given(st.lists(st.tuples(st.floats(), st.floats()), max_size=20))
def test_any_series_can_be_drawn(points: list[tuple[float, float]]) -> None:
    made = curves([("loss", points)], label="loss")
    assert "nan" not in made.lower().replace("nan to", "").replace("to nan", "") or "No numbers" in made
    assert _unclosed(made) == []


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_ticks_are_few_and_inside(low: float, span: float) -> None:
    span = max(span, abs(low) * 1e-9)  # below that, numbers themselves have steps
    found = ticks(low, low + span, 5)
    assert len(found) <= 12
    assert all(low - span * 0.01 <= each <= low + span * 1.01 for each in found)


class _Tags(HTMLParser):
    """Notes tags that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Closed at once."""

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)


def _unclosed(made: str) -> list[str]:
    parser = _Tags()
    parser.feed(made.replace("<!doctype html>", ""))
    parser.close()
    return parser.faults + parser.open
