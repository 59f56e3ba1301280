"""A verify report for a terminal: what fails first, then the counts."""

from __future__ import annotations

from rich.table import Table

from controller.reports import console
from manifests.verify import VerifyReport

_STYLES = {"WIRED": "green", "NOT WIRED": "bold red", "DUPLICATE": "yellow"}
_WORDS = ("exists", "tested", "wired", "active", "complete")


def show(report: VerifyReport, *, every: bool) -> None:
    """Print the modules that need attention, or `every` one, and a last line with the counts."""
    rows = [row for row in report.modules if every or row.status != "WIRED" or row.words.complete is False]
    if rows:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("CLASS", "MODULE", "WORDS", "WHY"):
            table.add_column(column, no_wrap=column != "WHY")
        for row in rows:
            words = " ".join(word for word in _WORDS if getattr(row.words, word))
            name = console.plain(row.name if row.critical else f"{row.name} (optional)")
            table.add_row(console.plain(row.status, _STYLES[row.status]), name, words, console.plain(row.why))
        console.show_table(table)
    out = console.out()
    for found in report.findings:
        if found.kind not in ("not-wired", "duplicate", "shadow", "stub-function"):
            where = f"{found.path}:{found.line}" if found.line else found.path
            console.line(out, "fail" if found.fails else "warn", f"{where}: {found.message}")
    console.line(out, "ok" if report.ok else "fail", summary(report))


def summary(report: VerifyReport) -> str:
    """The counts as one line; words without evidence are not in it."""
    counts = report.counts
    of = f" of those changed since {report.since}" if report.since else ""
    said = [f"{counts['wired']} of {counts['modules']} modules{of} wired"]
    said += [f"{counts[name]} {label}" for name, label in (("not_wired", "not wired"), ("duplicate", "duplicate"))]
    said += [f"{counts[word]} {word}" for word in ("tested", "active", "complete") if word in counts]
    return ", ".join(said) + f"; {len(report.entries)} entry points"
