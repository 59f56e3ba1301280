"""The generated parts of README.md: commands and help from the CLI itself, figures from benchmarks/results/.

    script/docs            write them anew
    script/docs --check    exit 1 and a diff when one is stale

A part stands between `<!-- generated: NAME -->` and `<!-- end: NAME -->`; everything else in the file is left as it is.
"""

from __future__ import annotations

import datetime as dt
import difflib
import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from controller.cli.app import app

REPOSITORY = Path(__file__).resolve().parent.parent
README = REPOSITORY / "README.md"
RESULTS = REPOSITORY / "benchmarks/results"
FIGURES = re.compile(r"<!-- generated: figures (\w+) -->")


def part_pattern(name: str) -> re.Pattern[str]:
    """Finds the part `name`: group 1 is its opening mark, 2 its text, 3 its closing mark."""
    return re.compile(rf"(<!-- generated: {name} -->\n)(.*?)(<!-- end: {name} -->)", re.DOTALL)


def rendered(text: str) -> str:
    """`text` (a README) with every generated part as it should be now. Raises ValueError when a part's marks are missing."""
    makers = {**PARTS, **{f"figures {name}": functools.partial(figures, name) for name in FIGURES.findall(text)}}
    for name, make in makers.items():
        found = part_pattern(name).search(text)
        if found is None:
            raise ValueError(f"README.md has no part {name!r}")
        text = text[: found.start(2)] + make(found.group(2)) + text[found.end(2) :]
    return text


# --- from the command line -----------------------------------------------------------------------------------------


def run_help(_: str) -> str:
    """The page that `hemma run --help` prints, 80 columns wide."""
    code = "from controller.cli import run_help; run_help.show()"
    environ = {name: value for name, value in os.environ.items() if name not in {"FORCE_COLOR", "TERMINAL_WIDTH"}}
    told = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env={**environ, "COLUMNS": "80", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return f"```text\n{told.stdout.strip()}\n```\n"


def verbs(_: str) -> str:
    """A table of all commands, each with the first sentence of its own help."""
    lines = ["| command | what it does |", "|---|---|"]
    lines += [f"| `{name}` | {sentence} |" for name, sentence in commands()]
    return "\n".join(lines) + "\n"


def commands() -> Iterator[tuple[str, str]]:
    """(full name, first sentence of the help) of every command, in the order of the help page."""
    yield from _commands(typer.main.get_command(app), "hemma")


def _commands(command: Any, name: str) -> Iterator[tuple[str, str]]:
    below: dict[str, Any] = getattr(command, "commands", {})
    for word, each in below.items():
        if not each.hidden:
            yield from _commands(each, f"{name} {word}")
    if not below:
        paragraph = " ".join((command.help or "").split("\n\n")[0].split())
        yield name, paragraph.replace("|", "\\|")


# --- from the benchmarks ---------------------------------------------------------------------------------------------


def figures(name: str, before: str) -> str:
    """The table of a benchmark's last results. The date above it only moves with the figures: the file's, when they came."""
    results = RESULTS / f"{name}.json"
    if not results.exists():
        return f"Not measured yet: `script/bench {name}`.\n"
    rows: list[dict[str, Any]] = json.loads(results.read_text(encoding="utf-8"))
    table = figures_table(rows)
    if table in before:
        return before
    measured = dt.datetime.fromtimestamp(results.stat().st_mtime, dt.UTC).date().isoformat()
    return f"Measured {measured} with `script/bench {name}`.\n\n{table}"


def figures_table(rows: list[dict[str, Any]]) -> str:
    """The rows of a benchmark as a Markdown table."""
    lines = ["| what | Hemma | peer | ratio | target | holds |", "|---|---:|---:|---:|---:|---|"]
    for row in rows:
        peer = f"{_number(row['peer'])} {row['unit']} {row.get('peer_name') or ''}".rstrip() if row["peer"] else "–"
        ratio = "–" if row["ratio"] is None else f"{row['ratio']:.2f}"
        holds = {True: "yes", False: "**no**", None: "–"}[row["holds"]]
        ours = f"{_number(row['ours'])} {row['unit']}"
        lines.append(f"| {row['name']} | {ours} | {peer} | {ratio} | {row['target'] or '–'} | {holds} |")
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.1f}"


PARTS = {"commands": verbs, "run-help": run_help}


def main(arguments: list[str]) -> int:
    """Write README.md anew, or with --check only compare; returns 1 when --check finds something stale."""
    present = README.read_text(encoding="utf-8")
    wanted = rendered(present)
    if "--check" in arguments:
        sys.stdout.writelines(difflib.unified_diff(present.splitlines(True), wanted.splitlines(True), "now", "wanted"))
        return int(present != wanted)
    if present != wanted:
        README.write_text(wanted, encoding="utf-8")
    print("README.md:", "unchanged" if present == wanted else "written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
