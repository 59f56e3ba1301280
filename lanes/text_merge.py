"""Three-way merge of lines, as `git merge-file` does it, for text that never was a file: what a notebook's cell says."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import NamedTuple

OURS, MIDDLE, THEIRS = "<<<<<<< ours", "=======", ">>>>>>> theirs"
# difflib is quadratic in lines that repeat; above this it may take frequent lines for noise, and conflict more often.
MAX_EXACT_LINES = 1_000


class MergedText(NamedTuple):
    """The text, with markers around both versions where they cannot be had together, and how many such places it has."""

    text: str
    conflicts: int


def merge_text(base: str, ours: str, theirs: str) -> MergedText:
    """Both changes of `base` in one text; a place changed differently on both sides is a conflict, adjacent lines too."""
    made: list[str] = []
    conflicts = 0
    # Ends of lines stand between lines: whether the last one has an end is then one more line, not another last line.
    for b, o, t in _regions(base.split("\n"), ours.split("\n"), theirs.split("\n")):
        if t in (o, b):
            made += o
        elif o == b:
            made += t
        else:
            conflicts += 1
            made += [OURS, *o, MIDDLE, *t, THEIRS]
    return MergedText("\n".join(made), conflicts)


def _regions(base: list[str], ours: list[str], theirs: list[str]) -> Iterator[tuple[list[str], list[str], list[str]]]:
    """The three texts cut into stretches that belong together: lines equal in all three, and what lies between them."""
    in_ours, in_theirs = _matches(base, ours), _matches(base, theirs)
    b = o = t = 0
    for i in range(len(base)):
        if i not in in_ours or i not in in_theirs:
            continue
        if (b, o, t) != (i, in_ours[i], in_theirs[i]):
            yield base[b:i], ours[o : in_ours[i]], theirs[t : in_theirs[i]]
        yield base[i : i + 1], base[i : i + 1], base[i : i + 1]
        b, o, t = i + 1, in_ours[i] + 1, in_theirs[i] + 1
    yield base[b:], ours[o:], theirs[t:]


def _matches(base: list[str], other: list[str]) -> dict[int, int]:
    """Line of `base` -> the line of `other` that it is, in order on both sides."""
    is_big = max(len(base), len(other)) > MAX_EXACT_LINES
    blocks = difflib.SequenceMatcher(None, base, other, autojunk=is_big).get_matching_blocks()
    return {block.a + step: block.b + step for block in blocks for step in range(block.size)}
