"""Runs that lie in Drive, as a table: for `hemma colab status`, and for `hemma status` beside the clones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from controller.reports import console
from controller.reports.console import Table
from lanes.drive_runs import Row

_STATE_STYLES = {
    "running": "green",
    "starting": "green",
    "silent": "bold red",
    "failed": "bold red",
    "unreadable": "red",
}


def show_rows(rows: Sequence[Row]) -> None:
    """The table, and what could not be read with its reason."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("RUN", "WHERE", "STATE", "DONE", "RATE", "LEFT", "SIGN", "STEP", "LAST TROUBLE"):
        table.add_column(column, no_wrap=column != "LAST TROUBLE", overflow="ellipsis")
    for row in rows:
        table.add_row(*cells(row))
    if rows:
        console.show_table(table)
    for row in rows:
        for each in row.unread[:3]:
            console.line(console.err(), "warn", f"{row.run}: {each.path} cannot be read: {each.why}")
    if not rows:
        console.err().print("no run in Drive yet: hemma colab dispatch SLICE")


def cells(row: Row) -> list[Any]:
    """A row of the table: for `hemma colab status`, and for `hemma status` beside the runs on the host."""
    done = "" if row.done is None else f"{row.done}/{row.total}" if row.total is not None else str(row.done)
    if row.quarantined:
        done += f" ({row.quarantined} set aside)"
    rate = "" if row.rate_per_s is None else f"{_rate(row.rate_per_s)}/s"
    return [
        console.plain(row.run),
        row.where,
        console.plain(row.state, _STATE_STYLES.get(row.state, "")),
        done,
        rate,
        "" if row.eta_s is None or row.is_over else length(row.eta_s),
        "" if row.age_s is None else f"{length(row.age_s)} ago",
        console.plain(row.step),
        console.plain(row.alert[:200]),
    ]


def length(seconds: float) -> str:
    """A span of time in its largest unit."""
    if seconds < 90:
        return f"{seconds:.0f}s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.0f}m" if minutes < 90 else f"{hours:.0f}h" if hours < 48 else f"{hours / 24:.0f}d"


def _rate(per_s: float) -> str:
    return f"{per_s:,.0f}" if per_s >= 10 else f"{per_s:.2g}"
