"""One training as a process that can be killed: the same way in as the full job has, on rows made up in memory."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import random
import signal
import time
from pathlib import Path
from typing import Any

from tests.training.support import cpu, datasets_of, make_job

PRELOADED = [
    "torch", "trl", "peft", "datasets", "training.work", "training.sft", "training.dpo", "training.grpo", "training.reward",
    "training.from_scratch", "trl.trainer.sft_trainer", "trl.trainer.dpo_trainer", "trl.trainer.grpo_trainer",
    "trl.trainer.reward_trainer", "transformers.models.llama.modeling_llama", "tests.training.runs",
]  # fmt: skip
LORA = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "lora_dropout": 0.1}
# What of a metrics row is a measure of time.
TIMES = ("at", "tokens_per_s", "step_time", "runtime", "profiling", "per_second", "train_loss")
METHODS = ("sft", "sft-lora", "dpo", "grpo", "reward", "causal-lm")


class ArraySource:
    """Token ids whose batches are a function of (seed, index), as those of training/data/bins.py are."""

    def __init__(self, seed: int, batches: int = 12) -> None:
        self.seed, self.batches = seed, batches

    def batch(self, index: int) -> Any:
        """Two rows of 17 ids."""
        import numpy as np

        return np.random.Generator(np.random.Philox(key=[self.seed, index])).integers(7, 300, (2, 17))

    def __len__(self) -> int:
        return self.batches


def prepare(root: Path, method: str, **more: Any) -> dict[str, Any]:
    """A job for `method` (with `-lora`: an adapter) whose files are all written; children only read them."""
    name, _, adapter = method.partition("-lora")
    is_lora = method.endswith("-lora")
    del adapter
    return make_job(root, name, lora=dict(LORA) if is_lora else None, **more)


def train_here(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train from the newest whole checkpoint to the end, in this process."""
    import torch

    from training.monitor import Monitor
    from training.work import _module, _resume_from

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    monitor = Monitor(folder, method=job["method"])
    monitor.listen()
    checkpoint = _resume_from(job, folder, monitor, None)
    sets: dict[str, Any] = (
        {"train": ArraySource(1), "eval": ArraySource(2)}
        if job["method"] == "causal-lm"
        else datasets_of(job["method"])
    )
    trainer = _module(job).build(job, folder, cpu(), sets)
    result = _module(job).train(trainer, job, monitor, folder, resume_from=checkpoint)
    monitor.close(result["status"])
    return result


def _child(job: dict[str, Any], folder: str) -> None:
    import os
    import warnings

    warnings.simplefilter("ignore")
    log = os.open(Path(folder).parent / "child.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    result = train_here(job, Path(folder))
    (Path(folder) / "result.json").write_text(json.dumps(result))


def nursery() -> Any:
    """A process that has loaded everything once, and forks a child per training: a start takes milliseconds, not seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def start(context: Any, job: dict[str, Any], folder: Path) -> Any:
    """Start a training of `job` in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    process = context.Process(target=_child, args=(job, str(folder)))
    process.start()
    return process


def finish(context: Any, job: dict[str, Any], folder: Path, timeout_s: float = 60) -> dict[str, Any]:
    """Train to the end in a child; returns its result."""
    process = start(context, job, folder)
    process.join(timeout_s)
    log = folder.parent / "child.log"
    assert process.exitcode == 0, log.read_text()[-3000:] if log.exists() else process.exitcode
    return json.loads((folder / "result.json").read_text())


def kill_after(context: Any, job: dict[str, Any], folder: Path, delay_s: float) -> bool:
    """Start a training and SIGKILL it after `delay_s`; returns whether it was still running."""
    process = start(context, job, folder)
    time.sleep(delay_s)
    was_alive = process.is_alive()
    process.kill()
    process.join()
    return was_alive and process.exitcode == -signal.SIGKILL


def end_of(folder: Path) -> dict[str, Any]:
    """What two trainings that ended equally agree in: weights, optimizer state, every metric of every step."""
    import torch

    newest = max((folder / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    weights = {path.name: _sha(path) for path in sorted(newest.glob("*.safetensors"))}
    optimizer = torch.load(newest / "optimizer.pt", weights_only=True)
    return {
        "checkpoint": newest.name,
        "weights": weights,
        "optimizer": _digest(optimizer),
        "metrics": metrics_of(folder),
    }


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    """The series without what is a measure of time."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in row.items() if not any(word in name for word in TIMES)}
        for row in rows
        if "train_runtime" not in row
    ]


def delays(chance: random.Random, kills: int, whole_s: float) -> list[float]:
    """When to kill: at any time of a whole training, uniformly."""
    return [chance.uniform(0.02, whole_s) for _ in range(kills)]


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest(tree: Any) -> str:
    import torch

    if isinstance(tree, torch.Tensor):
        return hashlib.sha256(tree.contiguous().numpy().tobytes()).hexdigest()
    if isinstance(tree, dict):
        return hashlib.sha256("".join(f"{k}:{_digest(v)}" for k, v in tree.items()).encode()).hexdigest()
    if isinstance(tree, list | tuple):
        return hashlib.sha256("".join(map(_digest, tree)).encode()).hexdigest()
    return repr(tree)
