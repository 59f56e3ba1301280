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


@pytest.mark.req("S13-R15")
@pytest.mark.parametrize(("category", "code"), [("quota_flavor_unavailable", "rate-limited"), ("unknown", "network")])
def test_what_passes_is_waited_for_longer_each_time_and_then_asked(category: str, code: str) -> None:
    tried: list[dict[str, Any]] = []
    waits: list[float] = []
    while isinstance(found := correct(category, code, Situation("sft", BASE, tried=tried)), Correction):
        assert found.arguments == BASE
        waits.append(found.wait_s)
        tried.append(dict(found.changes))
    assert waits == [20.0, 90.0, 300.0]
    assert isinstance(found, NoCorrection)


@pytest.mark.req("S13-R17")
def test_a_time_limit_is_doubled_within_the_caps_and_nothing_shrinks() -> None:
    def now(limit: float, highest: float | None) -> Situation:
        return Situation("sft", BASE, timeout_s=limit, highest_timeout_s=highest)

    found = [
        correct("timeout", "time-limit", now(*each)) for each in ((600, 5000), (600, 900), (600, 600), (600, None))
    ]
    assert [each.timeout_s if isinstance(each, Correction) else each.reason for each in found] == [
        1200.0,
        900.0,
        "timeout",
        "unrecoverable",
    ]
    assert all(each.arguments == BASE for each in found if isinstance(each, Correction))


@pytest.mark.req("S13-R19")
def test_what_hung_is_tried_once_more_and_then_asked() -> None:
    first = correct("hang_no_progress", "stuck", Situation("sft", BASE))
    assert isinstance(first, Correction)
    assert isinstance(correct("hang_no_progress", "stuck", Situation("sft", BASE, tried=[first.changes])), NoCorrection)


@pytest.mark.req("S13-R10")
def test_an_evaluation_that_does_not_fit_takes_a_smaller_batch_of_its_own() -> None:
    said = {**BASE, "per_device_eval_batch_size": 4}
    found = correct("oom", "cuda-oom", Situation("sft", said, (OOM,), is_in_evaluation=True))
    assert isinstance(found, Correction)
    assert found.changes == {"per_device_eval_batch_size": (4, 2)}
    assert effective(found.arguments) == 16
    one = Situation("sft", {**BASE, "per_device_eval_batch_size": 1}, (OOM,), is_in_evaluation=True)
    assert isinstance(correct("oom", "cuda-oom", one), NoCorrection)
