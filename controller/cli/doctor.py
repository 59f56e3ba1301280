"""`hemma doctor`: how everything stands, or why one run failed, each with what mends it."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from controller.flows import doctor as flow
from controller.reports import console, hints
from lanes.checkup import Row, is_well
from lanes.doctor import Finding, summary
from manifests.commands import command
from manifests.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command("doctor")(doctor)


def doctor(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run that failed, e.g. last.")] = None,
    *,
    offline: Annotated[bool, typer.Option("--offline", help="Ask nothing of the host.")] = False,
    host: Annotated[
        str | None, typer.Option("--host", "-H", metavar="NAME", help="Another host than the repository's own.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Look how everything stands: settings, clones, hooks, memory, the host, runs that failed. Nothing is changed.

    With RUN: why it failed, what says so, and what the runbooks know of it. A run in Drive: hemma colab doctor.

    Example: hemma doctor

    Example: hemma doctor last

    Exit codes: 0 nothing is bad (warnings do not count), 1 something is, 2 usage, 255 the run's host cannot be reached.
    """
    if run is not None:
        if offline:
            raise UsageError("a run is read from its host", remedy=command("hemma doctor {}", run))
        _show_run(run, host, as_json=as_json)
        return
    environ = {**os.environ, **({"HEMMA_HOST": host} if host else {})}
    rows: list[Row] = []
    with console.err().status("looking ..."):
        rows.extend(flow.look(os.getcwd(), environ, is_offline=offline))
    if as_json:
        console.show_json({"is_well": is_well(rows), "rows": [row.as_dict() for row in rows]})
    else:
        _show(rows)
    raise typer.Exit(0 if is_well(rows) else 1)


def _show(rows: list[Row]) -> None:
    out = console.out()
    for row in rows:
        console.line(out, row.level, f"{row.part}, {row.name}: {row.fact}" if row.name else f"{row.part}: {row.fact}")
        if row.mend and row.level != "ok":
            console.do(out, row.mend)
        for known in row.known:
            console.line(out, "known", hints.in_one_line(known.id, known.fix))
    counted = [Finding(row.name, row.level, row.fact) for row in rows]
    console.line(out, "ok" if is_well(rows) else "failed", summary(counted))


def _show_run(run: str, host: str | None, *, as_json: bool) -> None:
    from controller.cli.run import settings_for

    if "://" in run:
        raise UsageError(
            "that is a link; a run in Drive has a doctor of its own", remedy=command("hemma colab doctor {}", run)
        )
    found = flow.of_run(settings_for(host), run)
    if as_json:
        console.show_json(found)
    else:
        _show_failure(found)
    raise typer.Exit(1 if found["is_bad"] else 0)


def _show_failure(found: dict[str, Any]) -> None:
    out, view = console.out(), found["run"]
    what = f"training {found['training']}" if found["training"] else view["command"]
    if not found["is_bad"]:
        ended = "it still runs" if view["exit_code"] is None else "it ended well"
        console.line(out, "ok", f"{view['run_id']}, {what}: {ended}")
        return
    ended = f"exit code {view['exit_code']}" if view["exit_code"] is not None else "lost"
    # `exited` is what an exit code says already.
    why = f", {view['reason']}" if view["reason"] not in (None, "", "exited") else ""
    console.line(out, "failed", f"{view['run_id']}, {what}: {ended}{why}")
    if found["stopped"]:
        console.line(out, "failed", f"{found['stopped'].get('reason')}: {found['stopped'].get('message')}")
    said = found["diagnosis"]
    out.print(console.plain(f"cause     {said['category']} ({said['code']})"))
    for each in said["evidence"]:
        where = f"line {each['number']}: " if each["number"] else ""
        if each["line"]:
            out.print(console.plain(f"says so   {where}{each['line']}"))
    if said["smallest_mend"]:
        out.print(console.plain(f"mend      {said['smallest_mend']}"))
    for entry in found["known"]:
        console.line(out, "known", f"{entry['id']}: {' '.join(entry['fix'].split())}")
        for source in entry["sources"]:
            out.print(console.plain(f"          {source}"))
    for said in found["advice"]:
        console.advice(out, said)
    for step in found["next"]:
        console.do(out, step)
