"""The trainer's arguments against the classes that are installed, and the config that is built from them (S11-R21, S11-R22).

Nothing here lists what a trainer takes: names, types and choices come from the fields of the installed class, so another
release is another answer. lanes/renames.py only knows where an old name went. Some arguments are ours whatever the manifest
says (`FORCED`): they keep NaN visible, checkpoints whole, runs named and resumable.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import importlib
import importlib.util
import tempfile
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from lanes.precision import PrecisionPlan
from lanes.renames import Suggestion, is_renamed, suggest
from manifests.commands import Command, joined
from training.errors import ArgumentsRefused
from training.findings import Finding, blocking

# Where the four methods' configs are; the native engine's own is training/native_config.py.
CLASSES = {"sft": "SFTConfig", "dpo": "DPOConfig", "grpo": "GRPOConfig", "reward": "RewardConfig"}

FORCED: dict[str, Any] = {
    "logging_nan_inf_filter": False,  # hides a NaN as loss 0.0 for all later steps (measured; trl#6702)
    "logging_first_step": True,  # healthy is the first metric seen
    "dataloader_pin_memory": False,  # S11-R08
    "dataloader_num_workers": 0,
    "auto_find_batch_size": False,  # multiplies the batch by 0.9 and leaves accumulation alone (S13-R31)
    "disable_tqdm": True,  # our own progress line
    "push_to_hub": False,  # the persist stage does it, and reads it back
    "save_only_model": False,
    "enable_jit_checkpoint": False,
    "ignore_data_skip": False,
    "overwrite_output_dir": False,
    "restore_callback_states_from_checkpoint": False,
}
# Said once, by a key of the manifest itself: a second place could only disagree with it.
OF_THE_MANIFEST = {
    "output_dir": "the run directory",
    "seed": "`seed`",
    "data_seed": "`seed`",
    "packing": "`packing`",
    "packing_strategy": "`packing`",
    "eval_packing": "`packing`",
    "run_name": "the run's id",
    "project": "`name`",
    "resume_from_checkpoint": "`hemma train --resume`",
    "use_cpu": "`resources.gpu: none`",
    "model_init_kwargs": "`model`",
    "hub_token": "the environment",
    "deepspeed": "one device per run",
    "fsdp": "one device per run",
}
# Arguments that the callback of the four TRL methods answers to, and no config class has.
OWN: dict[str, type] = {"early_stopping_patience": int}
LENGTH = "max_length"


def config_class(method: str) -> type:
    """The installed config class of a method."""
    if method == "causal-lm":
        from training.native_config import NativeConfig

        return NativeConfig
    return getattr(importlib.import_module("trl"), CLASSES[method])


@functools.cache
def fields_of(cls: type) -> dict[str, Any]:
    """Name -> type of every argument that the class takes."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def check(method: str, arguments: Mapping[str, Any], *, is_built: bool = True) -> list[Finding]:
    """What the installed class would say to these arguments, before anything is loaded (S11-R21, S13-R12).

    An error blocks: unknown, removed, of a wrong type or value, or the manifest's own. A renamed argument whose value stays
    as it is gets a warning with its successor, and is used under it. `is_built`: also try to make the config.
    """
    cls = config_class(method)
    fields = fields_of(cls)
    found: list[Finding] = []
    for name, value in arguments.items():
        found += _one(name, value, fields, cls.__name__, arguments)
    if is_built and not blocking(found):
        found += _built(cls, renamed(method, arguments))
    return found


def renamed(method: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments under the names of the installed class, numbers as numbers. What has no successor stays as it is."""
    cls = config_class(method)
    fields = fields_of(cls)
    result: dict[str, Any] = {}
    for name, value in arguments.items():
        known = suggest(name, fields, cls.__name__)
        same = known and known.successor and known.keeps_value and is_renamed(name)
        new = cast("Suggestion", known).successor if same else name
        result[str(new)] = as_number(value, fields.get(str(new)))
    return result


def build_config(job: Mapping[str, Any], folder: Path, precision: PrecisionPlan, **overrides: Any) -> Any:
    """The trainer's config for this job: its arguments, the precision plan, what is forced, then `overrides`.

    Raises ArgumentsRefused with every finding that blocks, each with its mend.
    """
    method, arguments = str(job["method"]), dict(job.get("arguments") or {})
    findings = blocking([*check(method, arguments, is_built=False), *check_length(job)])
    if findings:
        raise ArgumentsRefused(
            "; ".join(f"{each.name}: {each.fact}" for each in findings),
            remedy=joined((Command(each.fix) for each in findings), "; "),
        )
    cls = config_class(method)
    fields = fields_of(cls)
    said = {name: value for name, value in renamed(method, arguments).items() if name not in OWN}
    if said.get("save_strategy") == "no":
        del said["save_strategy"]
    wanted = {**_defaults(arguments), **said, **_of_precision(precision, said), **_fixed(job, folder), **overrides}
    config: Any = cls(**{name: value for name, value in wanted.items() if name in fields})
    if getattr(config, "n_gpu", 1) > 1:
        # With several GPUs in sight the Trainer spreads each batch over them, and the effective batch size with it.
        config._n_gpu = 1  # noqa: SLF001 - the Trainer's own setting; it has no argument
    return config


def check_length(job: Mapping[str, Any]) -> list[Finding]:
    """Whether a length among the arguments says the same as the frozen `sequence_length` (S13-R33)."""
    method = str(job["method"])
    said = renamed(method, job.get("arguments") or {}).get(LENGTH)
    frozen = job["sequence_length"]
    if said is None or method == "grpo" or said == frozen:
        return []
    fact = f"is {said}, the request's sequence_length is {frozen}"
    return [Finding("error", LENGTH, fact, f"remove it: sequence_length: {frozen} is what counts")]


def check_packing(job: Mapping[str, Any]) -> list[Finding]:
    """What does not go with the way rows are packed: TRL would refuse it late, or leave it out without a word (S5-R18)."""
    said, packing = renamed("sft", job.get("arguments") or {}), str(job.get("packing") or "none")
    if said.get("padding_free") and packing in ("none", "wrapped"):
        fact = f"does not go with packing: {packing}"
        return [Finding("error", "padding_free", fact, "remove it, or packing: bfd_split, which is padding-free")]
    if said.get("assistant_only_loss") and packing == "best-fit":
        fact = "is not known where rows are packed before the trainer sees them (packing: best-fit)"
        return [Finding("error", "assistant_only_loss", fact, "packing: bfd_split")]
    return []


def effective_batch_size(config: Any, devices: int = 1) -> int:
    """Rows per optimizer step: per device x accumulation x devices (S13-R31)."""
    return config.per_device_train_batch_size * config.gradient_accumulation_steps * devices


def as_number(value: Any, hint: Any) -> Any:
    """YAML reads `2e-5` as text: a text that is a number becomes one where the argument wants a number."""
    kinds = _members(hint)
    if not isinstance(value, str) or str in kinds or not {int, float} & set(kinds):
        return value
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(value)
            except ValueError:
                continue
    return value


# --- one argument ------------------------------------------------------------------------------------------------


def _one(name: str, value: Any, fields: Mapping[str, Any], cls: str, every: Mapping[str, Any]) -> list[Finding]:
    if name in OWN and cls in CLASSES.values():
        fault = _fault(value, OWN[name])
        return [Finding("error", name, fault, f"{name}: a whole number")] if fault else []
    if name in OF_THE_MANIFEST:
        return [Finding("error", name, "is said by the manifest itself", f"remove it: it is {OF_THE_MANIFEST[name]}")]
    if name in FORCED:
        return _forced(name, value)
    if name == "save_strategy" and value == "no":
        return [Finding("warn", name, "checkpoints are always made: `steps` is used", f"remove {name}")]
    if name not in fields:
        return _unknown(name, value, fields, cls, every)
    return _typed(name, value, fields[name])


def _forced(name: str, value: Any) -> list[Finding]:
    wanted = FORCED[name]
    if value == wanted:
        return []
    severity = "error" if name == "auto_find_batch_size" else "warn"
    return [Finding(severity, name, f"is always {wanted}, not {value!r}", f"remove {name}")]


def _unknown(name: str, value: Any, fields: Mapping[str, Any], cls: str, every: Mapping[str, Any]) -> list[Finding]:
    known = suggest(name, fields, cls)
    if known is None:
        return [Finding("error", name, f"is no argument of the installed {cls}", f"remove {name}")]
    if known.successor is None:
        return [Finding("error", name, f"is gone from the installed {cls}: {known.note}", f"remove {name}")]
    successor = known.successor
    if successor in every:
        is_old = is_renamed(name)
        fact = f"is {'the old name of' if is_old else 'a slip for'} {successor}, which is given too"
        return [Finding("error", name, fact, f"remove {name}", successor)]
    if not (known.keeps_value and is_renamed(name)):
        fact = f"is no argument of the installed {cls}; did you mean {successor}? ({known.note})"
        return [Finding("error", name, fact, f"write {successor}", successor)]
    if successor in OF_THE_MANIFEST:
        return _one(successor, value, fields, cls, {})
    used = Finding("warn", name, f"is {successor} now ({known.note})", f"write {successor}", successor)
    return [used, *_typed(successor, value, fields[successor])]


def _typed(name: str, value: Any, hint: Any) -> list[Finding]:
    number = as_number(value, hint)
    fault = _fault(number, hint)
    if fault:
        fix = (
            f"{name}: [{value}]"
            if list in _members(hint) and not isinstance(value, dict)
            else f"{name}: {_words(hint)}"
        )
        return [Finding("error", name, fault, fix)]
    if number is not value:
        return [Finding("info", name, f"{value!r} is read as the number {number}", f"write {name}: {number!r}")]
    return []


def _fault(value: Any, hint: Any) -> str:
    """Why `value` is none of this type, or an empty text."""
    kinds = _members(hint)
    choices = [member.value for kind in kinds if _is_enum(kind) for member in kind]
    if isinstance(value, str) and choices:
        close = f"{value!r} is none of: {', '.join(map(str, choices))}"
        return "" if value in choices else close
    if any(_fits(value, kind) for kind in kinds):
        return ""
    return f"{value!r} is {type(value).__name__}, not {_words(hint)}"


def _fits(value: Any, kind: Any) -> bool:
    if kind is Any:
        return True
    if kind is None or kind is types.NoneType:
        return value is None
    if isinstance(kind, bool | str | int):  # a member of a Literal
        return value == kind and type(value) is type(kind)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    # JSON knows no other containers; what is in them is the trainer's own to judge.
    return isinstance(kind, type) and isinstance(value, kind)


def _members(hint: Any) -> list[Any]:
    """The plain types, enums and literals that a hint allows; containers without what they hold."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return [each for part in typing.get_args(hint) for each in _members(part)]
    if origin is typing.Literal:
        return list(typing.get_args(hint))
    return [origin or hint]


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, enum.Enum)


def _words(hint: Any) -> str:
    names = [getattr(kind, "__name__", str(kind)) for kind in _members(hint)]
    return " or ".join("nothing" if name == "NoneType" else name for name in names)


def _built(cls: type, arguments: Mapping[str, Any]) -> list[Finding]:
    """What the class itself says when it is made, on any machine: precision is left out, it is the hardware's."""
    fields = fields_of(cls)
    said = {name: value for name, value in arguments.items() if name in fields and name not in ("bf16", "fp16", "tf32")}
    neutral = {"use_cpu": True, "bf16": False, "fp16": False, "report_to": "none", "eval_strategy": "no"}
    # A strategy that needs an evaluation is right here; whether there is data for it is the data audit's.
    neutral |= {"eval_strategy": said["eval_strategy"]} if "eval_strategy" in said else {}
    with tempfile.TemporaryDirectory() as folder:
        wanted = {"output_dir": folder, **said, **{name: neutral[name] for name in neutral if name in fields}}
        try:
            cls(**wanted)
        except Exception as error:  # noqa: BLE001 - whatever a config class raises is its answer
            return [Finding("error", "arguments", f"{cls.__name__}: {error}", "mend what the message names")]
        finally:
            _forget_device()
    return []


def _forget_device() -> None:
    """A config made for the CPU marks the whole process: take the mark away."""
    if importlib.util.find_spec("accelerate"):
        state = importlib.import_module("accelerate.state")
        state.AcceleratorState._reset_state(reset_partial_state=True)  # noqa: SLF001 - accelerate's own way in tests


# --- the whole config --------------------------------------------------------------------------------------------


def _defaults(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Where the manifest is silent and the library's default would not do."""
    wanted: dict[str, Any] = {"save_strategy": "steps"}
    if "early_stopping_patience" in arguments:
        wanted |= {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss", "eval_strategy": "steps"}
    return wanted


def _of_precision(precision: PrecisionPlan, said: Mapping[str, Any]) -> dict[str, Any]:
    """The plan's arguments; an optimizer that the manifest names stands, precision is as planned."""
    planned = dict(precision.trainer_arguments)
    if "optim" in said:
        planned.pop("optim", None)
    return {**planned, "use_cpu": precision.profile == "cpu"}


def _fixed(job: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    fixed = {
        **FORCED,
        "output_dir": str(folder / "checkpoints"),
        "seed": job.get("seed", 42),
        "data_seed": job.get("seed", 42),
        # Our mirror brings metrics and alerts to the tracker: a callback of the library's would stop the training with it.
        "report_to": "none",
        "project": str(job.get("name") or "hemma"),
        "run_name": str(job.get("run_id") or job.get("name") or "run"),
        "save_total_limit": None,
    }
    if job["method"] != "grpo":
        fixed[LENGTH] = job["sequence_length"]
    if job["method"] == "sft":
        fixed |= _packing(str(job.get("packing") or "none"))
    return fixed


def _packing(strategy: str) -> dict[str, Any]:
    if strategy == "none":
        return {"packing": False}
    if strategy == "best-fit":
        # Packed by training/data/packing.py before the trainer sees it: only the boundaries are left to respect. No row is
        # longer than the frozen length, and TRL takes no length where it has nothing to cut.
        return {"packing": False, "padding_free": True, LENGTH: None}
    return {"packing": True, "packing_strategy": strategy}
