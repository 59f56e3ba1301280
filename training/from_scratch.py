"""Plain causal-LM pre-training on a memory-mapped token file (causal-lm): our own loop, the same monitor and checkpoints.

Batch number n is a function of (seed, n), the learning rate one of the step: where a training is, is one number. So a resume
is exact and takes no longer at step 1,000,000 than at step 1 (S10-R13, S11-R14).
"""

from __future__ import annotations

import contextlib
import functools
import math
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from lanes.precision import PrecisionPlan
from training.arguments import build_config, effective_batch_size
from training.checkpoint_writer import Capture, CheckpointWriter
from training.checkpoints import STATE, Checkpoint, read_state
from training.findings import Finding
from training.models import DTYPES, load_model, load_tokenizer, trainable
from training.monitor import Monitor
from training.native_config import NativeConfig
from training.request_checks import check_request
from training.trainer_state import request_digest, rng_state, versions
from training.trl_trainer import KEPT_CHECKPOINTS, publish_model


class TokenSource(Protocol):
    """Where batches come from: training/data/bins.py's BinDataset."""

    def batch(self, index: int) -> Any:
        """Batch number `index`, an array of token ids (rows, length + 1); a function of the index and the source's seed."""
        ...

    def __len__(self) -> int:
        """Batches in one pass over the data."""
        ...


@dataclass
class NativeTrainer:
    """Model, optimizer and data of one training, and how far it is."""

    config: NativeConfig
    model: Any
    tokenizer: Any
    optimizer: torch.optim.Optimizer
    train_data: TokenSource
    eval_data: TokenSource | None
    device: torch.device
    precision: PrecisionPlan
    step: int = 0
    max_steps: int = 0
    best: dict[str, Any] = field(default_factory=lambda: {"metric": None, "step": None})

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one optimizer step learns from."""
        return effective_batch_size(self.config) * self.config.max_length


def check(job: Mapping[str, Any]) -> list[Finding]:
    """What must be mended before this job is built."""
    return check_request(job)


def build(
    job: Mapping[str, Any],
    folder: Path,
    precision: PrecisionPlan,
    datasets: Mapping[str, Any],
    *,
    source: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> NativeTrainer:
    """The trainer, nothing trained yet. `datasets` holds TokenSources `train` and `eval` (or None)."""
    config: NativeConfig = build_config(job, folder, precision, **(overrides or {}))
    device = torch.device("cpu" if config.use_cpu or not torch.cuda.is_available() else "cuda")
    if precision.tf32:
        torch.set_float32_matmul_precision("high")
    model = load_model(job, folder, precision, source=source).to(device)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    steps = config.max_steps
    if steps < 1:
        steps = math.ceil(len(datasets["train"]) * config.num_train_epochs / config.gradient_accumulation_steps)
    return NativeTrainer(
        config=config,
        model=torch.compile(model) if config.torch_compile else model,
        tokenizer=load_tokenizer(job),
        optimizer=_optimizer(model, config),
        train_data=datasets["train"],
        eval_data=datasets.get("eval"),
        device=device,
        precision=precision,
        max_steps=max(1, steps),
    )


def train(
    trainer: NativeTrainer,
    job: Mapping[str, Any],
    monitor: Monitor,
    folder: Path,
    resume_from: Checkpoint | None = None,
) -> dict[str, Any]:
    """Train to the end or to an orderly stop, with checkpoints; returns what happened, as trl_trainer.run does."""
    config = trainer.config
    scaler = torch.amp.GradScaler(trainer.device.type, enabled=trainer.precision.needs_scaler)
    if resume_from is not None:
        monitor.resumed(_restore(trainer, scaler, resume_from))
    writer = CheckpointWriter(
        folder / "checkpoints",
        keep=config.save_total_limit or KEPT_CHECKPOINTS,
        on_saved=monitor.saved,
        on_failed=monitor.save_failed,
    )
    monitor.begin(trainer.max_steps, trainer.step)
    try:
        stopped = _loop(trainer, job, monitor, writer, scaler)
        writer.wait()
    finally:
        writer.close()
    if stopped is None:
        monitor.note("complete", trainer.step, "max_steps", trainer.max_steps)
    return {
        "status": "completed" if stopped is None else "stopped",
        "stop_reason": stopped,
        "step": trainer.step,
        "max_steps": trainer.max_steps,
        "resumed_from": resume_from.step if resume_from else None,
        "best": dict(trainer.best),
        "effective_batch_size": effective_batch_size(config),
        "stalls_s": [round(each, 4) for each in writer.stalls_s],
        **trainable(trainer.model),
        **(publish_model(folder, None, resume_from) if stopped is None else {}),
    }


def learning_rate(config: NativeConfig, step: int, max_steps: int) -> float:
    """The rate of step `step` (counted from 0): linear warm-up, then the schedule down to `min_lr_ratio` of the peak."""
    warmup = config.warmup_steps if config.warmup_steps >= 1 else config.warmup_steps * max_steps
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1.0, max_steps - warmup))
    low = config.min_lr_ratio
    if config.lr_scheduler_type == "constant":
        return config.learning_rate
    share = 1 - done if config.lr_scheduler_type == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return config.learning_rate * (low + (1 - low) * share)


def _loop(
    trainer: NativeTrainer, job: Mapping[str, Any], monitor: Monitor, writer: CheckpointWriter, scaler: Any
) -> str | None:
    """Steps until the end or until asked to stop; returns the reason for a stop, None at the end."""
    config, stopped = trainer.config, None
    trainer.model.train()
    while trainer.step < trainer.max_steps and stopped is None:
        rate = learning_rate(config, trainer.step, trainer.max_steps)
        loss, norm = optimizer_step(trainer, monitor, scaler, rate)
        trainer.step += 1
        stopped = monitor.step(trainer.step)
        is_last = trainer.step == trainer.max_steps or stopped is not None
        is_saved = is_last or trainer.step % config.save_steps == 0
        if trainer.step == 1 or is_saved or trainer.step % config.logging_steps == 0:
            tokens = trainer.step * trainer.tokens_per_step
            row = {"loss": loss, "grad_norm": norm, "learning_rate": rate, "num_tokens": tokens}
            monitor.log(trainer.step, row)
        if config.eval_strategy == "steps" and trainer.step % config.eval_steps == 0:
            _evaluate(trainer, monitor)
        if is_saved:
            monitor.metrics.sync()
            writer.save(_capture(trainer, job, monitor, scaler))
    return stopped


def optimizer_step(trainer: NativeTrainer, monitor: Monitor, scaler: Any, rate: float) -> tuple[float, float | None]:
    """One optimizer step over all micro-batches; returns (mean loss, gradient norm or None where the scaler overflowed).

    Raises NotFinite before the update.
    """
    config = trainer.config
    for group in trainer.optimizer.param_groups:
        group["lr"] = rate
    micro = config.gradient_accumulation_steps
    total = torch.zeros((), device=trainer.device)
    for number in range(micro):
        loss = loss_of(trainer, trainer.train_data, trainer.step * micro + number) / micro
        scaler.scale(loss).backward()
        total += loss.detach()
    scaler.unscale_(trainer.optimizer)
    norm = torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), config.max_grad_norm or math.inf)
    # One look at the device for both numbers: each look makes the host wait.
    loss_value, norm_value = torch.stack([total, norm.to(total.device)]).tolist()
    monitor.check_finite(trainer.step + 1, loss=loss_value)
    if not scaler.is_enabled():
        monitor.check_finite(trainer.step + 1, grad_norm=norm_value)
    elif not math.isfinite(norm_value):
        # The scaler looks for its scale by overflows, and skips the step of each by itself.
        norm_value = None
    scaler.step(trainer.optimizer)
    scaler.update()
    trainer.optimizer.zero_grad(set_to_none=True)
    return loss_value, norm_value


def loss_of(trainer: NativeTrainer, data: TokenSource, index: int) -> torch.Tensor:
    """The mean loss per token of batch `index`."""
    ids = torch.from_numpy(np.ascontiguousarray(data.batch(index)).astype(np.int64, copy=False))
    if trainer.device.type == "cuda":
        ids = ids.pin_memory().to(trainer.device, non_blocking=True)
    with _autocast(trainer):
        logits = trainer.model(input_ids=ids[:, :-1], use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())


def _autocast(trainer: NativeTrainer) -> contextlib.AbstractContextManager[Any]:
    if trainer.precision.dtype == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(trainer.device.type, dtype=DTYPES[trainer.precision.dtype])


def _evaluate(trainer: NativeTrainer, monitor: Monitor) -> None:
    if trainer.eval_data is None:
        return
    loss = evaluate_loss(trainer, trainer.config.eval_batches)
    monitor.log(trainer.step, {"eval_loss": loss, "eval_perplexity": math.exp(min(loss, 60.0))})
    if trainer.best["metric"] is None or loss < trainer.best["metric"]:
        trainer.best = {"metric": loss, "step": trainer.step}


def evaluate_loss(trainer: NativeTrainer, batches: int) -> float:
    """The mean loss over the first `batches` batches of the evaluation data: the same ones each time."""
    assert trainer.eval_data is not None
    trainer.model.eval()
    with torch.no_grad():
        count = max(1, min(batches, len(trainer.eval_data)))
        losses = [loss_of(trainer, trainer.eval_data, index).item() for index in range(count)]
    trainer.model.train()
    return sum(losses) / len(losses)


def _optimizer(model: Any, config: NativeConfig) -> torch.optim.Optimizer:
    """AdamW; matrices decay, vectors (norms, biases) do not."""
    trained = [each for each in model.parameters() if each.requires_grad]
    groups = [
        {"params": [each for each in trained if each.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [each for each in trained if each.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups,
        lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
        fused=config.optim == "adamw_torch_fused" or None,
    )


def _capture(trainer: NativeTrainer, job: Mapping[str, Any], monitor: Monitor, scaler: Any) -> Capture:
    model = getattr(trainer.model, "_orig_mod", trainer.model)  # what torch.compile wrapped
    rows = effective_batch_size(trainer.config)
    own = {
        "schema_version": 1,
        "step": trainer.step,
        "request": request_digest(job),
        "data_cursor": {"seed": trainer.config.seed, "rows_seen": trainer.step * rows, "effective_batch_size": rows},
        "learning_rate": trainer.config.learning_rate,
        "best": trainer.best,
        "counters": {},
        "versions": versions(),
        **monitor.cursors(),
    }
    return Capture(
        step=trainer.step,
        weights=model.state_dict(),
        write_model=functools.partial(_write_model, model, trainer.tokenizer),
        tensors={
            "optimizer.pt": trainer.optimizer.state_dict(),
            "scaler.pt": scaler.state_dict(),
            "rng_state.pth": rng_state(),
        },
        texts={STATE: own, "training_args.json": asdict(trainer.config)},
        finite=frozenset(name for name, _ in model.named_parameters()),
        best_step=trainer.best["step"],
    )


def _restore(trainer: NativeTrainer, scaler: Any, checkpoint: Checkpoint) -> dict[str, Any]:
    """Put a checkpoint's state back; the learning rate is the config's own, a function of the step."""
    from safetensors.torch import load_model as load_weights
    from transformers.trainer_pt_utils import safe_globals

    own = read_state(checkpoint.path)
    load_weights(
        getattr(trainer.model, "_orig_mod", trainer.model), checkpoint.path / "model.safetensors", strict=False
    )

    def load(name: str) -> Any:
        with safe_globals():
            return torch.load(checkpoint.path / name, map_location="cpu", weights_only=True)

    trainer.optimizer.load_state_dict(load("optimizer.pt"))
    if scaler.is_enabled():
        scaler.load_state_dict(load("scaler.pt"))
    states = load("rng_state.pth")
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])  # noqa: NPY002 - the global generator is the one that libraries draw from
    torch.random.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.random.set_rng_state(states["cuda"])
    trainer.step, trainer.best = int(own["step"]), dict(own["best"])
    return own


def _write_model(model: Any, tokenizer: Any, folder: Path, weights: dict[str, torch.Tensor]) -> None:
    model.save_pretrained(folder, state_dict=weights)
    tokenizer.save_pretrained(folder)
