"""`hemma verify`: is every module of this repository wired to an entry point, and is none a copy or a stub?"""

from __future__ import annotations

import dataclasses
import os
from typing import Annotated

import typer

from controller.flows import verify as flow
from controller.reports import console, verify_formats, verify_map, verify_table
from manifests.commands import command
from manifests.errors import UsageError
from manifests.files import atomic_write
from manifests.verify import VerifyReport

FORMATS = ("table", "json", "junit", "github", "html", "svg")

Files = list[str] | None


def register(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command("verify")(verify)


def verify(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="A folder in the repository.")] = ".",
    *,
    since: Annotated[
        str | None, typer.Option("--since", metavar="REV", help="Only modules changed since this revision.")
    ] = None,
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help=", ".join(FORMATS) + ".")] = "table",
    out: Annotated[str | None, typer.Option("--out", "-o", metavar="FILE", help="Into this file.")] = None,
    active: Annotated[
        Files, typer.Option("--active", metavar="FILE", help="Coverage data of a real run: says ACTIVE.")
    ] = None,
    tested: Annotated[
        Files, typer.Option("--tested", metavar="FILE", help="Coverage data of the tests, with contexts.")
    ] = None,
    junit: Annotated[
        Files, typer.Option("--junit", metavar="FILE", help="Which tests passed; with --tested: says TESTED.")
    ] = None,
    run_tests: Annotated[
        bool, typer.Option("--run-tests", help="Run each test file alone, under coverage: says TESTED.")
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="Every module in the table, not only those at fault.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Check that every module is reached from an entry point: WIRED, NOT WIRED or DUPLICATE.

    Entry points come from pyproject.toml, __main__, scripts, CI files and notebooks; without --run-tests nothing is imported or run.
    [tool.hemma.verify] names more: entry, sent, optional, critical, exclude, loads_others.

    Example: hemma verify --since origin/main

    Example: hemma verify --run-tests --all

    Example: hemma verify --active .coverage --format html --out wiring.html

    Exit codes: 0 all critical modules are wired and none is a copy or a stub, 1 some are not, 2 usage.
    """
    form = "json" if as_json else form
    if form not in FORMATS:
        raise UsageError(f"--format {form} is none of {', '.join(FORMATS)}", remedy="hemma verify --format table")
    if out is not None and form == "table":
        raise UsageError("a table is for the terminal", remedy=command("hemma verify --format html --out {}", out))
    report = flow.verify(asked(folder, since, active, tested, junit, run_tests=run_tests))
    if form == "table":
        verify_table.show(report, every=every)
    else:
        _give(_text(report, form), out)
    if out is not None:
        console.line(console.err(), "ok" if report.ok else "fail", f"{out}: {verify_table.summary(report)}")
    if not report.ok:
        raise typer.Exit(1)


def asked(
    folder: str, since: str | None, active: Files, tested: Files, junit: Files, *, run_tests: bool
) -> flow.Request:
    """The request that these options make."""
    request = flow.Request(folder, since, tuple(active or ()), tuple(tested or ()), tuple(junit or ()))
    return dataclasses.replace(request, run_tests=_progress) if run_tests else request


def _progress(done: int, total: int, what: str) -> None:
    """A line that counts on a terminal; nothing elsewhere."""
    console.show_progress(f"{done}/{total} {what}" if what else "", width=80)


def _text(report: VerifyReport, form: str) -> str:
    if form == "json":
        return report.model_dump_json(indent=2) + "\n"
    made = {"junit": verify_formats.junit, "github": verify_formats.github, "html": verify_formats.page}
    return verify_map.svg(report) if form == "svg" else made[form](report)


def _give(text: str, out: str | None) -> None:
    raw = text.encode("utf-8", "surrogateescape")
    if out is not None:
        atomic_write(os.path.abspath(out), raw, mode=None)
        return
    console.show_content(raw)
