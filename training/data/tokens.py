"""How many tokens a trainer would make of each row, with the real tokenizer and chat template (S5-R18, S5-R20).

Counted as TRL does it: text gets the end token, conversations go through the template, and a completion begins where the
tokens of prompt and of prompt + completion part.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lanes.data_values import kind_of
from training.data.encoding import Encoder


@dataclass(frozen=True)
class RowTokens:
    """(tokens, of which prompt) of each sequence that a row becomes: one, or two for pairs. `fault`: why there is none."""

    sequences: tuple[tuple[int, int], ...] = ()
    fault: str | None = None


@dataclass(frozen=True)
class _Texts:
    """The texts of a row: `whole` are its sequences, `prompt` what they begin with."""

    whole: tuple[str, ...]
    prompt: str | None = None


class TokenCounter:
    """Counts for one method and the columns of its shape. Raises IdsDiffer when the quick way turns out wrong: count anew."""

    def __init__(self, tokenizer: Any, method: str, shape: Sequence[str], *, is_fast: bool = True) -> None:
        self._tokenizer, self._method, self._shape = tokenizer, method, tuple(shape)
        self._encoder = Encoder(tokenizer, is_fast=is_fast)
        self._backend = getattr(tokenizer, "backend_tokenizer", None)
        self._end = tokenizer.eos_token or ""

    def template_fault(self) -> str | None:
        """Why conversations cannot be rendered at all with this tokenizer; None when its template does it (S5-R20)."""
        if not getattr(self._tokenizer, "chat_template", None):
            return "the tokenizer has no chat template"
        try:
            said = self._render([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
        except Exception as error:  # noqa: BLE001  a template is a program of somebody else's
            return f"the chat template fails: {_first_line(error)}"
        return None if said.strip() else "the chat template renders nothing"

    def count(self, rows: Sequence[Mapping[str, Any]]) -> list[RowTokens]:
        """The tokens of these rows, which all have the columns of the shape, of the kinds that belong there."""
        texts: list[_Texts | str] = [self._texts(row) for row in rows]
        is_chat = bool(rows) and kind_of(rows[0][self._shape[0]]) != "text"
        flat = [text for each in texts if not isinstance(each, str) for text in _flat(each)]
        encoded = iter(self._encode(flat, special=not is_chat))
        return [RowTokens(fault=each) if isinstance(each, str) else self._row(each, encoded) for each in texts]

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> list[tuple[list[int], int]]:
        """(token ids, of which prompt) of each row, one sequence a row: SFT's. Raises ValueError for a row that has none."""
        texts = [self._texts(row) for row in rows]
        refused = next((each for each in texts if isinstance(each, str)), None)
        if refused is not None:
            raise ValueError(refused)
        is_chat = bool(rows) and kind_of(rows[0][self._shape[0]]) != "text"
        flat = [text for each in texts if not isinstance(each, str) for text in _flat(each)]
        encoded = iter(self._encode(flat, special=not is_chat))
        found: list[tuple[list[int], int]] = []
        for each in texts:
            prompt = _ids(next(encoded)) if not isinstance(each, str) and each.prompt is not None else []
            whole = _ids(next(encoded))
            found.append((whole, _common(prompt, whole)))
        return found

    def _row(self, texts: _Texts, encoded: Any) -> RowTokens:
        prompt = next(encoded) if texts.prompt is not None else None
        wholes = [next(encoded) for _ in texts.whole]
        if prompt is None:
            return RowTokens(tuple((len(whole), 0) for whole in wholes))
        ids = _ids(prompt)
        shared = min(_common(ids, _ids(whole)) for whole in wholes)
        return RowTokens(tuple((len(whole), shared) for whole in wholes))

    def _texts(self, row: Mapping[str, Any]) -> _Texts | str:
        """The texts of a row, or why there are none."""
        try:
            values = {name: row[name] for name in self._shape}
            if all(isinstance(value, str) for value in values.values()):
                return self._of_texts(values)
            return self._of_turns(values, _options(row))
        except Exception as error:  # noqa: BLE001  the template is the user's; whatever it raises is a fact about this row
            return f"the chat template refuses it: {_first_line(error)}"

    def _of_texts(self, values: dict[str, str]) -> _Texts:
        prompt = values.get("prompt", "")
        if self._method == "grpo":
            return _Texts((prompt,))
        sides = tuple(self._ended(prompt + values[name]) for name in self._shape if name != "prompt")
        return _Texts(sides, prompt if "prompt" in values and self._method != "reward" else None)

    def _ended(self, text: str) -> str:
        return text if text.endswith(self._end) else text + self._end

    def _of_turns(self, values: dict[str, list[Any]], options: dict[str, Any]) -> _Texts:
        prompt = values.get("prompt")
        if self._method == "grpo":
            return _Texts((self._render(prompt or [], options, opens=True),))
        sides = tuple(self._render((prompt or []) + values[name], options) for name in self._shape if name != "prompt")
        if prompt is None or self._method == "reward":
            return _Texts(sides)
        return _Texts(sides, self._render(prompt, options, opens=True))

    def _render(self, turns: list[Any], options: dict[str, Any] | None = None, *, opens: bool = False) -> str:
        return self._tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=opens, **(options or {})
        )

    def _encode(self, texts: list[str], *, special: bool) -> Iterable[Any]:
        if not texts:
            return []
        if special:
            return self._encoder.encode(texts)
        if self._backend is None:
            return self._tokenizer(texts, add_special_tokens=False)["input_ids"]
        # Without offsets, in all threads there are.
        return self._backend.encode_batch_fast(texts, add_special_tokens=False)


def _flat(texts: _Texts) -> list[str]:
    return [*texts.whole] if texts.prompt is None else [texts.prompt, *texts.whole]


def _ids(encoded: Any) -> list[int]:
    if hasattr(encoded, "tolist"):
        return encoded.tolist()
    return encoded.ids if hasattr(encoded, "ids") else encoded


def _common(prompt: list[int], whole: list[int]) -> int:
    if whole[: len(prompt)] == prompt:
        return len(prompt)
    return next(
        (at for at, (a, b) in enumerate(zip(prompt, whole, strict=False)) if a != b), min(len(prompt), len(whole))
    )


def _options(row: Mapping[str, Any]) -> dict[str, Any]:
    tools = row.get("tools")
    return {
        "tools": json.loads(tools) if isinstance(tools, str) else tools or None,
        **(row.get("chat_template_kwargs") or {}),
    }


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def tokenizer_digest(tokenizer: Any) -> str:
    """The digest of all that decides which ids a text becomes: the whole tokenizer and its end token."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    said = backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(f"{said}\0{tokenizer.eos_token_id}".encode()).hexdigest()
