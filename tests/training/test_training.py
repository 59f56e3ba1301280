"""A training told from outside: poison is told and never kept, a stop makes a checkpoint, a resume keeps what was changed (S11, S12)."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from tests.training import runs
from tests.training.support import cpu, datasets_of, make_job
from tests.training.test_events import needs_root, small_disk
from training import from_scratch, grpo, sft
from training.checkpoints import newest_valid, valid_checkpoints
from training.errors import NoRoom, NotFinite
from training.events import read, read_metrics
from training.monitor import Monitor
from training.work import _resume_from


@pytest.fixture(scope="module")
def context() -> Iterator[Any]:
    """The process that forks trainings."""
    return runs.nursery()


class Poison(TrainerCallback):
    """Puts a value that is no number into loss, gradient or a weight at one step."""

    def __init__(self, kind: str, step: int, value: float) -> None:
        self.kind, self.step, self.value = kind, step, value

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step + 1 == self.step and self.kind in ("loss", "gradient"):
            head = kwargs["model"].get_output_embeddings()
            if self.kind == "gradient":
                self.hook = head.weight.register_hook(lambda grad: grad.index_fill(0, torch.tensor([3]), self.value))
            else:
                layer = kwargs["model"].get_decoder().norm
                self.hook = layer.register_forward_hook(lambda _m, _i, output: output * self.value)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step and self.kind == "weight":
            with torch.no_grad():
                next(kwargs["model"].parameters())[5, 5] = self.value


def train(module: Any, job: dict[str, Any], folder: Path, *callbacks: Any) -> dict[str, Any]:
    """Train here, from the newest whole checkpoint, with more callbacks; logs are closed whatever happens."""
    monitor = Monitor(folder, method=job["method"])
    try:
        found = _resume_from(job, folder, monitor, None)
        trainer = module.build(job, folder, cpu(), datasets_of(job["method"]))
        for each in callbacks:
            trainer.add_callback(each)
        return module.train(trainer, job, monitor, folder, resume_from=found)
    finally:
        monitor.close("ended")


def alerts(folder: Path, level: str = "ERROR") -> list[dict[str, Any]]:
    """The alerts of a level."""
    return [each for each in read(folder / "alerts.jsonl") if each["level"] == level]


@pytest.mark.req("S11-R22")
@pytest.mark.parametrize("kind", ["loss", "gradient", "weight"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_poison_is_told_within_a_step_and_never_kept(tmp_path: Path, kind: str, value: float) -> None:
    step = random.Random(f"{kind}{value}").randint(3, 7)
    job = make_job(tmp_path / "root", "sft", arguments={"logging_steps": 5, "save_steps": 1})
    run = tmp_path / "run"
    with pytest.raises(NotFinite):
        train(sft, job, run, Poison(kind, step, value))
    told = alerts(run)
    assert told
    assert {each["code"] for each in told} == {"non-finite"}
    assert step <= told[0]["step"] <= step + 1
    kept = valid_checkpoints(run / "checkpoints")
    assert kept[0].step == step - 1
    for each in kept:
        assert all(bool(torch.isfinite(w).all()) for w in load_file(each.path / "model.safetensors").values())
    # The next attempt goes on from there and ends like any other.
    assert train(sft, job, run)["resumed_from"] == step - 1


@pytest.mark.req("S11-R22")
def test_poison_in_the_native_engine_is_told_before_the_update(tmp_path: Path) -> None:
    job = make_job(tmp_path / "root", "causal-lm", arguments={"save_steps": 1})
    run = tmp_path / "run"
    monitor = Monitor(run, method="causal-lm")
    trainer = from_scratch.build(job, run, cpu(), {"train": runs.ArraySource(1)})
    weight = next(trainer.model.parameters())
    source = trainer.train_data

    class Poisoned(runs.ArraySource):
        def batch(self, index: int) -> Any:
            if index == 9:
                with torch.no_grad():
                    weight[:] = float("nan")
            return source.batch(index)

    trainer.train_data = Poisoned(1)
    with pytest.raises(NotFinite):
        from_scratch.train(trainer, job, monitor, run)
    monitor.close("failed")
    found = newest_valid(run / "checkpoints")
    assert found is not None
    assert found.step == 4
    assert [each["step"] for each in alerts(run)] == [5]


def test_a_loss_that_diverged_ends_the_attempt(tmp_path: Path) -> None:
    rates = {
        "learning_rate": 30.0,
        "max_grad_norm": 1e9,
        "max_steps": 300,
        "lr_scheduler_type": "constant",
        "save_steps": 50,
    }
    job = make_job(tmp_path / "root", "sft", arguments=rates)
    with pytest.raises(Exception, match=r"diverged|not finite|is nan|is inf|zero"):
        train(sft, job, tmp_path / "run")
    assert alerts(tmp_path / "run")


@pytest.mark.parametrize("method", ["sft", "causal-lm"])
def test_no_row_of_the_series_stands_twice_after_a_kill_behind_the_last_checkpoint(tmp_path: Path, method: str) -> None:
    more = {"eval_strategy": "steps", "eval_steps": 2} if method == "sft" else {}
    job = runs.prepare(
        tmp_path / "root", method, arguments={"max_steps": 4, "save_steps": 2, "logging_steps": 1, **more}
    )
    counts: list[int] = []
    # As when it was killed while it wrote its result: the last checkpoint stands, and the job starts again.
    for _ in range(3):
        runs.train_here(job, tmp_path / "run")
        rows = read_metrics(tmp_path / "run/metrics.jsonl")
        kinds = [(row["step"], [name for name in ("eval_loss", "train_runtime") if name in row]) for row in rows]
        assert all(kinds.count(each) == 1 for each in kinds), kinds
        counts.append(sum("loss" in row for row in rows))
    assert counts == [4, 4, 4]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "stop file"])
@pytest.mark.parametrize("method", ["sft", "causal-lm"])
def test_stop_makes_a_checkpoint_and_the_rest_follows(context: Any, tmp_path: Path, method: str, how: str) -> None:
    job = runs.prepare(tmp_path / "root", method, arguments={"max_steps": 400, "save_steps": 1000})
    run = tmp_path / "run"
    process = runs.start(context, job, run)
    _wait(lambda: len(read_metrics(run / "metrics.jsonl")) > 3)
    if how == "stop file":
        (run / "stop").touch()
    else:
        os.kill(process.pid, getattr(signal, how))
    process.join(60)
    result = json.loads((run / "result.json").read_text())
    assert (result["status"], result["stop_reason"]) == ("stopped", how)
    found = newest_valid(run / "checkpoints")
    assert found is not None
    assert 3 < found.step == result["step"] < 400
    assert json.loads((run / "progress.json").read_text())["state"] == "stopped"
    (run / "stop").unlink(missing_ok=True)
    short = {**job, "arguments": {**job["arguments"], "max_steps": result["step"] + 2}}
    assert runs.finish(context, short, run)["resumed_from"] == result["step"]


def test_learning_rate_of_a_correction_is_not_undone_by_the_checkpoint(tmp_path: Path) -> None:
    arguments = {"max_steps": 10, "lr_scheduler_type": "constant", "learning_rate": 1e-3}
    job = make_job(tmp_path / "root", "sft", arguments=arguments)
    train(sft, {**job, "arguments": {**job["arguments"], "max_steps": 4}}, tmp_path / "run")
    slower = {**job, "arguments": {**job["arguments"], "learning_rate": 1e-4}}
    train(sft, slower, tmp_path / "run")
    rates = {row["step"]: row["learning_rate"] for row in read_metrics(tmp_path / "run/metrics.jsonl") if "loss" in row}
    assert {step: rate for step, rate in rates.items() if step in (4, 5, 10)} == {4: 1e-3, 5: 1e-4, 10: 1e-4}


def test_a_checkpoint_of_another_request_is_refused(tmp_path: Path) -> None:
    job = make_job(tmp_path / "root", "sft", arguments={"max_steps": 2})
    train(sft, job, tmp_path / "run")
    with pytest.raises(Exception, match="another request"):
        train(sft, {**job, "seed": 7}, tmp_path / "run")


def test_micro_batch_may_change_between_attempts(tmp_path: Path) -> None:
    job = make_job(tmp_path / "root", "sft", arguments={"max_steps": 6})
    train(sft, {**job, "arguments": {**job["arguments"], "max_steps": 4}}, tmp_path / "run")
    smaller = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
    result = train(sft, {**job, "arguments": {**job["arguments"], **smaller}}, tmp_path / "run")
    assert (result["resumed_from"], result["step"], result["effective_batch_size"]) == (4, 6, 4)


def test_stock_trainer_resumes_our_checkpoint(tmp_path: Path) -> None:
    job = make_job(tmp_path / "root", "sft", arguments={"max_steps": 6})
    train(sft, {**job, "arguments": {**job["arguments"], "max_steps": 4}}, tmp_path / "run")
    stock = sft.build(job, tmp_path / "run", cpu(), datasets_of("sft"), overrides={"save_strategy": "no"})
    stock.train(resume_from_checkpoint=str(tmp_path / "run/checkpoints/checkpoint-4"))
    train(sft, job, tmp_path / "run")
    ours = load_file(tmp_path / "run/artifacts/model/model.safetensors")
    theirs = stock.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.req("S11-R05")
def test_early_stop_keeps_the_best_model(tmp_path: Path) -> None:
    arguments = {
        "early_stopping_patience": 2, "eval_strategy": "steps", "eval_steps": 1, "save_steps": 1, "learning_rate": 0.5,
        "max_steps": 60, "max_grad_norm": 100.0,
    }  # fmt: skip
    job = make_job(tmp_path / "root", "sft", arguments=arguments)
    result = train(sft, job, tmp_path / "run")
    assert result["step"] < 60
    rows = read_metrics(tmp_path / "run/metrics.jsonl")
    losses = {row["step"]: row["eval_loss"] for row in rows if "eval_loss" in row}
    best = min(losses, key=lambda step: losses[step])
    assert result["best"]["step"] == best
    assert result["checkpoint"] == f"checkpoint-{best}"
    assert "early-stop" in {each["code"] for each in alerts(tmp_path / "run", "WARN")}


@pytest.mark.req("S11-R20")
def test_reward_function_of_the_repository_is_found_and_named_when_not(tmp_path: Path) -> None:
    job = make_job(tmp_path / "root", "grpo")
    assert grpo.reward_function(job)(completions=["x" * 50]) == [1.0]
    for wrong in ("tiny_rewards:none", "nothing_there:f", "tiny_rewards"):
        found = grpo.check({**job, "dataset": {**job["dataset"], "reward": wrong}})
        assert [each.name for each in found if each.severity == "error"] == ["dataset.reward"]


@needs_root
def test_full_disk_ends_the_attempt_with_the_bytes_it_needs(tmp_path: Path) -> None:
    job = make_job(tmp_path / "root", "sft", arguments={"save_steps": 2})
    with small_disk(tmp_path / "disk", 52 << 10) as disk:
        run = disk / "run"

        class Crowd(TrainerCallback):
            def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if state.global_step == 4:
                    (disk / "filler").write_bytes(b"x" * (50 << 20))

        with pytest.raises(NoRoom):
            train(sft, job, run, Crowd())
        told = alerts(run)
        assert [each["code"] for each in told] == ["disk-full"]
        assert told[0]["numbers"]["threshold"] > told[0]["numbers"]["value"]
        assert "bytes" in told[0]["text"]
        (disk / "filler").unlink()
        assert train(sft, job, run)["resumed_from"] == 4


def test_metrics_heartbeat_and_progress_are_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = make_job(tmp_path / "root", "sft", arguments={"max_steps": 4, "logging_steps": 2})
    train(sft, job, tmp_path / "run")
    rows = [row for row in read_metrics(tmp_path / "run/metrics.jsonl") if "loss" in row]
    assert [row["step"] for row in rows] == [1, 2, 4]
    assert {"loss", "grad_norm", "learning_rate", "at"} <= set(rows[0])
    assert "step 1/4  loss " in capsys.readouterr().out
    progress = json.loads((tmp_path / "run/progress.json").read_text())
    assert (progress["step"], progress["total"], progress["state"]) == (4, 4, "ended")
    assert [each["code"] for each in alerts(tmp_path / "run", "INFO")] == ["checkpoint", "checkpoint", "complete"]


def _wait(is_so: Callable[[], bool], timeout_s: float = 60) -> None:
    until = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.05)
