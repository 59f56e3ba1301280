"""From a known symptom to its entry: the text of an error, or its code, in; the entries that fit, best first, out.

An expression is tried only where the longest plain word in it occurs, and only on the end of a long text: 100 entries
take a few milliseconds. Expressions that could take forever on some text are never run; `hemma runbook check` names them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from manifests.runbooks import Gotcha

MOST_TEXT, MOST_LINE = 8_192, 2_000
MOST_PATTERN = 200
_MANY_HITS = 3
# How many ways an expression may be tried from one place of a text: the product of what its repetitions may span.
MOST_WAYS = 10_000
_NESTED = re.compile(r"\((?:[^()\\]|\\.)*[*+|}](?:[^()\\]|\\.)*\)[*+{]")
_REPEATED = re.compile(r"(?P<free>[*+])|\{\d*,?(?P<most>\d*)\}|(?P<maybe>\?)")
# What stands between the plain words of an expression.
_TIMES = r"(?:(?:[*+?]|\{[\d,]*\})\??)"
_BREAK = re.compile(rf"\\.{_TIMES}?|\.{_TIMES}?|[\^$]|\[\^?\]?[^\]]*\]{_TIMES}?|.{_TIMES}")


@dataclass(frozen=True)
class Match:
    """An entry that fits, and what of it did: the words of the text, or the code."""

    entry: Gotcha
    by: str
    is_text: bool


def matching(text: str, entries: Iterable[Gotcha], code: str = "") -> tuple[Match, ...]:
    """The entries whose expressions occur in `text`, then those that name `code`; no entry twice, at most a handful.

    An entry that fits by both comes first. An entry fits by its code alone only when it has no expressions: those say more.
    """
    tail = "\n".join(_ends(line) for line in text[-MOST_TEXT:].split("\n"))
    lowered = tail.lower()
    found: list[tuple[int, Match]] = []
    for entry in entries:
        has_code = bool(code) and code in entry.codes
        said = _said(entry.matches, tail, lowered)
        if said is not None:
            found.append((0 if has_code else 1, Match(entry, said, is_text=True)))
        elif has_code and not entry.matches:
            found.append((2, Match(entry, code, is_text=False)))
    found.sort(key=lambda pair: pair[0])
    return tuple(match for _, match in found[:_MANY_HITS])


def why_unsafe(pattern: str) -> str:
    """Why an expression is not run, or an empty text."""
    if len(pattern) > MOST_PATTERN:
        return f"is longer than {MOST_PATTERN} letters"
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return f"is no regular expression: {error}"
    if compiled.match(""):
        return "fits an empty text, so it fits everything"
    if _NESTED.search(pattern):
        return "repeats a group that holds a repetition or a choice; some texts would take forever"
    if _ways(pattern) > MOST_WAYS:
        return "repeats too much; bound its repetitions, as in {0,40}"
    return ""


def without_verdict(line: str) -> str:
    """A line without the word that Hemma itself puts before a failure on the screen: errors are matched by their message."""
    return re.sub(r"^(?:(?:failed|refused|fail|warn) {2,}|needs you )", "", line.strip())


def pattern_of(line: str) -> str:
    """An expression for the kind of line: numbers and paths as such, the rest as it stands; empty for a short line."""
    found = re.search(r"[A-Za-z_.]*(?:Error|Exception)\b.*", line)
    core = found[0] if found else line.strip()
    made: list[str] = []
    room = 80  # of what stands there as it is: a long path in front must not push the words out
    for at, piece in enumerate(re.split(r"(\S*/\S+|0x[0-9a-fA-F]+|\d+(?:\.\d+)?|\[redacted[^\]]*\])", core[:400])):
        is_number = re.fullmatch(r"\d+(?:\.\d+)?", piece)
        kept = piece[:room]
        made.append(re.escape(kept).replace(r"\ ", " ") if at % 2 == 0 else r"[\d.]{1,9}" if is_number else r"\S{1,99}")
        room -= len(kept) if at % 2 == 0 else min(len(piece), 9)
        if room <= 0:
            break
    while why_unsafe("".join(made).strip()) and len(made) > 1:
        made.pop()  # as much of the line as can be tried quickly
    pattern = "".join(made).strip()
    return "" if len(pattern) < 12 or why_unsafe(pattern) else pattern


def _ends(line: str) -> str:
    """A line, or of a very long one its two ends."""
    half = MOST_LINE // 2
    return line if len(line) <= MOST_LINE else f"{line[:half]}\n{line[-half:]}"


def _ways(pattern: str) -> int:
    """In how many ways the repetitions of an expression can share out a text."""
    plain = re.sub(r"\[\^?\]?[^\]]*\]", "c", re.sub(r"\\.", "e", pattern.replace("(?", "(")))
    ways = 1
    for found in _REPEATED.finditer(plain):
        most = found["most"]
        ways *= MOST_LINE if found["free"] or most == "" else 2 if most is None else max(1, int(most))
    return ways


def _said(patterns: Sequence[str], tail: str, lowered: str) -> str | None:
    for pattern in patterns:
        needle, compiled = _compiled(pattern)
        if compiled is not None and needle in lowered and (hit := compiled.search(tail)):
            return " ".join(hit[0].split())[:200]
    return None


@cache
def _compiled(pattern: str) -> tuple[str, re.Pattern[str] | None]:
    if why_unsafe(pattern):
        return "", None
    return _needle(pattern), re.compile(pattern, re.IGNORECASE)


def _needle(pattern: str) -> str:
    """The longest piece of plain text that every match holds, lowered; empty when the expression has choices or groups."""
    if re.search(r"(?<!\\)[|()]", pattern) or not pattern.isascii():
        return ""
    return max(_BREAK.split(pattern), key=len).lower()
