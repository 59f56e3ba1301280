"""Our callback and our checkpoints beside the stock trainer's: same model, same data, same minute, taken in turn, medians.

    <python of the training environment> benchmarks/training_engine.py [--json FILE] [--quick]

Runs on the CPU, or on a GPU where there is one. What the figures mean, and what did not help: benchmarks/NOTES.md.
"""

from __future__ import annotations

import contextlib
import os
import platform
import random
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Generator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from datasets import Dataset
from harness import table
from harness.table import Row
from transformers import PrinterCallback, TrainerCallback

from tests.training.runs import ArraySource
from tests.training.support import cpu, datasets_of, make_job, sentence
from training import from_scratch, sft
from training.callback import HemmaCallback, attach
from training.checkpoint_writer import CheckpointWriter
from training.monitor import Monitor
from training.trainer_state import capture

warnings.simplefilter("ignore")
HOOKS = ("on_pre_optimizer_step", "on_step_end", "on_log", "on_epoch_end")


@dataclass(frozen=True)
class Counts:
    """How often, and how much."""

    rounds: int = 5
    steps: int = 14
    saves: int = 5
    layers: int = 8
    hidden: int = 768


QUICK = Counts(rounds=1, steps=4, saves=2, layers=2, hidden=64)


def main() -> None:
    """Measure and print."""
    options = table.parser_for(__doc__ or "").parse_args()
    counts = QUICK if options.quick else Counts()
    folder = Path(tempfile.mkdtemp(prefix="hemma-bench-"))
    try:
        rows = [
            *overhead(folder / "overhead", counts),
            *stall(folder / "stall", counts),
            *native(folder / "native", counts),
        ]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    table.show("Training engine", rows, options.json, conditions=conditions())


class StepTimes(TrainerCallback):
    """The time of each step, everything between its begin and the next one's."""

    def __init__(self) -> None:
        self.begun = 0.0
        self.taken_ms: list[float] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        now = time.perf_counter()
        if self.begun:
            self.taken_ms.append((now - self.begun) * 1000)
        self.begun = now

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.begun = 0.0


def overhead(folder: Path, counts: Counts) -> list[Row]:
    """A step of the toy at logging_steps=1 with our callback, logs and heartbeat, and without."""
    arguments = {
        "max_steps": counts.steps,
        "save_steps": 10_000,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 1,
    }
    toy = {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4, "max_position_embeddings": 256}
    job = make_job(folder / "root", "sft", rows=256, arguments=arguments, sequence_length=128)
    rows = _long_rows(4 * counts.steps)
    job["model"]["config"].update(toy)
    medians: dict[str, list[float]] = {"ours": [], "plain": []}
    ours_us: list[float] = []
    for number in range(counts.rounds):
        for kind in ("plain", "ours") if number % 2 else ("ours", "plain"):
            run, times = folder / f"{kind}-{number}", StepTimes()
            trainer = sft.build(job, run, cpu(), {"train": rows}, overrides={"save_strategy": "no"})
            trainer.add_callback(times)
            trainer.remove_callback(PrinterCallback)
            if kind == "ours":
                monitor = Monitor(run, method="sft")
                attach(trainer, monitor, CheckpointWriter(run / "checkpoints"), job)
                setattr(trainer, "_save_checkpoint", _nothing)  # noqa: B010 - the next row's matter
                with watched() as spent:
                    trainer.train()
                ours_us += spent
                monitor.close("completed")
            else:
                trainer.train()
            # The first steps warm up allocators and caches.
            medians[kind].append(statistics.median(times.taken_ms[2:]))
    ours, plain = (statistics.median(medians[kind]) for kind in ("ours", "plain"))
    spent_us = statistics.median(ours_us)
    return [
        Row("step of the toy, median of rounds", ours, plain, "ms", None, "plain TRL"),
        # The difference of two noisy steps says less than what is spent in our own calls.
        Row("share of the step spent in our callback", plain + spent_us / 1000, plain, "ms", "<= 1.01", "plain TRL"),
        Row("spent in our callback per step", spent_us, None, "us"),
    ]


def _long_rows(count: int) -> Any:
    chance = random.Random(0)
    return Dataset.from_list([{"text": sentence(chance, 120)} for _ in range(count)])


@contextlib.contextmanager
def watched() -> Generator[list[float]]:
    """A stop watch on each of our hooks; gives the list that fills with us per step."""
    spent: list[float] = []
    running = [0.0]
    own = {name: getattr(HemmaCallback, name) for name in HOOKS}

    def hook(name: str) -> Any:
        def timed(*args: Any, **kwargs: Any) -> None:
            begun = time.perf_counter()
            own[name](*args, **kwargs)
            running[0] += time.perf_counter() - begun
            if name == "on_log":
                spent.append(running[0] * 1e6)
                running[0] = 0.0

        return timed

    for name in HOOKS:
        setattr(HemmaCallback, name, hook(name))
    try:
        yield spent
    finally:
        for name, function in own.items():
            setattr(HemmaCallback, name, function)


def _nothing(*_: Any) -> None:
    """No checkpoint."""


def stall(folder: Path, counts: Counts) -> list[Row]:
    """How long a training stands still for a checkpoint: stock (no fsync, no hash), ours cold and with buffers in use."""
    big = {"hidden_size": counts.hidden, "intermediate_size": 2 * counts.hidden, "num_hidden_layers": counts.layers}
    job = make_job(folder / "root", "sft", arguments={"max_steps": 1, "gradient_accumulation_steps": 1})
    job["model"]["config"].update(
        big | {"num_attention_heads": 12 if counts.hidden % 12 == 0 else 4, "vocab_size": 32_000}
    )
    trainer = sft.build(job, folder / "run", cpu(), datasets_of("sft", 8), overrides={"save_strategy": "no"})
    trainer.train()
    stock = getattr(trainer, "_save_checkpoint")  # noqa: B009 - the stock trainer's own
    writer = CheckpointWriter(folder / "run/ours", keep=2)
    figures: dict[str, list[float]] = {"stock": [], "ours": [], "whole": []}
    for number in range(counts.saves):
        trainer.state.global_step = number + 1
        os.sync()
        begun = time.perf_counter()
        stock(trainer.model, None)
        figures["stock"].append(time.perf_counter() - begun)
        shutil.rmtree(Path(trainer.args.output_dir))
        os.sync()
        begun = time.perf_counter()
        writer.save(capture(trainer, job, {}))
        figures["ours"].append(time.perf_counter() - begun)
        writer.wait()
        figures["whole"].append(time.perf_counter() - begun)
    size = sum(path.stat().st_size for path in (folder / f"run/ours/checkpoint-{counts.saves}").rglob("*"))
    writer.close()
    peer = statistics.median(figures["stock"])
    name = f"{size / 1e6:.0f} MB"
    return [
        Row(
            f"stall per checkpoint, first, {name}",
            figures["ours"][0],
            peer,
            "s",
            "<= 0.6",
            "Trainer, no fsync, no hash",
        ),
        Row(
            f"stall per checkpoint, later, {name}",
            statistics.median(figures["ours"][1:]),
            peer,
            "s",
            "<= 0.25",
            "Trainer",
        ),
        Row("until it is hashed, synced and named", statistics.median(figures["whole"]), peer, "s", None, "Trainer"),
    ]


def native(folder: Path, counts: Counts) -> list[Row]:
    """A step of the native engine beside a bare loop over the same batches."""
    arguments = {"max_steps": counts.steps, "gradient_accumulation_steps": 1, "save_steps": 10_000}
    job = make_job(folder / "root", "causal-lm", arguments=arguments)
    toy = {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4}
    job["model"]["config"].update(toy)
    source = _Batches()
    figures: dict[str, list[float]] = {"ours": [], "bare": []}
    for number in range(counts.rounds):
        run = folder / f"run-{number}"
        trainer = from_scratch.build(job, run, cpu(), {"train": source})
        monitor = Monitor(run, method="causal-lm")
        monitor.begin(counts.steps)
        for step in range(counts.steps):
            # One of each, in turn: a busy moment meets both.
            figures["ours"].append(_timed(_our_step, trainer, monitor))
            figures["bare"].append(_timed(_bare_step, trainer, source, step))
        monitor.close("completed")
    ours, bare = (statistics.median(figures[kind]) for kind in ("ours", "bare"))
    return [Row("step of the native engine", ours, bare, "ms", "<= 1.1", "bare loop")]


class _Batches(ArraySource):
    def __init__(self) -> None:
        super().__init__(1)
        self.ids = np.random.default_rng(0).integers(7, 300, (4, 65))

    def batch(self, index: int) -> Any:
        return self.ids


def _our_step(trainer: Any, monitor: Monitor) -> None:
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    loss, norm = from_scratch.optimizer_step(trainer, monitor, scaler, 1e-3)
    trainer.step += 1
    monitor.step(trainer.step)
    monitor.log(
        trainer.step, {"loss": loss, "grad_norm": norm, "learning_rate": 1e-3, "num_tokens": trainer.step * 256}
    )


def _bare_step(trainer: Any, source: _Batches, step: int) -> float:
    ids = torch.from_numpy(source.batch(step))
    logits = trainer.model(input_ids=ids[:, :-1], use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), 1.0)
    trainer.optimizer.step()
    trainer.optimizer.zero_grad(set_to_none=True)
    return loss.item()


def _timed(step: Callable[..., object], *arguments: Any) -> float:
    begun = time.perf_counter()
    step(*arguments)
    return (time.perf_counter() - begun) * 1000


def conditions() -> str:
    """Versions and the machine, on one line."""
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers", "trl"))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    return f"{time.strftime('%Y-%m-%d')} · {device} · {torch.get_num_threads()} threads · Python {platform.python_version()} · {packages}"


if __name__ == "__main__":
    main()
