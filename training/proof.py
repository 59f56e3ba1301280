"""Evidence read back from disk, believed only where the event logs that it refers to hold (lanes/evidence_chain.py)."""

from __future__ import annotations

import datetime as dt
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lanes import evidence_chain
from manifests.errors import HemmaError
from manifests.evidence import Evidence, Stage
from manifests.files import parse_json

# What an executor writes is far below; more is a stranger's.
EVIDENCE_BYTES = 32 << 20
LOG_BYTES = 1 << 30


def log_of(
    folder: Path, *, is_supervised: bool = False, is_running: bool = False
) -> tuple[list[dict[str, Any]], str | None]:
    """(the records of a run's event log, what is wrong with it as a whole or None).

    `is_supervised`: the run must have had a supervisor, which keeps what its executor printed.
    """
    run_id = folder.parent.name
    raw, fault = _bytes_of(folder / "events.jsonl", LOG_BYTES)
    if raw is None:
        return [], fault
    records: list[dict[str, Any]] = []
    # The last line may be one that is being written, or that a crash cut: it was never acknowledged.
    for line in raw[: raw.rfind(b"\n") + 1].splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            return [], f"the event log of run {run_id} has a line that is no record"
        if not isinstance(record, dict):
            return [], f"the event log of run {run_id} has a line that is no record"
        records.append(record)
    printed = _printed(folder)
    if printed is None and is_supervised:
        return [], f"run {run_id} has no output of its executor"
    return records, evidence_chain.log_fault(records, run_id, printed=printed, is_running=is_running)


def is_supervised(folder: Path) -> bool:
    """Whether the run of this folder has a supervisor (not so in tests of the executor alone)."""
    return (folder.parent / "run.json").is_file()


def evidence_of(folder: Path, stage: Stage, *, supervised: bool = False) -> tuple[Evidence | None, str]:
    """(the evidence of a stage in the folder of an earlier run, what is wrong with it). None unless it is proven.

    `supervised`: whoever asks has a supervisor, so that every run before it had one too; one without was made by hand.
    """
    raw, fault = _bytes_of(folder / "evidence" / f"{stage}.json", EVIDENCE_BYTES)
    if raw is None:
        return None, fault or ""
    try:
        evidence = Evidence.parse(parse_json(raw, f"{stage}.json"), stage)
    except HemmaError as error:
        return None, error.message
    if evidence.stage != stage:
        return None, f"{stage}.json is of the stage {evidence.stage}"
    records, broken = log_of(folder, is_supervised=supervised)
    fault = broken or evidence_chain.fault_of(evidence, records, folder.parent.name, dt.datetime.now(dt.UTC))
    if fault is None and evidence.origin:
        fault = _origin_fault(folder, evidence, supervised=supervised)
    return (None, fault) if fault else (evidence, "")


def own_fault(folder: Path, evidence: Sequence[Evidence]) -> str | None:
    """What of a run's own log and evidence on disk is no longer what its executor wrote; None when all of it is."""
    records, broken = log_of(folder, is_running=True)
    if broken:
        return broken
    newest = {each.stage: each for each in evidence}
    for each in newest.values():
        raw, fault = _bytes_of(folder / "evidence" / f"{each.stage}.json", EVIDENCE_BYTES)
        try:
            found = Evidence.parse(parse_json(raw, each.stage), each.stage) if raw is not None else None
        except HemmaError as error:
            return error.message
        if found is None or evidence_chain.digest_of(found) != evidence_chain.digest_of(each):
            return fault or f"the evidence of {each.stage} on disk is not what this run recorded"
        fault = evidence_chain.fault_of(each, records, folder.parent.name, dt.datetime.now(dt.UTC))
        if fault:
            return fault
    return None


def _origin_fault(folder: Path, evidence: Evidence, *, supervised: bool) -> str | None:
    name = evidence.run_id
    if "/" in name or name.startswith("."):
        return f"{name!r} is no run"
    origin = folder.parent.parent / name / folder.name
    records, broken = log_of(origin, is_supervised=supervised)
    return broken or evidence_chain.origin_fault(evidence, records, dt.datetime.now(dt.UTC))


def _printed(folder: Path) -> list[str] | None:
    """The digests of the records that count, as the executor printed them into the run's output, outside of its own folder.

    None where there is no such output. Other lines are what libraries print.
    """
    raw, _ = _bytes_of(folder.parent / "logs" / "stdout.log", LOG_BYTES)
    found: list[str] = []
    for line in (raw or b"").splitlines():
        if not line.startswith(b"{") or b'"digest"' not in line:
            continue
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(said, dict) and said.get("kind") in evidence_chain.ANCHORED:
            found.append(str(said.get("digest")))
    return found or None


def _bytes_of(path: Path, limit: int) -> tuple[bytes | None, str | None]:
    """(what a plain file holds, why it is not taken): a link, a pipe or an endless file is not what an executor wrote."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        facts = os.fstat(handle)
    except (OSError, ValueError) as error:
        return None, f"{path.name} cannot be read: {error}"
    if stat.S_ISDIR(facts.st_mode):
        os.close(handle)
        return None, f"{path.name} is a folder"
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > limit:
            return None, f"{path.name} is no file of an executor ({facts.st_size} bytes)"
        return file.read(), None
