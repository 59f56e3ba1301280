"""Logs that lose nothing they acknowledged: killed writers, torn lines, many writers, full disks (S12-R13, S12-R14, S21-R05)."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import signal
import subprocess
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from lanes.event_chain import verify
from manifests.evidence import EventRecord
from tests.training.conftest import IS_FULL
from training.errors import NoRoom
from training.events import AlertLog, EventLog, MetricsLog, keep_reserve, read, read_metrics

KILLS = 1000 if IS_FULL else 60
WRITERS = 8
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
# Fork is the point here: hundreds of writers in seconds; the parent has no threads of its own.
fork = multiprocessing.get_context("fork")


@contextlib.contextmanager
def small_disk(folder: Path, size_kib: int) -> Generator[Path]:
    """A file system of this size."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path) -> None:
    """Take every byte that is left."""
    with open(folder / "filler", "ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    with open(folder / "filler", "ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x")


@pytest.mark.req("S21-R05")
def test_events_are_numbered_chained_and_of_the_agreed_form(tmp_path: Path) -> None:
    with EventLog(tmp_path / "events.jsonl") as log:
        log.append("begin", {"stage": "job"})
        log.append("submit", {"kind": "full", "text": "Ünïcode \u2028 \ud800"})
    with EventLog(tmp_path / "events.jsonl") as log:
        log.append("end")
        assert log.count == 3
    records = read(tmp_path / "events.jsonl")
    assert [EventRecord.model_validate(record).seq for record in records] == [0, 1, 2]
    assert records[1]["data"]["kind"] == "full"
    assert verify(records) is None
    assert [record["seq"] for record in read(tmp_path / "events.jsonl", since=2)] == [2]
    assert oct((tmp_path / "events.jsonl").stat().st_mode & 0o777) == "0o600"


@pytest.mark.parametrize(
    "cut", ['{"seq":2,"kin', '{"seq":2}', "\0" * 40, '{"seq":2,"x":"' + "y" * 200_000, '[1]\n"text"\n']
)
def test_torn_end_is_moved_aside_never_dropped(tmp_path: Path, cut: str) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path) as log:
        log.append("a")
        log.append("b")
    with open(path, "ab") as file:
        file.write(cut.encode())
    assert len(read(path)) == 2
    with EventLog(path) as log:
        assert log.torn_bytes == len(cut)
        log.append("c")
    assert [record["kind"] for record in read(path)] == ["a", "b", "c"]
    assert verify(read(path)) is None
    assert (tmp_path / "events.jsonl.torn").read_bytes() == cut.encode() + b"\n"


def test_two_logs_on_one_file_agree(tmp_path: Path) -> None:
    with EventLog(tmp_path / "e.jsonl") as one, EventLog(tmp_path / "e.jsonl") as two:
        for number in range(20):
            (one, two)[number % 2].append("x", {"number": number})
    records = read(tmp_path / "e.jsonl")
    assert [record["data"]["number"] for record in records] == list(range(20))
    assert verify(records) is None


def _append_until_killed(path: str, pipe: int, name: int) -> None:
    with AlertLog(Path(path)) as log:
        for number in range(1_000_000):
            log.append({"level": "ERROR", "title": f"{name}.{number}", "step": number, "value": float("nan")})
            os.write(pipe, f"{name}.{number}\n".encode())


@pytest.mark.req("S12-R13")
@pytest.mark.timeout(1200 if IS_FULL else 120)
def test_no_acknowledged_alert_is_lost_or_doubled_by_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    chance = random.Random(3)
    acknowledged: list[str] = []
    for round_ in range(KILLS):
        ours, theirs = os.pipe()
        process = fork.Process(target=_append_until_killed, args=(str(path), theirs, round_))
        process.start()
        os.close(theirs)
        first = os.read(ours, 100)
        time.sleep(chance.uniform(0, 0.01))
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        with os.fdopen(ours, "rb") as file:
            acknowledged += (first + file.read()).decode().split()
    records = read(path)
    titles = [record["title"] for record in records]
    assert verify(records) is None
    assert len(titles) == len(set(titles))
    assert [title for title in acknowledged if title not in set(titles)] == []
    assert records[0]["value"] is None


def _append_some(path: str, name: int, count: int) -> None:
    with EventLog(Path(path)) as log:
        for number in range(count):
            log.append("x", {"name": f"{name}.{number}"})


@pytest.mark.timeout(300)
def test_many_writers_and_kills_leave_one_whole_chain(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    chance = random.Random(4)
    for _ in range(KILLS // 20):
        writers = [fork.Process(target=_append_some, args=(str(path), name, 25)) for name in range(WRITERS)]
        for writer in writers:
            writer.start()
        time.sleep(chance.uniform(0, 0.05))
        writers[0].kill()
        for writer in writers:
            writer.join()
        assert [writer.exitcode for writer in writers[1:]] == [0] * (WRITERS - 1)
    records = read(path)
    assert verify(records) is None
    assert len(records) >= (KILLS // 20) * 25 * (WRITERS - 1)


@needs_root
def test_a_full_disk_still_hears_the_last_words(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1024) as disk:
        keep_reserve(disk)
        with AlertLog(disk / "alerts.jsonl") as log:
            log.append({"level": "INFO", "title": "before", "step": 1})
            fill(disk)
            for number in range(20):
                log.append({"level": "ERROR", "title": f"full {number}", "step": 2, "text": "x" * 500})
            assert not (disk / ".reserve").exists()
            fill(disk)
            with pytest.raises(NoRoom) as told:
                log.append({"level": "ERROR", "title": "no more", "step": 3, "text": "x" * 9000})
            assert told.value.needed_bytes > 9000
            (disk / "filler").unlink()
            log.append({"level": "INFO", "title": "again", "step": 4})
        records = read(disk / "alerts.jsonl")
    assert [record["title"] for record in records] == ["before", *(f"full {n}" for n in range(20)), "again"]
    assert verify(records) is None


@needs_root
def test_a_full_disk_loses_no_row_of_the_series(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 256) as disk:
        log = MetricsLog(disk / "metrics.jsonl")
        log.append({"step": 1, "loss": 1.0})
        fill(disk)
        for step in range(2, 200):
            log.append({"step": step, "loss": 1.0, "text": "x" * 100})
        (disk / "filler").unlink()
        log.append({"step": 200, "loss": 1.0})
        log.close()
        assert [row["step"] for row in read_metrics(disk / "metrics.jsonl")] == list(range(1, 201))


def test_rows_after_the_checkpoint_make_way_and_are_kept(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in range(1, 8):
        log.append({"step": step, "loss": float(step)})
    assert log.supersede_after(4) == 3
    log.append({"step": 5, "loss": 50.0})
    log.close()
    assert [row["loss"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1.0, 2.0, 3.0, 4.0, 50.0]
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.superseded.jsonl")] == [5, 6, 7]


def test_a_row_that_a_crash_cut_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 1}\n{"step": 2, "lo')
    log = MetricsLog(path)
    log.append({"step": 2, "loss": 2})
    log.close()
    assert [json.loads(line)["loss"] for line in path.read_text().splitlines()] == [1, 2]


def test_a_damaged_record_in_the_middle_shows(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path) as log:
        for number in range(5):
            log.append("x", {"number": number})
    lines: list[Any] = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], lines[2].replace('"number":2', '"number":9'), *lines[3:]]) + "\n")
    assert verify(read(path)) == 2
