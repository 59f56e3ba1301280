"""The spool of a row run: one JSON line per row, each with a checksum, so that what a bad disk did to it is seen.

    {"key": "7", "result": {...}, "session": 2, "state": "done", "sum": "<16 hex>", "tries": 1}

What stands in the spool is all there is to know: the index of completed rows is made from it alone (S9-R36).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

Entry = dict[str, Any]
STATES = ("done", "quarantined", "failed")
SPOOL_FOLDER = "spool"
RESULTS_FOLDER = "results"


def canonical(value: object) -> str:
    """`value` as ASCII JSON with sorted keys and no blanks; equal values, equal text. Raises ValueError for what is no JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def checksum(entry: Mapping[str, Any]) -> str:
    """The first 16 hex of the sha256 over the entry less its own `sum`."""
    rest = {key: value for key, value in entry.items() if key != "sum"}
    return hashlib.sha256(canonical(rest).encode("ascii")).hexdigest()[:16]


def encode(entry: Mapping[str, Any]) -> bytes:
    """The entry as a line of the spool, checksum and newline with it."""
    return canonical({**entry, "sum": checksum(entry)}).encode("ascii") + b"\n"


def decode(line: bytes) -> Entry | None:
    """The entry in one line; None for a line that is cut, overwritten or no entry at all."""
    try:
        value: object = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    entry = cast("Entry", value)
    try:
        is_whole = entry.get("sum") == checksum(entry)
    except (ValueError, RecursionError):  # NaN, or deeper than Python goes
        return None
    return entry if is_whole and entry.get("state") in STATES and isinstance(entry.get("key"), str) else None


def entries(spool: bytes) -> list[Entry]:
    """Every whole entry of a shard's spool in its order; blank, cut and garbled lines are passed over."""
    return [entry for line in spool.split(b"\n") if line.strip() and (entry := decode(line)) is not None]


def whole_bytes(spool: bytes) -> int:
    """How much of a spool ends in a newline: what is behind was cut while it was written, and may be truncated."""
    return spool.rfind(b"\n") + 1


@dataclass
class Completed:
    """Which rows have a result, which are quarantined, and how often each other one was tried; by key."""

    done: set[str] = field(default_factory=set[str])
    quarantined: dict[str, str] = field(default_factory=dict[str, str])
    tries: dict[str, int] = field(default_factory=dict[str, int])
    repeated: int = 0

    def take(self, found: Iterable[Entry]) -> None:
        """Count these entries in. A row's first result counts: a second one (a write repeated in doubt) is `repeated`."""
        for entry in found:
            key, state = entry["key"], entry["state"]
            if state == "done":
                self.repeated += key in self.done
                self.done.add(key)
                self.quarantined.pop(key, None)
            elif state == "quarantined" and key not in self.done:
                self.quarantined[key] = str(entry.get("error", ""))
            elif state == "failed":
                self.tries[key] = max(self.tries.get(key, 0), int(entry.get("tries", 1)))


@dataclass(frozen=True)
class ResumePlan:
    """What a session does: `todo` are positions of rows in their order, `tries` what each was tried before."""

    todo: tuple[int, ...]
    tries: Mapping[str, int]


def plan_resume(keys: Iterable[str], known: Completed, *, retries_quarantined: bool) -> ResumePlan:
    """The rows that are still to be done. Pure: equal spools, equal plans (S9-R34, S10-R13)."""
    todo = tuple(
        at
        for at, key in enumerate(keys)
        if key not in known.done and (retries_quarantined or key not in known.quarantined)
    )
    # A row taken out of quarantine begins anew; otherwise its first failure would send it back.
    tries = {key: count for key, count in known.tries.items() if key not in known.quarantined}
    return ResumePlan(todo, tries)


def shard_of(position: int, shard_rows: int) -> int:
    """Which shard the row at this position belongs to."""
    return position // shard_rows


def spool_name(shard: int) -> str:
    """The path of a shard's spool below the run's directory."""
    return f"{SPOOL_FOLDER}/shard-{shard:05d}.jsonl"


def results_name(shard: int) -> str:
    """The path of a finished shard's results: each row once, in the order of the slice."""
    return f"{RESULTS_FOLDER}/shard-{shard:05d}.jsonl"


def results_of(keys: Iterable[str], found: Iterable[Entry]) -> bytes:
    """A shard's results as JSON lines {"key", "result"}, each row once, in the order of `keys`; rows without one are left out."""
    first: dict[str, Any] = {}
    for entry in found:
        if entry["state"] == "done":
            first.setdefault(entry["key"], entry.get("result"))
    lines = [canonical({"key": key, "result": first[key]}) for key in keys if key in first]
    return "".join(line + "\n" for line in lines).encode("ascii")
