"""`hemma ps`, `logs`, `attach`, `wait`, `stop` and `prune`: the verbs for runs that exist."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from controller.cli.run import settings_for
from controller.cli.run_options import seconds
from controller.flows import run as run_flow
from controller.flows import runs as flow
from controller.reports import console
from controller.reports.console import Table
from lanes.retention import MAX_BYTES
from manifests.commands import command
from manifests.errors import HemmaError, UsageError
from remote.stdio import demand_written, stderr_notice, stdin_source, write_to

SHOWN_RUNS = 200
_STATE_STYLES = {"running": "green", "starting": "green", "lost": "bold red"}


def _complete(incomplete: str) -> list[str]:
    """Run ids for the shell's completion; silent when the host cannot be asked."""
    try:
        found = [run["run_id"] for run in flow.page(settings_for()["host"], most=SHOWN_RUNS, brief=True).runs]
    except (HemmaError, OSError):
        return []
    return ["last", *(run_id for run_id in reversed(found) if run_id.startswith(incomplete))]


Run = Annotated[
    str, typer.Argument(metavar="RUN", help="Run id, an end or beginning of it, or `last`.", autocompletion=_complete)
]
Runs = Annotated[
    list[str], typer.Argument(metavar="RUN...", help="Run ids, ends of them, or `last`.", autocompletion=_complete)
]
OnHost = Annotated[
    str | None, typer.Option("--host", "-H", metavar="NAME", help="Another host than the repository's own.")
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


def register(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    for verb in (ps, logs, attach, wait, stop, prune):
        app.command(verb.__name__)(verb)


def ps(
    *,
    is_all: Annotated[bool, typer.Option("--all", "-a", help="Ended runs too, the newest of them.")] = False,
    most: Annotated[
        int, typer.Option("--most", help="With --all: so many.", metavar="N", min=1, max=1000)
    ] = SHOWN_RUNS,
    before: Annotated[str | None, typer.Option("--before", help="With --all: older than this.", metavar="RUN")] = None,
    is_wide: Annotated[bool, typer.Option("--wide", "-w", help="Also the backup that each run began with.")] = False,
    host: OnHost = None,
    as_json: AsJson = False,
) -> None:
    """List runs on the host: the live ones, or the newest of all (with --json every one).

    Example: hemma ps --all
    """
    there = settings_for(host)["host"]
    if as_json:
        console.show_json(flow.all_runs(there) if is_all else flow.live_runs(there))
        return
    page = flow.page(there, most=most, before=before) if is_all else flow.Page(flow.live_runs(there))
    found = page.runs
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("RUN", "STATE", "EXIT", "TIME", "WHO", *(["BACKUP"] if is_wide else []), "COMMAND"):
        table.add_column(column, no_wrap=column != "COMMAND", overflow="ellipsis")
    for run in found:
        table.add_row(*_cells(run, is_wide=is_wide))
    console.show_table(table)
    for run in (run for run in found if run["damaged"]):
        fact = f"the record of {run['run_id']} cannot be read: {run['damaged']}"
        console.line(console.err(), "warn", fact)
    if page.rest:
        following = command("hemma ps --all --before {}", str(page.before))
        console.line(console.err(), "do", f"{following}   ({page.rest} older runs)")
    if not found:
        console.err().print("no live run; ended ones: hemma ps --all" if not is_all else "no run yet")


def _cells(run: dict[str, Any], *, is_wide: bool) -> list[Any]:
    taken = flow.duration_s(run, time.time())
    code = "" if run["exit_code"] is None else str(run["exit_code"])
    state = console.plain(run["state"], _STATE_STYLES.get(run["state"], ""))
    return [
        run["run_id"],
        state,
        code,
        _short(taken),
        run["who"] or "",
        *([run["backup"] or ""] if is_wide else []),
        run["command"],
    ]


def _short(length_s: float | None) -> str:
    if length_s is None:
        return ""
    if length_s < 60:
        return f"{length_s:.1f}s"
    minutes, rest = divmod(int(length_s), 60)
    return f"{minutes}m{rest:02}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m"


def logs(
    run: Run,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    tail: Annotated[
        int | None, typer.Option("--tail", help="Only the last BYTES of each stream.", metavar="BYTES")
    ] = None,
    host: OnHost = None,
) -> None:
    """Print what a run wrote, byte for byte.

    Its stdout goes to stdout, its stderr to stderr. Harmless to the run; Ctrl-C ends the reading only.

    Example: hemma logs -f last
    """
    more = {} if tail is None else {"tail_bytes": tail}
    outputs = (write_to(1), write_to(2))
    reading = flow.session(settings_for(host), run, outputs, notice=stderr_notice, follow=follow, hold=False, **more)
    _follow_quietly(reading)
    demand_written(outputs, "df -h")


def _follow_quietly(reading: Any) -> None:
    """Follow without passing signals on: Ctrl-C ends the reading, not the run."""
    try:
        reading.follow()
    except BrokenPipeError:
        return


def attach(run: Run, *, host: OnHost = None) -> None:
    """Be the client of a run again.

    Its whole output from the beginning, our stdin and Ctrl-C, its exit code.

    Example: hemma attach last
    """
    outputs = (write_to(1), write_to(2))
    attached = flow.session(settings_for(host), run, outputs, stdin=stdin_source(), notice=stderr_notice, hold=True)
    end = run_flow.follow(attached)
    demand_written(outputs, command("what there was until then: hemma logs {}", attached.run_id))
    raise typer.Exit(run_flow.exit_code_of(end, attached.run_id))


def wait(runs: Runs, *, host: OnHost = None, as_json: AsJson = False) -> None:
    """Wait until runs have ended. The exit code is the run's; of several, the first that is not 0.

    Example: hemma wait last && hemma logs last
    """
    settings, codes, shown = settings_for(host), list[int](), list[dict[str, Any]]()
    for run in runs:
        run_id, end = flow.wait(settings, run, hold=False)
        codes.append(run_flow.exit_code_of(end, run_id))
        shown.append(flow.show(settings["host"], run_id))
    if as_json:
        console.show_json(shown)
    raise typer.Exit(next((code for code in codes if code), 0))


def stop(
    runs: Runs,
    *,
    grace: Annotated[str, typer.Option("--grace", help="SIGKILL after this long.", metavar="TIME")] = "10s",
    host: OnHost = None,
    as_json: AsJson = False,
) -> None:
    """End runs.

    SIGTERM to the whole process group, SIGKILL when that was not enough.

    Example: hemma stop last
    """
    grace_s = seconds(grace, "--grace")
    if grace_s is None:
        raise UsageError("--grace needs a length of time", remedy="hemma stop --grace 30s last")
    settings, shown = settings_for(host), list[dict[str, Any]]()
    for run in runs:
        run_id, state = flow.stop(settings, run, grace_s)
        shown.append({"run_id": run_id, "state": state.state, "exit_code": state.exit_code, "reason": state.reason})
        if not as_json:
            console.show_line(f"{run_id}  {state.state}  {state.reason}")
    if as_json:
        console.show_json(shown)


def prune(
    *,
    days: Annotated[float, typer.Option("--days", help="Remove runs that ended longer ago than this.")] = 14,
    size_gb: Annotated[
        float | None,
        typer.Option(
            "--size-gb", help="Then the oldest, until no more than this is kept; else your disk budget, or 5."
        ),
    ] = None,
    is_dry: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    host: OnHost = None,
    as_json: AsJson = False,
) -> None:
    """Remove old runs on the host, never a live one.

    By age and by size. The same is done once a day for hosts in use.

    Example: hemma prune --dry-run --days 3
    """
    from controller.flows import personal

    there = settings_for(host)["host"]
    max_bytes = personal.kept_bytes(there["name"]) if size_gb is None else int(size_gb * (1 << 30))
    if max_bytes is None:
        max_bytes = MAX_BYTES
    done = flow.prune(there, max_age_s=days * 86400, max_bytes=max_bytes, is_dry=is_dry)
    if as_json:
        console.show_json({**done, "dry_run": is_dry})
        return
    word = "would remove" if is_dry else "removed"
    for run_id in done["removed"]:
        console.show_line(f"{word} {run_id}")
    console.err().print(f"{word} {len(done['removed'])} runs")
