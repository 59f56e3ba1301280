"""What can be done with runs that exist: list, read, attach, wait, stop, prune."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from controller.flows import run as run_flow
from lanes import retention, run_state
from manifests.errors import no_answer
from remote.host import Host, target_of
from remote.session import Session

if TYPE_CHECKING:
    from remote.stdio import Source, Write

# Beyond any spool's end: follows a run without asking for its output.
_NO_OUTPUT = 1 << 62


def view(facts: dict[str, Any], now_s: float | None = None) -> dict[str, Any]:
    """One run as `hemma ps` shows it: its facts and the verdict on its state in one flat object; secrets in its command are masked."""
    from lanes.redaction import redact_command

    record, status = facts.get("record") or {}, facts.get("status") or {}
    state = run_state.judge(facts, now_s)
    return {
        "run_id": facts["run_id"],
        "state": state.state,
        "exit_code": state.exit_code,
        "reason": facts.get("damaged") or state.reason,
        "command": redact_command(record.get("argv") or [], record.get("shell")),
        **{name: record.get(name) for name in ("cwd", "commit", "branch", "who", "created_at", "detached")},
        **{name: status.get(name) for name in ("pid", "started_at", "heartbeat_at", "ended_at")},
        "backup": _backup(record.get("backup")),
        "bytes": sum(facts["sizes"].values()),
        "is_live": not state.is_over or state.command_alive,
        "damaged": facts.get("damaged"),
    }


def _backup(noted: Any) -> str | None:
    """The name of the backup that `hemma undo RUN` goes back to, or why there is none."""
    if not isinstance(noted, dict):
        return None
    known = cast("dict[str, Any]", noted)
    why = known.get("error") or known.get("skipped")
    return str(known["ref"]).rpartition("/")[2] if known.get("ref") else f"none: {why}" if why else None


@dataclass(frozen=True)
class Page:
    """Some of a host's runs, oldest first, as `view` shows them.

    `rest` is how many older ones there are, `before` where the next page begins; `total_bytes` is what all runs keep.
    """

    runs: list[dict[str, Any]]
    rest: int = 0
    before: str | None = None
    total_bytes: int = 0


def page(host: dict[str, Any], **asked: Any) -> Page:
    """The newest runs on the host; `asked` is most, before, live, brief, with_total (remote/agent/listing.py)."""
    now_s = time.time()
    said = Host(host).request("list", **asked)
    found = [view(facts, now_s) for facts in said["runs"]]
    return Page(found, said["rest"], said["before"], said.get("total_bytes", 0))


def live_runs(host: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs that still live, oldest first."""
    return [run for run in all_runs(host, live=True) if run["is_live"]]


def all_runs(host: dict[str, Any], **asked: Any) -> list[dict[str, Any]]:
    """Every run, oldest first, page by page."""
    pages = [page(host, **asked)]
    while pages[-1].before is not None:
        following = page(host, before=pages[-1].before, **asked)
        if following.rest >= pages[-1].rest:
            raise no_answer("a page of runs that goes on for ever")
        pages.append(following)
    return [run for each in reversed(pages) for run in each.runs]


def show(host: dict[str, Any], run: str) -> dict[str, Any]:
    """One run, as `view` shows it. Raises no-such-run, ambiguous-run."""
    return view(Host(host).request("show", run=run), time.time())


def duration_s(run: dict[str, Any], now_s: float) -> float | None:
    """How long a run has taken, or has been going, in seconds."""
    start, end = _moment(run["started_at"] or run["created_at"]), _moment(run["ended_at"])
    if start is None:
        return None
    return max(0.0, (now_s if end is None else end) - start)


def _moment(text: str | None) -> float | None:
    try:
        return dt.datetime.fromisoformat(text).timestamp() if text else None
    except (ValueError, OverflowError):  # the 31st of February
        return None


def session(
    settings: dict[str, Any],
    run: str,
    writers: tuple[Write, Write],
    *,
    stdin: Source | None = None,
    notice: Callable[[str], None] | None = None,
    **fields: Any,
) -> Session:
    """A session attached to an existing run; `fields` are hold, follow, offsets, tail_bytes, action."""
    host = settings["host"]
    request = {"verb": "attach", "run": run, "state_dir": host["state_dir"], "follow": True, **fields}
    return Session(target_of(host), request, writers, stdin=stdin, notice=notice)


def wait(settings: dict[str, Any], run: str, **fields: Any) -> tuple[str, dict[str, Any]]:
    """Wait for a run's end without its output; returns (run id, final status)."""
    following = session(settings, run, (_drop, _drop), offsets=[_NO_OUTPUT, _NO_OUTPUT], **fields)
    end = run_flow.follow(following)
    return following.run_id, end


def stop(settings: dict[str, Any], run: str, grace_s: float) -> tuple[str, run_state.RunState]:
    """SIGTERM to the run's process group, SIGKILL after `grace_s` seconds; returns (run id, its state afterwards).

    A run that was lost but whose command still lives is signalled directly.
    """
    host = settings["host"]
    facts = Host(host).request("show", run=run)
    state = run_state.judge(facts, time.time())
    if state.is_over and not state.command_alive:
        return str(facts["run_id"]), state
    if not facts["supervisor_alive"]:
        _stop_orphan(host, str(facts["run_id"]), grace_s)
    else:
        wait(settings, str(facts["run_id"]), action="stop", grace_s=grace_s)
    return str(facts["run_id"]), run_state.judge(Host(host).request("show", run=run), time.time())


def _stop_orphan(host: dict[str, Any], run_id: str, grace_s: float) -> None:
    deadline = time.monotonic() + grace_s
    number = 15
    while Host(host).request("kill", run=run_id, signal=number)["signalled"]:
        time.sleep(0.2)
        number = 0 if time.monotonic() < deadline else 9


def prune(host: dict[str, Any], *, max_age_s: float, max_bytes: int, is_dry: bool) -> dict[str, Any]:
    """Remove old runs by age and size, never a live one; returns {"removed": ids, "kept": ids that turned out to live}."""
    asked: dict[str, Any] = {**retention.ASKED}
    said = Host(host).request("list", **asked)
    chosen = retention.expired(
        said["runs"], time.time(), max_age_s=max_age_s, max_bytes=max_bytes, total_bytes=said.get("total_bytes")
    )
    if is_dry or not chosen:
        return {"removed": chosen, "kept": []}
    return Host(host).request("remove", run_ids=chosen)


def _drop(_: memoryview) -> None:
    """Output nobody asked for."""
