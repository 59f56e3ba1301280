"""The effective batch size that the settings of one side come to, whatever it is split into (S13-R31)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lanes.scope_sources import Setting

# What the trainer takes when nothing is said (transformers 5.23).
_DEFAULTS = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}
BATCH_PARTS = frozenset(("steps_per_generation",))


@dataclass(frozen=True)
class Product:
    """A product and what it is made of; `value` is None when a part is no number, or has several values."""

    value: int | None
    parts: tuple[tuple[str, str], ...]

    @property
    def arithmetic(self) -> str:
        """The product as a person checks it."""
        factors = " x ".join(f"{value} {name}" for name, value in self.parts) or "defaults"
        return f"{factors} = {self.value if self.value is not None else 'unknown'}"


def batch_of(settings: Sequence[Setting], devices: int | None) -> Product:
    """Rows per optimizer step: per device x accumulation x devices (0: their number is not known)."""
    return _product(settings, devices, ("per_device_train_batch_size", "gradient_accumulation_steps", "devices"))


def generation_batch_of(settings: Sequence[Setting], devices: int | None) -> Product:
    """Completions per generation of GRPO: per device x devices x steps; nothing where no steps are set."""
    if not any(each.key.name == "steps_per_generation" and each.value is not None for each in settings):
        return Product(None, ())
    return _product(settings, devices, ("per_device_train_batch_size", "steps_per_generation", "devices"))


def names_devices(settings: Sequence[Setting]) -> bool:
    """Whether any setting says how many devices there are."""
    return any(each.key.name == "devices" and each.value is not None for each in settings)


def _product(settings: Sequence[Setting], devices: int | None, names: tuple[str, ...]) -> Product:
    parts: list[tuple[str, str]] = []
    value: int | None = 1
    for name in names:
        found = sorted({repr(each.value) for each in settings if each.key.name == name and each.value is not None})
        default = devices if name == "devices" else _DEFAULTS.get(name, 1)
        if found:
            parts.append((name, ", ".join(found)))
        number = _number(found) if found else (1 if default is None else default or None)
        value = None if value is None or number is None else value * number
    return Product(value, tuple(parts))


def _number(found: list[str]) -> int | None:
    if len(found) != 1 or not found[0].isdigit() or len(found[0]) > 12:
        return None
    return math.prod([int(found[0])]) or None
