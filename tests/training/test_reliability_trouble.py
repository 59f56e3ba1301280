"""A whole run on a disk that is full, and with a tracker that is not there: each ends as it should, and says why (S11, S12).

The writers one by one are in test_events.py, test_checkpoint_writer.py, test_persist.py and test_tracker.py; here the
executor and its children meet the same together. HEMMA_FULL=1 runs every size and every kind.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from lanes.event_chain import verify
from tests.training import runs
from tests.training.bench import Bench, Run, wait
from tests.training.conftest import IS_FULL
from tests.training.test_events import fill, needs_root, small_disk
from training.checkpoints import damage_of
from training.events import free_bytes, read

# What is left on the disk when the run begins: nothing, room for its first words, room for less than the host audit asks.
LEFT_KIB = (0, 8, 40, 3600) if IS_FULL else (0, 40)
SMALL_KIB, LARGE_KIB = 8192, 1_300_000
# Whoever writes next finds no room: the audit, the smoke's child, the job's child, its checkpoints, the evaluation.
MOMENTS = [
    ("stage", "resources"),
    ("begin", "cpu-smoke"),
    ("begin", "job"),
    ("checkpoint", None),
    ("begin", "evaluate"),
]
pytestmark = [pytest.mark.timeout(400)]
full = pytest.mark.skipif(not IS_FULL, reason="a long one: HEMMA_FULL=1 script/test-train")


@needs_root
@pytest.mark.req("S4-R06", "S12-R13")
@pytest.mark.parametrize("left_kib", LEFT_KIB)
def test_disk_without_room_refuses_the_run_before_anything_dear(bench: Bench, left_kib: int) -> None:
    with small_disk(bench.next_folder(), SMALL_KIB) as disk:
        (disk / "filler").write_bytes(bytes((SMALL_KIB - left_kib) << 10 if left_kib else 0))
        if not left_kib:
            fill(disk)
        run = bench.start(until="healthy").wait()
        _ended_in_words(run)
        if left_kib >= 40:
            assert "room for three checkpoints" in run.stop()["message"]
            assert "data-audit" not in run.stages()
        else:
            assert "No space left on device" in run.tail()
            assert "do       " in run.tail()


@full
@needs_root
@pytest.mark.req("S11-R10", "S12-R13")
@pytest.mark.parametrize("number", range(len(MOMENTS)), ids=[f"{kind} {stage or ''}" for kind, stage in MOMENTS])
def test_disk_that_fills_meanwhile_ends_the_run_with_its_reason(bench: Bench, number: int) -> None:
    # A seed of its own: nothing is proven for it, so every stage runs.
    asked: dict[str, Any] = {"seed": 100 + number, "until": "evaluate"}
    with small_disk(bench.next_folder(), LARGE_KIB) as disk, bench.fault(place="pause", pause_s=0.2):
        run = bench.start(**asked)
        kind, stage = MOMENTS[number]
        wait(lambda: any(stage in (None, each.get("stage")) for each in run.events(kind)), 120)
        with open(disk / "most", "wb") as file:  # page by page it would take longer than the stage
            os.posix_fallocate(file.fileno(), 0, free_bytes(disk) - (1 << 20))
        fill(disk)
        run.wait()
        _ended_in_words(run)
        stop = run.stop()
        assert "No space left" in stop["message"], stop
        assert stop["remedy"]
        kept = run.folder / "checkpoints"
        assert all(not damage_of(path) for path in kept.glob("checkpoint-*"))
    again = bench.run(**asked)
    assert again.result()["step"] == 8


def _ended_in_words(run: Run) -> None:
    """It ended by itself, said why, and not with the words of a program that broke; its log is whole."""
    said = run.printed.read_text(errors="replace")
    assert run.code in (1, 75), said[-3000:]
    assert "training/executor.py" not in said
    assert verify(read(run.folder / "events.jsonl")) is None


@full
@pytest.mark.req("S12-R12")
@pytest.mark.parametrize("how", ["missing", "locked"])
def test_training_is_unharmed_by_its_tracker(bench: Bench, tmp_path: Path, how: str) -> None:
    wanted = runs.end_of(bench.run(until="healthy").folder)
    place = Path("/proc/none") if how == "missing" else tmp_path / "trackio"
    with contextlib.ExitStack() as stack:
        if how == "locked":
            first = bench.run(until="healthy", environment={"TRACKIO_DIR": str(place)})
            assert first.result()["tracker"]["is_complete"] is True
            lock = stack.enter_context(
                contextlib.closing(sqlite3.connect(next(place.glob("*.db")), isolation_level=None))
            )
            lock.execute("BEGIN EXCLUSIVE")
        run = bench.run(until="healthy", environment={"TRACKIO_DIR": str(place)})
    assert run.result()["tracker"]["is_complete"] is False
    assert runs.end_of(run.folder) == wanted
    assert len(run.events("alert")) == 5
