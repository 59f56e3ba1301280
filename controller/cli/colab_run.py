"""`hemma colab run` and `hemma colab sessions`: machines of Colab taken and given back by Google's own program."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable
from typing import Annotated, Any

import typer

from controller.cli.colab_place import place_here, slice_here
from controller.reports import console
from manifests.commands import command
from manifests.errors import HemmaError

AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


def register(app: typer.Typer) -> None:
    """Make both verbs of `hemma colab`."""
    app.command()(run)
    app.command()(sessions)


def run(
    folder: Annotated[str, typer.Argument(metavar="SLICE", help="The slice's folder, here or on the host.")],
    *,
    gpu: Annotated[
        str | None, typer.Option("--gpu", metavar="GPU", help="T4, L4, G4, A100 or H100; else none.")
    ] = None,
    hours: Annotated[float, typer.Option("--hours", metavar="N", help="No longer than this.")] = 1.0,
    cost_per_hour: Annotated[
        float | None, typer.Option("--cost-per-hour", metavar="N", help="What an hour costs you; 0 when free.")
    ] = None,
    max_cost: Annotated[
        float, typer.Option("--max-cost", metavar="N", help="All attempts at this slice together.")
    ] = 0.0,
    max_gpu_hours: Annotated[
        float | None, typer.Option("--max-gpu-hours", metavar="N", help="All attempts together; else --hours.")
    ] = None,
    upload: Annotated[
        bool,
        typer.Option("--upload", help="Mount no Drive: send the slice to the machine, fetch the results at the end."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Paid work and GPU time are approved.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a slice on a Colab machine with no hand on it, follow it, and give the machine back, whatever happens.

    Through Google's own `colab` program (uv tool install google-colab-cli). Where Drive cannot be mounted the files go to
    the machine itself and come back at the end, or when it fails; a machine that Colab takes away keeps them then.

    Example: hemma colab run slices/clean-text-0123456789ab --gpu T4 --cost-per-hour 0.2 --max-cost 1 --yes

    Exit codes: 0 done, 1 the notebook failed, 75 it needs your yes, 124 out of time.
    """
    from controller.flows import colab_run
    from remote.colab_cli import ColabProgram

    request = colab_run.Request(
        slice_here(folder), gpu, hours, cost_per_hour, max_cost, max_gpu_hours, is_approved=yes, is_upload=upload
    )
    program = ColabProgram(os.environ)
    with place_here() as place:
        done = colab_run.run(place, request, program, _silent if as_json else _show_event)
    if as_json:
        console.show_json(done)
        return
    row = done["status"]
    rows = f", {row['done']} of {row['total']} rows" if row.get("total") is not None else ""
    before = "" if done["session"] else " already; no machine was taken"
    console.line(console.out(), "ok", f"{done['run']}: {row.get('state', 'done')}{rows}{before}")
    console.do(console.out(), command("hemma colab collect {}", str(done["run"])))


def _silent(event: dict[str, Any]) -> None:
    """Under --json only the result is printed."""


def _show_event(event: dict[str, Any]) -> None:
    words: dict[str, Callable[[], str]] = {
        "dispatched": lambda: f"{event['slice']} is in Drive ({event['sent']} files sent)",
        "session": lambda: f"session {event['session']} runs{' on a ' + event['gpu'] if event['gpu'] else ''}",
        "mounted": lambda: "Drive is mounted there; the notebook runs",
        "unmounted": lambda: f"Drive cannot be mounted there ({event['why']}); the files go to the machine itself",
        "sent": lambda: f"the slice is there ({event['size_bytes']} bytes sent); the notebook runs",
        "status": lambda: f"{event['state']}: {event['done']} of {event['total']} rows",
        "fetching": lambda: "fetching the results",
        "stopped": lambda: f"session {event['session']} is stopped",
    }
    if event["kind"] == "sending":
        _count(event["part"], event["of"])
        return
    console.err().print(console.plain(words[event["kind"]](), "dim"))
    if event.get("link") and event["kind"] == "unmounted":
        console.do(console.err(), command("for the next time open {} and allow Drive", str(event["link"])))


def _count(part: int, of: int) -> None:
    """A line that counts parts, on a terminal only."""
    console.show_progress("" if part == of else f"sending {part}/{of}")


def sessions(
    *,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the strays; other programs' sessions stay.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the Colab sessions that run; one of ours with nobody behind it burns units and is named a stray.

    Example: hemma colab sessions --stop

    Exit codes: 0 no stray, 1 there are strays.
    """
    from controller.flows import colab_session
    from remote.colab_cli import ColabProgram

    program = ColabProgram(os.environ)
    live, strays = colab_session.listed(program)
    if stop:
        for stray in strays:
            # One that stays is shown as a stray below; the others must not go on costing because of it.
            with contextlib.suppress(HemmaError):
                colab_session.end(program, stray.name)
                console.line(console.err(), "ok", f"{stray.name} is stopped")
        live, strays = colab_session.listed(program)
    if as_json:
        console.show_json(
            {"sessions": [dataclasses.asdict(e) for e in live], "strays": [dataclasses.asdict(e) for e in strays]}
        )
    else:
        for each in live:
            console.out().print(console.plain(f"{each.name}  {each.hardware}  {each.endpoint}"))
        for stray in strays:
            console.line(console.out(), "fail", f"{stray.name}: {stray.why}")
            console.do(console.out(), stray.do)
        if not live:
            console.err().print("no session runs")
    raise typer.Exit(1 if strays else 0)
