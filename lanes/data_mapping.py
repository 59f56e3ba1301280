"""Column mappings: what each column that a trainer reads is made of, in words that a person can check and repeat (S5-R10).

    question                        that column
    instruction + input             texts joined by a blank line, empty ones left out
    chat(conversations)             from/value turns as role/content, roles under their usual names
    user(question)                  the text as one user turn
    assistant(answer)               the text as one assistant turn
    before_reply(messages)          the turns before the last assistant turn; all of them where there is none
    reply(messages)                 the last assistant turn
    shared(chosen, rejected)        what both begin with: the implicit prompt (C13)
    after_shared(chosen, rejected)  the first of them without what both begin with

A column whose name looks like one of these is that column. The same row and mapping always give the same result.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from lanes.data_values import CHAT_KINDS, Kind, kind_of, normal_turns

Row = Mapping[str, Any]
_CALL = re.compile(r"(\w+)\(([^()]*)\)")


class MappingBroken(ValueError):
    """A mapping that cannot be read, or that names a column which is not there."""


@dataclass(frozen=True)
class Made:
    """One target column: the operation and the columns it reads. `operation` is "column" for a plain name."""

    operation: str
    columns: tuple[str, ...]

    def value(self, row: Row) -> Any:
        """The target's value for a row; None where a column it needs is missing or of another kind."""
        values = [row.get(name) for name in self.columns]
        return _OPERATIONS[self.operation].make(values)

    def kind(self, kinds: Mapping[str, Kind]) -> Kind | None:
        """The kind that comes out for columns of these kinds; None where the operation cannot take them."""
        return _OPERATIONS[self.operation].kind([kinds.get(name, "null") for name in self.columns])


@dataclass(frozen=True)
class _Operation:
    make: Callable[[Sequence[Any]], Any]
    kind: Callable[[Sequence[Kind]], Kind | None]
    arity: int | None = 1


def parse(source: str, columns: Collection[str]) -> Made:
    """What `source` says. Raises MappingBroken naming the column that is missing or the operation that is unknown."""
    text = source.strip()
    if source in columns or text in columns:
        return Made("column", (source if source in columns else text,))
    call = _CALL.fullmatch(text)
    if call is not None:
        return _parsed_call(call[1], call[2], columns)
    if "+" in text:
        return _known(Made("join", tuple(part.strip() for part in text.split("+"))), columns)
    raise MappingBroken(f"there is no column `{source}`")


def _parsed_call(operation: str, inside: str, columns: Collection[str]) -> Made:
    names = tuple(part.strip() for part in inside.split(","))
    known = _OPERATIONS.get(operation)
    if known is None or operation in {"column", "join"}:
        usual = ", ".join(sorted(set(_OPERATIONS) - {"column", "join"}))
        raise MappingBroken(f"`{operation}` is no operation of a mapping; there are {usual}")
    if known.arity != len(names):
        raise MappingBroken(f"`{operation}` takes {known.arity} column(s), not {len(names)}")
    return _known(Made(operation, names), columns)


def _known(made: Made, columns: Collection[str]) -> Made:
    missing = [name for name in made.columns if name not in columns]
    if missing:
        raise MappingBroken(f"there is no column `{missing[0]}`")
    return made


def render(mapping: Mapping[str, Made], row: Row) -> dict[str, Any]:
    """The target columns of one row."""
    return {target: made.value(row) for target, made in mapping.items()}


# --- the operations: a value of None says that the row does not have what the operation needs ---------------------


def _column(values: Sequence[Any]) -> Any:
    value = values[0]
    return normal_turns(value) if kind_of(value) in CHAT_KINDS and _all_mappings(value) else value


def _join(values: Sequence[Any]) -> str | None:
    if any(value is not None and not isinstance(value, str) for value in values):
        return None
    texts = [value for value in values if value and value.strip()]
    return "\n\n".join(texts) if texts else None


def _chat(values: Sequence[Any]) -> list[dict[str, Any]] | None:
    value = values[0]
    if kind_of(value) not in {"messages", "reply", "turns"} or not _all_mappings(value):
        return None
    return normal_turns(value)


def _turn(role: str) -> Callable[[Sequence[Any]], list[dict[str, Any]] | None]:
    def make(values: Sequence[Any]) -> list[dict[str, Any]] | None:
        return [{"role": role, "content": values[0]}] if isinstance(values[0], str) else None

    return make


def _before_reply(values: Sequence[Any]) -> list[dict[str, Any]] | None:
    turns = _chat(values)
    at = _last_reply(turns)
    return turns if turns is None or at is None else turns[:at] or None


def _reply(values: Sequence[Any]) -> list[dict[str, Any]] | None:
    turns = _chat(values)
    at = _last_reply(turns)
    return turns[at : at + 1] if turns is not None and at is not None else None


def _last_reply(turns: list[dict[str, Any]] | None) -> int | None:
    return next((at for at in reversed(range(len(turns or ()))) if (turns or ())[at].get("role") == "assistant"), None)


def _shared(values: Sequence[Any]) -> Any:
    length = _shared_length(values)
    return None if length is None else _normal(values[0])[:length]


def _after_shared(values: Sequence[Any]) -> Any:
    length = _shared_length(values)
    return None if length is None else _normal(values[0])[length:]


def _shared_length(values: Sequence[Any]) -> int | None:
    """How much both begin with: whole turns, or text up to the end of a word. None where they cannot be compared."""
    one, other = _normal(values[0]), _normal(values[1])
    if isinstance(one, str) and isinstance(other, str):
        # A prompt that ends in a space makes another first token than the same prompt without it.
        length = _shared_text(one, other)
        return length - 1 if one[:length].endswith(" ") else length
    if isinstance(one, list) and isinstance(other, list):
        # At least one turn stays behind: two equal conversations are an equal pair, not a pair without replies.
        shortest = max(0, min(len(one), len(other)) - 1)
        return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), shortest)
    return None


def _shared_text(one: str, other: str) -> int:
    """The number of characters both begin with; found by halving, since prompts are long."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle - 1)
    return low


def _normal(value: Any) -> Any:
    if isinstance(value, str):
        return value
    return normal_turns(value) if kind_of(value) in {"messages", "reply", "turns"} and _all_mappings(value) else None


def _all_mappings(value: Any) -> bool:
    return all(isinstance(turn, Mapping) for turn in cast("Sequence[object]", value))


def _only(wanted: Collection[Kind], becomes: Kind | None) -> Callable[[Sequence[Kind]], Kind | None]:
    def kind(kinds: Sequence[Kind]) -> Kind | None:
        return becomes if all(each in wanted for each in kinds) else None

    return kind


def _same(kinds: Sequence[Kind]) -> Kind | None:
    return kinds[0]


def _kind_shared(kinds: Sequence[Kind]) -> Kind | None:
    if all(kind == "text" for kind in kinds):
        return "text"
    return "messages" if all(kind in {"messages", "turns"} for kind in kinds) else None


def _kind_after(kinds: Sequence[Kind]) -> Kind | None:
    return {"text": "text", "messages": "reply"}.get(_kind_shared(kinds) or "")  # type: ignore[return-value]


_CONVERSATION: Collection[Kind] = ("messages", "reply", "turns")
_OPERATIONS: Mapping[str, _Operation] = {
    "column": _Operation(_column, _same),
    "join": _Operation(_join, _only(("text", "null"), "text"), None),
    "chat": _Operation(_chat, _only(_CONVERSATION, "messages")),
    "user": _Operation(_turn("user"), _only(("text",), "messages")),
    "assistant": _Operation(_turn("assistant"), _only(("text",), "reply")),
    "before_reply": _Operation(_before_reply, _only(_CONVERSATION, "messages")),
    "reply": _Operation(_reply, _only(_CONVERSATION, "reply")),
    "shared": _Operation(_shared, _kind_shared, 2),
    "after_shared": _Operation(_after_shared, _kind_after, 2),
}
