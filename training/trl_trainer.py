"""What the four TRL methods share: their check before the launch, how a trainer is made, and how it is run (S11-R20).

Each method's own file says which trainer it is and what that takes beside the rest.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerState

from lanes.precision import PrecisionPlan
from training.arguments import build_config, effective_batch_size
from training.callback import attach
from training.checkpoint_writer import CheckpointWriter
from training.checkpoints import MANIFEST, STATE, Checkpoint, damage_of, newest_valid
from training.errors import CheckpointBroken
from training.findings import Finding
from training.models import adapter_config, load_model, load_tokenizer, trainable
from training.monitor import Monitor
from training.request_checks import check_request
from training.trainer_state import METHOD_STATE

KEPT_CHECKPOINTS = 3
# What of a checkpoint is state and no model.
STATE_FILES = frozenset(
    (MANIFEST, STATE, METHOD_STATE, "optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state.pth", "trainer_state.json",
     "training_args.json")
)  # fmt: skip
Job = Mapping[str, Any]
Datasets = Mapping[str, Any]


def _nothing_more(_job: Job) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class TrlMethod:
    """One method: its trainer's class, what is checked beside arguments and length, and what the class takes beside the rest."""

    trainer: Callable[..., Any]
    checks: tuple[Callable[[Job], list[Finding]], ...] = ()
    more: Callable[[Job], dict[str, Any]] = _nothing_more

    def check(self, job: Job) -> list[Finding]:
        """What must be mended before this job is built; an error blocks (S11-R21)."""
        return [*check_request(job), *(each for more in self.checks for each in more(job))]

    def build(
        self,
        job: Job,
        folder: Path,
        precision: PrecisionPlan,
        datasets: Datasets,
        *,
        source: str | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> Any:
        """The trainer, nothing trained yet. `source`: a proxy in the model's place; `overrides`: arguments of a trial."""
        return self.trainer(**self.more(job), **parts(job, folder, precision, datasets, source, overrides))

    def train(
        self, trainer: Any, job: Job, monitor: Monitor, folder: Path, resume_from: Checkpoint | None = None
    ) -> dict[str, Any]:
        """Train to the end or to an orderly stop; see `run`."""
        return run(trainer, job, monitor, folder, resume_from)


def parts(
    job: Mapping[str, Any],
    folder: Path,
    precision: PrecisionPlan,
    datasets: Datasets,
    source: str | None,
    overrides: Any,
) -> dict[str, Any]:
    """The keyword arguments that every TRL trainer takes."""
    tokenizer = load_tokenizer(job)
    model = load_model(job, folder, precision, source=source)
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    return {
        "model": model,
        "args": build_config(job, folder, precision, **_of_reference(job, source), **(overrides or {})),
        "train_dataset": datasets["train"],
        "eval_dataset": datasets.get("eval"),
        "processing_class": tokenizer,
        "peft_config": adapter_config(job),
    }


def run(
    trainer: Any, job: Mapping[str, Any], monitor: Monitor, folder: Path, resume_from: Checkpoint | None = None
) -> dict[str, Any]:
    """Train to the end, or to where it is told to stop, with our checkpoints; returns what happened, as plain data.

    `artifacts/model` then holds the final model (the best one where `load_best_model_at_end` asks for it).
    """
    keep = int((job.get("arguments") or {}).get("save_total_limit") or KEPT_CHECKPOINTS)
    writer = CheckpointWriter(folder / "checkpoints", keep=keep, on_saved=monitor.saved, on_failed=monitor.save_failed)
    callback = attach(trainer, monitor, writer, job, resume_from)
    metrics: dict[str, Any] = {}
    if resume_from is None or not _is_over(trainer, resume_from):
        try:
            place = str(resume_from.path) if resume_from else None
            metrics = trainer.train(resume_from_checkpoint=place).metrics
        finally:
            writer.close()
    state = trainer.state
    best = state.best_global_step if trainer.args.load_best_model_at_end else None
    is_complete = callback.stopped is None
    return {
        "status": "completed" if is_complete else "stopped",
        "stop_reason": callback.stopped,
        "step": state.global_step,
        "max_steps": state.max_steps,
        "epoch": state.epoch,
        "resumed_from": resume_from.step if resume_from else None,
        "best": {"metric": state.best_metric, "step": state.best_global_step},
        "effective_batch_size": effective_batch_size(trainer.args, trainer.args.world_size),
        "stalls_s": [round(each, 4) for each in writer.stalls_s],
        "metrics": {name: value for name, value in metrics.items() if isinstance(value, int | float)},
        **trainable(trainer.model),
        **(publish_model(folder, best, resume_from) if is_complete else {}),
    }


def publish_model(folder: Path, step: int | None = None, resumed: Checkpoint | None = None) -> dict[str, Any]:
    """Put the model of checkpoint `step` (None: the newest whole one) at artifacts/model; returns place and checkpoint.

    What is not among this run's own checkpoints is looked for beside the one that was resumed from. Files are linked, not
    copied, where the file system can. Raises CheckpointBroken when there is no such checkpoint.
    """
    places = [folder / "checkpoints", *([resumed.path.parent] if resumed else [])]
    found = next((each for place in places if (each := _whole(place, step))), None)
    if found is None:
        raise CheckpointBroken("there is no whole checkpoint to take the model from", remedy="train again")
    target = folder / "artifacts" / "model"
    staged = target.with_name(".model.staged")
    shutil.rmtree(staged, ignore_errors=True)
    for path in sorted(found.path.rglob("*")):
        name = path.relative_to(found.path)
        if path.is_file() and str(name) not in STATE_FILES:
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            _link(path, staged / name)
    shutil.rmtree(target, ignore_errors=True)
    staged.rename(target)
    return {"model_dir": str(target), "checkpoint": found.path.name}


def _of_reference(job: Mapping[str, Any], source: str | None) -> dict[str, Any]:
    """What the reference model is loaded with, which TRL reads by the model's name: the same revision of it."""
    if source is not None or job["method"] not in ("dpo", "grpo"):
        return {}
    said = {name: job["model"][name] for name in ("revision", "trust_remote_code") if job["model"].get(name)}
    return {"model_init_kwargs": said} if said else {}


def _whole(place: Path, step: int | None) -> Checkpoint | None:
    if step is None:
        return newest_valid(place)
    found = place / f"checkpoint-{step}"
    return Checkpoint(found, step) if found.is_dir() and not damage_of(found) else None


def _is_over(trainer: Any, checkpoint: Checkpoint) -> bool:
    """Whether nothing is left to train after this checkpoint: the Trainer would make one step too many."""
    state = TrainerState.load_from_json(str(checkpoint.path / "trainer_state.json"))
    if state.global_step < (trainer.args.max_steps if trainer.args.max_steps > 0 else state.max_steps):
        return False
    trainer.state = state
    return True


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
