"""`hemma drive`: sign in to Google Drive, and see whether what is meant can be reached."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from controller.flows import drive as flow
from controller.reports import console
from manifests.errors import UsageError

app = typer.Typer(help="Google Drive, or a folder in its place.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


def register(parent: typer.Typer) -> None:
    """Add these verbs to the command line."""
    parent.add_typer(app, name="drive")


@app.command()
def login(
    *,
    client: Annotated[
        str | None,
        typer.Option("--client", metavar="FILE", help="OAuth client of type Desktop app: asks in a browser."),
    ] = None,
    service_account: Annotated[
        str | None, typer.Option("--service-account", metavar="FILE", help="Key of a service account.")
    ] = None,
    adc: Annotated[bool, typer.Option("--adc", help="What this machine is signed in with (gcloud).")] = False,
    read_all: Annotated[
        bool,
        typer.Option("--read-all", help="Also read files that others made: what a notebook writes to a mounted Drive."),
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Read and write everything.")] = False,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address to open.")] = False,
    as_json: AsJson = False,
) -> None:
    """Sign in to Google Drive, with as few rights as will do.

    By default Hemma sees only what it made itself (drive.file). The sign-in is kept in your config folder, for you alone.

    Example: hemma drive login --client client_secret.json --read-all
    """
    if read_all and full:
        raise UsageError("--full holds --read-all", remedy="give one of the two")
    scope = "all" if full else "read" if read_all else "file"
    found = flow.login(
        client_secrets=client,
        service_account=service_account,
        is_default=adc,
        scope=scope,
        open_browser=not no_browser,
    )
    if as_json:
        console.show_json(found)
        return
    names = ", ".join(scope.rpartition("/")[2] for scope in found["scopes"])
    console.line(console.out(), "ok", f"signed in ({names}); kept in {found['token_file']}")


@app.command()
def logout() -> None:
    """Forget the sign-in on this machine. What Google keeps is withdrawn at myaccount.google.com/permissions.

    Example: hemma drive logout
    """
    console.line(console.out(), "ok", "signed out here" if flow.logout() else "nobody was signed in")


@app.command()
def check(
    link: Annotated[
        str | None, typer.Argument(metavar="[LINK]", help="A link or id in Drive; without it the setting `drive`.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Look whether Drive, or one thing in it, can be reached, and what may be done with it.

    Example: hemma drive check https://drive.google.com/drive/folders/ID

    Exit codes: 0 it can be read, 1 it is not there or not readable, 75 sign in first, 255 no answer.
    """
    # A whole link says itself which Drive is meant; an id or a path is looked for in the place that is set.
    is_whole = link is not None and "://" in link
    place = flow.open_place(link if link and is_whole else flow.setting(os.getcwd(), os.environ), os.environ)
    try:
        found = flow.check(place, None if is_whole else link)
    finally:
        place.store.close()
    if as_json:
        console.show_json(found)
    else:
        what = f"{found['entries']} entries" if "entries" in found else f"{found['size_bytes']} bytes"
        who = f" as {found['account']}" if found.get("account") else ""
        word = "ok" if found["may_read"] and not found["is_trashed"] else "warn"
        rest = ", in the bin" if found["is_trashed"] else "" if found["may_read"] else ", its content may not be read"
        console.line(console.out(), word, f"{found['kind']} {found['name'] or found['shown']}: {what}{who}{rest}")
    if not found["may_read"]:
        raise typer.Exit(1)
