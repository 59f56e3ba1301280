"""A log without what repeats: of each kind of bar and metric line one, with the places of all that is left."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

MANY_LINES, END_LINES, LONG_LINE = 1_000, 400, 4_000
# What numbers, addresses and bars are written with.
_NUMBERS = b"0123456789abcdefABCDEF.:,<?|/[]- " + "█▏▎▍▌▋▊▉".encode()
_MARKS = ("Traceback (most recent", "the above exception", "the following exception", "Exception ignored")
_TROUBLE = re.compile(
    r"rror|xception|[Ff]ail|FAIL|[Kk]ill|[Nn]a[Nn]\b|[Oo]ut of|LIMIT|limit|[Dd]enied|orbidden|not found|[Nn]o module|annot"
    r"|ime[d]? ?out|[Nn]ot |Xid|lost|refus|[Aa]bort|[Ss]tuck|hang|quota|Quota|PREEMPT"
).search


def reduced(clean: str) -> tuple[list[str], list[int]]:
    """The lines without repeated ones, and where each line that is left begins in `clean`.

    A log is mostly bars and metrics that differ in numbers and addresses; one of each kind is enough to find what failed.
    Lines that speak of an error count with their numbers (401 is not 404). Of a log that is still long, the end is kept
    whole and of the rest the lines with a word of trouble.
    """
    seen: set[bytes] = set()
    kept: list[tuple[int, str]] = []
    offset = 0
    text = clean.replace("\r", "\n")
    marks, frames = _lines_with(text, _MARKS), _lines_with(text, ('File "',))
    for line in text.split("\n"):
        raw = line.encode("utf-8", "surrogatepass")
        key = raw if b"rror" in raw or offset in frames else raw.translate(None, _NUMBERS)
        # The marks of tracebacks and chains stay where they stand.
        if key not in seen or offset in marks:
            seen.add(key)
            kept.extend(_pieces(offset, line))
        offset += len(line) + 1
    if len(kept) > MANY_LINES:
        telling = [pair for pair in kept[:-END_LINES] if _TROUBLE(pair[1])]
        kept = telling[:END_LINES] + telling[END_LINES:][-END_LINES:] + kept[-END_LINES:]
    return [line for _, line in kept], [start for start, _ in kept]


def _lines_with(text: str, words: Iterable[str], most: int = MANY_LINES) -> set[int]:
    """Where the first lines with one of these words begin."""
    found: set[int] = set()
    for word in words:
        at = text.find(word)
        while at >= 0 and len(found) < most:
            found.add(text.rfind("\n", 0, at) + 1)
            at = text.find(word, at + 1)
    return found


def _pieces(offset: int, line: str) -> Iterator[tuple[int, str]]:
    """A line, or of a very long one its two ends."""
    if len(line) <= LONG_LINE:
        yield offset, line
        return
    half = LONG_LINE // 2
    yield offset, line[:half]
    yield offset + len(line) - half, line[-half:]
