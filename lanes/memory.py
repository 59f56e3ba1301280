"""Project memory, decided: where an entry goes into the log's text, what two versions lost, what may be archived.

A log is text with an array of entries: `{"schema_version": 1, "entries": [...]}` or a bare array. Whatever stands in it
keeps its bytes: appending is an insertion, archiving moves an entry's own bytes (S2-R04, S2-R17, C2).
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

EMPTY = '{\n  "schema_version": 1,\n  "entries": [\n  ]\n}\n'
UNAPPROVED = "the concept changed without approval"
ARCHIVE_ABOVE = 200
ARCHIVE_OLDER_DAYS = 30
_SPACE = " \t\r\n"
_GAP = re.compile(f"[{_SPACE}]*")
_DECODER = json.JSONDecoder()

Entry = dict[str, Any]


class LogBroken(ValueError):
    """The text is no log: what is wrong, and where."""


@dataclass(frozen=True)
class Log:
    """A log as text, its entries, and where each of them stands in the text. `start` is just behind the opening bracket."""

    text: str
    entries: tuple[Entry, ...]
    spans: tuple[tuple[int, int], ...]
    start: int

    def raw(self, index: int) -> str:
        """An entry's own bytes, as text."""
        begin, end = self.spans[index]
        return self.text[begin:end]

    def continues(self, before: Log) -> bool:
        """Whether it begins as `before` does, up to its last entry: then all of that stands unchanged, in its order."""
        return not before.spans or self.text.startswith(before.text[: before.spans[-1][1]])


@dataclass(frozen=True)
class Place:
    """Where the next entry of a log goes, in bytes; how many it has; the first date in it that can be read, or nothing."""

    at: int
    count: int
    first: str


@dataclass(frozen=True)
class Lost:
    """Something that stood in an older version and does not in a newer one."""

    what: str
    entry: Entry

    def __str__(self) -> str:
        """The finding on one line."""
        shown = json.dumps(self.entry, sort_keys=True, ensure_ascii=False)
        return f"{self.what}: {shown[:160]}{'…' if len(shown) > 160 else ''}"


# --- reading --------------------------------------------------------------------------------------------------------


def parse(text: str, known: Log | None = None) -> Log:
    """The log in `text`. Raises LogBroken for anything else, with the place.

    `known`: an older version; where `text` goes on from it, only what is new is read.
    """
    try:
        if known is not None and known.spans and text.startswith(known.text[: known.spans[-1][1]]):
            return _log(text, known.start, known.entries, known.spans)
        return _log(text, _entries_at(text, _skip(text, 0)))
    except IndexError as error:
        raise LogBroken("it ends in the middle") from error
    except (ValueError, RecursionError) as error:
        raise LogBroken(str(error)) from error


def _log(text: str, start: int, read: Iterable[Entry] = (), at: Iterable[tuple[int, int]] = ()) -> Log:
    entries, spans = list(read), list(at)
    here = _skip(text, spans[-1][1] if spans else start)
    while text[here] != "]":
        if spans:
            if text[here] != ",":
                raise ValueError(f"no comma after entry {len(spans) - 1}")
            here = _skip(text, here + 1)
        value, end = _DECODER.raw_decode(text, here)
        if not isinstance(value, dict):
            raise ValueError(f"entry {len(spans)} is no object")  # noqa: TRY004 - one kind of error for a broken log
        entries.append(cast("Entry", value))
        spans.append((here, end))
        here = _skip(text, end)
    json.loads(text[:start] + text[here:])  # and what stands around the entries is JSON as well
    return Log(text, tuple(entries), tuple(spans), start)


def _entries_at(text: str, at: int) -> int:
    """Just behind the bracket that opens the entries."""
    if text[at] == "[":
        return at + 1
    if text[at] != "{":
        raise ValueError("it holds neither an object nor a list")
    at = _skip(text, at + 1)
    while text[at] == '"':
        key, at = _DECODER.raw_decode(text, at)
        at = _skip(text, at)
        if text[at] != ":":
            raise ValueError(f"no colon after {key!r}")
        at = _skip(text, at + 1)
        if key == "entries" and text[at] == "[":
            return at + 1
        _, at = _DECODER.raw_decode(text, at)
        at = _skip(text, at)
        at = _skip(text, at + 1) if text[at] == "," else at
    raise ValueError("it has no list `entries`")


def _skip(text: str, at: int) -> int:
    """The next place that is no white space; the end, where there is none."""
    found = _GAP.match(text, at)
    return found.end() if found else at


# --- writing --------------------------------------------------------------------------------------------------------


def appended(text: str, entries: Iterable[Entry]) -> str:
    """`text` with these entries behind the others; every character that stood there still stands. Raises LogBroken."""
    return with_more(parse(text), entries)


def with_more(log: Log, entries: Iterable[Entry]) -> str:
    """The text of `log` with these entries behind the others; every character that stood there still stands."""
    return _put(log, [_dumped(entry) for entry in entries])


def place_in(log: Log) -> Place:
    """Where the next entry goes."""
    end = log.spans[-1][1] if log.spans else log.start
    return Place(len(log.text[:end].encode()), len(log.entries), _first_date(log.entries))


def grown(raw: bytes, place: Place, entries: Sequence[Entry]) -> tuple[bytes, Place]:
    """A log's bytes with these entries behind the others, and where the next one goes then. `place` is that of `raw`.

    The work does not grow with the log, but for the copying of its bytes: nothing in it is read again.
    """
    if not entries:
        return raw, place
    joined = ",\n    ".join(_dumped(entry) for entry in entries)
    put = f"{',' if place.count else ''}\n    {joined}".encode()
    after = Place(place.at + len(put), place.count + len(entries), place.first or _first_date(entries))
    return b"".join((raw[: place.at], put, raw[place.at :])), after


def _first_date(entries: Sequence[Entry]) -> str:
    return next((str(entry["date"]) for entry in entries if _day(entry) is not None), "")


def _put(log: Log, pieces: Sequence[str]) -> str:
    if not pieces:
        return log.text
    at = log.spans[-1][1] if log.spans else log.start
    joined = ",\n    ".join(pieces)
    return f"{log.text[:at]}{',' if log.spans else ''}\n    {joined}{log.text[at:]}"


def _dumped(entry: Entry) -> str:
    said = json.dumps(entry, ensure_ascii=False)
    try:
        said.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate: bytes of a file name that is no UTF-8
        return json.dumps(entry)
    return said


# --- archiving ------------------------------------------------------------------------------------------------------


def due(entries: Sequence[Entry], today: dt.date) -> int:
    """How many of the first entries are to move: once there are more than 200, those older than 30 days.

    Never one from behind a younger one: archive and log, one after the other, always say the same sequence (C2). An entry
    without a date that can be read moves with the old ones around it.
    """
    if len(entries) <= ARCHIVE_ABOVE:
        return 0
    count = 0
    for index, entry in enumerate(entries):
        is_old = _is_old(entry, today)
        if is_old is False:
            break
        count = index + 1 if is_old else count
    return count


def archived(log_text: str, archive_text: str, today: dt.date) -> tuple[str, str, int]:
    """(log, archive, how many moved): what is `due` moves, byte for byte (S2-R17).

    A crash after the archive was written leaves entries in both: those are not written a second time. Raises LogBroken.
    """
    log, archive = parse(log_text), parse(archive_text)
    count = due(log.entries, today)
    if not count:
        return log_text, archive_text, 0
    old = [log.raw(index) for index in range(count)]
    grown = _put(archive, old[_already(old, archive) :])
    first, last = log.spans[0][0], log.spans[-1][1]
    if count == len(log.spans):
        return log.text[:first].rstrip(_SPACE) + log.text[last:], grown, count
    return log.text[:first] + log.text[log.spans[count][0] :], grown, count


def _already(old: Sequence[str], archive: Log) -> int:
    """How many of the old entries are the archive's last ones already."""
    most = min(len(old), len(archive.spans))
    tail = [archive.raw(index) for index in range(len(archive.spans) - most, len(archive.spans))]
    for start in range(most):
        if tail[start] == old[0] and tail[start:] == list(old[: most - start]):
            return most - start
    return 0


def is_due(place: Place, today: dt.date) -> bool:
    """Whether anything of that log is `due`."""
    return place.count > ARCHIVE_ABOVE and bool(_is_old({"date": place.first}, today))


def _is_old(entry: Entry, today: dt.date) -> bool | None:
    """Whether it is older than 30 days; None where no date can be read."""
    day = _day(entry)
    return None if day is None else (today - day).days > ARCHIVE_OLDER_DAYS


def _day(entry: Entry) -> dt.date | None:
    try:
        return dt.date.fromisoformat(str(entry.get("date")))
    except ValueError:
        return None


# --- checking -------------------------------------------------------------------------------------------------------


def lost_entries(before: Sequence[Entry], after: Sequence[Entry]) -> list[Lost]:
    """What of `before` is not in `after` as it was. Both are archive and log together (S2-R04)."""
    left: dict[str, int] = {}
    for entry in after:
        left[_canonical(entry)] = left.get(_canonical(entry), 0) + 1
    found: list[Lost] = []
    for entry in before:
        said = _canonical(entry)
        if left.get(said, 0):
            left[said] -= 1
        else:
            found.append(Lost("an entry was removed or rewritten", entry))
    return found


def moved_entries(before: Sequence[Entry], after: Sequence[Entry]) -> list[Lost]:
    """Entries of a log that stand before one they stood behind; what went to the archive is not looked at."""
    places: dict[str, list[int]] = {}
    for index, entry in enumerate(after):
        places.setdefault(_canonical(entry), []).append(index)
    found: list[Lost] = []
    newest = -1
    for entry in before:
        at = (places.get(_canonical(entry)) or [-1]).pop(0)
        if 0 <= at < newest:
            found.append(Lost("an entry was moved before an older one", entry))
        newest = max(newest, at)
    return found


def changed_concept(before: Mapping[str, Any], after: Mapping[str, Any], approved: Iterable[Entry]) -> list[Lost]:
    """Fields of the concept that changed without an approval in the log (S2-R05, S2-R13).

    A person may also approve afterwards what stands (from it to itself): after a merge whose two sides said different things.
    """
    approvals = [entry["concept"] for entry in approved if isinstance(entry.get("concept"), dict)]
    allowed = {(each.get("field"), _canonical(each.get("from")), _canonical(each.get("to"))) for each in approvals}
    confirmed = {
        (each.get("field"), _canonical(each.get("to")))
        for each in approvals
        if each.get("approved_by") and _canonical(each.get("from")) == _canonical(each.get("to"))
    }
    found: list[Lost] = []
    for field, old in before.items():
        new = after.get(field)
        is_same = field in after and _canonical(old) == _canonical(new)
        if is_same or old in ("", [], None) or (field, _canonical(old), _canonical(new)) in allowed:
            continue
        if field in after and (field, _canonical(new)) in confirmed:
            continue
        found.append(Lost(UNAPPROVED, {"field": field, "from": old, "to": new}))
    return found


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True)


# --- merging --------------------------------------------------------------------------------------------------------


def merged_log(base: str, ours: str, theirs: str) -> str:
    """The log of both branches: every entry of each, in its own order, by date and time. Raises LogBroken."""
    logs = [parse(text) for text in (base, ours, theirs)]
    shared = Counter(_canonical(entry) for entry in logs[0].entries)
    left, right = (_new_ones(log, shared) for log in logs[1:])
    mine = logs[1]
    new_of_mine, said_by_mine = {each[1] for each in left}, {each[0] for each in left}
    stays = [mine.raw(index) for index in range(len(mine.spans)) if index not in new_of_mine]
    right = [each for each in right if each[0] not in said_by_mine]
    pieces = stays + [each[3] for each in _interleaved(left, right)]
    if not mine.spans:
        return _put(mine, pieces)
    return mine.text[: mine.spans[0][0]] + ",\n    ".join(pieces) + mine.text[mine.spans[-1][1] :]


_New = tuple[str, int, tuple[str, str], str]


def _new_ones(log: Log, shared: Counter[str]) -> list[_New]:
    """(canonical, index, (date, time), raw) of the entries that the base does not have."""
    left = Counter(shared)
    found: list[_New] = []
    for index, entry in enumerate(log.entries):
        said = _canonical(entry)
        if left[said]:
            left[said] -= 1
        else:
            found.append((said, index, (str(entry.get("date")), str(entry.get("time"))), log.raw(index)))
    return found


def _interleaved(left: list[_New], right: list[_New]) -> list[_New]:
    """Both, each in its own order; the earlier head first."""
    result: list[_New] = []
    at, beside = 0, 0
    while at < len(left) and beside < len(right):
        if right[beside][2] < left[at][2]:
            result.append(right[beside])
            beside += 1
        else:
            result.append(left[at])
            at += 1
    return result + left[at:] + right[beside:]


# --- searching ------------------------------------------------------------------------------------------------------


def matching(entries: Sequence[Entry], words: Sequence[str]) -> list[Entry]:
    """The entries that hold every word, in whatever field, in either case."""
    wanted = [word.casefold() for word in words]
    return [
        entry for entry in entries if all(word in json.dumps(entry, ensure_ascii=False).casefold() for word in wanted)
    ]
