"""Evidence that cannot be typed by hand: each record stands in its run's event log by digest, and names the one before it.

The log is chained (lanes/event_chain.py) and written by the executor alone. A record that an earlier run made is taken over
by reference: it names the record of that run's own log, which must hold as well. What this keeps out are slips and programs
that edit files; whoever has a shell on the host and means it can write a whole new log (SECURITY.md).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from manifests.evidence import Evidence

from lanes.event_chain import verify

Event = Mapping[str, Any]
# Records that count only as they were printed.
ANCHORED = ("started", "stage")
# Clocks of one machine, and the time that a stage takes to write what it found.
SLACK = dt.timedelta(minutes=2)


def digest_of(evidence: Evidence) -> str:
    """The digest of a record: sha256 over its canonical JSON."""
    text = json.dumps(evidence.as_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def log_fault(
    log: Sequence[Event], run_id: str, *, printed: Sequence[str] | None = None, is_running: bool = False
) -> str | None:
    """What is wrong with a run's event log as a whole, or None.

    `printed` are the digests of its records of the kinds ANCHORED as they were printed when they were written, where that was
    kept elsewhere. The newest one may have been cut off by a kill; of a run that goes on (`is_running`) any of them may still be
    on their way there.
    """
    broken = verify(log)
    if broken is not None:
        return f"the event log of run {run_id} breaks at record {broken}"
    started = [each for each in log if each.get("kind") == "started"]
    if len(started) != 1 or _data(started[0]).get("run_id") != run_id:
        return f"the event log is not that of run {run_id}"
    written = [each.get("digest") for each in log if each.get("kind") in ANCHORED]
    if printed is not None and (
        written[: len(printed)] != list(printed) or (not is_running and len(written) > len(printed) + 1)
    ):
        return f"the event log of run {run_id} is not the one that it wrote: it printed other records"
    return None


def fault_of(evidence: Evidence, log: Sequence[Event], run_id: str, now: dt.datetime) -> str | None:
    """Why a record of the folder of `run_id`, whose log is whole, proves nothing; None when it stands in the log as it is."""
    event = _event_of(evidence, log)
    if event is None:
        return f"the evidence of {evidence.stage} is not what run {run_id} recorded: its digest is in no event"
    if evidence.outcome == "passed" and not evidence.checks:
        return f"the evidence of {evidence.stage} names no check"
    begun = _moment(next((each for each in log if each.get("kind") == "started"), {}))
    written = _moment(event)
    if begun is None or written is None or evidence.created_at > now + SLACK or written > now + SLACK:
        return f"the evidence of {evidence.stage} is of the future"
    if evidence.origin:
        return None if evidence.run_id != run_id else f"the evidence of {evidence.stage} refers to its own run"
    if evidence.run_id != run_id:
        return f"the evidence of {evidence.stage} is of run {evidence.run_id}, and refers to no record of it"
    if not begun - SLACK <= evidence.created_at <= written + SLACK:
        return f"the evidence of {evidence.stage} was not made while run {run_id} ran"
    return None


def origin_fault(evidence: Evidence, log: Sequence[Event], now: dt.datetime) -> str | None:
    """Why what `evidence` refers to is not proven by the log of the run that made it, which is whole; None when it is."""
    for event in log:
        data = _data(event)
        if data.get("evidence_sha256") != evidence.origin or event.get("kind") != "stage":
            continue
        try:
            made = evidence.model_copy(
                update={"sequence": int(data["sequence"]), "previous": str(data["previous"]), "origin": ""}
            )
        except (KeyError, TypeError, ValueError):
            break
        return fault_of(made, log, evidence.run_id, now)
    return f"the evidence of {evidence.stage} refers to a record that run {evidence.run_id} never made"


def _event_of(evidence: Evidence, log: Sequence[Event]) -> Event | None:
    digest = digest_of(evidence)
    for event in log:
        data = _data(event)
        if event.get("kind") == "stage" and data.get("evidence_sha256") == digest:
            same = (data.get("stage"), data.get("outcome"), data.get("sequence"), data.get("previous"))
            return event if same == (evidence.stage, evidence.outcome, evidence.sequence, evidence.previous) else None
    return None


def _data(event: Event) -> Mapping[str, Any]:
    data = event.get("data")
    return data if isinstance(data, Mapping) else {}


def _moment(event: Event) -> dt.datetime | None:
    try:
        found = dt.datetime.fromisoformat(str(event.get("at")))
    except ValueError:
        return None
    # Of the years in which a training can have run; sums with others leave the calendar.
    return found if found.tzinfo is not None and 2000 < found.year < 9000 else None
