"""The GPU's memory runs out at five places of a training: each is told as what it is, and the ladder does what it may (S13).

A real `torch.OutOfMemoryError` is raised in the job's own process by the python of the test's host
(tests/training/host_python.py); executor, classifier, scope guard and ladder are as on a host. By default one place.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.training.bench import Bench, Run
from tests.training.conftest import IS_FULL

# Micro-batches of 4 x 32 tokens are too much, of 2 x 32 are not.
FITS = 100
PLACES: dict[str, dict[str, Any]] = {
    "backward": {"place": "backward", "step": 3, "tokens": FITS},
    "forward": {"place": "forward", "tokens": FITS},
    "optimizer step": {"place": "optimizer-step", "step": 4, "tokens": FITS},
    "evaluation": {"place": "evaluation", "tokens": FITS},
    "checkpoint": {"place": "save", "tokens": FITS},
}
EVALUATED = {"eval_strategy": "steps", "eval_steps": 3, "per_device_eval_batch_size": 4}
pytestmark = [pytest.mark.timeout(400), pytest.mark.req("S13-R30", "S13-R31")]
full = pytest.mark.skipif(not IS_FULL, reason="a long one: HEMMA_FULL=1 script/test-train")


def climbed(run: Run) -> list[dict[str, Any]]:
    """What the ladder changed, attempt by attempt; every failure was one of the GPU's memory."""
    told = run.events("analysis")
    assert {(each["category"], each["code"]) for each in told} == {("oom", "cuda-oom")}
    assert all("CUDA out of memory" in each["evidence"] for each in told)
    return [each["changes"] for each in told]


@pytest.mark.parametrize("place", list(PLACES) if IS_FULL else list(PLACES)[:1])
def test_smaller_micro_batch_with_the_same_effective_batch_is_next(bench: Bench, place: str) -> None:
    with bench.fault(**PLACES[place]):
        run = bench.run(until="healthy", arguments=EVALUATED)
    (changes,) = climbed(run)
    if place == "evaluation":  # what did not fit is the evaluation: the training's own batch stays
        assert changes == {"per_device_eval_batch_size": [4, 2]}
        return
    assert changes["per_device_train_batch_size"] == [4, 2]
    assert changes["gradient_accumulation_steps"] == [1, 2]
    # An evaluation amid the training is given no larger batch than the training: it may be what did not fit.
    assert changes["per_device_eval_batch_size"] == [4, 2]
    assert set(changes) == {"per_device_train_batch_size", "gradient_accumulation_steps", "per_device_eval_batch_size"}
    result = run.result()
    assert (result["effective_batch_size"], result["attempts"], result["step"]) == (4, 2, 8)
    assert [each["scope"] for each in run.events("edit")] == [True]
    # The gates are asked again for the new settings: what was proven for the old ones is proven for these.
    first, second = run.events("submit")
    assert first["hashes"]["config"] != second["hashes"]["config"]
    proven = [each for each in run.events("stage") if each["stage"] == "gpu-preflight"]
    assert [each["hashes"]["config"] for each in proven] == [first["hashes"]["config"], second["hashes"]["config"]]
    assert [each["outcome"] for each in run.events("job-ended")] == ["failed", "completed"]
    # Smoke, preflight and job, and all three again for the new settings.
    assert len(run.events("reserve")) == len(run.events("settle")) == 6


@full
@pytest.mark.req("S13-R32", "S13-R53")
def test_memory_that_is_never_enough_ends_after_the_last_rung_which_is_analysed_too(bench: Bench) -> None:
    with bench.fault(place="model-load"):
        run = bench.run(code=75, until="healthy", attempts=4)
    rungs = climbed(run)
    assert [sorted(each) for each in rungs[:3]] == [
        ["gradient_accumulation_steps", "per_device_train_batch_size"],
        ["gradient_accumulation_steps", "per_device_train_batch_size"],
        ["gradient_checkpointing"],
    ]
    assert [each["per_device_train_batch_size"] for each in rungs[:2]] == [[4, 2], [2, 1]]
    assert len(rungs) == len(run.events("submit")) == 4
    assert run.stop()["reason"] == "full_job_retries_exhausted"
    said = run.job()["arguments"]
    assert said["per_device_train_batch_size"] * said["gradient_accumulation_steps"] == 4
    assert said["gradient_checkpointing"] is True
    assert sum(each["attempt"].startswith("full_job-") for each in run.events("settle")) == 4


@full
def test_attempts_are_bounded_and_the_last_failure_is_analysed(bench: Bench) -> None:
    with bench.fault(place="backward"):
        run = bench.run(code=1, until="healthy", attempts=2)
    assert len(climbed(run)) == len(run.events("submit")) == 2
    assert "after 2 attempts" in run.stop()["message"]
