"""Which cell of one notebook is which cell of another. Ids come and go with tools, so what cells say decides first."""

from __future__ import annotations

import difflib
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from lanes.notebook_format import Cell

Pair = tuple[int | None, int | None]

SIMILAR = 0.5
# Above these sizes, pairing by likeness costs more than it tells: equal cells still pair, the others go by position.
MAX_LIKENESS_PAIRS = 10_000
MAX_EXACT_PAIRS = 250_000
_WORD = re.compile(r"\w+|[^\w\s]")


def align(before: Sequence[Cell], after: Sequence[Cell]) -> list[Pair]:
    """Pairs of positions, in the order of both: (b, a) one cell in both, (b, None) gone, (None, a) new.

    Deterministic; a moved cell is gone in one place and new in the other.
    """
    old = [(cell.cell_type, cell.source) for cell in before]
    new = [(cell.cell_type, cell.source) for cell in after]
    start = next((i for i, (b, a) in enumerate(zip(old, new, strict=False)) if b != a), min(len(old), len(new)))
    room = min(len(old), len(new)) - start
    end = next((i for i in range(room) if old[-1 - i] != new[-1 - i]), room)
    middle_old, middle_new = old[start : len(old) - end], new[start : len(new) - end]
    pairs: list[Pair] = [(i, i) for i in range(start)]
    matcher = difflib.SequenceMatcher(
        None, middle_old, middle_new, autojunk=len(middle_old) * len(middle_new) > MAX_EXACT_PAIRS
    )
    for word, b1, b2, a1, a2 in matcher.get_opcodes():
        b, a = range(start + b1, start + b2), range(start + a1, start + a2)
        pairs += zip(b, a, strict=True) if word == "equal" else _changed(before, after, b, a)
    return pairs + [(len(old) - i, len(new) - i) for i in range(end, 0, -1)]


def _changed(before: Sequence[Cell], after: Sequence[Cell], b: range, a: range) -> Iterator[Pair]:
    """Pairs within one stretch where nothing is equal: by likeness, the rest gone and new."""
    rest_b, rest_a = iter(b), iter(a)
    matched = _alike(before, after, b, a) if len(b) * len(a) <= MAX_LIKENESS_PAIRS else zip(b, a, strict=False)
    for left, right in matched:
        yield from _until(left, rest_b, rest_a, right)
        yield left, right
    yield from ((i, None) for i in rest_b)
    yield from ((None, i) for i in rest_a)


def _until(left: int, rest_b: Iterator[int], rest_a: Iterator[int], right: int) -> Iterator[Pair]:
    """What stands before the next pair; the pair itself is taken off both iterators."""
    yield from ((i, None) for i in itertools.takewhile(lambda i: i != left, rest_b))
    yield from ((None, i) for i in itertools.takewhile(lambda i: i != right, rest_a))


def _alike(before: Sequence[Cell], after: Sequence[Cell], b: range, a: range) -> list[tuple[int, int]]:
    """The pairs in order whose likeness adds up to the most (a longest common subsequence with weights)."""
    words_b = [Counter(_WORD.findall(before[i].source)) for i in b]
    words_a = [Counter(_WORD.findall(after[i].source)) for i in a]
    is_single = len(b) == len(a) == 1
    likeness = [
        [_likeness(before[i], after[j], words_b[x], words_a[y], is_single=is_single) for y, j in enumerate(a)]
        for x, i in enumerate(b)
    ]
    best = [[0.0] * (len(a) + 1) for _ in range(len(b) + 1)]
    for x in reversed(range(len(b))):
        for y in reversed(range(len(a))):
            together = likeness[x][y] + best[x + 1][y + 1] if likeness[x][y] else 0.0
            best[x][y] = max(together, best[x + 1][y], best[x][y + 1])
    return [(b[x], a[y]) for x, y in _walk(likeness, best)]


def _walk(likeness: list[list[float]], best: list[list[float]]) -> Iterator[tuple[int, int]]:
    x = y = 0
    while x < len(likeness) and y < len(likeness[x]):
        if likeness[x][y] and best[x][y] == likeness[x][y] + best[x + 1][y + 1]:
            yield x, y
            x, y = x + 1, y + 1
        elif best[x][y] == best[x + 1][y]:
            x += 1
        else:
            y += 1


def _likeness(old: Cell, new: Cell, words_b: Counter[str], words_a: Counter[str], *, is_single: bool) -> float:
    """0 for different cells, else from SIMILAR to 1 for the share of common words; the same id weighs more than that."""
    if old.cell_id is not None and old.cell_id == new.cell_id:
        return 2.0
    total = words_b.total() + words_a.total()
    common = 2 * (words_b & words_a).total() / total if total else float(old.source == new.source)
    if old.cell_type != new.cell_type:
        return common if common == 1.0 else 0.0
    # One cell in the place of one other of its kind is an edit, however much was written anew.
    return max(common, SIMILAR) if is_single else common if common >= SIMILAR else 0.0
