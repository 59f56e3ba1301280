"""Batches from a flat array of tokens, each a pure function of (seed, index): no state to save, any step at once (S10-R13).

The array is cut into rows at an offset that changes with every pass; which row comes when is a keyed permutation, worked
out for just the rows of one batch. So every pass sees every token once, as random offsets do not, and batch 1,000,000
costs what batch 1 does (S10-R10).
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
_ROUNDS = 4
_BLOCK = 4096


class BinDataset:
    """Batches of `rows` x (`length` + 1) token ids: inputs are all but the last column, targets all but the first."""

    def __init__(self, tokens: Array, *, length: int, rows: int, seed: int = 0) -> None:
        if len(tokens) <= length:
            raise ValueError(f"{len(tokens)} tokens are not enough for one row of {length} + 1")
        self.length, self.rows, self.seed = length, rows, seed
        self.tokens = tokens
        # One row is left out where the changing offset needs its room.
        self.row_count = max(1, (len(tokens) - length) // length)
        self._slack = len(tokens) - 1 - self.row_count * length
        self._windows = np.lib.stride_tricks.sliding_window_view(np.asarray(tokens), length + 1)
        self._pinned: list[Any] = []
        self._blocks: dict[int, Array] = {}

    def __len__(self) -> int:
        """Batches in one pass, the last one filled up from the next pass."""
        return (self.row_count + self.rows - 1) // self.rows

    def starts(self, index: int) -> Array:
        """Where in the array the rows of batch `index` begin."""
        at = index * self.rows
        block, begin = divmod(at, _BLOCK)
        found = self._block(block)[begin : begin + self.rows]
        while len(found) < self.rows:
            block += 1
            found = np.concatenate((found, self._block(block)[: self.rows - len(found)]))
        return found

    def _block(self, block: int) -> Array:
        """Where the rows `block * _BLOCK` and following begin; worked out together, which costs little more than for one."""
        found = self._blocks.get(block)
        if found is None:
            at = np.arange(block * _BLOCK, (block + 1) * _BLOCK, dtype=np.int64)
            epochs, numbers = np.divmod(at, self.row_count)
            found = np.concatenate([self._starts(int(epoch), numbers[epochs == epoch]) for epoch in np.unique(epochs)])
            self._blocks = {number: kept for number, kept in self._blocks.items() if number == block - 1} | {
                block: found
            }
        return found

    def batch(self, index: int) -> Array:
        """Batch number `index`: int64 ids of shape (rows, length + 1), a fresh array."""
        return self._windows[self.starts(index)].astype(np.int64)

    def tensors(self, index: int, device: Any = None) -> tuple[Any, Any]:
        """(inputs, targets) as torch tensors; for a GPU through pinned memory, without waiting (S10-R10)."""
        import torch

        whole = torch.from_numpy(self.batch(index))
        if device is not None and torch.device(device).type == "cuda":
            whole = self._pin(torch, whole, index).to(device, non_blocking=True)
        return whole[:, :-1], whole[:, 1:]

    def _pin(self, torch: Any, whole: Any, index: int) -> Any:
        """The batch in one of two pinned buffers: the copy of the one before may still be on its way."""
        if not self._pinned:
            self._pinned = [torch.empty(whole.shape, dtype=whole.dtype, pin_memory=True) for _ in range(2)]
        return self._pinned[index % 2].copy_(whole)

    def _starts(self, epoch: int, numbers: Array) -> Array:
        offset = _mixed(np.array([epoch], dtype=np.uint64), self.seed ^ 0x5EED)[0] % np.uint64(self._slack + 1)
        return permuted(numbers, self.row_count, self.seed, epoch) * self.length + int(offset)


def permuted(numbers: Array, count: int, seed: int, epoch: int) -> Array:
    """Where a permutation of 0..count - 1, given by (seed, epoch), puts these numbers.

    A Feistel network over the next power of four; results outside the range go through it again until they are inside
    (Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains"), four times as many at the most on average.
    """
    half = max(1, ((count - 1).bit_length() + 1) // 2)
    keys = _mixed(np.arange(_ROUNDS, dtype=np.uint64) + np.uint64(epoch * _ROUNDS & 0xFFFFFFFF), seed)
    found = _feistel(numbers.astype(np.uint64), half, keys)
    outside = found >= count
    while outside.any():
        found[outside] = _feistel(found[outside], half, keys)
        outside = found >= count
    return found.astype(np.int64)


def _feistel(values: Array, half: int, keys: Array) -> Array:
    mask, shift = np.uint64((1 << half) - 1), np.uint64(half)
    left, right = values >> shift, values & mask
    for key in keys:
        left, right = right, left ^ _spread(right ^ key) & mask
    return left << shift | right


def _mixed(values: Array, seed: int) -> Array:
    return _spread(_spread(values + np.uint64(seed & 0xFFFFFFFFFFFFFFFF)))


def _spread(values: Array) -> Array:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every bit of the input moves every bit of the result."""
    values = (values + np.uint64(0x9E3779B97F4A7C15)) & np.uint64(0xFFFFFFFFFFFFFFFF)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
