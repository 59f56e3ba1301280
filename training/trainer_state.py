"""The whole state of a Trainer as a checkpoint holds it, and back (S11-R11, S11-R12, S11-R14).

The files have the Trainer's own names, so its own resume reads them. Beside them: `hemma_state.json` with cursors, best
metric, versions and what the request was; `method_state.pt` with what a method keeps between steps and the Trainer forgets.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import hashlib
import json
import random
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.arguments import effective_batch_size
from training.checkpoint_writer import Capture
from training.checkpoints import STATE, Checkpoint, read_state
from training.errors import CheckpointBroken

METHOD_STATE = "method_state.pt"
# A request with another value in one of these is another training: a checkpoint of it is no state of this one.
REQUEST = ("method", "model", "dataset", "sequence_length", "packing", "lora", "seed")
# Plain numbers that TRL's trainers count and the Trainer does not keep.
COUNTERS = ("_total_train_tokens", "_step")
DISTRIBUTIONS = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "numpy")


def capture(trainer: Any, job: Mapping[str, Any], more: Mapping[str, Any]) -> Capture:
    """Everything that the next step depends on, as it is now; `more` goes into hemma_state.json. Nothing is copied yet."""
    model, state = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False), trainer.state
    trained = frozenset(name for name, each in model.named_parameters() if each.requires_grad)
    tensors: dict[str, Any] = {
        "optimizer.pt": trainer.optimizer.state_dict(),
        "scheduler.pt": trainer.lr_scheduler.state_dict(),
        "rng_state.pth": rng_state(),
    }
    scaler = getattr(trainer.accelerator, "scaler", None)
    if scaler is not None:
        tensors["scaler.pt"] = scaler.state_dict()
    buffered = _buffered(trainer)
    if buffered is not None:
        tensors[METHOD_STATE] = buffered
    texts: dict[str, Any] = {
        "trainer_state.json": _frozen(state),
        "training_args.json": trainer.args.to_sanitized_dict(),
        STATE: {**_own_state(trainer, job), **more},
    }
    return Capture(
        step=state.global_step,
        weights=_weights(model, trained),
        write_model=functools.partial(_write_model, model, trainer.processing_class),
        tensors=tensors,
        texts=texts,
        finite=trained,
        best_step=state.best_global_step,
    )


def restore(trainer: Any, checkpoint: Checkpoint) -> dict[str, Any]:
    """Put back what the Trainer's own resume does not; call it when model and optimizer are loaded.

    A learning rate that was changed since (a correction after a divergence) is laid over the one in the checkpoint.
    Returns hemma_state.json.
    """
    own = read_state(checkpoint.path)
    for name, value in own["counters"].items():
        if hasattr(trainer, name):
            setattr(trainer, name, value)
    path = checkpoint.path / METHOD_STATE
    if path.exists():
        buffered = torch.load(path, map_location=trainer.args.device, weights_only=True)
        trainer._buffered_inputs = buffered  # noqa: SLF001 - TRL keeps its generated batch there, and nowhere else
    before, now = own.get("learning_rate"), trainer.args.learning_rate
    if before and before != now:
        scale_learning_rate(trainer.optimizer, trainer.lr_scheduler, now / before)
    return own


def check_request(checkpoint: Checkpoint, job: Mapping[str, Any]) -> None:
    """Raises CheckpointBroken when the checkpoint is of another request: resuming it would be a silent swap."""
    own = read_state(checkpoint.path)
    if own["request"] != request_digest(job):
        raise CheckpointBroken(
            f"{checkpoint.path.name} is of another request (model, data, method, length, packing, adapter or seed differ)",
            remedy="start it as a run of its own, without --resume",
        )


def request_digest(job: Mapping[str, Any]) -> str:
    """The digest of what makes two trainings the same one."""
    said = {name: job.get(name) for name in REQUEST}
    return f"sha256:{hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()}"


def rng_state() -> dict[str, Any]:
    """All random number generators, in the Trainer's form."""
    states: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002 - the global generator is the one that libraries draw from
        "cpu": torch.random.get_rng_state(),
    }
    # Asking a GPU that nothing uses would take half a gigabyte of it.
    if torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.random.get_rng_state()
    return states


def scale_learning_rate(optimizer: Any, scheduler: Any, factor: float) -> None:
    """Multiply every rate that optimizer and scheduler hold: a loaded state would otherwise bring the old one back."""
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * factor
        if "initial_lr" in group:
            group["initial_lr"] = group["initial_lr"] * factor
    for name in ("base_lrs", "_last_lr"):
        if hasattr(scheduler, name):
            setattr(scheduler, name, [rate * factor for rate in getattr(scheduler, name)])


@functools.cache
def versions() -> dict[str, str]:
    """The installed releases that the numbers depend on."""
    found: dict[str, str] = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _frozen(state: Any) -> dict[str, Any]:
    """The Trainer's state as it is now; rows of its history never change, so the list alone is copied."""
    facts = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    history = list(facts.pop("log_history"))
    return {**copy.deepcopy(facts), "log_history": history}


def _own_state(trainer: Any, job: Mapping[str, Any]) -> dict[str, Any]:
    state, args = trainer.state, trainer.args
    rows = effective_batch_size(args, args.world_size)
    return {
        "schema_version": 1,
        "step": state.global_step,
        "request": request_digest(job),
        # The order of rows is a function of (seed, epoch), so this is all of the position (S10-R13).
        "data_cursor": {
            "seed": args.data_seed,
            "epoch": int(state.epoch or 0),
            "rows_seen": state.global_step * rows,
            "effective_batch_size": rows,
        },
        "learning_rate": args.learning_rate,
        "best": {"metric": state.best_metric, "step": state.best_global_step},
        "counters": {name: getattr(trainer, name) for name in COUNTERS if hasattr(trainer, name)},
        "versions": versions(),
    }


def _weights(model: Any, trained: frozenset[str]) -> dict[str, torch.Tensor]:
    """The weights to save: of a model with an adapter only the adapter's."""
    every: dict[str, torch.Tensor] = model.state_dict()
    if not hasattr(model, "peft_config"):
        return every
    return {
        name: each for name, each in every.items() if name in trained or "lora_" in name or "modules_to_save" in name
    }


def _write_model(model: Any, tokenizer: Any, folder: Path, weights: dict[str, torch.Tensor]) -> None:
    model.save_pretrained(folder, state_dict=weights)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def _buffered(trainer: Any) -> Any | None:
    """GRPO's generated batch where the next step uses it again; at most steps it is used up."""
    buffered = getattr(trainer, "_buffered_inputs", None)
    if buffered is None:
        return None
    every = trainer.args.steps_per_generation * trainer.num_iterations
    return buffered if trainer._step % every else None  # noqa: SLF001 - see restore
