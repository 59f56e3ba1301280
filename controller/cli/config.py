"""`hemma config`: what the settings are here, and which layer each came from."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from controller.flows import personal
from controller.reports import console
from controller.reports.console import Table
from controller.settings import Resolved, explain, read_files


def register(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command("config")(config)


def config(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show the settings that hold in this folder.

    And which file or variable each comes from.

    Example: hemma config

    Environment values are never shown, only their names. Exit codes: 0, 2 no host or a broken file.
    """
    resolved = explain(read_files(os.getcwd(), os.environ))
    # What `hemma train` and `hemma prune` take where nobody says it: no setting, and yet a value with its source.
    rows = {**table_rows(resolved), **personal.config_rows(resolved.settings.host.name)}
    if as_json:
        console.show_json({"settings": rows, "ignored": resolved.ignored})
        return
    table = Table("setting", "value", "from", box=None)
    for key, row in rows.items():
        value = "-" if row["value"] is None else str(row["value"])
        table.add_row(*(console.plain(text) for text in (key, value, row["from"])))
    console.show_table(table)
    for key in resolved.ignored:
        console.line(console.err(), "warn", f"unknown key, ignored: {key}")


def table_rows(resolved: Resolved) -> dict[str, dict[str, Any]]:
    """Each dotted key with its value and the layer it came from; of [env] the value is `(set)` (S20-R03)."""
    values = resolved.settings.as_dict()
    rows: dict[str, dict[str, Any]] = {}
    for key, origin in sorted(resolved.origins.items()):
        table, dot, rest = key.partition(".")
        value = "(set)" if table == "env" else values[table][rest] if dot else values[table]
        rows[key] = {"value": value, "from": origin}
    return rows
