"""Texts to token ids, by the tokenizer or by looking words up, whichever is quicker here; the ids are the same (S10-R06)."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from training.data.fast_bpe import FastBpe

# Batches that are tokenised both ways before the quicker one is settled on.
TRIALS = 3


class IdsDiffer(Exception):
    """The quick way gave other ids than the tokenizer: nothing that it made may be used."""


class Encoder:
    """Texts to ids, by the quicker of two ways that give the same ones: both are taken for the first batches."""

    def __init__(self, tokenizer: Any, *, is_fast: bool) -> None:
        self._tokenizer = tokenizer
        self._backend = getattr(tokenizer, "backend_tokenizer", None)
        self._fast = FastBpe.of(tokenizer) if is_fast else None
        self._trials, self._times = TRIALS, [0.0, 0.0]

    def encode(self, texts: list[str]) -> list[np.ndarray[Any, Any]]:
        """The ids of each text. Raises IdsDiffer."""
        if self._fast is None:
            return self._slowly(texts)
        begun = time.perf_counter()
        found = self._fast.encode(texts)
        left = [text for text, ids in zip(texts, found, strict=True) if ids is None]
        others = iter(self._slowly(left))
        made = [next(others) if ids is None else ids for ids in found]
        between = time.perf_counter()
        # After the trial one text of each batch goes both ways: it costs a hundredth.
        checked = len(texts) if self._trials else 1
        if any(not np.array_equal(*pair) for pair in zip(self._slowly(texts[:checked]), made, strict=False)):
            raise IdsDiffer
        if self._trials:
            self._count(between - begun, time.perf_counter() - between)
        return made

    def _count(self, fast_s: float, slow_s: float) -> None:
        self._trials -= 1
        # The first batch fills the table of words: it says nothing of those that follow.
        if self._trials < TRIALS - 1:
            self._times = [self._times[0] + fast_s, self._times[1] + slow_s]
        if not self._trials and self._times[0] > self._times[1]:
            self._fast = None

    def _slowly(self, texts: list[str]) -> list[np.ndarray[Any, Any]]:
        if not texts:
            return []
        if self._backend is None:
            return [np.array(ids, np.uint32) for ids in self._tokenizer(texts)["input_ids"]]
        return [
            np.array(each.ids, np.uint32) for each in self._backend.encode_batch_fast(texts, add_special_tokens=True)
        ]
