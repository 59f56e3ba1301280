"""`hemma where`: what is changed in this work tree, the lane of each file, and the safe next command."""

from __future__ import annotations

import os

import typer

from controller.cli.lane import Json, show
from controller.flows import lane as flow
from controller.reports import console


def register(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command("where")(where)


def where(as_json: Json = False) -> None:
    """Show each changed file of this work tree with its lane, and the safe next commands; changes nothing.

    Example: hemma where --json

    Exit codes: 0 shown (also when nothing is changed), 2 usage, 67 not in a git repository.
    """
    report = flow.of_work_tree(flow.ground(os.getcwd(), os.environ))
    if as_json:
        console.show_json(report.as_dict())
    else:
        show(report)
