"""`hemma memory`: what the project is, how it is built and what was done, in three files that only grow."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from controller.flows import memory as flow
from controller.reports import console
from controller.reports.console import Table
from manifests import visible
from manifests.commands import command, listed
from manifests.errors import UsageError
from manifests.memory import ENTRY_STATUSES, LOG

app = typer.Typer(help="The project's memory: concept, structure and log, which only grow.", no_args_is_help=True)

Files = list[str] | None
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


def register(parent: typer.Typer) -> None:
    """Make `hemma memory` a verb of `parent`."""
    parent.add_typer(app, name="memory")


def _memory(*, must_exist: bool = True) -> flow.Memory:
    found = flow.of(os.getcwd(), os.environ)
    if must_exist and not found.exists():
        raise UsageError(f"this repository has no memory ({found.folder}/{LOG})", remedy="hemma memory init")
    return found


@app.command("init")
def init(*, as_json: AsJson = False) -> None:
    """Make the three files, and let git merge two branches' logs by entries. What is there stays.

    Example: hemma memory init
    """
    made = flow.create(_memory(must_exist=False))
    if as_json:
        console.show_json({"made": made})
        return
    for name in made:
        console.line(console.out(), "ok", f"{name}: made")
    if not made:
        console.line(console.out(), "ok", "everything is there")


@app.command("log")
def log(
    requested: Annotated[str, typer.Argument(metavar="REQUESTED", help="What was asked.")],
    executed: Annotated[str, typer.Argument(metavar="EXECUTED", help="What was done, as a fact.")],
    *,
    status: Annotated[str, typer.Option("--status", help="success, partial or failed.")] = "success",
    files: Annotated[list[str] | None, typer.Option("--file", "-f", metavar="PATH", help="Touched; repeat.")] = None,
    notes: Annotated[str, typer.Option("--notes", help="What else is worth knowing.")] = "",
    as_json: AsJson = False,
) -> None:
    """Append an entry to the log.

    Example: hemma memory log "halve the rate" "lr 3e-4 -> 1.5e-4" --file configs/rate.yaml
    """
    if status not in ENTRY_STATUSES:
        raise UsageError(f"--status {status!r}", remedy=command("one of {}", listed(ENTRY_STATUSES)))
    entry = flow.entry_of(requested, executed, status=status, files=files or (), notes=notes)
    number = flow.append(_memory(), [entry])
    if as_json:
        console.show_json({"entry": entry, "entries": number})
    else:
        console.line(console.out(), "ok", f"entry {number}")


@app.command("show")
def show(
    last: Annotated[int, typer.Option("--last", "-n", metavar="N", help="Only the newest; 0 is all.", min=0)] = 20,
    *,
    as_json: AsJson = False,
) -> None:
    """Show the log, the newest last.

    Example: hemma memory show --last 5
    """
    entries = list(_memory().log().entries)
    _show_entries(entries[-last:] if last else entries, as_json=as_json)


@app.command("search")
def search(
    words: Annotated[list[str], typer.Argument(metavar="WORDS", help="All of them, in any field, in either case.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Find entries of the log and of its archive.

    Example: hemma memory search learning rate

    Exit codes: 0 found, 1 nothing holds all of them.
    """
    memory = _memory()
    found = flow.found(memory, words)
    if found or as_json:
        _show_entries(found, as_json=as_json)
    else:
        console.line(console.err(), "warn", "no entry holds all of these words")
    if not found:
        raise typer.Exit(1)


@app.command("concept")
def concept(
    *,
    field: Annotated[str | None, typer.Option("--set", metavar="FIELD", help="Set this field to VALUE.")] = None,
    values: Annotated[list[str] | None, typer.Argument(metavar="VALUE", help="Several make a list.")] = None,
    is_approved: Annotated[bool, typer.Option("--approve", help="A person approved the change.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what the project is for; or set a field, which needs approval once it says something.

    Example: hemma memory concept --set vision "One host, no lost work"

    Exit codes: 0 done, 2 usage, 75 it says something already and nobody approved.
    """
    memory = _memory()
    if field is None and (values or is_approved):
        raise UsageError("no field is named", remedy="hemma memory concept --set FIELD VALUE")
    if field is not None:
        by = flow.who() if is_approved else None
        flow.set_concept(memory, field, flow.concept_value(field, values or []), approved_by=by)
    said = memory.concept()
    if as_json:
        console.show_json(said)
        return
    for name, value in said.items():
        shown = "; ".join(map(str, value)) if isinstance(value, list) else str(value)
        console.out().print(console.plain(f"{name:<16} {shown}"))


@app.command("structure")
def structure(
    *,
    is_update: Annotated[bool, typer.Option("--update", help="Merge in what the code and verify say now.")] = False,
    stored: Annotated[
        str | None, typer.Option("--verify", metavar="FILE", help="A report of hemma verify --json: who is complete.")
    ] = None,
    active: Annotated[Files, typer.Option("--active", metavar="FILE", help="As in hemma verify.")] = None,
    tested: Annotated[Files, typer.Option("--tested", metavar="FILE", help="As in hemma verify.")] = None,
    junit: Annotated[Files, typer.Option("--junit", metavar="FILE", help="As in hemma verify.")] = None,
    run_tests: Annotated[bool, typer.Option("--run-tests", help="As in hemma verify.")] = False,
    planned: Annotated[str | None, typer.Option("--plan", metavar="NAME", help="A module still to be written.")] = None,
    purpose: Annotated[str, typer.Option("--purpose", metavar="TEXT", help="With --plan: what it will do.")] = "",
    is_progress: Annotated[bool, typer.Option("--progress", help="How much is complete, measured now.")] = False,
    is_rebuild: Annotated[bool, typer.Option("--rebuild", help="Write it again from its change log.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the modules with their status, dependencies and public names; --update reads the code again.

    The status is what hemma verify says: complete (all its words are true: give --verify, or what says TESTED and ACTIVE),
    active (it is there and wired), else planned. Every change is in a log; nothing that stands is dropped.

    Example: hemma memory structure --update

    Example: hemma memory structure --plan app.cache --purpose "keeps answers for a day"

    Example: hemma memory structure --progress --run-tests --active .coverage

    Exit codes: 0 done, 1 no percentage: something was not measured, 2 usage.
    """
    memory = _memory()
    has_evidence = stored is not None or run_tests or bool(active or tested or junit)
    if is_progress or is_update or is_rebuild or has_evidence or planned is not None:
        from controller.cli.verify import asked
        from controller.flows import memory_structure as flows

        request = asked(memory.root, None, active, tested, junit, run_tests=run_tests)
        if is_progress:
            _show_progress(flows.progress(memory, request, stored), as_json=as_json)
            return
        if is_rebuild:
            flows.rebuild(memory)
        if planned is not None:
            flows.plan(memory, planned, _said(purpose))
        if is_update or has_evidence:
            flows.update(memory, request, stored)
    said = memory.structure()
    if as_json:
        console.show_json(said)
    else:
        _show_modules(said["modules"])


def _said(purpose: str) -> str:
    if not purpose.strip():
        raise UsageError(
            "--plan needs --purpose", remedy='hemma memory structure --plan NAME --purpose "what it will do"'
        )
    return purpose


def _show_progress(said: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        console.show_json(said)
        return
    share = "" if said["percent"] is None else f" ({said['percent']} %)"
    rest = f"{said['active']} active, {said['planned']} planned"
    console.line(console.out(), "ok", f"{said['complete']} of {said['modules']} modules are complete{share}, {rest}")


def _show_modules(modules: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("MODULE", "STATUS", "USES", "PUBLIC", "CHANGED"):
        table.add_column(column, no_wrap=column != "PUBLIC")
    for module in modules:
        names = [str(each).partition("(")[0] for each in module.get("public_api", [])]
        uses = str(len(module.get("dependencies", [])))
        status, changed = str(module.get("status") or ""), str(module.get("last_modified", ""))[:10]
        cells = (str(module.get("name", "")), status, uses, ", ".join(names), changed)
        table.add_row(*map(console.plain, cells))
    console.show_table(table)


@app.command("archive")
def archive(*, as_json: AsJson = False) -> None:
    """Move entries older than 30 days to the archive, once there are more than 200; byte for byte.

    Example: hemma memory archive
    """
    count = flow.archive(_memory())
    if as_json:
        console.show_json({"moved": count})
    else:
        console.line(console.out(), "ok", f"{count} {'entry' if count == 1 else 'entries'} moved")


@app.command("check")
def check(
    *,
    since: Annotated[str | None, typer.Option("--since", metavar="REV", help="Only commits after this one.")] = None,
    is_staged: Annotated[bool, typer.Option("--staged", help="What is staged, for a pre-commit hook.")] = False,
    as_json: AsJson = False,
) -> None:
    """Prove against git history that nothing was rewritten or lost.

    Example: hemma memory check --since origin/main

    Exit codes: 0 it only grew, 1 something was lost.
    """
    from controller.flows.memory_check import check as prove

    steps = prove(_memory(), since=since, is_staged=is_staged)
    if as_json:
        console.show_json({"steps": steps, "findings": []})
    else:
        console.line(console.out(), "ok", f"it only grew, in {steps} {'step' if steps == 1 else 'steps'}")


@app.command("merge", hidden=True)
def merge(base: str, ours: str, theirs: str) -> None:
    """git's merge driver for the log: `hemma memory merge %O %A %B`."""
    flow.merge(base, ours, theirs)


def _show_entries(entries: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(visible.json_text(entries) + "\n")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("WHEN (UTC)", "STATUS", "REQUESTED", "EXECUTED"):
        table.add_column(column, no_wrap=column in ("WHEN (UTC)", "STATUS"))
    for entry in entries:
        when = f"{entry.get('date', '')} {entry.get('time', '')}"
        cells = (when, entry.get("status", ""), entry.get("requested", ""), entry.get("executed", ""))
        table.add_row(*(console.plain(str(cell)) for cell in cells))
    console.show_table(table)
