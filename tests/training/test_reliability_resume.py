"""`--resume RUN` from end to end: the executor and its children as on a host, killed, timed out, stopped at a gate (S11, S21).

Children are forked from a nursery (tests/training/host_python.py) but where a process is what is tested. HEMMA_FULL=1 runs
every way of ending and every kind of damage; the default is one run that meets three of them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lanes.gates import STAGES
from tests.training import runs
from tests.training.bench import CANARIES, Bench, Run, wait
from tests.training.conftest import IS_FULL
from tests.training.test_checkpoints import DAMAGES
from training.course import Course, Found, check

REUSED = ["data-audit", "cpu-smoke", "gpu-preflight"]
full = pytest.mark.skipif(not IS_FULL, reason="a long one: HEMMA_FULL=1 script/test-train")
pytestmark = [pytest.mark.timeout(400), pytest.mark.req("S11-R14")]


@pytest.fixture(scope="module")
def whole(bench: Bench) -> dict[str, Any]:
    """How a training ends that nothing happened to."""
    return {"run": (run := bench.run(until="healthy")), "end": runs.end_of(run.folder)}


def killed(bench: Bench, step: int = 5) -> Run:
    """A run whose job was killed amid a step, with checkpoints 2 and 4."""
    with bench.fault(place="pause", step=step):
        run = bench.start()
        wait(lambda: run.steps_kept() == [2, 4] and run.progress().get("pid"))
        os.kill(run.progress()["pid"], signal.SIGKILL)
        assert run.wait().code == 75
    assert run.events("job-ended")[0]["signal"] == signal.SIGKILL
    assert "SIGKILL" in run.stop()["message"]
    return run


@pytest.mark.req("S21-R05", "S8-R15")
def test_killed_job_goes_on_and_a_gate_that_failed_after_it_costs_no_second_one(
    bench: Bench, whole: dict[str, Any]
) -> None:
    first = whole["run"].run_id
    broken = killed(bench)
    # Git is in use when it comes to the commit: the run stops behind its job.
    lock = bench.root / ".git/index.lock"
    lock.touch()
    again = bench.run(code=1, resume=broken.run_id)
    assert again.stop()["reason"] == "commit_failed"
    assert {stage: again.stages()[stage] for stage in REUSED} == dict.fromkeys(REUSED, first)
    assert [each["step"] for each in again.events("resume")] == [4]
    assert again.result()["resumed_from"] == 4
    assert again.events("first-metric")[0]["step"] == 5
    assert runs.end_of(again.folder) == whole["end"]
    lock.unlink()
    spent = _reservations(bench)
    last = bench.run(resume=again.run_id)
    assert last.stages() == dict.fromkeys(STAGES, last.run_id) | dict.fromkeys(REUSED, first) | {"job": again.run_id}
    assert _reservations(bench) == spent
    assert not list((last.folder / "logs").glob("job*"))
    assert _model(last) == _model(whole["run"])
    assert last.events("persisted")[0]["sha256"] == last.events("evaluated")[0]["artifact_sha256"]
    assert bench.leaks() == []


def _reservations(bench: Bench) -> int:
    lines = (bench.state / "ledger.jsonl").read_text().splitlines()
    said = [json.loads(line) for line in lines]
    return sum(each["kind"] == "reserve" and "/full_job-" in each["attempt"] for each in said)


def _model(run: Run) -> bytes:
    return (run.folder / "artifacts/model/model.safetensors").read_bytes()


def test_last_stage_that_is_proven_already_is_still_the_last(bench: Bench, whole: dict[str, Any]) -> None:
    run = bench.run(until="data-audit")
    assert list(run.stages()) == ["intake", "resources", "data-audit"]
    assert run.stages()["data-audit"] == whole["run"].run_id
    unknown = bench.run(code=75, resume="20200101-000000-0000")
    assert unknown.stop()["reason"] == "resume_unknown"
    assert list(unknown.stages()) == []


def test_going_on_under_other_arguments_is_refused_or_accepted_and_said(bench: Bench, whole: dict[str, Any]) -> None:
    first = whole["run"].run_id
    longer = {"max_steps": 12, "logging_steps": 2}
    refused = bench.run(code=75, resume=first, arguments=longer)
    assert refused.stop()["reason"] == "resume_changed"
    assert "max_steps: 8 -> 12" in refused.stop()["message"]
    assert "logging_steps" not in refused.stop()["message"]
    assert list(refused.stages()) == []
    reasons = {"no-gpu": "small", "resume-changed": "four more steps, on purpose"}
    taken = bench.run(resume=first, arguments=longer, accept=reasons, until="intake")
    assert taken.events("resume-changed")[0]["changes"] == {"max_steps": [8, 12]}


@pytest.mark.req("S20-R03")
def test_secrets_that_a_traceback_shows_are_in_no_file(bench: Bench, whole: dict[str, Any]) -> None:
    assert whole["end"]
    with bench.fault(place="leak"):
        run = bench.run(code=75)
    log = (run.folder / "logs/job.log").read_text()
    assert "RuntimeError: cannot reach https://me:[redacted" in log
    assert "settings: {" in log
    assert bench.leaks() == []
    canary = run.folder / "a file"
    canary.write_text(f"x {CANARIES['MY_PASSWORD']} y")
    assert bench.leaks() == [str(canary)]
    canary.unlink()


@full
@pytest.mark.req("S11-R15")
@pytest.mark.parametrize("kind", [kind for kind in DAMAGES if "folder" not in kind])
def test_damaged_newest_checkpoint_is_told_and_the_one_before_is_used(
    bench: Bench, whole: dict[str, Any], kind: str
) -> None:
    broken = killed(bench)
    DAMAGES[kind](broken.folder / "checkpoints/checkpoint-4")
    again = bench.run(resume=broken.run_id, until="healthy")
    assert again.events("checkpoint-damaged")[0]["checkpoint"] == "checkpoint-4"
    assert again.result()["resumed_from"] == 2
    assert runs.end_of(again.folder) == whole["end"]


@full
@pytest.mark.req("S9-R22")
def test_time_limit_makes_a_checkpoint_and_the_rest_follows(bench: Bench) -> None:
    limit: dict[str, Any] = {"resources": {"gpu": "optional", "timeout": "40s"}, "attempts": 1}
    plain = bench.run(until="healthy", **limit)
    with bench.fault(place="pause", step=3, pause_s=9):
        late = bench.run(code=1, until="healthy", **limit)
    assert late.events("job-ended")[0]["is_timed_out"]
    assert late.events("analysis")[0]["code"] == "time-limit"
    kept = late.steps_kept()[-1]
    assert 3 <= kept < 8
    again = bench.run(resume=late.run_id, until="healthy", **limit)
    assert again.result()["resumed_from"] == kept
    assert runs.end_of(again.folder)["weights"] == runs.end_of(plain.folder)["weights"]


@full
def test_run_that_failed_before_its_first_checkpoint_is_resumed_from_the_beginning(
    bench: Bench, whole: dict[str, Any]
) -> None:
    with bench.fault(place="pause", step=1):
        run = bench.start()
        wait(lambda: run.progress().get("state") == "training")
        os.kill(run.progress()["pid"], signal.SIGKILL)
        run.wait()
    again = bench.run(resume=run.run_id, until="healthy")
    assert again.events("resume")[0]["checkpoint"] is None
    assert runs.end_of(again.folder) == whole["end"]


@full
def test_resume_of_a_resume_finds_the_checkpoint_of_the_first(bench: Bench, whole: dict[str, Any]) -> None:
    broken = killed(bench)
    with bench.fault(place="pause", step=1):
        second = bench.start(resume=broken.run_id)
        wait(lambda: second.progress().get("state") == "training")
        os.kill(second.progress()["pid"], signal.SIGKILL)
        second.wait()
    assert second.steps_kept() == []
    third = bench.run(resume=second.run_id, until="healthy")
    assert third.result()["resumed_from"] == 4
    assert runs.end_of(third.folder) == whole["end"]


@full
def test_columns_that_the_audit_mapped_are_mapped_in_every_later_run(bench: Bench) -> None:
    rows = [json.loads(line) for line in (bench.root / "data/text.jsonl").read_text().splitlines()]
    lines = [json.dumps({"question": each["text"][:20], "answer": each["text"][20:] or "x"}) for each in rows]
    (bench.root / "data/asked.jsonl").write_text("\n".join(lines))
    asked: dict[str, Any] = {
        "name": "asked",
        "dataset": {"source": "data/asked.jsonl", "eval_fraction": 0.1},
        "packing": "none",
    }
    first = bench.run(until="healthy", **asked)
    mapping = first.job()["dataset"]["mapping"]
    assert mapping
    second = bench.run(until="healthy", **asked)
    assert second.stages()["data-audit"] == first.run_id
    assert second.job()["dataset"]["mapping"] == mapping
    assert runs.end_of(second.folder) == runs.end_of(first.folder)


@full
@pytest.mark.req("S8-R11", "S9-R18")
def test_executor_that_was_killed_leaves_a_checkpoint_no_orphan_and_no_second_job(tmp_path: Path) -> None:
    # Children start as everywhere: whose child a process is, is what is tested.
    bench = Bench(tmp_path / "bench", is_plain=True)
    (tmp_path / "bench").mkdir()
    bench.prepare()
    try:
        with bench.fault(place="pause", step=3, pause_s=8):
            run = bench.start(until="healthy")
            wait(lambda: run.progress().get("step") == 2, 120)
            pid = run.progress()["pid"]
            run.process.kill()
            run.wait()
        second = bench.run(code=75, until="healthy")
        assert second.stop()["reason"] == "already_running"
        assert run.run_id in second.stop()["message"]
        wait(lambda: not Path(f"/proc/{pid}").exists())
        assert run.steps_kept()[-1] >= 3
        again = bench.run(resume=run.run_id, until="healthy")
        assert again.events("ledger-settled")[0]["attempts"] == [f"{run.run_id}/full_job-1"]
        assert again.result()["resumed_from"] == run.steps_kept()[-1]
    finally:
        bench.end()


# --- the same, piece by piece, without a training ---------------------------------------------------------------


FAMILY = """
import os, signal, sys, time
from pathlib import Path
from training import children
if sys.argv[1] == "parent":
    import fcntl
    handle = os.open(sys.argv[2] + "/lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    children.hand_down(handle)
    children.run_child(["child", sys.argv[2]], name="x", folder=Path(sys.argv[2]), cwd=Path("."), timeout_s=60)
else:
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(1))
    children.end_with_parent()
    Path(sys.argv[2], "born").write_text(str(os.getpid()))
    while not told:
        time.sleep(0.02)
    Path(sys.argv[2], "told").touch()
    while not Path(sys.argv[2], "enough").exists():
        time.sleep(0.02)
"""


@pytest.mark.req("S9-R18")
def test_child_hears_that_its_executor_is_gone_and_holds_the_lock_until_it_is_too(tmp_path: Path) -> None:
    import fcntl

    program = tmp_path / "family.py"
    where = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
    program.write_text(where + FAMILY)
    parent = subprocess.Popen([sys.executable, "-I", program, "parent", tmp_path])
    try:
        wait((tmp_path / "born").exists)
        parent.kill()
        parent.wait()
        wait((tmp_path / "told").exists)
        handle = os.open(tmp_path / "lock", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (tmp_path / "enough").touch()
        wait(lambda: _is_free(handle))
        os.close(handle)
    finally:
        parent.kill()
        (tmp_path / "enough").touch()


def _is_free(handle: int) -> bool:
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def test_mapping_is_taken_over_with_the_audit_that_found_it(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text("{}\n")
    job: dict[str, Any] = {"name": "x", "root": str(tmp_path), "dataset": {"source": "data.jsonl", "mapping": {}}}
    job["model"] = {"id": "me/it"}
    earlier = _course(job, tmp_path, "run-1")
    found = {"mapping": {"prompt": "question"}}
    earlier.event("started", run_id="run-1")
    evidence = earlier.record("data-audit", Found("passed", (check("rows fit", True, "1 row"),), found))
    later = _course(job, tmp_path, "run-2")
    assert later.take_over("data-audit", [earlier.folder])
    assert later.job["dataset"]["mapping"] == found["mapping"]
    assert later.hashes() == evidence.hashes


def _course(job: dict[str, Any], root: Path, run_id: str) -> Course:
    folder = root / "runs" / run_id / "training"
    folder.mkdir(parents=True)
    return Course({**job, "run_id": run_id}, root, folder, "0" * 64)
