"""The one callback that ties a stock Trainer to our monitor and our checkpoints; nothing of the trainer is forked.

Three of the trainer's own calls go through us: `_save_checkpoint` is ours, `_get_grad_norm` is overheard, `_load_best_model`
waits for the checkpoint that is still being written. The rest are the callback's events.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from transformers import PrinterCallback, ProgressCallback, TrainerCallback
from transformers.trainer_callback import EarlyStoppingCallback

from training.checkpoint_writer import CheckpointWriter
from training.checkpoints import Checkpoint
from training.errors import NoRoom
from training.monitor import Monitor
from training.trainer_state import capture, restore


class HemmaCallback(TrainerCallback):
    """Metrics, alerts, NaN watch, checkpoints and an orderly stop for one Trainer."""

    def __init__(
        self,
        trainer: Any,
        monitor: Monitor,
        writer: CheckpointWriter,
        job: Mapping[str, Any],
        resume_from: Checkpoint | None = None,
    ) -> None:
        self.trainer, self.monitor, self.writer, self.job = trainer, monitor, writer, job
        self.resume_from = resume_from
        self.stopped: str | None = None
        self._saved_step = -1
        self._grad_norm: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Model and optimizer are loaded: put back what the Trainer forgets, start the heartbeat."""
        if self.resume_from is not None:
            own = restore(self.trainer, self.resume_from)
            _restore_callback_states(self.trainer)
            self.monitor.resumed(own)
            self._saved_step = self.resume_from.step
        self.monitor.begin(state.max_steps, state.global_step)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Loss and gradient of this step, before the weights take them (S11-R22)."""
        loss, norm = self.trainer._tr_loss, self._grad_norm  # noqa: SLF001 - the running loss is nowhere else
        if self._is_finite(loss, norm):
            return
        step = state.global_step + 1
        self.monitor.check_finite(step, loss=float(loss))
        if not self._scales():
            self.monitor.check_finite(step, grad_norm=float(norm))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Heartbeat; stop where asked, with a checkpoint; the last step is always saved."""
        reason = self.monitor.step(state.global_step)
        if reason:
            self.stopped = reason
            control.should_save = control.should_training_stop = True
        if state.global_step >= state.max_steps:
            control.should_save = True
        self._log_what_is_saved(control)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A save at the end of an epoch is like any other."""
        self._log_what_is_saved(control)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """One line of metrics."""
        row = {name: value for name, value in (logs or {}).items() if _is_plain(value)}
        norm = row.get("grad_norm")
        if self._scales() and isinstance(norm, float) and not math.isfinite(norm):
            row["grad_norm"] = None
        self.monitor.log(state.global_step, row)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Wait for the last checkpoint; say how it ended."""
        self.writer.wait()
        loss = next((row["loss"] for row in reversed(state.log_history) if "loss" in row), math.nan)
        if self.stopped is None:
            is_early = state.global_step < state.max_steps
            self.monitor.note("early-stop" if is_early else "complete", state.global_step, "loss", loss)

    def save(self, model: Any, trial: Any) -> None:
        """What the Trainer calls instead of its own `_save_checkpoint`."""
        trainer, state = self.trainer, self.trainer.state
        if state.global_step == self._saved_step:
            return
        trainer.store_flos()
        _keep_callback_states(trainer)
        if state.best_global_step:
            state.best_model_checkpoint = f"{trainer.args.output_dir}/checkpoint-{state.best_global_step}"
        self.monitor.metrics.sync()
        try:
            self.writer.save(capture(trainer, self.job, self.monitor.cursors()))
        except NoRoom as error:
            if self.monitor.failure is not error:
                self.monitor.save_failed(state.global_step, error)
            raise
        self._saved_step = state.global_step

    def overhear(self, norm: Any) -> Any:
        """Remember the gradient norm of this step."""
        self._grad_norm = norm
        return norm

    def _is_finite(self, loss: Any, norm: Any) -> bool:
        # One look at the GPU for both: each look makes the host wait for it. On the CPU a look costs nothing, a tensor does.
        if isinstance(norm, torch.Tensor) and norm.is_cuda:
            return bool(torch.isfinite(loss.detach() + norm.detach().to(loss.device)))
        return math.isfinite(float(loss)) and (norm is None or math.isfinite(float(norm)))

    def _scales(self) -> bool:
        # With fp16 an overflow of the scaled gradient is how the scaler finds its scale; it skips that step itself.
        scaler = getattr(self.trainer.accelerator, "scaler", None)
        return scaler is not None and scaler.is_enabled()

    def _log_what_is_saved(self, control: Any) -> None:
        # Sums since the last log are in no checkpoint. Logged with each save they are empty, here and after a resume.
        if control.should_save:
            control.should_log = True


def attach(
    trainer: Any,
    monitor: Monitor,
    writer: CheckpointWriter,
    job: Mapping[str, Any],
    resume_from: Checkpoint | None = None,
) -> HemmaCallback:
    """Tie `trainer` to our monitor and writer; returns the callback. Call it once, before `train`."""
    callback = HemmaCallback(trainer, monitor, writer, job, resume_from)
    for kind in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(kind)
    patience = (job.get("arguments") or {}).get("early_stopping_patience")
    if patience:
        trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=int(patience)))
    trainer.add_callback(callback)
    grad_norm, load_best = trainer._get_grad_norm, trainer._load_best_model  # noqa: SLF001 - see the file's head

    def waited() -> None:
        writer.wait()
        load_best()

    trainer._save_checkpoint = callback.save  # noqa: SLF001
    trainer._get_grad_norm = lambda *args, **kwargs: callback.overhear(grad_norm(*args, **kwargs))  # noqa: SLF001
    trainer._load_best_model = waited  # noqa: SLF001
    trainer._get_train_sampler = _pure_order(trainer)  # noqa: SLF001
    return callback


class EpochOrder(torch.utils.data.Sampler[int]):
    """A sampler's order as a function of (seed, epoch) alone: each epoch draws from its own generator (S10-R13)."""

    def __init__(self, inner: Any, trainer: Any) -> None:
        self.inner, self.trainer = inner, trainer

    def __iter__(self) -> Iterator[int]:
        seed = int(self.trainer.args.data_seed or self.trainer.args.seed) + int(self.trainer.state.epoch or 0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            generator = getattr(self.inner, "generator", None)
            if generator is not None:
                generator.manual_seed(seed)
            order = list(self.inner)
        yield from order

    def __len__(self) -> int:
        return len(self.inner)


def _pure_order(trainer: Any) -> Any:
    """Stock random order is a function of (seed, epoch) already; other samplers draw from where a resume does not know."""
    original = trainer._get_train_sampler  # noqa: SLF001

    def sampler(*args: Any, **kwargs: Any) -> Any:
        made = original(*args, **kwargs)
        pure = (torch.utils.data.RandomSampler, torch.utils.data.SequentialSampler)
        return made if made is None or isinstance(made, pure) else EpochOrder(made, trainer)

    return sampler


def _keep_callback_states(trainer: Any) -> None:
    """The states of stateful callbacks (early stopping), as the Trainer itself would write them."""
    for each in [*trainer.callback_handler.callbacks, trainer.control]:
        if not hasattr(each, "state"):
            continue
        name, states = type(each).__name__, trainer.state.stateful_callbacks
        if isinstance(states.get(name), list):
            states[name].append(each.state())
        else:
            states[name] = each.state()


def _restore_callback_states(trainer: Any) -> None:
    """Counters of stateful callbacks; not the control's flags, which would stop a resumed run where it was stopped."""
    for each in trainer.callback_handler.callbacks:
        kept = trainer.state.stateful_callbacks.get(type(each).__name__)
        for name, value in (kept.get("attributes") or {}).items() if isinstance(kept, dict) else ():
            setattr(each, name, value)


def _is_plain(value: object) -> bool:
    return isinstance(value, int | float | str | bool) or value is None
