"""`hemma slice`: portable work for Colab, issued by the host, proven by its digests."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from controller.cli.run import settings_for
from controller.flows import slices as flow
from controller.reports import console
from controller.reports.console import Table
from manifests.commands import command
from manifests.errors import UsageError
from manifests.slices import EXAMPLE

app = typer.Typer(help="Portable work for Colab: issue, prove, show, localize, compare.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
OnHost = Annotated[
    str | None, typer.Option("--host", "-H", metavar="NAME", help="Another host than the repository's own.")
]
Here = Annotated[bool, typer.Option("--here", help="In this clone, which is the one that counts.")]
Slice = Annotated[str, typer.Argument(metavar="SLICE", help="The slice's folder.")]
_SHOWN = 20


def register(parent: typer.Typer) -> None:
    """Make `hemma slice` a verb of `parent`."""
    parent.add_typer(app, name="slice")


@app.command()
def issue(
    manifest: Annotated[str, typer.Argument(metavar="MANIFEST", help="A committed file below manifests/slices/.")],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="List what it would hold; write nothing.")] = False,
    out: Annotated[str, typer.Option("--out", "-o", metavar="DIR", help="Where, from the clone's root.")] = "slices",
    without: Annotated[
        list[str] | None,
        typer.Option("--without", metavar="RUN", help="Leave out rows that have a result in this run."),
    ] = None,
    here: Here = False,
    host: OnHost = None,
    as_json: AsJson = False,
) -> None:
    """Write an immutable bundle: the rows, the files they need, the source by value, a notebook, slice.json.

    The same commit and data give the same bytes. Refused: uncommitted changes, what looks like a secret.

    Example: hemma slice issue manifests/slices/clean-text.yaml --dry-run

    Exit codes: 0 issued (or there already), 1 refused, 2 usage, 75 this clone is not the one that counts.
    """
    found = made(manifest, {"out": out, "dry": dry_run, "without": without or []}, here=here, host=host, quiet=as_json)
    if as_json:
        console.show_json(found)
        return
    _show_files(found["index"])
    for warning in found["warnings"]:
        console.line(console.err(), "warn", f"may be a secret, look: {warning}")
    words = {"dry": "would be", "issued": "is", "there": "was there already, the same:"}[found["state"]]
    where = "" if here else " on the host"
    console.line(console.err(), "ok", f"{found['index']['rows']} rows; it {words} {found['folder']}{where}")
    if found["state"] == "issued":
        console.do(console.err(), command("hemma colab dispatch {}", str(found["folder"])))


def made(manifest: str, options: dict[str, Any], *, here: bool, host: str | None, quiet: bool) -> dict[str, Any]:
    """Issue on the host or here, with progress on a terminal; returns what was found and made."""
    on_event = _silent if quiet else _progress
    if not here:
        settings = _host_settings(host)
        read, name = flow.manifest_on_host(settings, manifest)
        return flow.issue_on_host(settings, flow.request_of(read, name, **options), on_event)
    top = flow.demand_authority(os.getcwd(), _host_root(host))
    read, name = flow.manifest_here(top, os.getcwd(), manifest)
    return flow.issue_here(top, flow.request_of(read, name, **options), on_event)


def _host_settings(host: str | None) -> dict[str, Any]:
    try:
        return settings_for(host)
    except UsageError as error:
        more = command("{}; if this clone is the one that counts: --here", error.remedy)
        raise UsageError(error.message, remedy=error.remedy if host else more) from error


def _host_root(host: str | None) -> str | None:
    """Where the host's clone is; None when no host is named for this folder."""
    try:
        settings = settings_for(host)
    except UsageError:
        return None
    return str(settings["host"].get("root") or "(its root is not set)")


@app.command()
def verify(folder: Slice, *, as_json: AsJson = False) -> None:
    """Prove every byte of a slice against slice.json.

    Only paths.json may have changed, and only what is declared localizable. Example: hemma slice verify slices/NAME-...

    Exit codes: 0 proven, 1 something differs.
    """
    index, faults = flow.verify(folder)
    if as_json:
        console.show_json({"slice": index.folder, "digest": index.digest, "files": len(index.files), "faults": faults})
    elif faults:
        for fault in faults:
            console.line(console.out(), "fail", fault)
        console.do(console.out(), "copy the slice again, whole, from where it was issued")
    else:
        console.line(console.out(), "ok", f"{index.folder}: {index.rows} rows, {len(index.files)} files proven")
    raise typer.Exit(int(bool(faults)))


@app.command()
def show(folder: Slice, *, as_json: AsJson = False) -> None:
    """Show what a slice holds, where it comes from and how it is run.

    Example: hemma slice show slices/NAME-...
    """
    found = flow.show(folder)
    if as_json:
        console.show_json(found)
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column()
    for key in ("name", "digest", "commit", "host", "manifest", "rows", "processor", "gpu", "project", "size_bytes"):
        table.add_row(key, console.plain(str(found[key])))
    for name, path in found["paths"].items():
        table.add_row(f"path {name}", console.plain(path))
    console.show_table(table)
    _show_files(found)


@app.command()
def localize(
    folder: Slice,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="NAME=PATH...", help="`NAME=` is its default again.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Set the slice's localizable paths for this machine; nothing else of it changes.

    Example: hemma slice localize slices/NAME-... images=/mnt/images

    Exit codes: 0 done, 1 the slice is not what was issued, 2 a name that is not declared.
    """
    paths = flow.localize(folder, words or [])
    if as_json:
        console.show_json(paths)
        return
    for name, path in paths.items():
        console.show_line(f"{name}={path}")
    if not paths:
        console.line(console.err(), "ok", "this slice has no path that depends on the machine")


@app.command()
def diff(
    one: Annotated[str, typer.Argument(metavar="A", help="A slice's folder.")],
    other: Annotated[str, typer.Argument(metavar="B", help="Another's.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Compare two slices: rows by key, files, settings.

    Example: hemma slice diff slices/NAME-1... slices/NAME-2...
    """
    found = flow.diff(one, other)
    if as_json:
        console.show_json(found)
        return
    out = console.out()
    for part in ("rows", "files"):
        for sign, what in (("+", "added"), ("-", "removed"), ("~", "changed")):
            names = found[part][what]
            for name in names[:_SHOWN]:
                out.print(console.plain(f"{sign} {part[:-1]} {name}"))
            if len(names) > _SHOWN:
                out.print(console.plain(f"{sign} and {len(names) - _SHOWN} more {part}"))
    for key, (before, after) in found["settings"].items():
        out.print(console.plain(f"~ {key}: {before} -> {after}"))


@app.command()
def example() -> None:
    """Print a whole manifest.

    Example: hemma slice example > manifests/slices/clean-text.yaml
    """
    sys.stdout.write(EXAMPLE)


def _show_files(index: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("BYTES", justify="right")
    table.add_column("FILE")
    for each in index["files"]:
        table.add_row(str(each["size_bytes"]), console.plain(each["path"]))
    console.show_table(table)


def _progress(event: dict[str, Any]) -> None:
    if event["kind"] == "progress":
        data = event["data"]
        is_scan = "scanned" in data
        said = (
            f"{data['scanned']}: {100 * data['bytes'] // data['of']} % scanned"
            if is_scan
            else f"{data['rows']} rows read"
        )
        console.show_progress(said)


def _silent(_event: dict[str, Any]) -> None:
    """Under --json only the result counts."""
