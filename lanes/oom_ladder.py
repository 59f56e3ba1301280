"""The next step after the GPU ran out of memory, with the effective batch size exactly as it was (S13-R30..R35, D5).

Three rungs, always in this order: a smaller per-device batch with proportionally larger accumulation, gradient
checkpointing, a GPU with more memory. A rung is left when nothing is left of it; what is already in force (TRL turns
checkpointing on by default) is recorded as exhausted and never "applied" again. Method, sequence length and precision
are no rungs, and neither is auto_find_batch_size: it multiplies the batch by 0.9 and leaves accumulation alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

Cause = Literal["cuda-oom", "host-ram", "other"]
MOST_ATTEMPTS = 8
NAMES = {
    1: "smaller per-device batch, more accumulation",
    2: "gradient checkpointing",
    3: "hardware with more memory",
}


@dataclass(frozen=True)
class Hardware:
    """Where the job could run. `memory_bytes` is that of one GPU."""

    name: str
    memory_bytes: int
    devices: int = 1


@dataclass(frozen=True)
class MemoryState:
    """What is in force. `steps_per_generation` and `num_generations` matter to GRPO alone; None means TRL's default.

    `rows_are_coupled`: the loss compares the rows of a micro-batch with each other (in-batch negatives), so that
    accumulation is no substitute for batch size.
    """

    per_device_batch_size: int
    gradient_accumulation_steps: int
    devices: int = 1
    method: str = "sft"
    num_generations: int | None = None
    steps_per_generation: int | None = None
    is_checkpointing_on: bool = False
    is_checkpointing_possible: bool = True
    rows_are_coupled: bool = False
    hardware: Hardware | None = None
    larger_hardware: tuple[Hardware, ...] = ()

    @property
    def effective_batch_size(self) -> int:
        """Rows per optimizer step over all devices (S13-R31)."""
        return self.per_device_batch_size * self.gradient_accumulation_steps * self.devices

    @property
    def generation_batch_size(self) -> int:
        """Completions that GRPO samples at once: per device x devices x steps per generation (default: accumulation)."""
        steps = self.steps_per_generation or self.gradient_accumulation_steps
        return self.per_device_batch_size * self.devices * steps

    @property
    def arithmetic(self) -> str:
        """The effective batch size as a sum that a person can check."""
        parts = (self.per_device_batch_size, self.gradient_accumulation_steps, self.devices)
        return f"{' x '.join(map(str, parts))} = {self.effective_batch_size}"


@dataclass(frozen=True)
class Attempt:
    """One earlier attempt: why it ended, and the rung that was in force when it ran (0: none)."""

    cause: Cause
    rung: int = 0


@dataclass(frozen=True)
class Skipped:
    """A rung that was passed over, and the fact that made it exhausted (S13-R34)."""

    number: int
    why: str


@dataclass(frozen=True)
class Rung:
    """What to change now. `state` is what then is in force; its effective batch size is that of the old state."""

    number: int
    state: MemoryState
    changes: dict[str, tuple[Any, Any]]
    arithmetic: str
    skipped: tuple[Skipped, ...] = ()

    @property
    def name(self) -> str:
        """The rung in words."""
        return NAMES[self.number]


@dataclass(frozen=True)
class Hold:
    """The ladder is not climbed, because the last attempt did not run out of GPU memory. `rung` stays in force (D5)."""

    rung: int
    why: str


@dataclass(frozen=True)
class Exhausted:
    """Nothing is left that keeps method, length and effective batch. A person decides; `reasons` has each rung's fact."""

    reasons: tuple[Skipped, ...]
    why: str


def next_rung(
    state: MemoryState,
    history: Sequence[Attempt],
    *,
    most_attempts: int = MOST_ATTEMPTS,
    batch_that_fits: int | None = None,
) -> Rung | Hold | Exhausted:
    """The step after the last attempt of `history`, which ended with `state` in force.

    One step for each attempt that ran out of GPU memory; attempts that ended otherwise carry the rung and move nothing
    (S13-R32, D5). `batch_that_fits`, from the memory plan, may shorten the way down rung 1; it never leads past it.
    """
    carried = max((attempt.rung for attempt in history), default=0)
    if not history or history[-1].cause != "cuda-oom":
        cause = history[-1].cause if history else "nothing"
        return Hold(carried, f"the last attempt ended by {cause}: GPU memory is not what it lacked")
    fault = _fault(state)
    if fault:
        return Exhausted((), fault)
    if len(history) >= most_attempts:
        return Exhausted((), f"{len(history)} attempts were made, of at most {most_attempts}")
    skipped: list[Skipped] = []
    for number in range(max(carried, 1), 4):
        found = _step(number, state, batch_that_fits)
        if isinstance(found, MemoryState):
            return _rung(number, state, found, tuple(skipped))
        skipped.append(Skipped(number, found))
    return Exhausted(tuple(skipped), f"no rung is left above {carried or 'the start'}")


def _step(number: int, state: MemoryState, batch_that_fits: int | None) -> MemoryState | str:
    if number == 1:
        return _smaller_batch(state, batch_that_fits)
    return _checkpointing(state) if number == 2 else _larger_hardware(state)


def _smaller_batch(state: MemoryState, batch_that_fits: int | None) -> MemoryState | str:
    """The largest proper divisor of the per-device batch (not above what fits, when that is known), or why there is none."""
    batch = state.per_device_batch_size
    if batch == 1:
        return "the per-device batch is already 1"
    if state.rows_are_coupled:
        return "rows of a micro-batch are compared with each other: accumulation cannot stand in for batch size"
    limit = min(batch - 1, max(batch_that_fits or batch, 1))
    for size in range(limit, 0, -1):
        if batch % size == 0:
            smaller = _with_batch(state, size)
            if _fault(smaller) is None:
                return smaller
    return f"no divisor of {batch} keeps what {state.method} asks of a batch"  # pragma: no cover - 1 always does


def _with_batch(state: MemoryState, size: int) -> MemoryState:
    factor = state.per_device_batch_size // size
    steps = state.steps_per_generation
    return replace(
        state,
        per_device_batch_size=size,
        gradient_accumulation_steps=state.gradient_accumulation_steps * factor,
        steps_per_generation=steps and steps * factor,
    )


def _checkpointing(state: MemoryState) -> MemoryState | str:
    if state.is_checkpointing_on:
        return "gradient checkpointing is already on"
    if not state.is_checkpointing_possible:
        return "the model does not support gradient checkpointing"
    return replace(state, is_checkpointing_on=True)


def _larger_hardware(state: MemoryState) -> MemoryState | str:
    """The smallest GPU that is larger, over which the effective batch divides exactly."""
    now = state.hardware.memory_bytes if state.hardware else 0
    larger = sorted(
        (each for each in state.larger_hardware if each.memory_bytes > now),
        key=lambda each: (each.memory_bytes, each.devices, each.name),
    )
    if not larger:
        return "no hardware with more memory is configured"
    for hardware in larger:
        moved = _moved_to(state, hardware)
        if moved is not None:
            return moved
    return f"an effective batch of {state.effective_batch_size} does not divide over any larger hardware"


def _moved_to(state: MemoryState, hardware: Hardware) -> MemoryState | None:
    """`state` on other hardware with the same effective (and generation) batch, or None when it does not divide."""
    per_step = state.per_device_batch_size * hardware.devices
    if hardware.devices < 1 or state.effective_batch_size % per_step:
        return None
    steps = state.steps_per_generation
    if steps and state.generation_batch_size % per_step:
        return None
    moved = replace(
        state,
        devices=hardware.devices,
        gradient_accumulation_steps=state.effective_batch_size // per_step,
        steps_per_generation=steps and state.generation_batch_size // per_step,
        hardware=hardware,
    )
    return moved if _fault(moved) is None else None


def _fault(state: MemoryState) -> str | None:
    """What makes a state one that no trainer accepts: sizes below 1, a GRPO group cut in two (S13-R35)."""
    if min(state.per_device_batch_size, state.gradient_accumulation_steps, state.devices) < 1:
        return "batch, accumulation and devices are whole numbers from 1"
    if state.method == "grpo" and state.num_generations:
        size = state.generation_batch_size
        if size % state.num_generations:
            return f"a generation batch of {size} cuts a group of {state.num_generations} completions in two"
    return None


_KEYS = {
    "per_device_batch_size": "per_device_train_batch_size",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "steps_per_generation": "steps_per_generation",
    "is_checkpointing_on": "gradient_checkpointing",
    "devices": "devices",
    "hardware": "hardware",
}


def _rung(number: int, before: MemoryState, after: MemoryState, skipped: tuple[Skipped, ...]) -> Rung:
    if after.effective_batch_size != before.effective_batch_size:  # pragma: no cover - the promise of this module
        raise AssertionError(f"{before.arithmetic} became {after.arithmetic}")
    changes = {
        key: (_plain(getattr(before, field)), _plain(getattr(after, field)))
        for field, key in _KEYS.items()
        if getattr(before, field) != getattr(after, field)
    }
    return Rung(number, after, changes, f"{after.arithmetic} (was {before.arithmetic})", skipped)


def _plain(value: object) -> object:
    return value.name if isinstance(value, Hardware) else value
