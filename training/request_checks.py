"""What is wrong with a request and can be said before anything is loaded: its arguments, their sizes, and what they need.

Each finding names the key, the number and the mend; an error blocks (S6-R11, S11-R21). What the installed classes say of each
argument is training/arguments.py's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from training.arguments import check, check_length, check_packing, renamed
from training.findings import Finding

# Adam moves every weight by about the learning rate at each step, whatever the gradient: a tenth is as large as a weight.
ABSURD_RATE = 0.1
# Optimizers whose steps follow the gradient's size, or that find their own: rates of 1 are usual there.
_OTHER_SCALE = (
    "sgd",
    "adafactor",
    "adagrad",
    "lomo",
    "prodigy",
    "schedule_free_sgd",
    "rmsprop",
    "stable_adamw",
    "apollo",
)
ABSURD_OTHER_RATE = 10.0
_AT_LEAST_ONE = (
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "logging_steps",
    "save_steps",
)
_NEED_EVAL = ("load_best_model_at_end", "early_stopping_patience")


def check_request(job: Mapping[str, Any]) -> list[Finding]:
    """All that can be said of a request's arguments before anything is loaded; an error blocks (S11-R21, S13-R33)."""
    said = renamed(str(job["method"]), job.get("arguments") or {})
    found = [*_sizes(said), *_eval_data(job, said)]
    # The class itself would say the same of some, in other words: ours come first, and are said once.
    told = {each.name for each in found}
    of_class = check(str(job["method"]), job.get("arguments") or {}, is_built=not found)
    found += [each for each in of_class if each.name not in told]
    found += check_length(job)
    return [*found, *check_packing(job)] if job["method"] == "sft" else found


def _sizes(said: Mapping[str, Any]) -> Iterator[Finding]:
    """Numbers that make no training: no step, no rate, or one that destroys the weights."""
    steps, epochs, rate = said.get("max_steps"), said.get("num_train_epochs"), said.get("learning_rate")
    if steps == 0:
        yield Finding(
            "error", "max_steps", "is 0: the trainer reads that as no limit, not as no step", "max_steps: 1 or more"
        )
    if _is_number(epochs) and not epochs > 0 and not (_is_number(steps) and steps > 0):
        yield Finding(
            "error", "num_train_epochs", f"is {epochs}: nothing would be trained", "num_train_epochs: above 0"
        )
    if _is_number(rate):
        yield from _rate(float(rate), str(said.get("optim") or "adamw"))
    for name in _AT_LEAST_ONE:
        value = said.get(name)
        if _is_number(value) and not value > 0:
            yield Finding("error", name, f"is {value}", f"{name}: above 0")


def _rate(rate: float, optimizer: str) -> Iterator[Finding]:
    limit = ABSURD_OTHER_RATE if any(word in optimizer for word in _OTHER_SCALE) else ABSURD_RATE
    if not math.isfinite(rate) or rate < 0:
        yield Finding("error", "learning_rate", f"is {rate}", "learning_rate: 2e-5")
    elif rate == 0:
        yield Finding("error", "learning_rate", "is 0: no weight would change", "learning_rate: 2e-5")
    elif rate >= limit:
        fact = f"is {rate:g}: with {optimizer} anything from {limit:g} on destroys the weights within a few steps"
        yield Finding("error", "learning_rate", fact, "learning_rate: 2e-5 (from scratch: 1e-3)")


def _eval_data(job: Mapping[str, Any], said: Mapping[str, Any]) -> Iterator[Finding]:
    """An evaluation is asked for, and no row is held out for it."""
    spec = job.get("dataset") or {}
    if spec.get("eval_source") or spec.get("eval_split") or float(spec.get("eval_fraction") or 0.0) > 0:
        return
    strategy = said.get("eval_strategy")
    wanted = [f"eval_strategy: {strategy}"] if strategy not in (None, "no", False) else []
    wanted += [name for name in _NEED_EVAL if said.get(name)]
    if wanted:
        fact = f"asks for an evaluation ({', '.join(wanted)}), and the dataset has no rows for it (eval_fraction: 0)"
        name = "eval_strategy" if strategy not in (None, "no", False) else wanted[0]
        yield Finding(
            "error", name, fact, "dataset.eval_fraction: 0.02, or dataset.eval_source; else eval_strategy: no"
        )


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
