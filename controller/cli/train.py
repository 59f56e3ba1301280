"""`hemma train`, `gates`, `watch`, `dashboard`: from a manifest to a committed result, and how a run stands."""

from __future__ import annotations

import contextlib
import datetime as dt
import pathlib
import sys
import threading
import webbrowser
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.cli import known
from controller.cli.run import settings_for
from controller.flows import run as run_flow
from controller.flows import train as flow
from controller.flows.judged import Judged
from controller.reports import console
from controller.reports.console import Table
from lanes.verdict import Verdict
from manifests import visible
from manifests.commands import command, joined
from manifests.errors import LACKS_PACKAGE, HemmaError, UsageError
from manifests.files import atomic_write

if TYPE_CHECKING:
    from manifests.train import TrainManifest

AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
OnHost = Annotated[
    str | None, typer.Option("--host", "-H", metavar="NAME", help="Another host than the repository's own.")
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="Its id, the beginning of it, or `last`.")]


def register(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    for verb in (train, gates, watch, report, dashboard):
        app.command(verb.__name__)(verb)


def train(
    manifest: Annotated[str, typer.Argument(metavar="MANIFEST", help="A file below manifests/runs/.")] = "",
    *,
    until: Annotated[str | None, typer.Option("--until", metavar="STAGE", help="The last stage to run.")] = None,
    resume: Annotated[str | None, typer.Option("--resume", metavar="RUN", help="Go on from this run.")] = None,
    is_detached: Annotated[bool, typer.Option("--detach", "-d", help="Print the run id and leave.")] = False,
    is_yes: Annotated[bool, typer.Option("--yes", "-y", help="GPU time and money are approved.")] = False,
    is_example: Annotated[bool, typer.Option("--example", help="Print a whole manifest and leave.")] = False,
    host: OnHost = None,
    as_json: AsJson = False,
) -> None:
    """Train on the host, from a manifest to a committed result, behind gates.

    Every cheap check comes before the dear job; what is proven and unchanged is not repeated. Ctrl-C leaves, the run
    goes on. Example: hemma train manifests/runs/tiny-text.yaml --until cpu-smoke

    Exit codes: 0 done, 1 stopped at a gate, 3 done but not conforming, 75 a person must decide.
    """
    if is_example:
        from manifests.train import EXAMPLE

        sys.stdout.write(EXAMPLE)
        return
    if not manifest:
        raise UsageError("which manifest?", remedy="hemma train --example > manifests/runs/NAME.yaml")
    settings = settings_for(host)
    read, name = flow.manifest_on_host(settings, manifest)
    read = _with_usual(read, settings["host"]["name"], as_json=as_json)
    if resume:
        resume = flow.resumed(settings, resume, read.name)
    request = flow.request_of(read, name, until=until, resume=resume)
    flow.checked(settings, request)
    _approve(flow.approved(request, is_yes=is_yes), as_json=as_json)
    run_id = flow.submit(settings, request)
    if is_detached:
        sys.stdout.write(visible.json_text({"run_id": run_id}) + "\n") if as_json else console.show_line(run_id)
        return
    if not as_json:
        console.line(console.err(), "ok", f"run {run_id}; Ctrl-C leaves, it goes on")
    _follow(settings, run_id, as_json=as_json, python=flow.python_of(request))


def _with_usual(manifest: TrainManifest, host: str, *, as_json: bool) -> TrainManifest:
    """The manifest with what is usual where it says nothing, and a word about what was taken (S17-R12)."""
    from controller.flows import personal

    manifest, taken = personal.completed(manifest, host)
    if taken and not as_json:
        said = ", ".join(f"{key} = {value}" for key, value in taken.items())
        console.line(console.err(), "ok", f"from your {personal.ORIGIN}: {said}   (hemma config)")
    return manifest


def _approve(verdict: Verdict, *, as_json: bool) -> None:
    if verdict.allowed:
        return
    if sys.stdin.isatty() and sys.stderr.isatty() and not as_json:
        for reason in verdict.reasons:
            console.line(console.err(), "needs you", f"{reason.fact}   ({reason.rule})")
        if typer.confirm("Start it?", default=False, err=True):
            return
    raise Judged(verdict, code="not-approved")


def watch(run: Run = "last", *, host: OnHost = None, as_json: AsJson = False) -> None:
    """Follow a training run: stages, progress, loss, alerts.

    From its beginning to its end; Ctrl-C leaves, the run goes on. Example: hemma watch last
    """
    _follow(settings_for(host), run, as_json=as_json)


def _follow(settings: dict[str, Any], run: str, *, as_json: bool, python: str = "") -> None:
    """Show a run's events to its end and leave with its exit code."""
    from controller.reports.training import EventScreen

    screen = EventScreen(as_json=as_json)
    session = flow.following(settings, run, screen.event)
    try:
        with screen:
            end = session.follow()
    except KeyboardInterrupt:
        console.line(console.err(), "ok", f"left; the run goes on: hemma watch {session.run_id}")
        return
    if screen.seen and not as_json:
        _keep_report(settings, str(session.run_id))
    if screen.last_stop is not None:
        code = int(end.get("exit_code") or 1)
        stopped = flow.stopped(screen.last_stop, code)
        # The runbooks know a failure by the code of its cause, not by the executor's word for why it gave up.
        stopped.code = screen.failure_code or stopped.code
        if as_json:  # the last line has said it
            known.say(stopped.message, stopped.code)
            raise typer.Exit(code)
        raise stopped
    code = run_flow.exit_code_of(end, session.run_id)
    if code and not screen.seen:
        _say_no_executor(code, str(session.run_id), python or "what `python:` names")
    raise typer.Exit(code)


def _say_no_executor(code: int, run_id: str, python: str) -> None:
    """Why an executor said nothing: its interpreter is not there, lacks what it needs itself, or the run's log knows."""
    logs = command("hemma logs {}", run_id)
    if code in (126, 127):
        console.line(
            console.err(), "failed", f"there is no interpreter {python} on the host (`python:` of the manifest)"
        )
        console.do(console.err(), command("hemma run -- ls -l {}   (then python: in the manifest)", python))
    elif code == LACKS_PACKAGE:
        console.line(console.err(), "failed", f"the interpreter {python} lacks a package that Hemma's executor needs")
        console.do(console.err(), joined((logs, "then install the `train` group there")))
    else:
        console.line(console.err(), "failed", f"the executor ended with {code} before its first event")
        console.do(console.err(), command("hemma doctor {}   (all it wrote: hemma logs {})", run_id, run_id))


def _say_known_of(settings: dict[str, Any], run_id: str) -> None:
    """Name the entries of the runbooks that know why a training ended, from its own files."""
    from controller.flows import failed

    found = failed.training_of(settings, run_id)
    if found is not None and found.stopped is not None:
        known.say(found.text, found.code)


def _keep_report(settings: dict[str, Any], run_id: str) -> None:
    """Keep the run's report on this machine and say where; a link that is gone by then costs the report, nothing else."""
    try:
        path = flow.keep_report(settings, run_id, dt.datetime.now(dt.UTC))
    except HemmaError as error:
        console.line(console.err(), "warn", f"no report yet: {error.message}")
        console.do(console.err(), command("hemma report {}", run_id))
        return
    console.line(console.err(), "ok", f"report: {pathlib.Path(path).as_uri()}")


def gates(run: Run = "last", *, host: OnHost = None, as_json: AsJson = False) -> None:
    """Show each stage of a training run, its evidence, and what is missing.

    Example: hemma gates last
    """
    settings = settings_for(host)
    found = flow.gates(settings, run)
    if as_json:
        console.show_json(found)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("STAGE", "STATE", "CHECKS", "FACT"):
        table.add_column(column, no_wrap=column != "FACT")
    for row in found["stages"]:
        held = f"{sum(check['held'] for check in row['checks'])}/{len(row['checks'])}" if row["checks"] else ""
        style = {"proven": "green", "failed": "red", "altered": "red", "changed": "yellow"}.get(row["state"], "dim")
        table.add_row(
            row["stage"], console.plain(row["state"], style), held, console.plain(_fact(row, found["run_id"]))
        )
    console.show_table(table)
    if found["stopped"]:
        console.line(console.err(), "failed", f"{found['stopped']['reason']}: {found['stopped']['message']}")
        console.advice(console.err(), str(found["stopped"]["remedy"]))
        _say_known_of(settings, str(found["run_id"]))


def report(
    run: Run = "last",
    *,
    out: Annotated[str, typer.Option("--out", "-o", metavar="FILE", help="Where; `-` is stdout.")] = "",
    host: OnHost = None,
) -> None:
    """Write a training run's report as one HTML page.

    Stages, evidence, loss, metrics against the base, alerts; it needs no network. Example: hemma report last -o run.html
    """
    settings = settings_for(host)
    run_id, page = flow.report(settings, run, dt.datetime.now(dt.UTC))
    if out == "-":
        console.show_content(page.encode("utf-8"))
    else:
        path = out or f"{run_id}.html"
        atomic_write(path, page.encode("utf-8"), mode=None)
        console.show_line(path)
    _say_known_of(settings, run_id)


def dashboard(
    run: Run = "last",
    *,
    port: Annotated[int, typer.Option("--port", help="The port here; 0 takes a free one.")] = 0,
    is_shown: Annotated[bool, typer.Option("--open/--no-open", help="Open it in the browser.")] = True,
    host: OnHost = None,
) -> None:
    """Open the host's trackio dashboard of a run in the local browser.

    Through an SSH tunnel; the host serves it to itself only. Ctrl-C ends it. Example: hemma dashboard last
    """
    from controller.flows.dashboard import served

    with served(settings_for(host), run, local_port=port) as url:
        console.show_line(url)
        sys.stdout.flush()
        if is_shown and sys.stdout.isatty():
            webbrowser.open(url)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


def _fact(row: dict[str, Any], run_id: str) -> str:
    if row["state"] == "proven":
        taken = f"taken over from {row['from_run']}" if row["from_run"] not in (None, run_id) else ""
        return taken or "; ".join(check["fact"] for check in row["checks"][:2] if check["fact"])
    return row["fact"]
