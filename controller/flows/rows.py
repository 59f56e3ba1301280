"""`hemma rows`: the engine that lies in a slice, started here as it is started on Colab; and how a run stands (S9-R14, S9-R33)."""

from __future__ import annotations

import datetime as dt
import os
import sys
from typing import Any

from controller.flows import slices
from manifests.commands import command
from manifests.errors import UsageError
from manifests.slices import MANIFEST_FILE, SOURCE_ZIP, RowStatus, parse_slice_manifest, read_any_status

STATUS = "status.json"
# A heartbeat may be late by its own period twice, and by what a mounted Drive takes.
_LATE_BEATS, _LATE_S = 3, 30.0


def argv_of(folder: str, verb: str, options: list[str], python: str | None = None) -> list[str]:
    """The command that runs `verb` of the slice's own engine, every byte of the slice proven first.

    `python` None is the one its manifest names, from here, else this one. Raises UsageError, slice-broken.
    """
    _, faults = slices.verify(folder)
    if faults:
        slices.bundle.verify(folder)  # says it in its own words
    return [python or _python(folder), "-I", os.path.join(folder, SOURCE_ZIP), verb, folder, *options]


def _python(folder: str) -> str:
    path = os.path.join(folder, MANIFEST_FILE)
    with open(path, encoding="utf-8") as file:
        named = os.path.expanduser(parse_slice_manifest(file.read(), path).python)
    return os.path.abspath(named) if os.path.exists(named) else sys.executable


def status(run: str, now: dt.datetime) -> dict[str, Any]:
    """How the row run in the directory `run` stands: its status, and `is_late` when its heartbeat stopped. Raises UsageError."""
    path = os.path.join(run, STATUS)
    if not os.path.exists(path):
        raise UsageError(f"{run} is no run's directory: it has no {STATUS}", remedy="hemma rows run SLICE --run DIR")
    found = read_any_status(path)
    if not isinstance(found, RowStatus):
        raise UsageError(
            f"{run} is the run of a command, not of rows", remedy=command("hemma ps   (run {})", found.run_id)
        )
    age_s = max(0.0, (now - found.heartbeat_at).total_seconds())
    is_open = found.state in {"starting", "running"}
    is_late = is_open and age_s > _LATE_BEATS * found.heartbeat_s + _LATE_S
    return {**found.as_dict(), "heartbeat_age_s": round(age_s, 1), "is_late": is_late}
