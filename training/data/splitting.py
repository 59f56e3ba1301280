"""Which rows are held out for eval, and one 64-bit fingerprint for each row's content.

A row's side is a function of its content and the seed alone: equal rows always land on the same side, so that a held-out
part never leaks, and rows that are added later move no other row (S5-R19, S10-R13).
"""

from __future__ import annotations

import json
from array import array
from typing import Any

import numpy as np
import xxhash

SPACE = 1 << 64
# 128 MiB of fingerprints; beyond it one in two is kept, then one in four ...: always the same ones, in every split.
MOST_KEPT = 1 << 24


def fingerprint(values: list[Any], seed: int = 0) -> int:
    """64 bits of the values, texts and turns alike; ids and other columns do not belong in here.

    Raises UnicodeEncodeError for text that holds half a character.
    """
    if len(values) == 1 and isinstance(values[0], str):
        return xxhash.xxh3_64_intdigest(values[0].encode(), seed)
    said = json.dumps(values, ensure_ascii=False, separators=(",", ":"), default=str)
    return xxhash.xxh3_64_intdigest(said.encode(), seed)


class Fingerprints:
    """The fingerprints of a split in bounded memory: all of them up to `most`, an even share of them beyond.

    Which ones are kept depends on the fingerprint alone, so two splits still meet on the same ones.
    """

    def __init__(self, most: int = MOST_KEPT) -> None:
        self.rows, self.smallest = 0, SPACE
        self._most, self._mask, self._kept = most, 0, array("Q")

    @property
    def share(self) -> float:
        """The share of fingerprints that are kept: 1, or a power of a half."""
        return 1 / (self._mask + 1)

    def add(self, value: int) -> None:
        """Count a row."""
        self.rows += 1
        if value < self.smallest:  # noqa: PLR1730  asked for every row
            self.smallest = value
        # The low bits choose what is kept, since the high ones choose the split.
        if self._mask & value:
            return
        self._kept.append(value)
        if self.rows > self._most and len(self._kept) > self._most:
            self._mask = self._mask << 1 | 1
            kept = self.values()
            self._kept = array("Q", kept[kept & np.uint64(self._mask) == 0].tobytes())

    def values(self) -> np.ndarray[Any, np.dtype[np.uint64]]:
        """The fingerprints that are kept, in the order of the rows."""
        return np.frombuffer(self._kept, dtype=np.uint64)

    def scaled(self, count: float) -> int:
        """A count among the kept ones as one of all rows."""
        return round(count / self.share)


class HoldOut:
    """The rule that says which rows of a split are held out for eval."""

    def __init__(self, fraction: float, found: Fingerprints) -> None:
        self.limit = int(fraction * SPACE)
        # A small dataset may have no row below the limit: then the smallest fingerprint's rows are it.
        if self.limit and found.rows:
            self.limit = max(self.limit, found.smallest + 1)

    def takes(self, value: int) -> bool:
        """Whether the row with this fingerprint is held out."""
        return value < self.limit

    def count(self, found: Fingerprints) -> int:
        """How many rows of a split are held out."""
        return found.scaled(int((found.values() <= np.uint64(self.limit - 1)).sum())) if self.limit else 0


def duplicates(found: Fingerprints) -> int:
    """Rows whose content stood in an earlier row."""
    kept = found.values()
    return found.scaled(len(kept) - len(np.unique(kept)))


def shared(one: Fingerprints, other: Fingerprints) -> int:
    """Rows of `one` whose content also stands in `other`."""
    times = round(max(1 / one.share, 1 / other.share))
    mine = one.values()[one.values() & np.uint64(times - 1) == 0]
    return int(np.isin(mine, other.values()).sum()) * times
