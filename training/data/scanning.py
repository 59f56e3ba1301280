"""What a full scan counts about values, in bounded memory: kinds, lengths, distinct values, missing ones, outliers (S5-R02, S5-R03)."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from lanes.data_values import Kind, kind_of

# Up to so many distinct short values a column counts as one of classes, and each is counted.
MOST_CLASSES = 200
CLASS_CHARACTERS = 64
_SUB_BITS = 4


class Histogram:
    """Sizes of any range in a few hundred counters: exact below 16, then to a sixteenth of the size."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.count, self.total, self.smallest, self.largest = 0, 0, 0, 0

    def add(self, *sizes: int) -> None:
        """Count sizes, each 0 or more."""
        if not sizes:
            return
        low = min(sizes)
        self.smallest = low if not self.count else min(self.smallest, low)
        self.largest = max(self.largest, *sizes)
        self.count += len(sizes)
        self.total += sum(sizes)
        self.counts.update(map(_slot, sizes))

    @property
    def mean(self) -> float:
        """The mean size; 0 of none."""
        return self.total / self.count if self.count else 0.0

    def quantile(self, share: float) -> int:
        """The size that this share of all sizes stays below or meets, to a sixteenth."""
        left = share * self.count
        for slot, count in sorted(self.counts.items()):
            left -= count
            if left <= 0:
                return max(self.smallest, min(_upper(slot), self.largest))
        return self.largest

    def above(self, limit: float) -> int:
        """How many sizes lie above the limit, to a sixteenth of it."""
        return sum(count for slot, count in self.counts.items() if _lower(slot) > limit)

    def bars(self, most: int = 32) -> list[tuple[int, int, int]]:
        """(from, to, count) in equal steps, for drawing; the last bar takes all that is longer than nearly all others."""
        if not self.count:
            return []
        top = min(self.largest, max(16, math.ceil(self.quantile(0.99) * 1.15)))
        width = max(1, math.ceil((top + 1) / most))
        bars: Counter[int] = Counter()
        for slot, count in self.counts.items():
            low, high = _lower(slot), _upper(slot)
            for at in range(low // width, high // width + 1):
                part = min(high, (at + 1) * width - 1) - max(low, at * width) + 1
                bars[min(at, top // width)] += count * part / (high - low + 1)  # type: ignore[assignment]
        last = top // width
        return [
            (at * width, self.largest if at == last else (at + 1) * width - 1, round(bars[at]))
            for at in range(last + 1)
        ]

    def outlier_limit(self) -> float:
        """Tukey's far fence: three interquartile ranges above the third quartile."""
        low, high = self.quantile(0.25), self.quantile(0.75)
        return high + 3 * max(high - low, 1)

    def as_dict(self) -> dict[str, Any]:
        """The numbers that evidence keeps."""
        if not self.count:
            return {"count": 0}
        return {
            "count": self.count,
            "total": self.total,
            "mean": round(self.mean, 1),
            "smallest": self.smallest,
            "median": self.quantile(0.5),
            "p90": self.quantile(0.9),
            "p99": self.quantile(0.99),
            "largest": self.largest,
            "outliers": self.above(self.outlier_limit()),
            "outlier_limit": round(self.outlier_limit()),
            "bars": self.bars(),
        }


def _slot(size: int) -> int:
    shift = size.bit_length() - _SUB_BITS - 1
    return size if shift <= 0 else (size >> shift) + (shift << _SUB_BITS)


def _lower(slot: int) -> int:
    shift, rest = divmod(slot, 1 << _SUB_BITS)
    if slot < 2 << _SUB_BITS:
        return slot
    return (rest + (1 << _SUB_BITS)) << (shift - 1)


def _upper(slot: int) -> int:
    return _lower(slot) if slot < 2 << _SUB_BITS else _lower(slot) + (1 << ((slot >> _SUB_BITS) - 1)) - 1


class ColumnScan:
    """One column, row by row."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.kinds: Counter[Kind] = Counter()
        self.sizes = Histogram()  # characters of text, turns or items of lists
        self.empty = 0
        self.classes: Counter[str] | None = Counter()
        self._low, self._high = math.inf, -math.inf

    def add(self, values: list[Any]) -> None:
        """Count some rows' values: all at once where they are texts, as nearly all are."""
        types = set(map(type, values))
        if types == {str}:
            self._add_texts(values)
            return
        if types <= {int, float} and types:
            self._add_numbers(values)
            return
        for value in values:
            if isinstance(value, str):
                self._add_texts([value])
            elif isinstance(value, int | float) and not isinstance(value, bool):
                self._add_numbers([value])
            else:
                self._add_other(value)

    def _add_other(self, value: Any) -> None:
        kind = kind_of(value)
        self.kinds[kind] += 1
        if kind == "flag":
            self._count_classes([repr(value)])
        elif isinstance(value, list | tuple):
            self.sizes.add(len(value))
            self.classes = None

    def _add_numbers(self, numbers: list[float]) -> None:
        self.kinds["number"] += len(numbers)
        self._low, self._high = min(self._low, *numbers), max(self._high, *numbers)
        if self.classes is not None:
            self._count_classes(list(map(repr, numbers)))

    def _add_texts(self, texts: list[str]) -> None:
        self.kinds["text"] += len(texts)
        sizes = list(map(len, texts))
        self.sizes.add(*sizes)
        # A blank text is short more often than not, and a long one is looked at no further than its first letter.
        self.empty += sum(not text or text.isspace() for text in texts)
        if max(sizes) > CLASS_CHARACTERS:
            self.classes = None
        self._count_classes(texts)

    def _count_classes(self, words: list[str]) -> None:
        if self.classes is not None:
            self.classes.update(words)
            if len(self.classes) > MOST_CLASSES:
                self.classes = None

    def kind(self) -> Kind:
        """The kind that most rows have which have one; "null" for a column without any value."""
        there: list[tuple[int, Kind]] = [
            (count, kind) for kind, count in self.kinds.items() if kind not in {"null", "empty-list"}
        ]
        if there:
            return max(there, key=lambda each: each[0])[1]
        return "empty-list" if self.kinds["empty-list"] else "null"

    def as_dict(self, rows: int) -> dict[str, Any]:
        """The column as evidence keeps it; a row that lacks it counts as missing."""
        there = self.kinds.total() - self.kinds["null"]
        found: dict[str, Any] = {
            "name": self.name,
            "kind": self.kind(),
            "kinds": dict(self.kinds),
            "missing": rows - there,
            "empty": self.empty + self.kinds["empty-list"],
            "sizes": self.sizes.as_dict(),
        }
        if self._low <= self._high:
            found["range"] = [self._low, self._high]
        if self.classes and len(self.classes) < max(2, there):
            found["classes"] = self.classes.most_common(20)
            found["class_count"] = len(self.classes)
            # The largest class against the smallest: 1 is balanced (S5-R03).
            found["imbalance"] = round(max(self.classes.values()) / min(self.classes.values()), 1)
        return found


class Scan:
    """All columns of a split."""

    def __init__(self) -> None:
        self.rows = 0
        self.columns: dict[str, ColumnScan] = {}

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Count some rows."""
        self.rows += len(rows)
        names = dict.fromkeys(name for row in rows for name in row)
        for name in names:
            if name not in self.columns:
                self.columns[name] = ColumnScan(name)
            self.columns[name].add([row[name] for row in rows if name in row])

    def kinds(self) -> dict[str, Kind]:
        """The kind of each column."""
        return {name: column.kind() for name, column in self.columns.items()}
