"""The smallest change after a diagnosed failure that keeps the request, or the reason why a person must make it (S13-R01).

Only arguments that do not touch the science move here: the OOM ladder's (effective batch unchanged), a renamed argument
under its new name with the same value, the learning rate after a divergence. All else is for a person (S13-R44).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lanes.oom_ladder import Attempt, Exhausted, Hold, MemoryState, Rung, next_rung

LEARNING_RATE = {"sft": 2e-5, "dpo": 1e-6, "grpo": 1e-6, "reward": 1e-4, "causal-lm": 6e-4}
DIVERGED_FACTOR = 0.1
DEFAULT_BATCH = 8
# Arguments that decide what is seen, kept or loaded of a training, never what it learns.
_BESIDE_THE_RESULT = ("logging_", "save_", "dataloader_num_workers", "dataloader_pin", "dataloader_prefetch", "disable_tqdm",
                      "report_to", "run_name", "trackio_", "push_to_hub", "hub_", "log_level", "include_num_input")  # fmt: skip


@dataclass(frozen=True)
class Correction:
    """New arguments, what changed from what to what, and why; `rung` of the OOM ladder that is in force after it."""

    arguments: dict[str, Any]
    changes: dict[str, tuple[Any, Any]]
    why: str
    rung: int = 0
    effective_batch_preserved: bool = True


@dataclass(frozen=True)
class NoCorrection:
    """Nothing that may be changed without a person. `reason` is a stop word (S13-R51)."""

    reason: str
    why: str
    remedy: str


@dataclass(frozen=True)
class Situation:
    """What a correction may look at. `renames` maps an argument that was refused to the one the installed class has."""

    method: str
    arguments: Mapping[str, Any]
    history: Sequence[Attempt] = ()
    devices: int = 1
    renames: Mapping[str, str] = field(default_factory=dict[str, str])
    tried: Sequence[Mapping[str, Any]] = ()


def correct(category: str, code: str, now: Situation) -> Correction | NoCorrection:
    """The change for this failure. A change that was tried before is none (S13-R02)."""
    found = _by_category(category, code, now)
    if isinstance(found, Correction) and found.changes in [dict(each) for each in now.tried]:
        return NoCorrection("retries_exhausted", f"the same change was tried before: {found.why}", "look at the logs")
    return found


def _by_category(category: str, code: str, now: Situation) -> Correction | NoCorrection:
    if category == "oom":
        return _smaller(code, now)
    if category == "wrong_trainer_arg":
        return _renamed(now)
    if category == "divergence_nan":
        return _slower(now)
    return NoCorrection(
        "unrecoverable",
        f"{category} ({code}) has no change that a program may make by itself",
        "mend what the diagnosis names, then hemma train again: what is proven is not repeated",
    )


def changed_arguments(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The arguments that decide the result and differ: name -> (before, after), None where one says nothing."""
    names = sorted({*before, *after})
    return {
        name: (before.get(name), after.get(name))
        for name in names
        if before.get(name) != after.get(name) and not name.startswith(_BESIDE_THE_RESULT)
    }


def memory_state(now: Situation) -> MemoryState:
    """What is in force, with the defaults of TRL where the arguments are silent (checkpointing is on there)."""
    said = now.arguments
    return MemoryState(
        per_device_batch_size=int(said.get("per_device_train_batch_size", DEFAULT_BATCH)),
        gradient_accumulation_steps=int(said.get("gradient_accumulation_steps", 1)),
        devices=now.devices,
        method=now.method,
        num_generations=int(said.get("num_generations", 8)) if now.method == "grpo" else None,
        steps_per_generation=said.get("steps_per_generation") if now.method == "grpo" else None,
        is_checkpointing_on=bool(said.get("gradient_checkpointing", now.method != "causal-lm")),
    )


def _smaller(code: str, now: Situation) -> Correction | NoCorrection:
    if code != "cuda-oom":
        return NoCorrection(
            "unrecoverable",
            f"{code}: the host's memory ran out, not the GPU's; the ladder does not help",
            "hemma run -- free -g; end what else runs there, or give the job more memory",
        )
    found = next_rung(memory_state(now), now.history)
    if isinstance(found, Rung):
        keys = {key: pair for key, pair in found.changes.items() if key not in ("devices", "hardware")}
        if found.number < 3 and keys:
            keys |= _no_larger_evaluation(now, found.state.per_device_batch_size)
            arguments = {**now.arguments, **{key: pair[1] for key, pair in keys.items()}}
            return Correction(arguments, keys, f"{found.name}: {found.arithmetic}", found.number)
        return NoCorrection("retries_exhausted", "only a GPU with more memory is left", "run it on a larger GPU")
    if isinstance(found, Hold):
        return NoCorrection("unrecoverable", found.why, "look at the logs")
    assert isinstance(found, Exhausted)
    said = "; ".join(f"{each.number}: {each.why}" for each in found.reasons)
    return NoCorrection("retries_exhausted", f"{found.why} ({said})" if said else found.why, "a larger GPU")


def _no_larger_evaluation(now: Situation, batch: int) -> dict[str, tuple[Any, Any]]:
    """The batch of an evaluation amid the training, no larger than the training's own: it may be what did not fit."""
    said = now.arguments
    if str(said.get("eval_strategy", "no")) == "no":
        return {}
    # A group of completions stays together, in evaluation as in training.
    least = int(said.get("num_generations", 8)) if now.method == "grpo" else 1
    before = int(said.get("per_device_eval_batch_size", DEFAULT_BATCH))
    after = max(batch, least)
    return {"per_device_eval_batch_size": (before, after)} if after < before else {}


def _renamed(now: Situation) -> Correction | NoCorrection:
    moved = {old: new for old, new in now.renames.items() if old in now.arguments and new not in now.arguments}
    if not moved:
        return NoCorrection(
            "unrecoverable",
            "an argument is not known to the installed class, and no other one has its meaning",
            "correct it in the manifest",
        )
    arguments = {moved.get(name, name): value for name, value in now.arguments.items()}
    changes = {new: (f"{old}={now.arguments[old]!r}", now.arguments[old]) for old, new in moved.items()}
    return Correction(arguments, changes, "; ".join(f"{old} is now {new}, same value" for old, new in moved.items()))


def _slower(now: Situation) -> Correction:
    before = float(now.arguments.get("learning_rate", LEARNING_RATE.get(now.method, 2e-5)))
    after = float(f"{before * DIVERGED_FACTOR:.6g}")
    why = f"diverged: learning rate x {DIVERGED_FACTOR} (S12-R08)"
    return Correction({**now.arguments, "learning_rate": after}, {"learning_rate": (before, after)}, why)
