"""Which run a commit on the host belongs to, so that history says where a change ran (S9-R17)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

from lanes import run_state

Facts = Mapping[str, Any]


def run_of_commit(runs: Iterable[Facts], root: str, since_s: int | None, already: str = "") -> str | None:
    """The newest run in the clone at `root` that is not over, or ended after the last commit; None when there is none.

    `since_s` is when that commit was made (unix time; None when there is none yet), `already` the run it names: that one
    and those before it are not named again. Runs of git itself (a look at the status) made no change worth naming.
    """
    found = [str(run["run_id"]) for run in runs if _is_in(run, root) and _is_since(run, since_s)]
    return max((run_id for run_id in found if run_id > already), default=None)


def _is_in(run: Facts, root: str) -> bool:
    record = run.get("record") or {}
    program = str((record.get("argv") or [record.get("shell") or ""])[0])
    return record.get("root") == root and program.rpartition("/")[2].partition(" ")[0] != "git"


def _is_since(run: Facts, since_s: int | None) -> bool:
    if since_s is None or not run_state.judge(dict(run)).is_over:
        return True
    ended_at = (run.get("status") or {}).get("ended_at")
    # A lost run wrote no end; its files' last change is the nearest thing.
    return (_moment(ended_at) or float(run.get("modified_s") or 0.0)) > since_s


def _moment(text: str | None) -> float | None:
    try:
        return dt.datetime.fromisoformat(text).timestamp() if text else None
    except (ValueError, OverflowError):  # the 31st of February
        return None
