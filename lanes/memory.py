"""Project memory, decided: where an entry goes into the log's text, what two versions lost, what may be archived.

A log is text with an array of entries: `{"schema_version": 1, "entries": [...]}` or a bare array. Whatever stands in it
keeps its bytes: appending is an insertion, archiving moves an entry's own bytes (S2-R04, S2-R17, C2).
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

EMPTY = '{\n  "schema_version": 1,\n  "entries": [\n  ]\n}\n'
ARCHIVE_ABOVE = 200
ARCHIVE_OLDER_DAYS = 30
_SPACE = " \t\r\n"
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


def parse(text: str) -> Log:
    """The log in `text`. Raises LogBroken for anything else, with the place."""
    try:
        at = _skip(text, 0)
        start = _entries_at(text, at)
        return _log(text, start)
    except (ValueError, IndexError, RecursionError) as error:
        raise LogBroken(str(error) or "it ends in the middle") from error


def _log(text: str, start: int) -> Log:
    entries: list[Entry] = []
    spans: list[tuple[int, int]] = []
    at = _skip(text, start)
    while text[at] != "]":
        value, end = _DECODER.raw_decode(text, at)
        if not isinstance(value, dict):
            raise ValueError(f"entry {len(entries)} is no object")  # noqa: TRY004 - one kind of error for a broken log
        entries.append(cast("Entry", value))
        spans.append((at, end))
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
            if text[at] == "]":
                raise ValueError("a comma without an entry behind it")
        elif text[at] != "]":
            raise ValueError(f"no comma after entry {len(entries) - 1}")
    json.loads(text)  # and what stands around the entries is JSON as well
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
    while text[at] in _SPACE:
        at += 1
    return at


# --- writing --------------------------------------------------------------------------------------------------------


def appended(text: str, entries: Iterable[Entry]) -> str:
    """`text` with these entries behind the others; every character that stood there still stands. Raises LogBroken."""
    return _with_raw(parse(text), [_dumped(entry) for entry in entries])


def _with_raw(log: Log, pieces: Sequence[str]) -> str:
    if not pieces:
        return log.text
    joined = ",\n    ".join(pieces)
    if log.spans:
        end = log.spans[-1][1]
        return f"{log.text[:end]},\n    {joined}{log.text[end:]}"
    return f"{log.text[: log.start]}\n    {joined}{log.text[log.start :]}"


def _dumped(entry: Entry) -> str:
    said = json.dumps(entry, ensure_ascii=False)
    try:
        said.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate: bytes of a file name that is no UTF-8
        return json.dumps(entry)
    return said


# --- archiving ------------------------------------------------------------------------------------------------------


def archived(log_text: str, archive_text: str, today: dt.date) -> tuple[str, str, int]:
    """(log, archive, how many moved): once there are more than 200, those older than 30 days move, byte for byte.

    A crash after the archive was written leaves entries in both: those are not written a second time. Raises LogBroken.
    """
    log, archive = parse(log_text), parse(archive_text)
    if len(log.entries) <= ARCHIVE_ABOVE:
        return log_text, archive_text, 0
    old = [index for index, entry in enumerate(log.entries) if _is_old(entry, today)]
    if not old:
        return log_text, archive_text, 0
    there = _already(log, old, archive)
    grown = _with_raw(archive, [log.raw(index) for index in old[there:]])
    kept = [log.raw(index) for index in range(len(log.entries)) if index not in set(old)]
    first, last = log.spans[0][0], log.spans[-1][1]
    rest = ",\n    ".join(kept)
    left = log.text[:first] + rest + log.text[last:] if kept else log.text[:first].rstrip(_SPACE) + log.text[last:]
    return left, grown, len(old)


def _already(log: Log, old: Sequence[int], archive: Log) -> int:
    """How many of the old entries are the archive's last ones already."""
    for count in range(min(len(old), len(archive.entries)), 0, -1):
        tail = [archive.raw(len(archive.entries) - count + index) for index in range(count)]
        if tail == [log.raw(index) for index in old[:count]]:
            return count
    return 0


def _is_old(entry: Entry, today: dt.date) -> bool:
    try:
        return (today - dt.date.fromisoformat(str(entry.get("date")))).days > ARCHIVE_OLDER_DAYS
    except ValueError:
        return False  # no date that can be read: it stays where it is


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
    """Fields of the concept that changed without an approval in the log (S2-R05, S2-R13)."""
    approvals = [entry["concept"] for entry in approved if isinstance(entry.get("concept"), dict)]
    allowed = {(each.get("field"), _canonical(each.get("from")), _canonical(each.get("to"))) for each in approvals}
    found: list[Lost] = []
    for field, old in before.items():
        new = after.get(field)
        is_same = field in after and _canonical(old) == _canonical(new)
        if is_same or old in ("", [], None) or (field, _canonical(old), _canonical(new)) in allowed:
            continue
        found.append(Lost("the concept changed without approval", {"field": field, "from": old, "to": new}))
    return found


def lost_modules(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> list[Lost]:
    """Modules, and fields of modules, that the structure dropped (S2-R04)."""
    now = {str(each.get("name")): each for each in after}
    found: list[Lost] = []
    for module in before:
        name = str(module.get("name"))
        if name not in now:
            found.append(Lost("a module was dropped from the structure", {"name": name}))
            continue
        gone = [key for key in module if key not in now[name]]
        if gone:
            found.append(Lost("fields of a module were dropped", {"name": name, "fields": gone}))
    return found


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True)


# --- merging --------------------------------------------------------------------------------------------------------


def merged_log(base: str, ours: str, theirs: str) -> str:
    """The log of both branches: every entry of each, in its own order, by date and time. Raises LogBroken."""
    logs = [parse(text) for text in (base, ours, theirs)]
    shared = [_canonical(entry) for entry in logs[0].entries]
    left, right = (_new_ones(log, shared) for log in logs[1:])
    kept = logs[1].raw
    stays = [kept(index) for index in range(len(logs[1].entries)) if index not in {each[1] for each in left}]
    right = [each for each in right if each[0] not in {mine[0] for mine in left}]
    pieces = stays + [each[3] for each in _interleaved(left, right)]
    mine = logs[1]
    if not mine.spans:
        return _with_raw(mine, pieces)
    return mine.text[: mine.spans[0][0]] + ",\n    ".join(pieces) + mine.text[mine.spans[-1][1] :]


_New = tuple[str, int, tuple[str, str], str]


def _new_ones(log: Log, shared: Sequence[str]) -> list[_New]:
    """(canonical, index, (date, time), raw) of the entries that the base does not have."""
    left = list(shared)
    found: list[_New] = []
    for index, entry in enumerate(log.entries):
        said = _canonical(entry)
        if said in left:
            left.remove(said)
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


# --- structure ------------------------------------------------------------------------------------------------------


def merged_modules(
    standing: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]], today: str
) -> list[dict[str, Any]]:
    """What stands, with what the code says now: fields of ours are renewed, others kept, vanished modules marked."""
    now = {str(each["name"]): each for each in found}
    known = {str(each.get("name")) for each in standing}
    result: list[dict[str, Any]] = []
    for module in standing:
        name = str(module.get("name"))
        fresh = now.get(name)
        if fresh is not None:
            dropped = {"removed_on"} if module.get("status") == "removed" else set[str]()
            result.append({**module, **fresh, **{key: module[key] for key in dropped if key in module}})
        elif module.get("status") in ("removed", "planned"):
            result.append(dict(module))
        else:
            result.append({**module, "status": "removed", "removed_on": today})
    return result + [dict(each) for name, each in now.items() if name not in known]


def matching(entries: Sequence[Entry], words: Sequence[str]) -> list[Entry]:
    """The entries that hold every word, in whatever field, in either case."""
    wanted = [word.casefold() for word in words]
    return [
        entry for entry in entries if all(word in json.dumps(entry, ensure_ascii=False).casefold() for word in wanted)
    ]
