"""Series with something wrong raise their alert, once, with numbers; series with nothing wrong raise none."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes.alert_rules import CAUSES, Alert, Limits
from lanes.alerts import Watch

NAN, INF = math.nan, math.inf
Lines = Iterable[dict[str, Any]]


def told(lines: Lines, limits: Limits | None = None, method: str = "sft") -> list[Alert]:
    watch = Watch(limits, method=method)
    return [alert for step, line in enumerate(lines, 1) for alert in watch.observe(step, line, float(step))]


def codes(lines: Lines, limits: Limits | None = None, method: str = "sft") -> list[str]:
    return [alert.code for alert in told(lines, limits, method)]


def falling(count: int = 200, seed: int = 0) -> list[dict[str, Any]]:
    """A loss as real ones fall: fast, then slowly, with noise of a few percent; the gradient's norm beside it."""
    chance = random.Random(seed)
    return [
        {
            "loss": 1.5 + 2.5 * math.exp(-step / 60) + chance.gauss(0, 0.08),
            "grad_norm": 1.0 + abs(chance.gauss(0, 0.5)),
            "learning_rate": 2e-5,
        }
        for step in range(count)
    ]


@pytest.mark.parametrize("seed", range(40))
def test_a_healthy_run_raises_nothing(seed: int) -> None:
    assert codes(falling(seed=seed)) == []


@pytest.mark.req("S12-R02", "S11-R22")
@pytest.mark.parametrize("value", [NAN, INF, -INF, "NaN", "-Infinity"])
@pytest.mark.parametrize("metric", ["loss", "grad_norm", "eval_loss", "train/loss", "eval/loss", "kl", "reward"])
def test_what_is_not_finite_is_an_error_at_its_own_step_and_once(metric: str, value: object) -> None:
    lines = falling(30)
    lines += [{**line, metric: value} for line in falling(20)]
    alerts = told(lines)
    assert [(each.code, each.level, each.step) for each in alerts] == [("non-finite", "ERROR", 31)]
    assert alerts[0].justifies == ("learning_rate",)


def test_a_nan_that_comes_back_after_a_calm_time_is_told_again() -> None:
    bad = {"loss": NAN}
    assert codes([bad, *falling(9), bad]) == ["non-finite"]
    assert codes([bad, *falling(10), bad]) == ["non-finite", "non-finite"]


def test_a_spike_is_told_and_a_divergence_is_told_apart() -> None:
    spike = falling(60) + [{"loss": 9.0}] + falling(200)[60:]
    assert codes(spike) == ["loss-spike"]
    wild = falling(60) + [{"loss": 2.5 + 0.1 * step} for step in range(60)]
    found = codes(wild)
    assert "diverged" in found
    assert len(found) == len(set(found))


@pytest.mark.req("S12-R08")
def test_a_plateau_is_told_once() -> None:
    flat = [{"loss": 2.0 + 0.01 * (step % 3)} for step in range(600)]
    alerts = told(flat)
    assert [each.code for each in alerts] == ["plateau"]
    assert "learning_rate x 0.5" in alerts[0].action


@pytest.mark.req("S12-R08")
def test_evaluation_that_worsens_while_training_improves_is_overfitting() -> None:
    lines: list[dict[str, Any]] = []
    for number, line in enumerate(falling(200)):
        lines.append(line)
        if number % 10 == 9:
            lines.append({"eval_loss": 2.0 - 0.02 * number / 10 if number < 100 else 1.8 + 0.05 * (number - 100) / 10})
    alerts = told(lines)
    assert [each.code for each in alerts] == ["overfitting"]
    assert alerts[0].justifies == ("weight_decay",)
    assert codes([{"eval_loss": 2.0 - 0.01 * n} for n in range(50)]) == []


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ({"loss": 0.0, "grad_norm": 1.0}, "zero-loss"),
        ({"loss": 1.0, "grad_norm": 0.0}, "zero-gradient"),
        ({"reward_std": 0.0}, "low-reward-variance"),
        ({"frac_reward_zero_std": 1.0}, "low-reward-variance"),
        ({"kl": 50.0}, "kl-spike"),
        ({"completions/clipped_ratio": 0.99}, "completions-clipped"),
        ({"gpu_utilization": 3.0}, "gpu-idle"),
        ({"gpu_memory_share": 0.99}, "gpu-memory-near-limit"),
    ],
)
@pytest.mark.req("S12-R02")
def test_a_state_that_goes_on_is_told_once(line: dict[str, Any], code: str) -> None:
    assert codes([line] * 60) == [code]


def test_the_loss_of_a_policy_gradient_says_nothing() -> None:
    lines = [{"loss": 0.0, "reward": 1.0, "grad_norm": 0.3}] * 60
    assert codes(lines, method="grpo") == []
    assert codes([{"loss": 0.001 * (-1) ** n, "grad_norm": 0.3} for n in range(300)], method="grpo") == []
    assert codes([{"loss": NAN}], method="grpo") == ["non-finite"]


def test_a_reward_that_collapses() -> None:
    lines = [{"reward": 0.8 + 0.01 * (n % 5)} for n in range(40)] + [{"reward": 0.1}] * 20
    assert codes(lines, method="grpo") == ["reward-collapse"]


def test_throughput_that_falls_by_half() -> None:
    assert codes([{"tokens_per_s": 1000.0}] * 40 + [{"tokens_per_s": 300.0}] * 20) == ["slow"]


def test_a_gradient_far_above_its_usual() -> None:
    found = codes(falling(50) + [{"loss": 2.0, "grad_norm": 90.0}] + falling(60)[50:])
    assert found == ["grad-norm-high"]


def test_a_target_is_reached_from_above_or_below() -> None:
    assert codes([{"eval_loss": 2.0}, {"eval_loss": 0.9}], Limits(target_metric="eval_loss", target=1.0)) == [
        "target-reached"
    ]
    assert codes([{"accuracy": 0.5}, {"accuracy": 0.9}], Limits(target_metric="accuracy", target=0.8)) == [
        "target-reached"
    ]


@pytest.mark.req("S12-R02")
def test_no_step_for_long_is_told_once_and_again_after_it_moved() -> None:
    watch = Watch(Limits(stall_floor_s=100, first_step_s=500))
    assert watch.tick(0.0) == []
    assert watch.tick(499.0) == []
    assert [each.code for each in watch.tick(501.0)] == ["stalled"]
    assert watch.tick(600.0) == []
    watch.observe(1, {"loss": 2.0}, 610.0)
    watch.observe(2, {"loss": 2.0}, 640.0)
    assert watch.tick(900.0) == [], "ten times the usual 30 s is 300 s"
    alert = watch.tick(950.0)[0]
    assert (alert.step, alert.value, alert.threshold) == (2, 310.0, 300.0)


@pytest.mark.req("S12-R03", "S12-R04")
def test_every_alert_has_numbers_that_a_program_reads_and_an_action() -> None:
    alert = told([{"loss": NAN}])[0]
    words = dict(re.findall(r"(\w+)=(\S+)", alert.text))
    assert (words["step"], words["metric"], words["value"]) == ("1", "loss", "nan")
    assert alert.action in alert.text
    assert set(alert.as_dict()) >= {"code", "level", "step", "title", "text", "value", "threshold", "action"}
    noted = Watch().note("checkpoint", 100, "bytes", 5e6)
    assert (noted.level, noted.step) == ("INFO", 100)
    assert {cause.level for cause in CAUSES.values()} == {"ERROR", "WARN", "INFO"}
    assert all(cause.action and cause.title for cause in CAUSES.values())


@pytest.mark.req("S12-R14")
@given(st.integers(0, 150), st.sampled_from(["nan", "spike", "zero"]))
def test_a_watch_that_was_resumed_tells_what_one_without_a_break_tells(cut: int, kind: str) -> None:
    bad = {"nan": {"loss": NAN}, "spike": {"loss": 50.0}, "zero": {"grad_norm": 0.0}}[kind]
    lines = falling(60) + [bad] * 30 + falling(60)
    whole = [each.code for each in told(lines)]
    first = Watch()
    before = [a.code for n, line in enumerate(lines[:cut], 1) for a in first.observe(n, line, float(n))]
    second = Watch.resumed(json.loads(json.dumps(first.state())))
    after = [a.code for n, line in enumerate(lines[cut:], cut + 1) for a in second.observe(n, line, float(n))]
    assert before + after == whole


VALUES = st.one_of(
    st.floats(), st.integers(-(10**400), 10**400), st.booleans(), st.none(), st.text(max_size=5), st.lists(st.none())
)
NAMES = st.sampled_from(["loss", "eval_loss", "grad_norm", "reward", "kl", "tokens_per_s", "x", "train/loss", ""])


@given(st.lists(st.dictionaries(NAMES, VALUES, max_size=4), max_size=60), st.sampled_from(["sft", "grpo"]))
def test_no_line_of_metrics_breaks_the_watch(lines: list[dict[str, Any]], method: str) -> None:
    limits = replace(Limits(), warm_up=4, plateau_observations=10)
    for alert in told(lines, limits, method):
        assert alert.code in CAUSES
        json.dumps(alert.as_dict())


def test_the_smoothed_value_of_a_metric_is_there_once_it_was_seen() -> None:
    watch = Watch()
    assert watch.smoothed("loss") is None
    watch.observe(1, {"loss": 2.0}, 0.0)
    watch.observe(1, {"loss": 2.0}, 1.0)
    assert watch.smoothed("loss") == 2.0


def test_a_loss_that_leaps_is_seen_at_the_second_line() -> None:
    [alert] = told([{"loss": 5.98}, {"loss": 50_834.0}])
    assert (alert.code, alert.level, alert.step, alert.value) == ("diverged", "ERROR", 2, 50_834.0)
    assert "first=5.98" in alert.text
    # Once, and after a resume from the first line too.
    watch = Watch()
    assert watch.observe(1, {"loss": 5.98}, 1.0) == []
    again = Watch.resumed(json.loads(json.dumps(watch.state())))
    assert [each.code for each in again.observe(2, {"loss": 50_834.0}, 2.0)] == ["diverged"]
    assert again.observe(3, {"loss": 60_000.0}, 3.0) == []


@pytest.mark.parametrize(
    "losses", [[0.02, 0.9, 3.0], [11.9, 12.4, 11.0], [0.69, 4.0, 0.5], [2.0, 9.0, 2.5], [-30.0, -18.0], [120.0, 240.0]]
)
def test_batches_that_differ_are_no_divergence(losses: list[float]) -> None:
    assert "diverged" not in codes([{"loss": loss} for loss in losses])
