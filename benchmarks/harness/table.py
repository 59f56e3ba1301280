"""The figures of a benchmark: medians side by side, the ratio that is judged, the table and the JSON that every one gives."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import operator
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

_COMPARE = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt}


@dataclass(frozen=True)
class Row:
    """One line of the table. `target` is judged on the ratio ours / peer; None: for information, nothing is judged."""

    name: str
    ours: float
    peer: float | None
    unit: str
    target: str | None = None
    peer_name: str = ""

    @property
    def ratio(self) -> float | None:
        """ours / peer, or None where there is no peer."""
        return self.ours / self.peer if self.peer else None

    @property
    def holds(self) -> bool | None:
        """Whether the ratio meets the target; None where nothing is judged."""
        if self.target is None or self.ratio is None:
            return None
        sign, limit = self.target.split()
        return bool(_COMPARE[sign](self.ratio, float(limit)))

    def as_dict(self) -> dict[str, Any]:
        """The row as the agreed JSON object (name, ours, peer, unit, ratio, target, holds), and who the peer is."""
        return {
            "name": self.name,
            "ours": round(self.ours, 3),
            "peer": None if self.peer is None else round(self.peer, 3),
            "unit": self.unit,
            "ratio": None if self.ratio is None else round(self.ratio, 3),
            "target": self.target,
            "holds": self.holds,
            "peer_name": self.peer_name,
        }


def parser_for(description: str) -> argparse.ArgumentParser:
    """What every benchmark takes: --json FILE and --quick."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="also write the rows there")
    parser.add_argument("--quick", action="store_true", help="a smoke run: tiny counts, the figures mean nothing")
    return parser


def show(title: str, rows: Sequence[Row], json_file: str | None, *, conditions: str | None = None) -> None:
    """Print the rows as a table with the conditions under it; with `json_file` write them there too."""
    table = Table(title=title, title_justify="left")
    for heading in ("what", "ours", "peer", "unit", "ratio", "must", "holds"):
        table.add_column(heading, justify="left" if heading in {"what", "peer", "unit", "holds"} else "right")
    for row in rows:
        peer = "" if row.peer is None else f"{_figure(row.peer)}  {row.peer_name}".rstrip()
        word = {True: "[green]yes", False: "[bold red]NO", None: ""}[row.holds]
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        table.add_row(row.name, _figure(row.ours), peer, row.unit, ratio, row.target or "", word)
    # A pipe has no width of its own; a cut cell would hide a figure.
    console = Console(highlight=False, width=None if Console().is_terminal else 150)
    console.print(table)
    console.print(conditions or conditions_now())
    if json_file:
        Path(json_file).write_text(json.dumps([row.as_dict() for row in rows], indent=1) + "\n", encoding="utf-8")


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def conditions_now() -> str:
    """Date, versions and cores, on one line: figures without them are worth nothing."""
    told = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=False).stderr
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in ("hemma", "paramiko", "fabric"))
    today = dt.datetime.now(dt.UTC).date().isoformat()
    return f"{today} · {os.cpu_count()} cores · Python {platform.python_version()} · {packages} · {told.split(',')[0].strip()}"
