"""How a run in Drive stands, from what its folder lists and what its status.json says (S9-R14, S9-R16, S9-R24).

The same reading for Drive and for a folder: what is there, what could not be read and why, and when it last gave a sign.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

STATUS = "status.json"
RECORD = "run.json"
# Logs before deeper artefacts: what a person reads first comes first.
_ORDER = (STATUS, RECORD, "logs/", "events.jsonl", "results/", "spool/", "evidence/", "artifacts/")
LOGS = ("logs/", "log/", "stdout", "stderr")
# A mounted Drive brings a write to the others within a minute or two; a heartbeat that old says nothing yet.
DRIVE_DELAY_S = 180.0
MISSED_BEATS = 6
# The row engine's exit code for: all rows are done but for those that were set aside.
QUARANTINED = 3


@dataclass(frozen=True)
class Unread:
    """A file that is there and could not be read, and why."""

    path: str
    why: str


@dataclass(frozen=True)
class File:
    """One file of a run's folder; `why_not` says why its content cannot be had, empty when it can."""

    path: str
    id: str
    size: int | None = None
    modified: str = ""
    why_not: str = ""


@dataclass(frozen=True)
class Row:
    """One line of the table. `state`: as the run says, or `silent` (no heartbeat for long), `unreadable`, `unknown`.

    Rates in rows a second, ages and ETAs in seconds. `alert` is the last thing that went wrong, in words.
    """

    run: str
    id: str
    state: str
    where: str = "drive"
    slice: str = ""
    step: str = ""
    done: int | None = None
    total: int | None = None
    quarantined: int | None = None
    rate_per_s: float | None = None
    eta_s: float | None = None
    alert: str = ""
    heartbeat_at: str = ""
    age_s: float | None = None
    attempt: int | None = None
    files: int = 0
    size_bytes: int = 0
    unread: tuple[Unread, ...] = ()

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes of it by itself."""
        return self.state in ("finished", "failed", "stopped", "silent")


def judge(run: str, run_id: str, files: Sequence[File], status: Mapping[str, Any] | None, now_s: float) -> Row:
    """One run as a row. `status` is the parsed status.json, None when there is none or it cannot be read.

    Works for a row engine's status and for that of a command; fields it does not know are not needed.
    """
    unread = tuple(Unread(each.path, each.why_not) for each in reading_order(files) if each.why_not)
    base: dict[str, Any] = {
        "run": run,
        "id": run_id,
        "files": len(files),
        "size_bytes": sum(each.size or 0 for each in files),
        "unread": unread,
    }
    if status is None:
        if any(each.path == STATUS for each in unread):
            return Row(state="unreadable", alert=f"{STATUS} is there, but: {unread[0].why}", **base)
        return Row(state="unknown", alert=f"no {STATUS} yet", **base)
    counts = _mapping(status.get("counts"))
    age = _age(status.get("heartbeat_at"), now_s)
    return Row(
        state=_state(status, age),
        slice=str(status.get("slice") or ""),
        step=str(status.get("step") or ""),
        done=_count(counts.get("done")),
        total=_count(counts.get("total")),
        quarantined=_count(counts.get("quarantined")),
        rate_per_s=_number(status.get("rate_per_s")),
        eta_s=_number(status.get("eta_s")),
        alert=_alert(status),
        heartbeat_at=str(status.get("heartbeat_at") or ""),
        age_s=age,
        attempt=_count(status.get("attempt")),
        **base,
    )


def host_row(view: Mapping[str, Any], now_s: float) -> Row:
    """A run on the host as the same row; `view` is one of `hemma ps`, whose verdict on its state stands (S9-R24)."""
    return Row(
        run=str(view.get("run_id")),
        id=str(view.get("run_id")),
        state=str(view.get("state") or "running"),
        where="host",
        step=str(view.get("command") or ""),
        heartbeat_at=str(view.get("heartbeat_at") or ""),
        age_s=_age(view.get("heartbeat_at"), now_s),
        size_bytes=_count(view.get("bytes")) or 0,
    )


def reading_order(files: Sequence[File]) -> list[File]:
    """Files as they are worth reading: status, record, logs, events, spool, evidence, artefacts, then the rest."""

    def rank(each: File) -> tuple[int, str]:
        place = next((n for n, start in enumerate(_ORDER) if each.path == start or each.path.startswith(start)), 99)
        return place, each.path

    return sorted(files, key=rank)


def log_files(files: Sequence[File]) -> list[File]:
    """The logs among `files`, in order of their names; without any, the events."""
    logs = [each for each in files if each.path.startswith(LOGS) or each.path.endswith(".log")]
    return sorted(logs or [each for each in files if each.path == "events.jsonl"], key=lambda each: each.path)


def chosen(rows: Sequence[Row], words: Sequence[str]) -> tuple[list[Row], list[str]]:
    """Rows that `words` name (an id, a whole name, its beginning or end, or `last`), and words that name none or several."""
    found: list[Row] = []
    wrong: list[str] = []
    for word in words:
        exact = [row for row in rows if word in (row.run, row.id)]
        near = exact or [row for row in rows if row.run.startswith(word) or row.run.endswith(word)]
        if word == "last":
            near = sorted(rows, key=lambda row: (row.heartbeat_at, row.run))[-1:]
        if len(near) == 1:
            found += near
        else:
            several = ", ".join(row.run for row in near[:4])
            wrong.append(f"`{word}` names {'several: ' + several if near else 'no run'}")
    return found, wrong


def _state(status: Mapping[str, Any], age: float | None) -> str:
    state = str(status.get("state") or "unknown")
    if state not in ("starting", "running"):
        exit_code = status.get("exit_code")
        fine = (0, QUARANTINED) if status.get("kind") == "rows" else (0,)
        return "failed" if state == "finished" and isinstance(exit_code, int) and exit_code not in fine else state
    beat = _number(status.get("heartbeat_s")) or 10.0
    return "silent" if age is None or age > DRIVE_DELAY_S + MISSED_BEATS * beat else state


def _alert(status: Mapping[str, Any]) -> str:
    last = _mapping(status.get("last_error"))
    if last.get("error"):
        row = f"row {last['row']}: " if last.get("row") else ""
        return row + str(last["error"]).partition("\n")[0]
    said = status.get("reason") or status.get("detail") or ""
    return "" if said == "exited" else str(said)


def _age(moment: object, now_s: float) -> float | None:
    try:
        return max(0.0, now_s - dt.datetime.fromisoformat(str(moment)).timestamp())
    except (ValueError, OverflowError):
        return None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    # Neither NaN nor infinity is a rate or a length of time.
    return float(value) if abs(value) < 1e15 else None
