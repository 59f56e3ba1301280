"""Names of Drive become paths that stay inside; a run's row says what is known, and why the rest is not."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes.drive_paths import distinct, safe_name
from lanes.drive_runs import DRIVE_DELAY_S, File, Row, Unread, chosen, host_row, judge, log_files, reading_order

NOW = 1_800_000_000.0


def moment(ago_s: float) -> str:
    return dt.datetime.fromtimestamp(NOW - ago_s, dt.UTC).isoformat()


# --- names --------------------------------------------------------------------------------------------------------


@pytest.mark.req("S9-R16")
@given(st.text(max_size=400))
def test_a_name_is_one_part_of_a_path(name: str) -> None:
    safe = safe_name(name)
    assert safe not in ("", ".", "..")
    assert not set(safe) & set('/\\\0<>:"|?*\n')
    assert len(safe.encode()) <= 200
    assert safe[-1] not in ". "


@given(st.lists(st.text("ab/%2F.:. ~\\é", max_size=6), min_size=2, max_size=8, unique=True))
def test_two_names_never_become_one(names: list[str]) -> None:
    assert len({safe_name(name) for name in names}) == len(names)


@pytest.mark.parametrize("name", ["status.json", "logs", "a b", "ünïcode.txt", ".hidden", "100% sure", "-x"])
def test_a_plain_name_stays(name: str) -> None:
    assert safe_name(name) == name


@given(st.lists(st.tuples(st.text("Aa/", min_size=1, max_size=2), st.sampled_from(["1", "2"])), max_size=12))
def test_files_of_one_folder_have_paths_of_their_own(twins: list[tuple[str, str]]) -> None:
    entries = [(f"id-{number:04}", name, modified) for number, (name, modified) in enumerate(twins)]
    found = distinct(entries)
    assert len({name.casefold() for name in found.values()}) == len(entries) == len(found)
    assert distinct(reversed(entries)) == found


def test_the_newest_of_one_name_keeps_it() -> None:
    found = distinct([("id1", "status.json", "2026-01-01"), ("id2", "status.json", "2026-01-02")])
    assert found == {"id2": "status.json", "id1": "status~id1.json"}


# --- rows ---------------------------------------------------------------------------------------------------------


def status(**more: Any) -> dict[str, Any]:
    return {
        "kind": "rows", "state": "running", "heartbeat_at": moment(30), "heartbeat_s": 10.0, "slice": "clean-text",
        "step": "rows", "counts": {"total": 100, "done": 40, "quarantined": 2}, "rate_per_s": 2.5, "eta_s": 23.2,
        "attempt": 2, **more,
    }  # fmt: skip


@pytest.mark.req("S9-R14", "S9-R24")
def test_a_row_says_how_far_it_is() -> None:
    row = judge("run1", "ID", [File("status.json", "s", 10), File("spool/0.jsonl", "t", 32)], status(), NOW)
    assert (row.state, row.done, row.total, row.quarantined, row.rate_per_s, row.eta_s) == (
        "running", 40, 100, 2, 2.5, 23.2,
    )  # fmt: skip
    assert (row.age_s, row.files, row.size_bytes, row.unread, row.is_over) == (30, 2, 42, (), False)


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({}, "running"),
        ({"heartbeat_at": moment(DRIVE_DELAY_S + 59)}, "running"),
        ({"heartbeat_at": moment(DRIVE_DELAY_S + 61)}, "silent"),
        ({"heartbeat_at": "yesterday"}, "silent"),
        ({"heartbeat_at": None}, "silent"),
        ({"state": "stopped", "heartbeat_at": moment(9e6)}, "stopped"),
        ({"state": "finished", "exit_code": 0, "heartbeat_at": moment(9e6)}, "finished"),
        ({"state": "finished", "exit_code": 3}, "finished"),  # all but the rows that were set aside
        ({"state": "finished", "exit_code": 1}, "failed"),
        ({"state": "finished", "exit_code": 3, "kind": "command"}, "failed"),
        ({"state": None}, "unknown"),
    ],
)
def test_a_heartbeat_that_stopped_is_seen(change: dict[str, Any], state: str) -> None:
    assert judge("run1", "ID", [], status(**change), NOW).state == state


def test_the_last_trouble_is_shown() -> None:
    trouble = {"last_error": {"row": "r7", "error": "ValueError: no\nmore lines"}}
    assert judge("r", "i", [], status(**trouble), NOW).alert == "row r7: ValueError: no"
    assert (
        judge("r", "i", [], status(state="failed", reason="the slice is damaged"), NOW).alert == "the slice is damaged"
    )


@pytest.mark.req("S9-R14", "S9-R24")
def test_a_run_on_the_host_is_a_row_of_the_same_table() -> None:
    view = {"run_id": "r1", "state": "running", "command": "python x.py", "heartbeat_at": moment(7), "bytes": 5}
    row = host_row(view, NOW)
    assert (row.run, row.where, row.state, row.step, row.age_s, row.is_over) == (
        "r1", "host", "running", "python x.py", 7, False,
    )  # fmt: skip
    assert host_row({"run_id": "r2", "command": "sleep 1"}, NOW).state == "running"


@pytest.mark.req("S9-R16")
def test_what_cannot_be_read_is_named_with_the_reason_logs_first() -> None:
    files = [
        File("artifacts/model.bin", "a", 9, why_not="no download allowed"),
        File("status.json", "b", 9, why_not="no download allowed"),
        File("logs/run.log", "c", 9, why_not="no download allowed"),
        File("run.json", "d", 9),
    ]
    row = judge("run1", "ID", files, None, NOW)
    assert row.state == "unreadable"
    assert [each.path for each in row.unread] == ["status.json", "logs/run.log", "artifacts/model.bin"]
    assert row.unread[0] == Unread("status.json", "no download allowed")
    assert "no download allowed" in row.alert
    assert [each.path for each in reading_order(files)][:2] == ["status.json", "run.json"]


def test_a_run_without_a_status_is_unknown_not_running() -> None:
    row = judge("run1", "ID", [File("run.json", "d", 9)], None, NOW)
    assert (row.state, row.alert) == ("unknown", "no status.json yet")


@given(st.dictionaries(st.sampled_from(["state", "counts", "eta_s", "heartbeat_at", "heartbeat_s", "last_error", "attempt"]),
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
    | st.dictionaries(st.sampled_from(["done", "error", "row"]), st.floats() | st.text(max_size=3))))  # fmt: skip
def test_no_status_breaks_the_reader(found: dict[str, Any]) -> None:
    assert judge("run1", "ID", [], found, NOW).run == "run1"


def test_logs_are_found_or_the_events_stand_in() -> None:
    files = [File("logs/b.txt", "1"), File("logs/a.txt", "2"), File("events.jsonl", "3"), File("train.log", "4")]
    assert [each.path for each in log_files(files)] == ["logs/a.txt", "logs/b.txt", "train.log"]
    assert [each.path for each in log_files(files[2:3])] == ["events.jsonl"]


@pytest.mark.req("S9-R15")
def test_runs_are_named_by_id_name_or_either_end() -> None:
    rows = [Row("20260101-abc", "ID1", "running", heartbeat_at="1"), Row("20260102-abd", "ID2", "x", heartbeat_at="2")]
    for word, run in {"ID1": 0, "20260102-abd": 1, "20260101": 0, "abd": 1, "last": 1}.items():
        assert chosen(rows, [word]) == ([rows[run]], [])
    assert chosen(rows, ["2026", "zz"]) == (
        [],
        ["`2026` names several: 20260101-abc, 20260102-abd", "`zz` names no run"],
    )
