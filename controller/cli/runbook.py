"""`hemma runbook`: what an operator knows, found and kept true."""

from __future__ import annotations

import datetime as dt
import os
from dataclasses import asdict
from typing import Annotated, Any

import typer

from controller.flows import runbook as flow
from controller.reports import console
from controller.reports.console import Table
from lanes.runbook_stamps import MONEY_MONTHS, MONTHS, Limits
from manifests.commands import Command, command
from manifests.errors import UsageError

_Folder = Annotated[
    str | None, typer.Option("--folder", "-C", metavar="PATH", help="Another folder than this repository's runbooks.")
]
_Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


def register(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    made = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    made.command("list")(list_)
    made.command("show")(show)
    made.command("search")(search)
    made.command("check")(check)
    app.add_typer(made, name="runbook", help="Pages, platform profiles and known failures.")


def list_(
    *,
    gotchas: Annotated[bool, typer.Option("--gotchas", "-g", help="Known failures instead of pages.")] = False,
    platform: Annotated[
        str | None, typer.Option("--platform", metavar="NAME", help="Only the failures of one platform.")
    ] = None,
    folder: _Folder = None,
    as_json: _Json = False,
) -> None:
    """List the runbooks of this repository, or those that come with Hemma.

    What a repository has of its own stands first; what comes with Hemma is found all the same.

    Example: hemma runbook list --gotchas

    Example: hemma runbook list --platform slurm
    """
    found = flow.listing(flow.layers(os.getcwd(), folder))
    if as_json:
        console.show_json(found)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    if gotchas or platform:
        columns, rows = ("ID", "SCOPE", "SYMPTOM"), _gotcha_rows(found, platform)
    else:
        columns, rows = ("NAME", "KIND", "DATE", "TITLE"), _page_rows(found)
    for column in columns:
        table.add_column(column, no_wrap=column not in ("SYMPTOM", "TITLE"))
    for row in rows:
        table.add_row(*(console.plain(cell) for cell in row))
    console.show_table(table)
    if found["shipped"]:
        console.line(console.err(), "ok", "these come with Hemma: this repository has no runbooks/")
    elif any(each["shipped"] for each in found["pages"]):
        console.line(console.err(), "ok", "this repository's own first; the others come with Hemma")


def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A page such as host/recovery, or an entry's id.")],
    *,
    folder: _Folder = None,
    as_json: _Json = False,
) -> None:
    """Show a page, a profile with its facts, or a known failure.

    Example: hemma runbook show profiles/runpod

    Exit codes: 0 shown, 1 there is none.
    """
    found = flow.show(flow.layers(os.getcwd(), folder), name)
    if as_json:
        console.show_json(_plain(found))
        return
    if found["kind"] == "gotcha":
        show_entry(found)
        return
    out = console.out()
    out.print(console.block(found["text"]))
    for key, facts in found["facts"].items():
        for fact in facts:
            if isinstance(fact, dict) and "says" in fact:
                mark = ", costs money" if fact.get("money") else ""
                said = f"[{key}] {fact['says']} ({fact.get('source')}, verified {fact.get('verified')}{mark})"
                out.print(console.plain(said))


def show_entry(entry: dict[str, Any]) -> None:
    """An entry on the screen: symptom, cause, fix, sources, what was corrected."""
    out = console.out()
    for label, text in (
        (entry["id"], entry["symptom"]),
        ("cause", entry["cause"]),
        ("fix", entry["fix"]),
        *(("source", source) for source in entry["sources"]),
        ("verified", f"{entry['verified']}, {entry['basis']}"),
        *(("was", f"{c['field']}: {c['old']} (until {c['day']}, {c['source']})") for c in entry["corrections"]),
    ):
        out.print(console.plain(f"{label:<9} {text}"))


def search(
    words: Annotated[list[str], typer.Argument(metavar="WORD...", help="All of them must occur.")],
    *,
    folder: _Folder = None,
    as_json: _Json = False,
) -> None:
    """Search pages and known failures; entries and headings first.

    Example: hemma runbook search disk full

    Exit codes: 0 found, 1 nothing has these words.
    """
    hits = flow.search(flow.layers(os.getcwd(), folder), " ".join(words))
    if as_json:
        console.show_json([{key: value for key, value in asdict(hit).items() if key != "score"} for hit in hits])
    for hit in () if as_json else hits:
        where = f"{hit.name} > {hit.section}" if hit.section and hit.section != hit.title else hit.name
        console.out().print(console.plain(f"{where}  ({hit.path}:{hit.line})"))
        console.out().print(console.plain(f"    {hit.says}"))
    if not hits:
        console.line(console.err(), "warn", "no page and no entry holds all of these words")
        console.do(console.err(), "hemma runbook list --gotchas")
        raise typer.Exit(1)


def check(
    *,
    months: Annotated[
        int, typer.Option("--months", metavar="N", help="A stamp older than this is stale.", min=0)
    ] = MONTHS,
    money_months: Annotated[
        int, typer.Option("--money-months", metavar="N", help="The same where money hangs on it.", min=0)
    ] = MONEY_MONTHS,
    today: Annotated[
        str | None, typer.Option("--today", metavar="YYYY-MM-DD", help="The day to judge stamps by, instead of today.")
    ] = None,
    folder: _Folder = None,
    as_json: _Json = False,
) -> None:
    """Check structure, contents lists, links, stamps, secrets and entries.

    It reminds of stale stamps and verifies nothing: look at the source, mend the fact, set the month. When the next one
    grows stale is said too; whether and when somebody looks again is a person's to plan, nothing is scheduled.

    Example: hemma runbook check --months 6

    Exit codes: 0 all of it holds, 1 something does not, 2 usage.
    """
    library = flow.load(os.getcwd(), folder)
    if not library.texts:
        raise flow.NoRunbook(f"{library.folder} holds no page and no entry", remedy="hemma runbook list")
    limits = Limits(months, money_months)
    found = flow.findings(library, _day(today), limits)
    next_check = flow.next_check(library, limits)
    if as_json:
        day = next_check.isoformat() if next_check else None
        shown = [asdict(finding) for finding in found]
        console.show_json({"folder": library.folder, "findings": shown, "next_check": day})
    else:
        for finding in found:
            where = os.path.join(os.path.relpath(library.folder), finding.path)
            console.line(console.out(), "fail", f"{where}:{finding.line} {finding.rule}: {finding.says}")
        if not found:
            console.line(console.out(), "ok", _holding(len(library.texts)))
        _remind(next_check, is_stale=any(finding.rule == "stale" for finding in found))
    if found:
        raise typer.Exit(1)


def _holding(count: int) -> str:
    return "1 file holds" if count == 1 else f"{count} files hold"


def _remind(next_check: dt.date | None, *, is_stale: bool) -> None:
    """The reminder and its command; to look again at a time is a recurring commitment, which a person makes (S17-R17)."""
    if is_stale:
        console.do(console.err(), "look at each source, mend the fact, set its `verified` month")
    if next_check is not None:
        again = Command("then") if is_stale else command("again from {} on", str(next_check))
        console.do(
            console.err(), command("{}: hemma runbook check   (hemma schedules nothing: plan it yourself)", again)
        )


def _day(said: str | None) -> dt.date:
    if said is None:
        return dt.datetime.now(dt.UTC).date()
    try:
        return dt.date.fromisoformat(said)
    except ValueError as error:
        raise UsageError(f"--today {said!r} is no day", remedy="--today 2026-11-21") from error


def _page_rows(found: dict[str, Any]) -> list[list[str]]:
    return [[page["name"], page["kind"], page["date"] or "", page["title"]] for page in found["pages"]]


def _gotcha_rows(found: dict[str, Any], platform: str | None) -> list[list[str]]:
    chosen = [entry for entry in found["gotchas"] if platform is None or entry["platform"] == platform]
    return [[entry["id"], entry["platform"] or entry["scope"], entry["symptom"]] for entry in chosen]


def _plain(value: Any) -> Any:
    """Days as text, for JSON."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.isoformat() if isinstance(value, dt.date) else value
