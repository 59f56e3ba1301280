"""Run directories: whole or not there, found by any unambiguous part of their name, and never removed while alive."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remote.agent import identity, store

DEAD = {"pid": 1, "start_ticks": 1, "boot_id": "an earlier one"}
LONG_AGO_S = 3600.0


def make(runs: Path, run_id: str, status: dict[str, object] | None = None, age_s: float = LONG_AGO_S) -> Path:
    """A run directory of that age."""
    folder = store.create(str(runs), run_id, {"run_id": run_id})
    assert folder is not None
    if status is not None:
        store.write(folder, "status.json", status)
    then = time.time() - age_s
    for path in [*Path(folder).rglob("*"), Path(folder)]:
        os.utime(path, (then, then))
    return Path(folder)


@pytest.mark.req("S9-R06")
def test_a_run_directory_is_made_whole_and_private(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        folder = make(tmp_path / "state/deep/runs", "a-run")
    finally:
        os.umask(old)
    made = {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}
    assert made == {"logs": 0o700, "logs/stdout.log": 0o600, "logs/stderr.log": 0o600, "run.json": 0o600}
    for above in (folder, folder.parent, folder.parent.parent, folder.parent.parent.parent):
        assert stat.S_IMODE(above.stat().st_mode) == 0o700
    assert json.loads((folder / "run.json").read_text()) == {"run_id": "a-run"}


@pytest.mark.req("S9-R18")
def test_of_many_that_submit_the_same_run_one_makes_it(tmp_path: Path) -> None:
    runs, gate = str(tmp_path / "runs"), threading.Barrier(8)

    def submit(number: int) -> str | None:
        gate.wait(10)
        return store.create(runs, "the-run", {"by": number})

    with ThreadPoolExecutor(8) as pool:
        made = [folder for folder in pool.map(submit, range(8)) if folder is not None]
    assert made == [str(tmp_path / "runs/the-run")]
    record = store.read(made[0], "run.json")
    assert record is not None
    assert record["by"] in range(8)


def test_a_folder_that_cannot_be_written_is_named_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the folder should be")
    with pytest.raises(store.Refused) as refused:
        store.create(str(tmp_path / "runs"), "x", {})
    assert refused.value.fields["error"] == "state-not-writable"
    assert refused.value.fields["exit_code"] == 255
    assert refused.value.fields["remedy"]


@pytest.mark.parametrize("name", ["status.json", "run.json"])
def test_a_file_is_replaced_in_one_step_and_never_seen_half(tmp_path: Path, name: str) -> None:
    folder = str(make(tmp_path / "runs", "a-run"))
    stop = threading.Event()
    seen: list[bool] = []
    store.write(folder, name, {"state": "running", "filler": ""})

    def watch() -> None:
        while not stop.is_set():
            seen.append(store.read(folder, name) is not None)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(200):
        store.write(folder, name, {"state": "running", "filler": "x" * (number * 100), "n": number})
    stop.set()
    watcher.join()
    assert store.read(folder, name) == {"state": "running", "filler": "x" * 19900, "n": 199}
    assert not (Path(folder) / (name + ".new")).exists()
    assert seen
    assert all(seen)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    folder = str(make(tmp_path / "runs", "a-run"))
    store.write(folder, "status.json", {"state": "running"})
    (Path(folder) / "status.json.new").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space"):
        store.write(folder, "status.json", {"state": "finished"})
    assert store.read(folder, "status.json") == {"state": "running"}


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"a": 1', "\0"])
def test_a_broken_file_reads_as_missing(tmp_path: Path, text: str) -> None:
    folder = make(tmp_path / "runs", "a-run")
    (folder / "status.json").write_text(text)
    assert store.read(str(folder), "status.json") is None
    known = store.facts(str(folder))
    assert (known["status"], known["supervisor_alive"], known["command_alive"]) == (None, False, False)


def test_events_are_appended_line_by_line_and_a_full_disk_costs_no_run(tmp_path: Path) -> None:
    folder = str(make(tmp_path / "runs", "a-run"))
    store.add_event(folder, "started", pid=1)
    store.add_event(folder, "finished", exit_code=0)
    lines = [json.loads(line) for line in (Path(folder) / "events.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["started", "finished"]
    assert all(line["at"].endswith("Z") for line in lines)
    (Path(folder) / "events.jsonl").unlink()
    (Path(folder) / "events.jsonl").symlink_to("/dev/full")
    store.add_event(folder, "lost line")
    store.add_event(str(tmp_path / "nowhere"), "lost line")


# --- names -------------------------------------------------------------------------------------------------------


@pytest.fixture
def three(tmp_path: Path) -> Path:
    for run_id in ("20260101-000000-aaaa", "20260101-000001-bbbb", "20260202-000000-aabb"):
        make(tmp_path / "runs", run_id)
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("20260101-000000-aaaa", "20260101-000000-aaaa"),
        ("20260202", "20260202-000000-aabb"),
        ("aaaa", "20260101-000000-aaaa"),
        ("aabb", "20260202-000000-aabb"),
        ("last", "20260202-000000-aabb"),
    ],
)
def test_a_run_is_found_by_an_unambiguous_part_of_its_name(three: Path, name: str, found: str) -> None:
    assert store.find(str(three), name) == str(three / found)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("2026", "ambiguous-run"),
        ("bb", "ambiguous-run"),
        ("zzz", "no-such-run"),
        ("", "no-such-run"),
        ("..", "no-such-run"),
    ],
)
def test_a_name_that_means_none_or_many_is_refused(three: Path, name: str, code: str) -> None:
    with pytest.raises(store.Refused) as refused:
        store.find(str(three), name)
    assert refused.value.fields["error"] == code
    assert "hemma ps" in str(refused.value.fields["remedy"])


@given(st.text(max_size=20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_name_leads_out_of_the_runs_folder(three: Path, name: str) -> None:
    try:
        found = Path(store.find(str(three), name))
    except store.Refused:
        return
    assert found.resolve().parent == three.resolve()


def test_without_any_run_everything_answers(tmp_path: Path) -> None:
    assert list(store.list_facts(str(tmp_path / "none"))) == []
    with pytest.raises(store.Refused):
        store.find(str(tmp_path / "none"), "last")


# --- removal -----------------------------------------------------------------------------------------------------


def test_what_is_over_goes_and_what_lives_stays(tmp_path: Path) -> None:
    alive = identity.of(os.getpid())
    runs = tmp_path / "runs"
    make(runs, "over", {"state": "finished", "supervisor": DEAD})
    make(runs, "supervised", {"state": "running", "supervisor": alive})
    make(runs, "orphan", {"state": "running", "supervisor": DEAD, "command": alive})
    make(runs, "lost", {"state": "running", "supervisor": DEAD, "command": DEAD})
    make(runs, "being-born", None, age_s=1)
    make(runs, "never-born", None)
    told = store.remove(str(runs), ["over", "supervised", "orphan", "lost", "being-born", "never-born"])
    assert told == {"removed": ["over", "lost", "never-born"], "kept": ["supervised", "orphan", "being-born"]}
    assert {path.name for path in runs.iterdir()} == {"supervised", "orphan", "being-born"}


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a/..", "../runs", "../../keep", "/etc", "no-such-run"])
def test_a_name_that_is_no_run_removes_nothing(tmp_path: Path, name: str) -> None:
    keep = tmp_path / "keep"
    keep.mkdir()
    runs = tmp_path / "state/runs"
    make(runs, "a-run", {"state": "finished", "supervisor": DEAD})
    for folder in (runs, runs.parent, keep):
        os.utime(folder, (0, 0))
    store.remove(str(runs), [name])
    assert (runs / "a-run/run.json").exists()
    assert keep.exists()


def test_the_daily_clean_up_is_asked_for_once(tmp_path: Path) -> None:
    runs = str(tmp_path / "runs")
    make(tmp_path / "runs", "a-run")
    assert store.is_due(runs, 3600)
    assert not store.is_due(runs, 3600)
    os.utime(tmp_path / "pruned", (0, 0))
    assert store.is_due(runs, 3600)
