"""The runs of a host, a page at a time: twelve thousand of them cost one look at their folder, and what is asked for."""

from __future__ import annotations

import bisect
import os
import time

from . import identity, store

# What a page holds at most: runs, and bytes of their records.
MOST_RUNS = 1000
MOST_BRIEF = 20_000
MOST_RECORD_BYTES = 4 << 20
# A run without a status this young is being started.
YOUNG_S = 60.0


def page(request: dict[str, object]) -> dict[str, object]:
    """Facts of the newest `most` runs older than `before` (of the `oldest` when asked so), oldest first.

    `live`: only those that may still live. `brief`: without records, for who counts and prunes. `rest` tells how many
    were not looked at, `before` where to go on, `total_bytes` (`with_total`) what all runs keep.
    """
    state_dir = request.get("state_dir")
    runs = store.runs_folder(str(state_dir) if state_dir else None)
    interval_s = request.get("not_sooner_than_s")
    if isinstance(interval_s, (int, float)) and not store.is_due(runs, float(interval_s)):
        return {"runs": [], "rest": 0, "before": None}
    ids = store.ids_in(runs)
    total = {"total_bytes": sum(_size(runs, run_id) for run_id in ids)} if request.get("with_total") else {}
    before = request.get("before")
    if isinstance(before, str):
        del ids[bisect.bisect_left(ids, before) :]
    chosen, rest = _chosen(runs, ids, request)
    if not request.get("oldest"):
        chosen.reverse()
    # A page of none looked at nothing: the next one begins where this one would have.
    before = before if rest == len(ids) else ids[rest]
    return dict(total, runs=chosen, rest=rest, before=before if rest and not request.get("oldest") else None)


def _chosen(runs: str, ids: list[str], request: dict[str, object]) -> tuple[list[dict[str, object]], int]:
    """The runs of the page in the order that was asked for, and how many are left."""
    is_brief, is_live = bool(request.get("brief")), bool(request.get("live"))
    most, asked = MOST_BRIEF if is_brief else MOST_RUNS, request.get("most")
    most = min(most, asked) if isinstance(asked, int) and asked >= 0 else most
    found: list[dict[str, object]] = []
    room, looked_at = MOST_RECORD_BYTES, 0
    for run_id in ids if request.get("oldest") else reversed(ids):
        if len(found) >= most or room < 0:
            break
        looked_at += 1
        folder = os.path.join(runs, run_id)
        if is_live and not may_live(folder):
            continue
        found.append(_brief(folder) if is_brief else store.facts(folder))
        room -= 0 if is_brief else _bytes(os.path.join(folder, "run.json"))
    return found, len(ids) - looked_at


def may_live(folder: str) -> bool:
    """Whether a run's supervisor or command lives, or it was made a moment ago; from its status alone."""
    status = store.read(folder, "status.json")
    if status is None:
        try:
            return time.time() - os.stat(folder).st_mtime < YOUNG_S
        except OSError:
            return False
    return identity.is_alive(status.get("supervisor")) or identity.is_alive(status.get("command"))


def _brief(folder: str) -> dict[str, object]:
    known = store.facts(folder, with_record=False)
    status = known["status"]
    if isinstance(status, dict):
        known["status"] = {name: status[name] for name in ("state", "exit_code") if name in status}
    return known


def _size(runs: str, run_id: str) -> int:
    return sum(_bytes(store.spool_path(os.path.join(runs, run_id), stream)) for stream in store.STREAMS)


def _bytes(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
