"""Between two attempts: waited, given more time, or tried once more, each on record, and within its bounds (S13-R04, S13-R15..R19)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lanes import corrections
from training.children import ChildEnd
from training.course import Course, Stop
from training.stages.attempts import attempt

NETWORK = """Traceback (most recent call last):
  File "train.py", line 3, in <module>
requests.exceptions.ConnectionError: HTTPSConnectionPool(host='huggingface.co', port=443): Max retries exceeded with url: /api
"""
EVALUATION = """Traceback (most recent call last):
  File "trainer.py", line 2210, in evaluate
    output = eval_loop(
  File "trainer.py", line 2400, in evaluation_loop
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 15.00 GiB
"""


def end(tail: str = "", *, is_timed_out: bool = False) -> ChildEnd:
    """How an attempt ended: well, or with this end of its log."""
    is_ok = not tail and not is_timed_out
    return ChildEnd(0 if is_ok else 1, None, is_timed_out, 0, 1.0, {"step": 1} if is_ok else None, tail, "logs/job.log")


@pytest.fixture
def course(tmp_path: Path) -> Course:
    """A run of a small request."""
    folder = tmp_path / "runs/run-1/training"
    folder.mkdir(parents=True)
    resources = {"gpu": "none", "timeout_s": 600.0, "cost_per_hour": 3600.0, "max_cost": 1000.0, "max_gpu_hours": 1.0}
    arguments = {"per_device_train_batch_size": 8, "per_device_eval_batch_size": 8}
    job: dict[str, Any] = {
        "name": "x",
        "run_id": "run-1",
        "method": "sft",
        "arguments": arguments,
        "resources": resources,
    }
    job |= {"dataset": {"source": "d.jsonl"}, "model": {"id": "me/it"}}
    course = Course(job, tmp_path, folder, "0" * 64)
    course.survey = {"findings": [], "gpus": [], "versions": {"trl": "1.16.0"}}
    return course


def ends(*each: ChildEnd) -> Iterator[ChildEnd]:
    return iter(each)


def analyses(course: Course) -> list[dict[str, Any]]:
    return [each["data"] for each in course.events.read() if each["kind"] == "analysis"]


def test_a_network_that_is_away_is_waited_for(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corrections, "WAITS_S", (0.01, 0.02, 0.03))
    tries = ends(end(NETWORK), end(NETWORK), end())
    assert attempt(course, "full_job", lambda _: next(tries), most=3)[1] == 3
    waited = [each["data"]["seconds"] for each in course.events.read() if each["kind"] == "wait"]
    assert waited == [0.01, 0.02]
    assert [(each["scopeChange"], each["unrecoverable"]) for each in analyses(course)] == [(False, False)] * 2


def test_a_time_limit_is_raised_as_far_as_the_caps_go(course: Course) -> None:
    asked = dict(course.job["arguments"])
    late = "killed: the time limit was reached"
    tries = ends(end(late, is_timed_out=True), end(late, is_timed_out=True), end(late, is_timed_out=True))
    with pytest.raises(Stop) as caught:
        attempt(course, "full_job", lambda _: next(tries), most=8)
    # One unit of money a second: 600 s, then the 1,000 that the cap holds, then a person.
    assert [each["changes"] for each in analyses(course)] == [{"resources.timeout": [600.0, 1000.0]}, {}]
    assert (caught.value.reason, caught.value.needs_person) == ("full_job_timeout", True)
    assert course.job["arguments"] == asked


def test_a_trial_that_is_too_slow_is_for_a_person(course: Course) -> None:
    with pytest.raises(Stop) as caught:
        attempt(course, "gpu_preflight", lambda _: end("x", is_timed_out=True), most=3)
    assert caught.value.needs_person
    assert course.job["resources"]["timeout_s"] == 600.0


def test_an_evaluation_without_room_changes_only_its_own_batch(course: Course) -> None:
    tries = ends(end(EVALUATION), end())
    attempt(course, "full_job", lambda _: next(tries), most=3)
    assert course.job["arguments"] == {"per_device_train_batch_size": 8, "per_device_eval_batch_size": 4}
    assert analyses(course)[0]["effectiveBatchPreserved"] is True


def test_the_executor_starts_without_the_training_libraries() -> None:
    code = "import sys, training.executor; print(sorted({'torch', 'numpy', 'transformers', 'trl', 'datasets'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
