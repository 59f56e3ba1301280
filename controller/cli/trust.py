"""`hemma trust`: a person allows what a repository's [tool.hemma] says of where commands run and with what."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from controller import trust as flow
from controller.reports import console
from controller.settings import read_files
from manifests.commands import command
from manifests.errors import NotTrusted, UsageError


def register(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command("trust")(trust)


def trust(
    yes: Annotated[bool, typer.Option("--yes", help="Allow without asking, e.g. in CI.")] = False,
    revoke: Annotated[bool, typer.Option("--revoke", help="Take the leave for this folder back.")] = False,
    show_list: Annotated[bool, typer.Option("--list", help="Show every folder that was allowed.")] = False,
) -> None:
    """Allow what this repository's settings say of where commands run.

    Host, root, python, env, login and drive of [tool.hemma] are shown with their values; nothing runs before a person has
    allowed them, and a change of one asks again. `hemma init` allows what it wrote.

    Example: hemma trust

    Exit codes: 0 allowed, 2 there is nothing to allow, 75 not allowed.
    """
    if show_list:
        for each in flow.listed():
            console.out().print(f"{each.at}  {console.printable(each.folder)}", markup=False)
        return
    files = read_files(os.getcwd(), os.environ)
    path, keys = files.sources.pyproject_path, flow.asked(files.project)
    if path is None:
        raise UsageError("no [tool.hemma] at or above this folder", remedy=command("hemma init"))
    folder = os.path.dirname(path)
    if revoke:
        console.line(console.out(), "ok", f"{path}: {'no longer' if flow.revoke(folder) else 'was not'} allowed")
        return
    console.out().print(f"{console.printable(path)} [tool.hemma]", markup=False)
    for key, value in keys.items():
        console.out().print(f"  {console.printable(key)} = {console.printable(repr(value))}", markup=False)
    if not (yes or flow.is_trusted(folder, files.project)):
        _ask()
    flow.allow(folder, files.project)
    console.line(console.out(), "ok", f"{path}: allowed")


def _ask() -> None:
    """Raise NotTrusted unless a person at the terminal says yes."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise NotTrusted("nobody can be asked: this is no terminal", remedy=command("hemma trust --yes"))
    if not typer.confirm("Allow these for every command in this repository?", err=True):
        raise NotTrusted("not allowed; nothing was changed", remedy=command("hemma trust"))
