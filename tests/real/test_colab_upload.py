"""`hemma colab run` where Drive cannot be mounted: the slice goes to the machine itself, its results come back from there."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from controller.flows.slice_fetch import unpack
from lanes import colab_upload
from manifests.errors import HemmaError
from tests.drive_support import status_of
from tests.real.test_colab_run import FREE, Lane
from tests.rows.slices import a_row, a_slice, engine, results

ROWS, DONE = 8, 3


# One shard, so that what is done is one file.
QUICK = {"shard_rows": 100, "heartbeat": 0.2, "flush_rows": 1, "backoff": 0.01}


def digest_of(slice_: Path) -> str:
    """The slice's digest."""
    return json.loads((slice_ / "slice.json").read_text())["digest"]


@pytest.fixture
def lane(tmp_path: Path) -> Lane:
    return Lane(tmp_path)


def issued(lane: Lane) -> Path:
    """A slice whose rows are processed for real, each call noted in `calls`; its notebook is run for real too."""
    made = a_slice(lane.folder / "host", [a_row(n) for n in range(ROWS)], run=QUICK)
    (lane.stand_in / "plan.json").write_text(json.dumps({"really": {"CALLS": str(lane.folder / "calls")}}))
    return made


def steps(lane: Lane) -> list[str]:
    """What the program was asked, less the looks at the status."""
    return [call[0] for call in lane.calls() if not (call[0] == "download" and "status.json" in call[2][0])]


@pytest.mark.req("S9-R30", "S9-R34", "S9-R36")
def test_what_is_done_goes_along_the_rest_is_done_there_and_all_of_it_comes_back(lane: Lane) -> None:
    slice_, calls = issued(lane), lane.folder / "calls"
    run = lane.drive / "runs" / slice_.name
    assert engine("run", slice_, "--run", run).returncode == 0
    # As an attempt leaves it that was cut off after its third row.
    (spool,) = (run / "spool").iterdir()
    spool.write_bytes(b"".join(spool.read_bytes().splitlines(keepends=True)[:DONE]))
    shutil.rmtree(run / "results")
    (run / "status.json").write_bytes(
        status_of(slice_.name, done=DONE, state="stopped", slice_digest=digest_of(slice_))
    )
    shown = lane("run", str(slice_), "--upload", *FREE)
    assert f"finished, {ROWS} of {ROWS} rows" in shown
    assert steps(lane) == ["new", "sessions", "upload", "exec", "exec", "exec", "download", "stop", "sessions"]
    assert calls.read_text().split() == [str(number) for number in range(DONE, ROWS)]
    (row,) = json.loads(lane("status", "--json"))
    assert (row["run"], row["state"], row["attempt"]) == (slice_.name, "finished", 2)
    lane("collect", "last", "--to", "local")
    assert [int(each["key"]) for each in results(lane.folder / "results/colab" / slice_.name)] == list(range(ROWS))
    assert (lane.live(), lane.records()) == ({}, [])
    assert not (lane.drive / "slices").exists()


@pytest.mark.parametrize(
    ("mount", "said"),
    [
        ({"exit": 1, "say": "[colab] Session is busy"}, "Session is busy"),
        ({"says": "ValueError: mount failed"}, "ValueError: mount failed"),
    ],
)
def test_a_mount_that_fails_in_whatever_way_means_upload(lane: Lane, mount: dict[str, Any], said: str) -> None:
    lane.plan(drivemount=mount, run=[])
    found = lane("run", str(lane.slice), *FREE)
    assert said in lane.errors
    assert "done" in found
    assert steps(lane) == ["new", "sessions", "drivemount", "upload", "exec", "exec", "exec", "stop", "sessions"]


@pytest.mark.req("S18-R13")
def test_a_consent_is_a_persons_and_is_not_waited_for_on_the_terminal(lane: Lane) -> None:
    lane.plan(drivemount={"consent": "https://accounts.example/consent?x=1"}, run=[])
    ours, theirs = os.openpty()
    begun = time.monotonic()
    argv = ["setsid", "--ctty", "--wait", *lane.argv("run", str(lane.slice), *FREE)]
    told = subprocess.run(
        argv, stdin=theirs, capture_output=True, text=True, cwd=lane.folder, env=lane.environ, timeout=60, check=False
    )
    for end in (ours, theirs):
        os.close(end)
    assert told.returncode == 0, told.stderr
    assert "open 'https://accounts.example/consent?x=1' and allow Drive" in told.stderr
    assert not (lane.stand_in / "asked-on-terminal").exists()
    assert time.monotonic() - begun < 30


def test_out_of_time_ends_what_runs_and_brings_back_what_is_there(lane: Lane) -> None:
    run = lane.stand_in / "machine" / colab_upload.run_folder("hemma", lane.slice.name).strip("/")
    lane.plan(run=[{"files": {str(run / "spool/shard-00000.jsonl"): "{}\n"}}, {"files": {}, "after_s": 30}])
    lane("run", str(lane.slice), "--upload", *FREE, "--hours", "0.0008", code=124)
    assert steps(lane)[3:] == ["exec", "exec", "restart-kernel", "exec", "download", "stop", "sessions"]
    assert (lane.drive / "runs" / lane.slice.name / "spool/shard-00000.jsonl").read_text() == "{}\n"
    assert lane.live() == {}


@pytest.mark.req("S9-R14")
def test_it_is_followed_while_it_runs_and_a_cell_that_fails_keeps_what_was_done(lane: Lane) -> None:
    run = lane.stand_in / "machine" / colab_upload.run_folder("hemma", lane.slice.name).strip("/")
    files = {"logs/run.log": "so far\n", "status.json": status_of(lane.slice.name, done=10).decode()}
    written = {"files": {str(run / name): text for name, text in files.items()}}
    lane.plan(run=[written, {"files": {}, "looks": 2}], cell_error=["ValueError", "no such column"])
    lane("run", str(lane.slice), "--upload", *FREE, code=1)
    assert "running: 10 of 100 rows" in lane.errors
    assert "no such column" in lane.errors
    assert (lane.drive / "runs" / lane.slice.name / "logs/run.log").read_text() == "so far\n"


# --- what runs on the machine, and what comes from it ----------------------------------------------------------------


def on_machine(text: str, disk: Path) -> dict[str, Any]:
    """Run a program of ours as the machine does, with `disk` for its /content."""
    disk.mkdir(exist_ok=True)
    told = subprocess.run(
        [sys.executable, "-c", text.replace("/content", str(disk))], capture_output=True, text=True, check=True
    )
    return colab_upload.answer(told.stdout.replace(str(disk), "/content"))


def test_bytes_that_changed_on_the_way_are_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/hemma-in-00000").write_bytes(b"other bytes")
    said = on_machine(colab_upload.unpack_program(1, "0" * 64), tmp_path / "disk")
    assert said == {"error": "ValueError: what arrived is not what was sent"}
    assert not (tmp_path / "disk/hemma-drive").exists()


def test_a_large_run_comes_in_parts(tmp_path: Path) -> None:
    run = tmp_path / "disk/hemma-drive/p/runs/r"
    run.mkdir(parents=True)
    (run / "weights.bin").write_bytes(os.urandom(colab_upload.PART_BYTES * 2))
    said = on_machine(colab_upload.pack_program("p", "r"), tmp_path / "disk")
    assert len(colab_upload.parts_of(said)) == 3
    assert on_machine(colab_upload.pack_program("p", "none"), tmp_path / "disk") == {"parts": [], "sha256": ""}


@pytest.mark.parametrize("name", ["../evil", "run/../../evil", "/etc/evil", "other/file"])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_an_archive_from_a_machine_writes_only_plain_files_of_its_run(tmp_path: Path, name: str, kind: bytes) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo(name if kind == tarfile.REGTYPE else "run/link")
        member.type, member.linkname = kind, name
        archive.addfile(member)
    packed.seek(0)
    with pytest.raises(HemmaError, match="is no part of the run"):
        unpack(packed, str(tmp_path / "in"), "run", what="the run")
    assert [path for path in tmp_path.rglob("*") if path.is_file() or path.is_symlink()] == []
