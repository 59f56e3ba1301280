"""`hemma export`: what this clone knows, gathered into one self-describing file."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from controller.flows import export as flow
from controller.reports import console
from controller.reports.console import Table

_MB = 1 << 20
DEFAULT_OUT = "export.json"


def register(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command("export")(export)


def export(
    *,
    out: Annotated[
        str | None, typer.Option("--out", "-o", metavar="FILE", help=f"The package; {DEFAULT_OUT} unless only --text.")
    ] = None,
    text: Annotated[str | None, typer.Option("--text", metavar="FILE", help="Training text, JSON lines.")] = None,
    shape: Annotated[
        str, typer.Option("--shape", metavar="SHAPE", help="text, prompt-completion or messages.")
    ] = "text",
    taken_from: Annotated[
        str | None, typer.Option("--from", metavar="FILE", help="Read this package, gather nothing.")
    ] = None,
    logs: Annotated[
        list[str] | None, typer.Option("--logs", metavar="PATH", help="Logs besides logs/, again and again.")
    ] = None,
    chats: Annotated[
        list[str] | None, typer.Option("--chats", metavar="PATH", help="Transcripts besides chats/, again and again.")
    ] = None,
    max_mb: Annotated[int, typer.Option("--max-mb", metavar="N", help="No more than this.", min=1)] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Gather what this clone knows: pages, commits (errors with their fixes), logs, chat transcripts.

    Each pattern once, with where it came from; secrets are masked; a source that gave nothing says why.

    Example: hemma export --out export.json --text data/text.jsonl
    """
    request = flow.Request(
        folder=os.getcwd(),
        out=out or (DEFAULT_OUT if text is None and taken_from is None else None),
        text=text,
        shape=shape,
        taken_from=taken_from,
        logs=logs or (),
        chats=chats or (),
        max_bytes=max_mb * _MB,
    )
    found = flow.export(request, os.environ, None if as_json else _progress())
    if as_json:
        console.show_json(found)
    else:
        _show(found)


def _progress() -> Any:
    """A line that counts on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, _total: int | None, what: str) -> None:
        if done % 50 == 0:
            console.show_progress(f"{done} {what}", width=80)

    return show


def _show(found: dict[str, Any]) -> None:
    console.show_progress("")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("SOURCE", "ITEMS", "PATTERNS", "TWICE", "SKIPPED", "NOTE"):
        table.add_column(column, no_wrap=column != "NOTE", justify="left" if column in ("SOURCE", "NOTE") else "right")
    for record in found["sources"]:
        counts = [str(record[name]) for name in ("items", "patterns", "duplicates")]
        table.add_row(record["source"], *counts, str(len(record["skipped"])), console.plain(_note(record)))
    console.show_table(table)
    masked = sum(found["redacted"].values())
    if masked:
        kinds = ", ".join(f"{kind} {number}" for kind, number in found["redacted"].items())
        console.line(console.err(), "warn", f"{masked} secrets masked ({kinds}): they stand in the clone, revoke them")
    for what, file in found["written"].items():
        rows = f", {file['rows']} rows, {file['left_out']} left out" if what == "text" else ""
        console.line(console.err(), "ok", f"{what}: {file['path']}, {file['size_bytes']} bytes{rows}")


def _note(record: dict[str, Any]) -> str:
    skipped = record["skipped"]
    first = f"{skipped[0]['item']}: {skipped[0]['cause']}" if skipped else ""
    dropped = f"{record['dropped']} dropped, the package is full" if record["dropped"] else ""
    return "; ".join(part for part in (record["cause"], dropped, first) if part)
