"""`hemma hooks`: git hooks that keep a clone merge-only and the host's files on the host. `hemma hook` is what they call."""

from __future__ import annotations

import dataclasses
import os
from typing import Annotated, Any

import typer

from controller.cli.run import settings_for
from controller.flows import hooks as flow
from controller.flows import notebook_filters, work_tree
from controller.reports import console
from controller.reports.console import Table
from lanes.local_edits import OVERRIDE
from manifests.commands import command
from manifests.errors import NeedsPerson, UsageError

app = typer.Typer(help="Git hooks that keep a clone merge-only.", no_args_is_help=True)

OnHost = Annotated[bool, typer.Option("--host", help="In the host's clone as well.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


def register(parent: typer.Typer) -> None:
    """Make `hemma hooks` a verb of `parent`, and `hemma hook` one that the help does not list."""
    parent.add_typer(app, name="hooks")
    parent.command("hook", hidden=True)(hook)


@app.command()
def install(
    *,
    notebooks: Annotated[
        bool, typer.Option("--notebooks", help="Also a clean filter, a merge driver and text diffs for *.ipynb.")
    ] = False,
    outputs: Annotated[bool, typer.Option("--outputs", help="With --notebooks: outputs are kept, and count.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="With --notebooks: although another tool filters notebooks here.")
    ] = False,
    host: OnHost = False,
    as_json: AsJson = False,
) -> None:
    """Install hooks that refuse rebase, forced pushes, and local commits of the host's files; pull merges.

    Example: hemma hooks install --notebooks --host

    Hooks that are there are kept and called. Doing it again changes nothing. On the host: no rebase, no forced push.

    Exit codes: 0 installed, 1 refused and nothing changed, 67 no clone here, 255 the host cannot be reached.
    """
    top = work_tree.top(os.getcwd())
    filters: list[str] = []
    if notebooks:
        filters = notebook_filters.install_notebook_filters(top, keep_outputs=outputs, force=force)
    reports = [flow.here(top, "install"), *([flow.on_host(settings_for(), "install")] if host else [])]
    _show(reports, filters, as_json=as_json)
    if any(change.startswith(".gitattributes") for change in filters) and not as_json:
        console.do(console.out(), "hemma where   (.gitattributes is committed, like any other file)")
        console.do(console.out(), notebook_filters.NEXT_STEP)


@app.command()
def remove(
    *,
    notebooks: Annotated[bool, typer.Option("--notebooks", help="Also the filters for notebooks.")] = False,
    host: OnHost = False,
    as_json: AsJson = False,
) -> None:
    """Take the hooks away; the hooks and settings from before come back as they were.

    Example: hemma hooks remove --host
    """
    top = work_tree.top(os.getcwd())
    filters = notebook_filters.remove_notebook_filters(top) if notebooks else []
    reports = [flow.here(top, "remove"), *([flow.on_host(settings_for(), "remove")] if host else [])]
    _show(reports, filters, as_json=as_json)


@app.command()
def status(*, host: OnHost = False, as_json: AsJson = False) -> None:
    """Show which hooks are in force.

    Example: hemma hooks status --host

    Exit codes: 0 all are in force, 1 something is missing or was replaced.
    """
    top = work_tree.top(os.getcwd())
    reports = [flow.here(top, "status"), *([flow.on_host(settings_for(), "status")] if host else [])]
    if as_json:
        console.show_json(_facts(reports, []))
    else:
        _show_table(reports)
    raise typer.Exit(int(not all(report.are_in_force for report in reports)))


def hook(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[ARG]...")] = None,
) -> None:
    """Answer one of git's hooks; exit code 75 refuses.

    Example: hemma hook pre-commit
    """
    del words
    if name != "pre-commit":
        raise UsageError(f"hemma answers no hook {name!r}", remedy="hemma hooks install")
    _memory_only_grows()
    verdict = flow.may_commit(os.getcwd(), os.environ)
    err = console.err()
    if verdict.allowed:
        if os.environ.get(OVERRIDE) == "1":
            console.line(err, "warn", f"{OVERRIDE}=1: committed here, whoever owns these files")
        return
    for reason in verdict.reasons:
        console.line(err, "refused", reason.fact)
    for step in verdict.next_steps:
        console.do(err, step)
    err.print(console.plain(f"or       {OVERRIDE}=1 git commit …   (here, knowingly)"))
    err.print(console.plain("or       git config hemma.role host   (if this clone is the host's own)"))
    raise typer.Exit(NeedsPerson.exit_code)


def _memory_only_grows() -> None:
    """Refuse a commit that makes the project's memory, where there is one, forget something (S2-R08)."""
    from controller.flows import memory

    found = memory.of(os.getcwd(), os.environ)
    if not found.exists():
        return
    from controller.flows.memory_check import MemoryShrank, check

    try:
        check(found, since="HEAD", is_staged=True)
    except MemoryShrank as error:
        for finding in error.findings:
            console.line(console.err(), "refused", finding)
        console.do(
            console.err(), command("git diff --cached -- {}   shows it; put back what was removed", found.folder)
        )
        raise typer.Exit(NeedsPerson.exit_code) from error


def _facts(reports: list[flow.Report], filters: list[str]) -> dict[str, Any]:
    found = {report.place: {**dataclasses.asdict(report), "are_in_force": report.are_in_force} for report in reports}
    return {"local": found["local"], "host": found.get("host"), "notebooks": filters}


def _show(reports: list[flow.Report], filters: list[str], *, as_json: bool) -> None:
    if as_json:
        console.show_json(_facts(reports, filters))
        return
    out = console.out()
    for report in reports:
        for change in report.changes:
            console.line(out, "ok", f"{report.place}: {change}")
        if not report.changes:
            console.line(out, "ok", f"{report.place}: nothing to change")
        for note in report.notes:
            console.line(console.err(), "warn", f"{report.place}: {note}")
    for change in filters:
        console.line(out, "ok", f"notebooks: {change}")


def _show_table(reports: list[flow.Report]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("WHERE", "WHAT", "STATE", ""):
        table.add_column(column, no_wrap=True)
    for report in reports:
        for each in report.hooks:
            table.add_row(report.place, each.name, each.state, "calls the one before" if each.calls_former else "")
        table.add_row(report.place, "pull.rebase", report.pull_rebase or "unset", "")
    console.show_table(table)
    for report in reports:
        for note in report.notes:
            console.line(console.err(), "warn", f"{report.place}: {note}")
        if not report.are_in_force:
            console.do(console.err(), "hemma hooks install --host" if report.place == "host" else "hemma hooks install")
