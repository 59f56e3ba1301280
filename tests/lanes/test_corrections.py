"""After a failure: the smallest change that keeps the request, or the reason why a person must make it."""

from __future__ import annotations

from typing import Any

import pytest

from lanes.approval import of_training
from lanes.corrections import Correction, NoCorrection, Situation, correct
from lanes.oom_ladder import Attempt

OOM = Attempt("cuda-oom")
BASE: dict[str, Any] = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2}


def effective(arguments: dict[str, Any]) -> int:
    return arguments["per_device_train_batch_size"] * arguments["gradient_accumulation_steps"]


@pytest.mark.req("S13-R31")
def test_gpu_memory_takes_a_smaller_batch_with_the_same_effective_one() -> None:
    found = correct("oom", "cuda-oom", Situation("sft", BASE, (OOM,)))
    assert isinstance(found, Correction)
    assert effective(found.arguments) == effective(BASE) == 16
    assert found.arguments["per_device_train_batch_size"] < 8
    assert found.rung == 1


@pytest.mark.req("S13-R10")
@pytest.mark.parametrize("code", ["host-ram-kill", "cgroup-kill"])
def test_host_memory_is_not_for_the_ladder(code: str) -> None:
    found = correct("oom", code, Situation("sft", BASE, (OOM,)))
    assert isinstance(found, NoCorrection)
    assert "host" in found.why


@pytest.mark.req("S13-R34")
def test_nothing_left_of_the_ladder_is_said() -> None:
    found = correct("oom", "cuda-oom", Situation("sft", {"per_device_train_batch_size": 1}, (Attempt("cuda-oom", 1),)))
    assert isinstance(found, NoCorrection)
    assert found.reason == "retries_exhausted"


@pytest.mark.req("S13-R46")
def test_a_renamed_argument_keeps_its_value() -> None:
    said = {"max_seq_length": 512, "seed": 1}
    found = correct("wrong_trainer_arg", "renamed", Situation("sft", said, renames={"max_seq_length": "max_length"}))
    assert isinstance(found, Correction)
    assert found.arguments == {"max_length": 512, "seed": 1}


def test_an_argument_nobody_knows_is_for_a_person() -> None:
    assert isinstance(correct("wrong_trainer_arg", "unknown", Situation("sft", {"no_such": 1})), NoCorrection)


@pytest.mark.req("S13-R20")
def test_divergence_takes_a_tenth_of_the_rate_once() -> None:
    found = correct("divergence_nan", "nan-loss", Situation("sft", {"learning_rate": 0.003}))
    assert isinstance(found, Correction)
    assert found.arguments["learning_rate"] == pytest.approx(0.0003)
    assert set(found.changes) == {"learning_rate"}


@pytest.mark.req("S13-R02")
def test_a_change_that_was_tried_is_not_tried_again() -> None:
    situation = Situation("sft", {"learning_rate": 0.003}, tried=({"learning_rate": (0.003, 0.0003)},))
    assert isinstance(correct("divergence_nan", "nan-loss", situation), NoCorrection)


@pytest.mark.req("S13-R17")
@pytest.mark.parametrize(
    "category", ["timeout", "dataset_schema_mismatch", "auth_token", "unknown", "hang_no_progress"]
)
def test_everything_else_is_for_a_person(category: str) -> None:
    found = correct(category, "x", Situation("sft", BASE))
    assert isinstance(found, NoCorrection)
    assert found.remedy


def resources(**changes: object) -> dict[str, Any]:
    said = {"gpu": "optional", "timeout_s": 3600.0, "cost_per_hour": 0.0, "max_cost": 0.0, "max_gpu_hours": 1.0}
    return {"resources": {**said, **changes}}


@pytest.mark.req("S8-R12")
def test_free_work_needs_no_yes() -> None:
    assert of_training(resources(), is_approved=False).allowed


@pytest.mark.req("S8-R19")
@pytest.mark.parametrize("changes", [{"cost_per_hour": None}, {"cost_per_hour": 2.5}, {"gpu": "required"}])
def test_money_gpu_time_and_the_unknown_need_one(changes: dict[str, object]) -> None:
    refused = of_training(resources(**changes), is_approved=False)
    assert not refused.allowed
    assert refused.next_steps
    assert of_training(resources(**changes), is_approved=True).allowed


@pytest.mark.req("S8-R13")
def test_a_schedule_needs_a_human_whatever_was_said_before() -> None:
    assert not of_training({**resources(), "schedule": "weekly"}, is_approved=True).allowed
