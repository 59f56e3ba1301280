"""Does a dataset's format fit the method: compatible as it is, mappable (the mapping is recorded), or incompatible?

Judged from the kinds of its columns (S5-R04..R10, C13). What its rows hold is judged in lanes/data_content.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from lanes.data_mapping import MappingBroken, parse
from lanes.data_proposals import proposals
from lanes.data_values import CHAT_KINDS, Kind, broken_turn, kind_of

Word = Literal["compatible", "mappable", "incompatible"]
Shape = tuple[str, ...]

SHAPES: Mapping[str, tuple[Shape, ...]] = {
    "sft": (("prompt", "completion"), ("messages",), ("text",)),
    "dpo": (("prompt", "chosen", "rejected"),),
    "grpo": (("prompt",),),
    "reward": (("prompt", "chosen", "rejected"), ("chosen", "rejected")),
    "causal-lm": (("text",),),
}
REQUIRED: Mapping[str, str] = {
    "sft": "messages, or text, or prompt + completion (S5-R04)",
    "dpo": "prompt, chosen and rejected (S5-R05)",
    "grpo": "prompt (S5-R06)",
    "reward": "chosen and rejected (S5-R07)",
    "causal-lm": "text",
}
# What else a trainer reads of a row. GRPO hands every further column to the reward function.
OPTIONAL: Mapping[str, Collection[str]] = {
    "sft": ("tools", "chat_template_kwargs"),
    "dpo": ("tools", "chat_template_kwargs"),
    "reward": ("tools", "chat_template_kwargs", "margin"),
}

# By any one of these TRL judges whether a row is a conversation.
READ = ("prompt", "completion", "messages", "chosen", "rejected")


@dataclass(frozen=True)
class FormatVerdict:
    """Whether the columns fit the method, the mapping that makes them fit, and the target columns that are then there."""

    verdict: Word
    shape: Shape = ()
    mapping: Mapping[str, str] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()

    @property
    def is_usable(self) -> bool:
        """Whether a trainer can be given this data, with the mapping applied."""
        return self.verdict != "incompatible"


def judge_format(method: str, kinds: Mapping[str, Kind], given: Mapping[str, str] | None = None) -> FormatVerdict:
    """The verdict for columns of these kinds (the kind that most rows have; "null" for a column without values).

    `given` is the mapping that a person wrote; it is then the only one tried.
    """
    there: dict[str, Kind] = {name: kind for name, kind in kinds.items() if kind not in {"null", "empty-list"}}
    if given:
        return _judge_given(method, there, given)
    # A trainer goes by the names alone: a column of these without any value makes it read rows the wrong way.
    direct = None if any(name in READ and name not in there for name in kinds) else _direct(method, there)
    if direct is not None:
        return FormatVerdict("compatible", direct)
    for mapping in proposals(method, there):
        reason = fault_of(method, mapping, there)
        if reason is None:
            steps = tuple(f"{target} <- {source}" for target, source in mapping.items())
            return FormatVerdict("mappable", tuple(mapping), mapping, steps)
    return FormatVerdict("incompatible", reasons=_why_not(method, there))


def _judge_given(method: str, kinds: Mapping[str, Kind], given: Mapping[str, str]) -> FormatVerdict:
    wanted = {name for shape in SHAPES[method] for name in shape}
    # What the mapping does not name stays what it is.
    completed = {**{name: name for name in wanted if name in kinds and name not in given}, **given}
    reason = fault_of(method, given, kinds)
    for mapping in (given, completed):
        if fault_of(method, mapping, kinds) is None:
            return FormatVerdict("mappable", _shape_in(method, mapping), dict(mapping))
    return FormatVerdict("incompatible", reasons=(f"the mapping of the manifest does not fit: {reason}",))


def fault_of(method: str, mapping: Mapping[str, str], kinds: Mapping[str, Kind]) -> str | None:
    """Why this mapping gives the trainer nothing it can use; None when it does."""
    made: dict[str, Kind | None] = {}
    for target, source in mapping.items():
        try:
            made[target] = parse(source, kinds).kind(kinds)
        except MappingBroken as error:
            return str(error)
        if made[target] is None:
            return f"{target} cannot be made of {source}"
    found: dict[str, Kind] = {target: kind for target, kind in made.items() if kind is not None}
    shaped: dict[str, Kind] = {name: found[name] for name in _shape_in(method, found)}
    return clash(shaped) if shaped else f"{method} needs {REQUIRED[method]}"


def _shape_in(method: str, columns: Collection[str]) -> Shape:
    """The first shape of the method whose columns are all there; empty when there is none."""
    return next((shape for shape in SHAPES[method] if set(shape) <= set(columns)), ())


def clash(kinds: Mapping[str, Kind]) -> str | None:
    """Why columns of these kinds cannot stand beside each other in one row; None when they can."""
    for name, kind in kinds.items():
        if name == "text" and kind != "text":
            return f"text is {kind}, not text"
        if name == "messages" and kind not in CHAT_KINDS:
            return f"messages is {kind}, not messages"
        if kind != "text" and kind not in CHAT_KINDS:
            return f"{name} is {kind}, neither text nor messages"
    if len({kind == "text" for kind in kinds.values()}) > 1:
        return "text and messages are mixed: " + ", ".join(f"{name} is {kind}" for name, kind in kinds.items())
    if "prompt" in kinds and any(kinds.get(side) == "messages" for side in ("chosen", "rejected")):
        return "chosen or rejected hold whole conversations: the prompt would come twice"
    return None


def _direct(method: str, kinds: Mapping[str, Kind]) -> Shape | None:
    """The shape that the trainer reads from these columns as they are; None when it would fail or read another one."""
    shape = _shape_in(method, kinds)
    if not shape or clash({name: kinds[name] for name in shape}) is not None:
        return None
    # TRL's SFT takes any row with a `prompt` for prompt + completion, whatever else it holds.
    if method == "sft" and shape != ("prompt", "completion") and "prompt" in kinds:
        return None
    # TRL decides by any one of these columns whether rows are conversations; two kinds side by side make it a lottery.
    return shape if len({kinds[name] == "text" for name in READ if name in kinds}) <= 1 else None


def kept_columns(method: str, shape: Shape, kinds: Mapping[str, Kind]) -> list[str]:
    """Columns besides the shape's that go to the trainer: what it reads, and for GRPO all that the reward may want."""
    if method != "grpo":
        return [name for name in OPTIONAL.get(method, ()) if name in kinds and name not in shape]
    is_text = kinds.get("prompt") == "text"
    lottery = {name for name in READ if name in kinds and (kinds[name] == "text") != is_text}
    return [name for name in kinds if name not in shape and name not in lottery]


def row_fault(row: Mapping[str, object], shape: Shape, *, is_chat: bool) -> str | None:
    """Why the trainer could not read this row (its target columns); None when it can. `is_chat`: turns, not text."""
    for name in shape:
        value = row.get(name)
        if value is None:
            return f"{name} is missing"
        if not is_chat and not isinstance(value, str):
            return f"{name} is {kind_of(value)}, not text"
        if is_chat:
            fault = broken_turn(value) if isinstance(value, list) else f"it is {kind_of(value)}, not turns"
            if fault is not None:
                return f"{name}: {fault}"
    return None


def _why_not(method: str, kinds: Mapping[str, Kind]) -> tuple[str, ...]:
    there = (
        ", ".join(f"{name} ({kind})" for name, kind in itertools.islice(kinds.items(), 20)) or "no column with values"
    )
    reasons = [f"{method} needs {REQUIRED[method]}; there is {there}"]
    if "input_ids" in kinds:
        reasons.append("rows are tokenised already: turns, labels and the tokenizer cannot be checked any more")
    return tuple(reasons)
