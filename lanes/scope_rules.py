"""When two values of one setting are as good as equal, and how a difference of a neutral one is judged (S13-R31, S13-R46)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from lanes.scope_facts import Product
from lanes.scope_keys import normal
from lanes.scope_sources import Setting
from lanes.scope_values import Value

# Values that a setting has when it is not there, as transformers 5.23 and TRL 1.16 have them. None is always one.
DEFAULTS: Mapping[str, tuple[Value, ...]] = {
    "max_steps": (-1, 0),
    "num_train_epochs": (3,),
    "seed": (42,),
    "logging_nan_inf_filter": (False,),
    "do_train": (True,),
    "do_eval": (True,),
    "report_to": ("none",),
    "full_determinism": (True, False),
    "is_trainable": (),
    "streaming": (False,),
    "target_modules": (),
}
SWITCHES = frozenset(
    (
        "packing",
        "load_in_4bit",
        "load_in_8bit",
        "auto_find_batch_size",
        "fp8",
        "use_dora",
        "freeze",
        "overfit_batches",
        "peft",
    )
    + (
        "use_peft",
        "use_lora",
        "debug_mode",
        "dry_run",
        "fast_dev_run",
        "smoke_test",
        "full_finetuning",
        "use_cpu",
        "no_cuda",
        "filter",
    )
    + (
        "wandb_disabled",
        "trackio_disabled",
        "disable_wandb",
        "no_wandb",
        "disable_trackio",
        "disable_logging",
        "eval_packing",
    )
    + (
        "padding_free",
        "trust_remote_code",
        "dataloader_drop_last",
        "dedup",
        "early_stopping",
        "fp16",
        "tf32",
        "push_to_hub",
        "lora",
    )
)
# Facets of acts that count when they are added, and those that count when they go away; all others count both ways.
WHEN_ADDED = frozenset(
    ("dynamic", "patch", "exit", "swallowed", "early-stop", "condition", "tracker", "origin", "module")
)
WHEN_GONE = frozenset(("anchor", "tracker-call", "tracker-package"))
TRACKING_ON = frozenset(("report_to",))
INTERVALS = {"logging_steps": (100, 10), "log_interval": (100, 10), "eval_steps": (1000, 10), "save_steps": (1000, 10)}


@dataclass(frozen=True)
class Change:
    """One difference: the setting or act, the part of the scope it belongs to, both values, and how it is judged."""

    key: str
    facet: str
    before: Any
    after: Any
    allowed: bool
    why: str


# Parts whose words are the same in any case, and parts whose switches may be written 1 and 0.
_ANY_CASE = frozenset(("method", "tracker", "loss", "evaluation", "precision", "packing"))
_SWITCHED = frozenset(("precision", "packing", "quantisation", "evaluation", "tracker"))


def alike(value: Value, facet: str) -> Value:
    """A value in the one spelling that its part of the scope has for it."""
    if isinstance(value, str) and facet in _ANY_CASE:
        return value.lower()
    if isinstance(value, int) and value in (0, 1) and facet in _SWITCHED:
        return bool(value)
    return value


def typed(value: Value) -> Value:
    """A value that is equal to its like only: in a set, True would be 1."""
    return type(value).__name__ if value is None else (isinstance(value, bool), value)


def absent_values(name: str, facet: str) -> frozenset[Value]:
    """The values of a setting that are as good as none."""
    values: list[Value] = [None, *DEFAULTS.get(name, ())]
    if name in SWITCHES or facet in ("quantisation", "adapter"):
        values.append(False)
    return frozenset(typed(each) for each in values)


def shown(values: Collection[Any]) -> Any:
    """Values as people read them: one alone, several sorted."""
    plain = [
        each[1] if isinstance(each, tuple) and len(cast("tuple[Any, ...]", each)) == 2 else each for each in values
    ]
    return plain[0] if len(plain) == 1 else sorted(plain, key=repr) or None


def renamed(name: str, facet: str, old: list[Setting], new: list[Setting]) -> Iterator[Change]:
    """A name that became another with the same value is allowed, and recorded (S13-R46)."""
    before, after = ({normal(each.written) for each in side} for side in (old, new))
    if before and after and before != after:
        yield Change(name, facet, shown(before), shown(after), True, "another name for the same value (S13-R46)")


def tracked(before: frozenset[Value], after: frozenset[Value]) -> tuple[frozenset[Value], frozenset[Value]]:
    """Trackers may come in addition: with all earlier ones still there the values count as equal."""

    def names(values: frozenset[Value]) -> set[Any]:
        flat: set[Any] = set()
        for each in values:
            value = each[1] if isinstance(each, tuple) else None
            flat |= set(cast("tuple[Any, ...]", value)) if isinstance(value, tuple) else {value}
        return flat - {None, "none", False}

    old, new = names(before), names(after)
    is_off = bool(after) and any(not names(frozenset((each,))) for each in after)
    return (after, after) if old <= new and not (old and is_off) else (before, after)


def interval(name: str, before: frozenset[Value], after: frozenset[Value]) -> tuple[bool, str]:
    """How often is neutral, until it is hardly ever."""
    if name not in INTERVALS:
        return True, "neutral"
    floor, factor = INTERVALS[name]
    old = max(
        (each[1] for each in before if isinstance(each, tuple) and isinstance(each[1], int | float)), default=floor
    )
    for each in after:
        value = each[1] if isinstance(each, tuple) else None
        if isinstance(value, int | float) and not 0 < value <= max(floor, factor * old):
            return False, "so seldom that nothing is watched (S12-R01)"
    return True, "neutral"


def is_interval(what: str) -> bool:
    """Whether a condition asks for every n-th step."""
    return what.endswith(" 0")


def is_section(place: str) -> bool:
    """Whether a section is one that trainings read; the root is."""
    known = "training train trainer args training_args training_arguments sft dpo grpo reward config hyperparameters model data dataset"
    parts = [part for part in place.partition(":")[2].split(".") if part]
    return all(
        normal(part) in (*known.split(), "trainer_args", "sft_config", "lora", "peft", "params") for part in parts
    )


def product_change(name: str, old: Product, new: Product) -> Iterator[Change]:
    """The difference of two products; another split of the same one is allowed."""
    if old.value == new.value and old.parts == new.parts:
        return
    kept = old.value == new.value and old.value is not None
    why = "the same product (S13-R31)" if kept else "it has to stay identical (S13-R31)"
    yield Change(name, "batch", old.arithmetic, new.arithmetic, kept, why)
