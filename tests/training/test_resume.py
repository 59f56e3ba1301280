"""A training that was killed, however often and wherever, ends bit by bit as one that was not (S11-R14, F1)."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.training import runs
from tests.training.conftest import IS_FULL

# 200 runs over the methods with up to five kills each; a few by default.
RUNS_PER_METHOD = 34 if IS_FULL else 1
MOST_KILLS = 5 if IS_FULL else 3
pytestmark = [pytest.mark.timeout(7200 if IS_FULL else 180), pytest.mark.req("S11-R14")]

# What makes a resume hard: state between steps, orders of a later epoch, sums between logs, evaluations that draw numbers.
HARD = {
    "sft": {"logging_steps": 3, "save_steps": 2, "eval_strategy": "steps", "eval_steps": 3, "max_steps": 10},
    "grpo": {"num_iterations": 2, "save_steps": 1, "max_steps": 7, "eval_strategy": "steps", "eval_steps": 2},
}


@pytest.fixture(scope="module")
def context() -> Iterator[Any]:
    """The process that forks trainings."""
    return runs.nursery()


def test_every_method_is_covered() -> None:
    assert set(runs.METHODS) == {"sft", "sft-lora", "dpo", "grpo", "reward", "causal-lm"}


@pytest.mark.parametrize("method", runs.METHODS)
def test_killed_training_ends_bit_by_bit_as_one_that_was_not(context: Any, tmp_path: Path, method: str) -> None:
    job = runs.prepare(tmp_path / "root", method)
    _compare(context, job, tmp_path, seed=runs.METHODS.index(method), count=RUNS_PER_METHOD)


@pytest.mark.parametrize("method", HARD)
def test_what_lives_between_steps_survives_a_kill(context: Any, tmp_path: Path, method: str) -> None:
    job = runs.prepare(tmp_path / "root", method, rows=6, arguments=HARD[method])
    _compare(context, job, tmp_path, seed=7, count=max(1, RUNS_PER_METHOD // 3))


def _compare(context: Any, job: dict[str, Any], folder: Path, *, seed: int, count: int) -> None:
    runs.finish(context, job, folder / "whole" / "run")
    wanted = runs.end_of(folder / "whole" / "run")
    # Timed once everything is loaded: kills are to fall into the training, not behind its end.
    begun = time.monotonic()
    runs.finish(context, job, folder / "again" / "run")
    whole_s = time.monotonic() - begun
    assert runs.end_of(folder / "again" / "run") == wanted
    chance = random.Random(seed)
    for number in range(count):
        run = folder / f"killed-{number}" / "run"
        kills = [runs.kill_after(context, job, run, delay) for delay in runs.delays(chance, MOST_KILLS, whole_s)]
        runs.finish(context, job, run)
        got = runs.end_of(run)
        assert got == wanted, f"run {number} of seed {seed}, kills {kills}"
