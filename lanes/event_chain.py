"""A log whose records name their predecessor by digest, so that the order of events is proven and not asserted (S21-R05).

What a chain shows: no record was changed, dropped from the middle, added or moved without rewriting all that follow. What
it does not show by itself is a cut at the end; for that the digest of the last record is kept elsewhere and given as `head`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

GENESIS = "0" * 64
CHAIN_FIELDS = ("previous_digest", "digest")


def link(previous_digest: str, record: Mapping[str, Any]) -> str:
    """The digest of `record` after the one with `previous_digest`; the record's own chain fields do not count.

    sha256 over JSON with sorted keys, ASCII, no blanks: the same on every Python. NaN and infinities are words in it.
    """
    body = {key: value for key, value in record.items() if key not in CHAIN_FIELDS}
    text = json.dumps([previous_digest, body], sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def chained(previous: Mapping[str, Any] | None, record: Mapping[str, Any]) -> dict[str, Any]:
    """`record` as it goes into the log after `previous` (None: the first), with `seq` and its chain fields."""
    seq = 0 if previous is None else int(previous["seq"]) + 1
    before = GENESIS if previous is None else str(previous["digest"])
    body = {**record, "seq": seq}
    return {**body, "previous_digest": before, "digest": link(before, body)}


def verify(records: Sequence[Mapping[str, Any]], *, head: str | None = None) -> int | None:
    """The index of the first record that breaks the chain, or None when it holds.

    A chain that ends before the record with digest `head` breaks at its own length.
    """
    before = GENESIS
    for index, record in enumerate(records):
        if record.get("seq") != index or isinstance(record.get("seq"), bool):
            return index
        if record.get("previous_digest") != before or record.get("digest") != link(before, record):
            return index
        before = str(record["digest"])
    known = {GENESIS, *(record["digest"] for record in records)}
    return len(records) if head is not None and head not in known else None
