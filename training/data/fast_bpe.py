r"""The ids of byte-level BPE tokenizers several times as fast, by looking up words instead of merging them again.

A byte-level BPE tokenizer cuts text into words by one regular expression and merges each word by itself. Words repeat, so
here each distinct one goes through the tokenizer's own model once, and text becomes ids by table. That is exact where the
cutting is the same, so it is done only where this can be known: for expressions made of \p{L}, \p{N}, \s and plain
classes, and for text of characters whose Unicode classes are settled (Latin and general punctuation). Any other
text, and any text with one of the tokenizer's added tokens in it, is left to the tokenizer.
"""

from __future__ import annotations

import itertools
import json
import re
import unicodedata
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np

Ids = np.ndarray[Any, np.dtype[np.uint32]]
# The expression of GPT-2, which a ByteLevel pre-tokenizer uses when it names none.
GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# Letters that fold to an ASCII one, and characters whose class has changed between versions of Unicode, are left out.
_SETTLED = [
    chr(code) for code in itertools.chain(range(0x250), range(0x2010, 0x2028)) if code not in {0x17F, 0x130, 0xAD}
]
_UNSETTLED = re.compile("[^" + re.escape("".join(_SETTLED)) + "]")
_BLANKS = "\t\n\x0b\x0c\r \x85\xa0"
_PRETOKENIZER_KEYS = {"type", "add_prefix_space", "trim_offsets", "use_regex"}
MOST_WORDS = 1 << 20


def _class_of(prefix: str) -> str:
    return re.escape("".join(each for each in _SETTLED if unicodedata.category(each).startswith(prefix)))


_CLASSES = {r"\p{L}": _class_of("L"), r"\p{N}": _class_of("N"), r"\s": re.escape(_BLANKS), r"\d": _class_of("Nd")}
_PIECE = re.compile(r"\\p\{\w+\}|\\.|\[\^?|\]|.", re.DOTALL)


def translated(pattern: str) -> re.Pattern[str] | None:
    """The expression with its Unicode classes written out for settled characters; None where that cannot be done."""
    made: list[str] = []
    is_inside = False
    for piece in _PIECE.findall(pattern):
        if piece in _CLASSES:
            made.append(_CLASSES[piece] if is_inside else f"[{_CLASSES[piece]}]")
        elif piece == r"\S" and not is_inside:
            made.append(f"[^{_CLASSES[chr(92) + 's']}]")
        elif piece[0] == "\\" and (piece[1].isalnum() and piece not in {r"\r", r"\n", r"\t"}):
            return None
        elif piece.startswith("[") and is_inside:
            return None  # a class within a class, or an intersection of two
        else:
            is_inside = (is_inside or piece.startswith("[")) and piece != "]"
            made.append(piece)
    try:
        return re.compile("".join(made))
    except re.error:
        return None


def _byte_letters() -> dict[int, str]:
    """The visible character that byte-level tokenizers write for each byte (GPT-2's table)."""
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (byte for byte in range(256) if byte not in set(kept))
    return {**{byte: chr(byte) for byte in kept}, **{byte: chr(256 + number) for number, byte in enumerate(others)}}


_LETTERS = _byte_letters()


class _Words(dict[str, int]):
    """Distinct words by number; a new one goes through the tokenizer's model, once."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._model = model
        self.starts, self.counts, self.ids = array("q"), array("q"), array("I")

    def __missing__(self, word: str) -> int:
        ids = [token.id for token in self._model.tokenize("".join(map(_LETTERS.__getitem__, word.encode())))]
        self.starts.append(len(self.ids))
        self.counts.append(len(ids))
        self.ids.extend(ids)
        number = self[word] = len(self)
        return number


class FastBpe:
    """Ids by table for one tokenizer; see `of`."""

    def __init__(
        self, model: Any, pattern: re.Pattern[str], added: re.Pattern[str] | None, end: tuple[str, int] | None = None
    ) -> None:
        self._model, self._find, self._added, self._end = model, pattern.findall, added, end
        self._words = _Words(model)
        self.before: Ids = np.zeros(0, np.uint32)
        self.after: Ids = np.zeros(0, np.uint32)
        self._end_ids: Ids = np.array([] if end is None else [end[1]], np.uint32)

    @classmethod
    def of(cls, tokenizer: Any) -> FastBpe | None:
        """For a tokenizer that this is exact for; None for any other."""
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            return None
        said = json.loads(backend.to_str())
        pattern = _pattern_of(said)
        if pattern is None:
            return None
        # A token that was added is cut out of the text first. Its first characters are enough to be careful.
        begins = sorted({re.escape(each["content"][:2]) for each in said.get("added_tokens") or ()})
        made = cls(backend.model, pattern, re.compile("|".join(begins)) if begins else None, _end_of(tokenizer, said))
        return made if made._learn_ends(backend) else None

    def _learn_ends(self, backend: Any) -> bool:
        """What the tokenizer puts before and after a text (BOS, EOS); False where it does more than that."""
        bare, whole = (
            backend.encode("a", add_special_tokens=False).ids,
            backend.encode("a", add_special_tokens=True).ids,
        )
        at = next((at for at in range(len(whole)) if whole[at : at + len(bare)] == bare), None)
        if at is None or not bare:
            return False
        self.before = np.array(whole[:at], np.uint32)
        self.after = np.array(whole[at + len(bare) :], np.uint32)
        return True

    def _body(self, text: str) -> str | None:
        """The text as it will be looked up, without an end token at its end; None where its ids would not be certain."""
        body, asked = text, text
        if self._end is not None and text.endswith(self._end[0]):
            body = text[: -len(self._end[0])]
            # One character more: no other added token may begin in the body and end in this one.
            asked = text[: len(body) + 1]
        if not body.isascii() and _UNSETTLED.search(body):
            return None
        return None if self._added is not None and self._added.search(asked) else body

    def encode(self, texts: Sequence[str]) -> list[Ids | None]:
        """The ids of each text, the tokenizer's special ones included; None for a text that is left to the tokenizer."""
        if len(self._words) > MOST_WORDS:
            self._words = _Words(self._model)
        bodies = [self._body(text) for text in texts]
        cut = [None if body is None else self._find(body) for body in bodies]
        words = list(itertools.chain.from_iterable(each for each in cut if each is not None))
        flat, ends = self._gathered(np.fromiter(map(self._words.__getitem__, words), np.int64, len(words)))
        found: list[Ids | None] = []
        at = 0
        for text, body, each in zip(texts, bodies, cut, strict=True):
            begin, at = at, at + len(each or ())
            # An expression that leaves something out would have had to be treated otherwise.
            if body is None or each is None or sum(map(len, each)) != len(body):
                found.append(None)
            else:
                end = self._end_ids if len(body) < len(text) else self._end_ids[:0]
                found.append(np.concatenate((self.before, flat[ends[begin] : ends[at]], end, self.after)))
        return found

    def _gathered(self, numbers: np.ndarray[Any, Any]) -> tuple[Ids, np.ndarray[Any, Any]]:
        """(ids of these words one after the other, where each word's begin)."""
        starts, counts = np.array(self._words.starts), np.array(self._words.counts)
        ids = np.array(self._words.ids, np.uint32)
        own = counts[numbers] if len(numbers) else np.zeros(0, np.int64)
        ends = np.concatenate(([0], np.cumsum(own)))
        index = np.repeat((starts[numbers] if len(numbers) else own) - ends[:-1], own) + np.arange(ends[-1])
        return ids[index] if len(index) else np.zeros(0, np.uint32), ends


def _end_of(tokenizer: Any, said: dict[str, Any]) -> tuple[str, int] | None:
    """The end token and its id, where it is cut out of a text without anything around it."""
    found = [each for each in said.get("added_tokens") or () if each["content"] == tokenizer.eos_token]
    if not found or any(found[0].get(name) for name in ("lstrip", "rstrip", "single_word")):
        return None
    return found[0]["content"], int(found[0]["id"])


def _pattern_of(said: dict[str, Any]) -> re.Pattern[str] | None:
    """The expression that cuts words, of a tokenizer by its own JSON; None where anything else happens to text."""
    model, normalizer = said.get("model") or {}, said.get("normalizer")
    if model.get("type") != "BPE" or model.get("dropout") or said.get("truncation") or said.get("padding"):
        return None
    # Composing leaves settled characters as they are: none is a combining mark, none stands for another one.
    if normalizer is not None and normalizer.get("type") != "NFC":
        return None
    pre = said.get("pre_tokenizer") or {}
    steps = pre.get("pretokenizers") if pre.get("type") == "Sequence" else [pre]
    if not steps or not _is_plain_byte_level(steps[-1]):
        return None
    if len(steps) == 1:
        return translated(GPT2) if steps[0].get("use_regex", True) else None
    split = steps[0]
    is_plain = len(steps) == 2 and split.get("type") == "Split" and split.get("behavior") == "Isolated"
    regex = (split.get("pattern") or {}).get("Regex")
    if not is_plain or split.get("invert") or not regex or steps[1].get("use_regex", True):
        return None
    return translated(regex)


def _is_plain_byte_level(step: dict[str, Any]) -> bool:
    return step.get("type") == "ByteLevel" and not step.get("add_prefix_space") and set(step) <= _PRETOKENIZER_KEYS
