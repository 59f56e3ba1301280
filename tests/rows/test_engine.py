"""The row engine: each row once, whatever kills it, whatever the run's directory does, whatever a row does to its process."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lanes.slice_spool import entries
from manifests.slices import RowStatus, read_any_status
from tests.rows import killed_engine
from tests.rows.hostile_files import HostileFiles
from tests.rows.slices import a_row, a_slice, engine, engine_argv, results
from tests.support import WEIRD_NAMES, wait_until
from training.rows import bundle, check
from training.rows.engine import Asked, RowRun, progress
from training.rows.files import LocalFiles
from training.rows.session import SLACK_S
from training.rows.spool import RunFolderUnusable, Spool

pytestmark = pytest.mark.real
ROOT = Path(__file__).resolve().parents[2]
IS_FULL = os.environ.get("HEMMA_FULL") == "1"
QUICK_BEATS = {"heartbeat": 0.1, "backoff": 0.01}
KILLS = 100 if IS_FULL else 12
MOUNTS = 40 if IS_FULL else 6


def status_of(run: Path) -> RowStatus:
    """The status of a run as every reader reads it."""
    found = read_any_status(str(run / "status.json"))
    assert isinstance(found, RowStatus)
    return found


def spooled(run: Path) -> list[dict[str, Any]]:
    """Every whole entry of a run's spool."""
    return [entry for path in sorted((run / "spool").glob("*.jsonl")) for entry in entries(path.read_bytes())]


@pytest.mark.req("S9-R33", "S9-R14")
def test_every_row_has_its_result_and_the_status_says_so(plain_slice: Path, tmp_path: Path) -> None:
    done = engine("run", plain_slice, "--run", tmp_path / "run")
    assert done.returncode == 0
    assert done.stderr.splitlines() == ["this goes to stderr, not into the answers"] * 23
    kept = (tmp_path / "run/logs/rows.log").read_text().splitlines()
    assert sum("not into the answers" in line for line in kept) == 23
    assert "0 of 23 rows are done, 23 to do" in kept[0]
    found = results(tmp_path / "run")
    assert [each["key"] for each in found] == [str(number) for number in range(23)]
    assert all(each["result"]["words"] == int(each["key"]) % 7 for each in found)
    assert {each["result"]["first"] for each in found} == {"hello"}  # a staged file, at its place in the repository
    status = status_of(tmp_path / "run")
    assert (status.state, status.counts.done, status.counts.total, status.exit_code) == ("finished", 23, 23, 0)
    assert status.versions["source"] == bundle.file_sha256(str(plain_slice / "source.pyz"))[:16]
    assert status.ended_at is not None
    assert status.ended_at >= status.started_at


@pytest.mark.req("S9-R14")
def test_whoever_looks_at_it_sees_now_and_then_how_far_it_is(tmp_path: Path) -> None:
    counts = {"total": 200, "done": 57, "failed": 0, "quarantined": 1}
    said = progress({"counts": counts, "rate_per_s": 2.514, "eta_s": 57.0 * 60})
    assert said == "57 of 200 rows done, 1 quarantined, 2.51 rows/s, about 57 min left"
    assert progress({"counts": {**counts, "quarantined": 0}, "rate_per_s": None, "eta_s": None}) == (
        "57 of 200 rows done"
    )
    folder = a_slice(tmp_path / "host", [a_row(number, sleep_s=0.2) for number in range(8)], run=QUICK_BEATS)
    done = engine("run", folder, "--run", tmp_path / "run")
    lines = [line for line in done.stdout.splitlines() if "min left" in line]
    assert lines
    assert lines[0] in (tmp_path / "run/logs/rows.log").read_text()


@pytest.mark.req("S9-R36", "S9-R34")
def test_killed_in_the_middle_of_any_act_each_row_is_done_once(plain_slice: Path, tmp_path: Path) -> None:
    """12 kills in CI, 100 with HEMMA_FULL=1; several on one run, so that later ones meet what earlier ones left."""
    chance = random.Random(936)
    killed, run = 0, tmp_path / "run-0"
    for number in range(KILLS):
        if number % 4 == 0:
            run = tmp_path / f"run-{number}"
        fatal = chance.randrange(1, 24)
        argv = [sys.executable, "-I", killed_engine.__file__, plain_slice, run, str(fatal), str(chance.random())]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode in {-signal.SIGKILL, 0}, done.stderr
        killed += done.returncode != 0
        if number % 4 == 3:
            assert engine("run", plain_slice, "--run", run).returncode == 0
            assert sorted(int(each["key"]) for each in results(run)) == list(range(23))
            index = bundle.verify(str(plain_slice))
            found = check.check(str(plain_slice), index, LocalFiles(str(run)))
            assert (found["done"], found["missing"], found["repeated"], found["faults"]) == (23, 0, 0, [])
    assert killed >= KILLS // 2


@pytest.mark.req("S9-R36")
def test_a_mount_that_is_slow_stale_and_drops_writes_loses_no_row(plain_slice: Path, source: Path) -> None:
    """6 bad mounts in CI, 40 with HEMMA_FULL=1."""
    index, lost, failed, sessions = bundle.verify(str(plain_slice)), 0, 0, 0
    for seed in range(MOUNTS):
        files = HostileFiles(seed, drop=0.3, stale=0.3, fail=0.1, slow_s=0.002)
        sessions += sessions_until_done(plain_slice, source, files)
        files.drop = files.stale = files.fail = 0.0
        found = check.check(str(plain_slice), index, files)
        assert (found["done"], found["missing"], found["faults"]) == (23, 0, []), seed
        lines = b"".join(files.kept[name] for name in sorted(files.kept) if name.startswith("results/"))
        assert [json.loads(line)["key"] for line in lines.splitlines()] == [str(number) for number in range(23)]
        lost, failed = lost + files.lost, failed + files.failed
    assert lost >= MOUNTS  # the mounts were bad
    assert failed >= MOUNTS
    assert sessions < 2 * MOUNTS  # nearly all of them in one go


def sessions_until_done(folder: Path, source: Path, files: HostileFiles) -> int:
    """Run a slice as a person would: again, when the mount was too bad to go on. Returns how often."""
    for session in range(1, 6):
        asked = Asked(str(folder), "run", str(source), is_takeover=True, spool_wait_s=0.001)
        try:
            assert RowRun(asked, bundle.verify(str(folder)), files).run() == 0
        except RunFolderUnusable:
            continue
        return session
    pytest.fail("five sessions did not end it")


@pytest.mark.req("S9-R36")
def test_a_mount_that_never_comes_back_ends_the_run_and_says_so(plain_slice: Path, source: Path) -> None:
    files = HostileFiles(1, drop=1.0)
    asked = Asked(str(plain_slice), "run", str(source), spool_wait_s=0.0001)
    with pytest.raises(RunFolderUnusable, match=r"not there|not what is read") as told:
        RowRun(asked, bundle.verify(str(plain_slice)), files).run()
    assert "mount it anew" in told.value.remedy


def test_a_mount_that_is_away_is_said_before_it_is_given_up() -> None:
    said: list[str] = []
    spool = Spool(HostileFiles(1, fail=1.0), wait_s=0.001, say=said.append)
    spool.add(0, {"key": "a", "state": "done", "result": {}})
    with pytest.raises(RunFolderUnusable):
        spool.flush()
    assert said == ["the run's directory takes nothing now (the mount is away); trying on"]


def test_what_a_mount_cannot_truncate_is_passed_over() -> None:
    class NoCutting(HostileFiles):
        def truncate(self, path: str, size: int) -> None:
            raise OSError(95, "not supported")

    files = NoCutting(1)
    files.kept["spool/shard-00000.jsonl"] = b'{"key": "torn, and not en'
    from lanes.slice_spool import Completed

    spool, known = Spool(files, wait_s=0.001), Completed()
    spool.load(0, known)
    spool.add(0, {"key": "a", "state": "done", "result": {"x": 1}})
    spool.flush()
    again = Completed()
    Spool(files).load(0, again)
    assert (known.done, again.done) == (set(), {"a"})


@pytest.fixture
def source(plain_slice: Path, tmp_path: Path) -> Path:
    """A folder that holds our rooms as they stand in the checkout, and the slice's own modules."""
    import zipfile

    folder = tmp_path / "source"
    with zipfile.ZipFile(plain_slice / "source.pyz") as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.startswith("prep/")])
    for room in ("training", "lanes", "manifests"):
        (folder / room).symlink_to(ROOT / room)
    return folder


# --- rows that do harm ----------------------------------------------------------------------------------------------


@pytest.mark.req("S9-R33", "S20-R03")
def test_poison_rows_are_quarantined_with_their_error_and_the_rest_is_done(tmp_path: Path) -> None:
    harms = {"die": "signal 9", "raise": "ValueError", "nan": "not JSON compliant", "list": "not a dict"}
    rows = [a_row(0), *(a_row(at, do=harm) for at, harm in enumerate(harms, 1)), a_row(9)]
    folder, run = a_slice(tmp_path, rows), tmp_path / "run"
    secret = "correct-horse-battery"
    done = engine("run", folder, "--run", run, environ={"A_TOKEN": secret, "CALLS": str(tmp_path / "calls")})
    assert done.returncode == 3
    assert [each["key"] for each in results(run)] == ["0", "9"]
    told = {each["key"]: each["error"] for each in map(json.loads, (run / "quarantine.jsonl").read_text().splitlines())}
    assert list(told) == ["1", "2", "3", "4"]
    assert all(words in told[str(at)] for at, words in enumerate(harms.values(), 1))
    calls = (tmp_path / "calls").read_text().split()
    assert {key: calls.count(key) for key in "012349"} == {"0": 1, "1": 2, "2": 2, "3": 2, "4": 2, "9": 1}
    written = b"".join(path.read_bytes() for path in run.rglob("*") if path.is_file())
    assert secret.encode() not in written + done.stdout.encode() + done.stderr.encode()
    again = engine("run", folder, "--run", run, environ={"CALLS": str(tmp_path / "calls")})
    assert again.returncode == 3
    assert (tmp_path / "calls").read_text().split() == calls  # kept in quarantine


@pytest.mark.req("S9-R34")
def test_a_row_that_fails_once_is_tried_again_and_a_hanging_one_is_ended(tmp_path: Path) -> None:
    rows = [a_row(1, do="once", mark=str(tmp_path / "mark")), a_row(2, do="hang"), a_row(3)]
    run_settings = {"attempts": 2, "backoff": 0.01, "row_timeout": 0.4, "workers": 3, "shard_rows": 2, "heartbeat": 0.2}
    folder = a_slice(tmp_path, rows, run=run_settings)
    assert engine("run", folder, "--run", tmp_path / "run").returncode == 3
    assert [each["key"] for each in results(tmp_path / "run")] == ["1", "3"]
    entry = next(each for each in spooled(tmp_path / "run") if each["key"] == "1" and each["state"] == "done")
    assert entry["tries"] == 2
    assert "longer than 0.4 s" in (tmp_path / "run/quarantine.jsonl").read_text()


@pytest.mark.req("S9-R34")
def test_quarantined_rows_are_tried_anew_where_the_manifest_says_so(tmp_path: Path) -> None:
    rows = [a_row(1, do="once", mark=str(tmp_path / "mark")), a_row(2)]
    settings = {"attempts": 1, "backoff": 0.01, "heartbeat": 0.2}
    folder = a_slice(tmp_path, rows, run=settings, resume={"quarantined": "retry"})
    assert engine("run", folder, "--run", tmp_path / "run").returncode == 3
    assert engine("run", folder, "--run", tmp_path / "run").returncode == 0
    assert [each["key"] for each in results(tmp_path / "run")] == ["1", "2"]
    assert (tmp_path / "run/quarantine.jsonl").read_bytes() == b""


def test_a_processor_that_cannot_be_loaded_ends_the_run_in_words(tmp_path: Path) -> None:
    folder = a_slice(tmp_path, [a_row(1)], processor="prep.unused:clean")
    done = engine("run", folder, "--run", tmp_path / "run")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "failed   the processor prep.unused:clean cannot be loaded: SystemExit: not needed" in done.stderr
    status = status_of(tmp_path / "run")
    assert (status.state, status.exit_code) == ("failed", 1)
    assert "cannot be loaded" in status.reason


@pytest.mark.req("S9-R33")
def test_hostile_names_and_keys_change_nothing(tmp_path: Path) -> None:
    keys = ["a/b", "../c", "new\nline", "\ud800", "mapp-åäö", '"', " ", "x" * 300]
    folder = a_slice(tmp_path / "issued", [{"id": key, "text": "a b"} for key in keys])
    weird = tmp_path.joinpath(*WEIRD_NAMES.values())
    moved, run = weird / folder.name, weird / "my run"
    shutil.copytree(folder, moved)
    assert engine("run", moved, "--run", run).returncode == 0
    assert [each["key"] for each in results(run)] == keys
    assert status_of(run).counts.done == len(keys)
    assert engine("check", moved, "--run", run).returncode == 0


# --- sessions -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def slow_slice(tmp_path_factory: pytest.TempPathFactory, own_home: Path) -> Path:
    """A slice of 60 rows, 50 ms each."""
    rows = [a_row(number, sleep_s=0.05) for number in range(60)]
    return a_slice(tmp_path_factory.mktemp("slow-slice"), rows)


def started(folder: Path, run: Path) -> subprocess.Popen[bytes]:
    """An engine at work on a run; at least one row is done when this returns."""
    argv = engine_argv("run", folder, "--run", run)
    child = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: (run / "spool").exists() and spooled(run), what="the first row")
    return child


@pytest.mark.req("S9-R34")
def test_told_to_stop_it_ends_in_good_order_and_goes_on_later(slow_slice: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    child = started(slow_slice, run)
    busy = engine("run", slow_slice, "--run", run)
    assert busy.returncode == 75
    assert "another session works on this run" in busy.stderr
    child.send_signal(signal.SIGTERM)
    assert child.wait(20) == 4
    status = status_of(run)
    assert (status.state, status.reason, status.attempt) == ("stopped", "it was told to stop", 1)
    assert 0 < status.counts.done < 60
    assert engine("run", slow_slice, "--run", run).returncode == 0
    assert [int(each["key"]) for each in results(run)] == list(range(60))
    assert status_of(run).attempt == 2


@pytest.mark.req("S9-R34", "S18-R12")
def test_it_stops_before_the_limit_of_the_session(tmp_path: Path) -> None:
    rows = [a_row(number, sleep_s=0.05) for number in range(30)]
    limits = {"session_limit": 61, "stop_before": 60, "shard_rows": 10, "heartbeat": 0.2}
    folder, run, codes = a_slice(tmp_path, rows, run=limits), tmp_path / "run", list[int]()
    while not codes or (codes[-1] == 4 and len(codes) < 20):
        codes.append(engine("run", folder, "--run", run).returncode)
        said = status_of(run).reason
        assert said == ("the limit of the session is near" if codes[-1] == 4 else "")
    assert codes == [4] * (len(codes) - 1) + [0]
    assert len(codes) > 1
    assert [int(each["key"]) for each in results(run)] == list(range(30))


@pytest.mark.req("S9-R14")
def test_the_heartbeat_goes_on_while_a_row_takes_long(tmp_path: Path) -> None:
    folder, run = a_slice(tmp_path, [a_row(1, sleep_s=1.5)]), tmp_path / "run"
    child = subprocess.Popen(engine_argv("run", folder, "--run", run), stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: (run / "status.json").exists() and status_of(run).step == "row 1", what="the row at work")
        first = status_of(run).heartbeat_at
        wait_until(lambda: status_of(run).heartbeat_at > first, what="a later heartbeat")
        assert child.poll() is None
        assert status_of(run).state == "running"
    finally:
        child.wait(20)


@pytest.mark.req("S9-R36")
def test_a_session_of_another_machine_is_waited_for_and_then_taken_over(plain_slice: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert engine("run", plain_slice, "--run", run).returncode == 0
    path = run / "status.json"
    moved = {"state": "running", "host": "elsewhere", "heartbeat_s": 0.01}
    left = json.loads(path.read_text()) | moved | {"heartbeat_at": "2026-01-01T00:00:00+00:00"}
    path.write_text(json.dumps(left))
    began = time.monotonic()
    done = engine("run", plain_slice, "--run", run)
    assert done.returncode == 0, done.stderr
    assert "elsewhere" in done.stdout
    assert time.monotonic() - began >= SLACK_S
    path.write_text(json.dumps(left))
    done = engine("run", plain_slice, "--run", run, "--takeover")
    assert done.returncode == 0
    assert "may still work" not in done.stdout


def test_the_run_of_another_slice_is_left_alone(plain_slice: Path, slow_slice: Path, tmp_path: Path) -> None:
    assert engine("run", plain_slice, "--run", tmp_path / "run").returncode == 0
    before = (tmp_path / "run/status.json").read_bytes()
    done = engine("run", slow_slice, "--run", tmp_path / "run")
    assert done.returncode == 1
    assert "belongs to slice" in done.stderr
    assert (tmp_path / "run/status.json").read_bytes() == before


@pytest.mark.req("S9-R36")
def test_a_spool_that_was_garbled_has_its_rows_done_again(plain_slice: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert engine("run", plain_slice, "--run", run).returncode == 0
    path = run / "spool/shard-00001.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"\0" * len(lines[1]) + lines[2].replace(b"words", b"Words") + lines[3][:9])
    index = bundle.verify(str(plain_slice))
    assert check.check(str(plain_slice), index, LocalFiles(str(run)))["missing"] == 4
    assert engine("check", plain_slice, "--run", run).returncode == 1
    assert engine("run", plain_slice, "--run", run).returncode == 0
    assert [int(each["key"]) for each in results(run)] == list(range(23))
    assert engine("check", plain_slice, "--run", run).returncode == 0
