"""Goes through the stages on the host: asks the gate, runs the stage, keeps its evidence; stops at the first that says no.

It owns the run directory, and every decision in it is made from recorded evidence (S7-R18, S8-R06, S15-R16). The
supervisor of `hemma run` owns this process.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from lanes.gates import STAGES, evaluate
from lanes.redaction import redact, secret_values
from manifests.errors import HemmaError
from manifests.evidence import Stage
from training import resumption
from training.children import hand_down
from training.course import REUSABLE, Course, Found, Stop, earlier_runs
from training.errors import NoRoom
from training.events import free_bytes, keep_reserve
from training.ledger import Ledger
from training.stages import intake, launch, results, trials

# Logs, evidence and small results of a run; checkpoints are looked at by themselves.
NEEDED_BYTES = 16 << 20
EXIT_STOPPED = 1
EXIT_NEEDS_PERSON = 75
EXIT_NOT_CONFORMING = 3
WORK: dict[Stage, Callable[[Course], Found]] = {
    "intake": intake.intake,
    "resources": intake.resources,
    "data-audit": trials.data_audit,
    "cpu-smoke": trials.cpu_smoke,
    "gpu-preflight": trials.gpu_preflight,
    "readiness": launch.readiness,
    "job": launch.job,
    "healthy": launch.healthy,
    "alerts": launch.alerts,
    "evaluate": results.evaluate,
    "persist": results.persist,
    "commit": results.commit,
    "conformance": results.conformance,
}
# The word that a failed stage stops with, where the stage itself has not said one (S8-R22).
STOP_WORDS: dict[Stage, str] = {
    "intake": "resource_unavailable",
    "resources": "resource_unavailable",
    "data-audit": "dataset_format_incompatible",
    "cpu-smoke": "cpu_smoke_failed",
    "gpu-preflight": "gpu_preflight_failed",
    "readiness": "preflight_checklist_unsatisfied",
    "healthy": "full_job_not_healthy",
    "alerts": "full_job_alerts",
    "conformance": "not_conforming",
}


def execute(job: dict[str, Any], root: Path, folder: Path, payload_digest: str) -> int:
    """Run the request up to its last stage, or up to `job["until"]`; returns the exit code.

    0 done and conforming, 1 stopped (the reason is in the last event), 3 done but not conforming, 75 a person must decide.
    """
    with _full_disk_told(folder):
        course = Course(job, root, folder, payload_digest)
        keep_reserve(folder)
    _stop_in_order(course)
    return _to_its_end(course)


def _to_its_end(course: Course) -> int:
    try:
        with _full_disk_told(course.folder), _only_one(course):
            return _through(course)
    except Stop as stop:
        _tell(course, stop)
        return EXIT_NEEDS_PERSON if stop.needs_person else EXIT_STOPPED
    except HemmaError as error:
        # The event log has bytes put aside for these words; what else does not fit a full disk is not worth more.
        with contextlib.suppress(HemmaError, OSError):
            _tell(course, Stop(error.code.replace("-", "_"), error.message, error.remedy))
        raise


def _tell(course: Course, stop: Stop) -> None:
    secrets = secret_values(os.environ)
    message, remedy = (redact(text, secrets).text for text in (stop.message, stop.remedy))
    said = {"reason": stop.reason, "message": message, "remedy": remedy}
    course.event("stopped", **said)
    course.write_index(stopped=said)


@contextlib.contextmanager
def _full_disk_told(folder: Path) -> Generator[None]:
    """A full disk as the error that names the bytes; whoever follows the run reads it, and no traceback."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        what, free = "what the run must keep", free_bytes(folder)
        raise NoRoom(what, str(folder), needed_bytes=NEEDED_BYTES, free_bytes=free) from error


def _through(course: Course) -> int:
    until = course.job.get("until") or STAGES[-1]
    where = {"host": os.uname().nodename, "commit": _head(course.root), "accepts": list(course.accepts)}
    course.event("started", name=course.job["name"], until=until, run_id=course.run_id, **where)
    earlier = earlier_runs(course.job, course.folder)
    resumption.settle(course)
    lost = Ledger.of(course).settle_lost(course.folder.parent.parent, course.run_id)
    if lost:
        course.event("ledger-settled", attempts=lost)
    course.prove_again = lambda: _prove_again(course)
    for stage in STAGES:
        if not _taken_over(course, stage, earlier):
            found = _run(course, stage)
            if found.outcome == "failed" and stage == "conformance":
                return _not_conforming(course, found)
        if stage == until:
            break
    course.event("finished", until=until)
    course.write_index(finished=until)
    return 0


def _head(root: Path) -> str:
    """The commit that the clone is at; empty where there is none."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _taken_over(course: Course, stage: Stage, earlier: Sequence[Path]) -> bool:
    """Whether the stage is proven by an earlier run. The job itself is taken only from the run that is resumed."""
    if stage in REUSABLE:
        return course.take_over(stage, earlier)
    if stage != "job" or course.resumed is None:
        return False
    is_open = evaluate(stage, course.evidence, course.hashes(), accepts=course.accepts).allowed
    return is_open and resumption.take_over_job(course)


def _run(course: Course, stage: Stage) -> Found:
    """One stage behind its gate; raises Stop when the gate is closed or the stage found something that ends the run."""
    if course.is_stopping:
        raise Stop("stopped", f"stopped before {stage}", f"hemma train --resume {course.run_id} MANIFEST")
    course.demand_untouched()
    verdict = evaluate(stage, course.evidence, course.hashes(), accepts=course.accepts)
    if not verdict.allowed and course.was_corrected:
        _prove_again(course, stage)
        verdict = evaluate(stage, course.evidence, course.hashes(), accepts=course.accepts)
    if not verdict.allowed:
        fact = "; ".join(reason.fact for reason in verdict.reasons)
        raise Stop("gate_closed", f"the gate of {stage} is closed: {fact}", "; ".join(verdict.next_steps))
    course.event("begin", stage=stage)
    found = WORK[stage](course)
    course.record(stage, found)
    if found.outcome in ("failed", "not-checked") and stage != "conformance":
        said = "; ".join(f"{each.name}: {each.fact}" for each in found.checks if not each.held)
        raise Stop(STOP_WORDS.get(stage, f"{stage}_failed"), said, f"hemma gates {course.run_id}", needs_person=True)
    return found


def _prove_again(course: Course, before: Stage = "job") -> None:
    """After a correction of the config: every stage before this one whose evidence saw the old one, once more."""
    for stage in STAGES[: STAGES.index(before)]:
        if not course.is_proven(stage):
            course.record(stage, WORK[stage](course))


def _not_conforming(course: Course, found: Found) -> int:
    _tell(course, Stop("not_conforming", "; ".join(found.facts["missing"]), f"hemma gates {course.run_id}"))
    return EXIT_NOT_CONFORMING


class _only_one:  # noqa: N801 - read as a word after `with`
    """One run of a request at a time (S8-R11): a lock beside the run folders that goes with us and our children."""

    def __init__(self, course: Course) -> None:
        self._course = course
        self._path = course.state_folder / "training"
        self._handle = -1

    def __enter__(self) -> None:
        self._path.mkdir(mode=0o700, exist_ok=True)
        name = f"{self._course.job['name']}.lock"
        self._handle = os.open(self._path / name, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = os.pread(self._handle, 200, 0).decode(errors="replace").strip() or "another run"
            raise Stop(
                "already_running",
                f"{other} trains {self._course.job['name']} right now; one job at a time",
                f"hemma watch {other}   (end it: hemma stop {other})",
                needs_person=True,
            ) from None
        # A child that outlives us (we were killed, it still writes its checkpoint) keeps the lock until it is gone.
        hand_down(self._handle)
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, self._course.run_id.encode(), 0)

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)


def _stop_in_order(course: Course) -> None:
    """SIGTERM, SIGHUP and SIGINT: the child makes a checkpoint and ends, then so do we (S9-R22)."""

    def stop(_number: int, _frame: object) -> None:
        course.is_stopping = True

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
