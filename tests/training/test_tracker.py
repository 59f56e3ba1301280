"""The tracker is a mirror: slow, locked, missing or full, the training is unharmed and the backlog comes later (S12-R13, F10)."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.training.test_events import fill, needs_root, small_disk
from training.events import AlertLog, MetricsLog
from training.tracker import Mirror, command

pytest.importorskip("trackio")
PROJECT, RUN = "tiny", "run-1"
READ = """
import json, trackio
from trackio.sqlite_storage import SQLiteStorage
rows = SQLiteStorage.get_logs("tiny", "run-1")
alerts = trackio.Api().alerts("tiny", run="run-1")
print(json.dumps({"steps": sorted(row["step"] for row in rows), "titles": sorted(a["title"] for a in alerts),
                  "levels": sorted(a["level"] for a in alerts), "names": sorted({k for row in rows for k in row})}))
"""


@pytest.fixture(autouse=True)
def _own_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))


def write(folder: Path, first: int, last: int) -> None:
    """Rows of steps `first` to `last`, and an alert at the last."""
    metrics = MetricsLog(folder / "metrics.jsonl")
    for step in range(first, last + 1):
        metrics.append({"step": step, "at": 1000.0 + step, "loss": 1.0 / step, "eval_loss": 2.0, "note": "text"})
    metrics.close()
    with AlertLog(folder / "alerts.jsonl") as log:
        log.append({"level": "WARN", "title": "Loss spike", "step": last, "text": f"step={last} value=1"})


def deliver(folder: Path, timeout_s: float = 60) -> int:
    """One round in a process of its own; returns its exit code."""
    return subprocess.run(
        [*command(), str(folder), PROJECT, RUN, ""],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout_s,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        check=False,
    ).returncode


def arrived() -> dict[str, Any]:
    """What the tracker has on its disk."""
    told = subprocess.run([sys.executable, "-c", READ], capture_output=True, text=True, check=True)
    return json.loads(told.stdout.splitlines()[-1])


def test_rows_and_alerts_arrive_once_with_our_steps_and_numbers(tmp_path: Path) -> None:
    write(tmp_path, 1, 5)
    assert deliver(tmp_path) == 0
    write(tmp_path, 6, 8)
    assert deliver(tmp_path) == 0
    assert deliver(tmp_path) == 0
    found = arrived()
    assert found["steps"] == list(range(1, 9))
    assert found["titles"] == ["#0 Loss spike", "#1 Loss spike"]
    assert found["levels"] == ["warn", "warn"]
    assert {"train/loss", "eval_loss"} <= set(found["names"])


def test_mirror_follows_and_delivers_the_rest_at_the_end(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path, project=PROJECT, run=RUN)
    write(tmp_path, 1, 3)
    assert mirror.stop(30)
    assert arrived()["steps"] == [1, 2, 3]


@pytest.mark.parametrize("place", ["a file", "missing and unwritable"])
def test_tracker_that_is_not_there_costs_nothing_and_gets_it_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "blocked").write_text("no folder")
    wrong = tmp_path / "blocked" if place == "a file" else Path("/proc/none")
    write(tmp_path, 1, 4)
    with monkeypatch.context() as patched:
        patched.setenv("TRACKIO_DIR", str(wrong))
        mirror = Mirror(tmp_path, project=PROJECT, run=RUN)
        assert mirror.stop(30) is False
    assert "tracker:" in (tmp_path / "logs/tracker.log").read_text()
    assert deliver(tmp_path) == 0
    assert arrived()["steps"] == [1, 2, 3, 4]


def test_locked_tracker_is_left_behind_and_gets_it_later(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    assert deliver(tmp_path) == 0
    database = next((tmp_path / "trackio").glob("*.db"))
    write(tmp_path, 3, 4)
    lock = sqlite3.connect(database, isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    mirror = Mirror(tmp_path, project=PROJECT, run=RUN)
    begun = time.monotonic()
    assert mirror.stop(3) is False
    assert time.monotonic() - begun < 10
    lock.execute("ROLLBACK")
    lock.close()
    assert deliver(tmp_path) == 0
    assert set(arrived()["steps"]) == {1, 2, 3, 4}
    assert set(arrived()["titles"]) == {"#0 Loss spike", "#1 Loss spike"}


@needs_root
def test_full_tracker_disk_is_noticed_and_gets_it_later(tmp_path: Path) -> None:
    with small_disk(tmp_path / "trackio", 4096) as disk:
        write(tmp_path, 1, 2)
        assert deliver(tmp_path) == 0
        fill(disk)
        write(tmp_path, 3, 40)
        assert deliver(tmp_path) == 1
        (disk / "filler").unlink()
        assert deliver(tmp_path) == 0
        assert set(arrived()["steps"]) == set(range(1, 41))


def test_killed_mirror_is_no_matter(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    mirror = Mirror(tmp_path, project=PROJECT, run=RUN)
    assert mirror._process is not None
    mirror._process.kill()
    assert mirror.stop(5) is False
    assert mirror.stop(5) is False
    assert deliver(tmp_path) == 0
    assert arrived()["steps"] == [1, 2]
