"""`hemma rows`: process the rows of a slice here, by the engine that lies in it; see how such a run stands."""

from __future__ import annotations

import datetime as dt
import os
import sys
from typing import Annotated, Any

import typer

from controller.flows import rows as flow
from controller.reports import console
from manifests.errors import UsageError

app = typer.Typer(help="Process the rows of a slice, each once; stop and go on at will.", no_args_is_help=True)

Slice = Annotated[str, typer.Argument(metavar="SLICE", help="The slice's folder.")]
RunDir = Annotated[str, typer.Option("--run", "-r", metavar="DIR", help="The run's directory; made if need be.")]
Python = Annotated[
    str | None, typer.Option("--python", metavar="FILE", help="Which Python; else the manifest's, else this one.")
]


def register(parent: typer.Typer) -> None:
    """Make `hemma rows` a verb of `parent`."""
    parent.add_typer(app, name="rows")


@app.command()
def run(
    slice_folder: Slice,
    *,
    run_folder: RunDir,
    session_limit_s: Annotated[
        float | None, typer.Option("--session-limit", metavar="SECONDS", help="End in good order before this.")
    ] = None,
    takeover: Annotated[bool, typer.Option("--takeover", help="The session that held this run is gone.")] = False,
    python: Python = None,
) -> None:
    """Process what is left of a slice's rows. Started again, it goes on; every row has one result.

    Ctrl-C and SIGTERM end it in good order. Example: hemma rows run slices/NAME-... --run rows/NAME

    Exit codes: 0 all done, 1 it cannot go on, 3 done but for quarantined rows, 4 stopped before the end, 75 another
    session works on this run.
    """
    limit = ["--session-limit", f"{session_limit_s:g}"] if session_limit_s is not None else []
    options = ["--run", run_folder, *limit, *(["--takeover"] if takeover else [])]
    _become(flow.argv_of(slice_folder, "run", options, python))


@app.command()
def status(
    run_folder: Annotated[str, typer.Argument(metavar="DIR", help="The run's directory.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Show how a run stands, from its files alone.

    Example: hemma rows status rows/NAME
    """
    found = flow.status(run_folder, dt.datetime.now(dt.UTC))
    if as_json:
        console.show_json(found)
        return
    for verdict, text in _lines(found):
        console.line(console.out(), verdict, text)


@app.command()
def check(slice_folder: Slice, *, run_folder: RunDir, python: Python = None) -> None:
    """Prove that a run holds each row of its slice once, as JSON.

    Example: hemma rows check slices/NAME-... --run rows/NAME

    Exit codes: 0 every row has its result or is quarantined, 1 rows are missing or files differ.
    """
    _become(flow.argv_of(slice_folder, "check", ["--run", run_folder], python))


@app.command()
def bench(
    slice_folder: Slice,
    *,
    rows: Annotated[int, typer.Option("--rows", metavar="N", help="So many of the first rows.", min=1)] = 10,
    python: Python = None,
) -> None:
    """Measure how fast the processor goes; nothing is written. JSON on stdout.

    Example: hemma rows bench slices/NAME-... --rows 20
    """
    _become(flow.argv_of(slice_folder, "bench", ["--rows", str(rows)], python))


def _become(argv: list[str]) -> None:
    """Go on as the engine: signals then reach it and nobody else."""
    sys.stdout.flush()
    try:
        os.execv(argv[0], argv)  # noqa: S606 - an argv of ours, no shell wanted
    except OSError as error:
        raise UsageError(
            f"{argv[0]} cannot be started: {error.strerror}", remedy="--python /path/to/python3"
        ) from error


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    counts = found["counts"]
    left = counts["total"] - counts["done"] - counts["quarantined"]
    rate = f", {found['rate_per_s']} rows/s" if found["rate_per_s"] and left else ""
    eta = f", {found['eta_s']:.0f} s left" if found["eta_s"] and left else ""
    reason = f" ({found['reason']})" if found["reason"] else ""
    verdict = {"failed": "failed", "stopped": "warn"}.get(found["state"], "warn" if counts["quarantined"] else "ok")
    said = f"{found['run_id']}: {found['state']}{reason}, {counts['done']} of {counts['total']} rows done{rate}{eta}"
    lines = [(verdict, said)]
    if counts["quarantined"]:
        lines.append(("warn", f"{counts['quarantined']} rows quarantined, see quarantine.jsonl"))
    if found["last_error"]:
        lines.append(("warn", f"row {found['last_error']['row']}: {found['last_error']['error']}"))
    if found["is_late"]:
        lines.append(
            ("warn", f"no heartbeat for {found['heartbeat_age_s']:.0f} s: its session on {found['host']} is gone")
        )
    return lines
