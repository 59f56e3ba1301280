"""The smallest change after a diagnosed failure that keeps the request, or the reason why a person must make it (S13-R01).

Only what does not touch the science moves here: the OOM ladder's arguments (effective batch unchanged), the batch of an
evaluation, a renamed argument under its new name with the same value, the learning rate after a divergence, a time limit within
the caps; what passes by itself is waited for, what hung gets one more try. All else is for a person (S13-R44).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lanes.oom_ladder import Attempt, Exhausted, Hold, MemoryState, Rung, next_rung

LEARNING_RATE = {"sft": 2e-5, "dpo": 1e-6, "grpo": 1e-6, "reward": 1e-4, "causal-lm": 6e-4}
DIVERGED_FACTOR = 0.1
DEFAULT_BATCH = 8
# What passes by itself, and how long to wait for it: seconds, one after the other.
PASSING = frozenset(
    {"rate-limited", "capacity", "gpu-busy", "network", "network-timeout", "tracker-unreachable", "rendezvous-timeout"}
)
WAITS_S = (20.0, 90.0, 300.0)
HUNG = frozenset({"stuck", "silent", "nccl-timeout"})
# Arguments that decide what is seen, kept or loaded of a training, never what it learns.
_BESIDE_THE_RESULT = ("logging_", "save_", "dataloader_num_workers", "dataloader_pin", "dataloader_prefetch", "disable_tqdm",
                      "report_to", "run_name", "trackio_", "push_to_hub", "hub_", "log_level", "include_num_input")  # fmt: skip


@dataclass(frozen=True)
class Correction:
    """New arguments, what changed from what to what, and why; `rung` of the OOM ladder that is in force after it.

    `wait_s`: seconds to wait before the next attempt; `timeout_s`: its new time limit; `rechecked_docs`: the installed
    class whose signature the change was taken from.
    """

    arguments: dict[str, Any]
    changes: dict[str, tuple[Any, Any]]
    why: str
    rung: int = 0
    effective_batch_preserved: bool = True
    wait_s: float = 0.0
    timeout_s: float | None = None
    rechecked_docs: str = ""


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
    # The job's time limit, and the highest that its caps still hold; None where the phase has a limit of its own.
    timeout_s: float | None = None
    highest_timeout_s: float | None = None
    is_in_evaluation: bool = False
    signature: str = ""


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
    if code in PASSING:
        return _later(code, now)
    if (category, code) == ("timeout", "time-limit"):
        return _longer(now)
    if category == "hang_no_progress" and code in HUNG:
        return _once_more(code, now)
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


def _later(code: str, now: Situation) -> Correction | NoCorrection:
    """The same again after a while, each wait longer than the one before, a bounded number of times (S13-R15)."""
    waited = sum("wait_s" in each for each in now.tried)
    if waited == len(WAITS_S):
        said = f"{code}: still so after {waited} waits"
        return NoCorrection("retries_exhausted", said, "try again when the service or the card is there")
    wait_s = WAITS_S[waited]
    before = WAITS_S[waited - 1] if waited else 0.0
    return Correction(dict(now.arguments), {"wait_s": (before, wait_s)}, f"{code}: waits {wait_s:.0f} s", wait_s=wait_s)


def _longer(now: Situation) -> Correction | NoCorrection:
    """Twice the time, if the caps hold it: it goes on from its checkpoint. Data, epochs and lengths stay (S13-R17)."""
    if now.timeout_s is None or now.highest_timeout_s is None:
        return NoCorrection("unrecoverable", "a trial did not end within its own limit", "hemma logs RUN")
    after = min(2 * now.timeout_s, now.highest_timeout_s)
    if after <= now.timeout_s:
        why = f"the time limit of {now.timeout_s:.0f} s was reached, and the caps hold no longer one"
        return NoCorrection("timeout", why, "raise resources.timeout and the caps in the manifest")
    changes = {"resources.timeout": (now.timeout_s, after)}
    return Correction(dict(now.arguments), changes, f"a time limit of {after:.0f} s, within the caps", timeout_s=after)


def _once_more(code: str, now: Situation) -> Correction | NoCorrection:
    if any("hung" in each for each in now.tried):
        return NoCorrection("unrecoverable", f"{code}: it hung once more", "dump the stacks: py-spy dump --pid PID")
    return Correction(
        dict(now.arguments), {"hung": (code, "once more")}, f"{code}: ended, and once more from its checkpoint"
    )


def _smaller_evaluation(now: Situation) -> Correction | NoCorrection:
    """An evaluation that did not fit takes a smaller batch; the training's own stays."""
    least = int(now.arguments.get("num_generations", 8)) if now.method == "grpo" else 1
    before = int(now.arguments.get("per_device_eval_batch_size", DEFAULT_BATCH))
    after = max(least, before // 2)
    if after == before:
        return NoCorrection("retries_exhausted", "one row of the evaluation does not fit", "a larger GPU")
    changes = {"per_device_eval_batch_size": (before, after)}
    arguments = {**now.arguments, "per_device_eval_batch_size": after}
    return Correction(arguments, changes, f"the evaluation did not fit: {before} rows at a time, now {after}")


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
    if now.is_in_evaluation:
        return _smaller_evaluation(now)
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
    why = "; ".join(f"{old} is now {new}, same value" for old, new in moved.items())
    return Correction(arguments, changes, why, rechecked_docs=now.signature)


def _slower(now: Situation) -> Correction:
    before = float(now.arguments.get("learning_rate", LEARNING_RATE.get(now.method, 2e-5)))
    after = float(f"{before * DIVERGED_FACTOR:.6g}")
    why = f"diverged: learning rate x {DIVERGED_FACTOR} (S12-R08)"
    return Correction({**now.arguments, "learning_rate": after}, {"learning_rate": (before, after)}, why)
