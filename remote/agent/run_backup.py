"""The backup at a run's start: taken before the command, said in the run's record, and never a reason not to start it.

Settings travel in the request as `backup`: {"when": always | auto | off, "precious": [glob], "keep_days", "keep_gb"}.
"""

from __future__ import annotations

import importlib
import os
import time

from . import store

WHEN = "auto"


def root_of(facts: dict[str, object]) -> str | None:
    """The clone to back up, from what the guard saw: the run's root where that is one. What it takes is loaded once, here."""
    if not facts["is_toplevel"]:
        return None
    # Every run is a fork of this process and inherits what is loaded.
    importlib.import_module(".snapshot", __package__)
    return str(facts["root"])


def take(folder: str, request: dict[str, object]) -> None:
    """Back the run's clone up and note in run.json what came of it. Never raises for an expected reason."""
    root = request.get("backup_root")
    if not isinstance(root, str):
        return
    from . import snapshot

    settings = _settings(request)
    when = str(settings.get("when") or WHEN)
    began = time.monotonic()
    try:
        if not snapshot.is_due(root, when):
            noted: dict[str, object] = {"skipped": "off" if when == "off" else "git status is slow here"}
        else:
            precious = settings.get("precious")
            made = snapshot.take(
                root,
                reason="before a run",
                run_id=os.path.basename(folder),
                precious=[str(each) for each in precious] if isinstance(precious, list) else [],
            )
            noted = (
                {}
                if made is None
                else {
                    "ref": made.ref,
                    "is_new": made.is_new,
                    "left_out": [list(each) for each in made.left_out[:20]],
                    "left_out_count": len(made.left_out),
                }
            )
    except (store.Refused, OSError, ValueError) as error:
        noted = snapshot.refusal_of(error)
        store.add_event(folder, "not-backed-up", error=noted["error"])
    record = store.read(folder, "run.json")
    if record is not None and noted:
        noted["took_ms"] = round((time.monotonic() - began) * 1000, 1)
        try:
            store.write(folder, "run.json", dict(record, backup=noted))
        except OSError:
            pass


def tidy(request: dict[str, object]) -> None:
    """After the run: forget old backups of its clone, once a day and when they grew much."""
    root = request.get("backup_root")
    if not isinstance(root, str) or _settings(request).get("when") == "off":
        return
    from . import backups

    try:
        days, size = bounds(_settings(request))
        if backups.is_prune_due(root, size):
            backups.prune(root, days, size)
    except (store.Refused, OSError):
        pass  # the next day's


def bounds(settings: dict[str, object]) -> tuple[float, int]:
    """(days, bytes) that backups are kept for."""
    from . import backups

    days, size = settings.get("keep_days"), settings.get("keep_gb")
    return (
        float(days) if isinstance(days, (int, float)) else backups.KEEP_DAYS,
        int(size * (1 << 30)) if isinstance(size, (int, float)) else backups.KEEP_BYTES,
    )


def _settings(request: dict[str, object]) -> dict[str, object]:
    settings = request.get("backup")
    return settings if isinstance(settings, dict) else {}
