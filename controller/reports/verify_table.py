"""A verify report for a terminal: what fails first, then the counts."""

from __future__ import annotations

from controller.reports import console
from controller.reports.console import Table
from manifests.commands import Command
from manifests.verify import VerifyReport

_STYLES = {"WIRED": "green", "NOT WIRED": "bold red", "DUPLICATE": "yellow"}
_TOLD_BY_ROW = ("not-wired", "duplicate", "shadow")
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
        if found.kind not in (*_TOLD_BY_ROW, "stub-function"):
            where = f"{found.path}:{found.line}" if found.line else found.path
            console.line(out, "fail" if found.fails else "warn", f"{where}: {found.message}")
    for remedy in _remedies(report):
        console.do(out, Command(remedy))
    has_looked = bool(report.counts["modules"]) or bool(report.since)
    console.line(out, ("ok" if has_looked else "warn") if report.ok else "fail", summary(report))


def _remedies(report: VerifyReport) -> list[str]:
    """What mends the modules in the table: one line for each kind of fault, said of the first that has it."""
    first = {
        found.kind: found.remedy for found in reversed(report.findings) if found.fails and found.kind in _TOLD_BY_ROW
    }
    return list(dict.fromkeys(remedy for remedy in first.values() if remedy))


def summary(report: VerifyReport) -> str:
    """The counts as one line; words without evidence are not in it."""
    counts, total = report.counts, report.counts["modules"]
    if not total:
        return f"no module changed since {report.since}" if report.since else "there is no Python module here"
    of = f" changed since {report.since}" if report.since else ""
    said = [f"{counts['wired']} of {total} {'module' if total == 1 else 'modules'}{of} wired"]
    said += [f"{counts[name]} {label}" for name, label in (("not_wired", "not wired"), ("duplicate", "duplicate"))]
    said += [f"{counts[word]} {word}" for word in ("tested", "active", "complete") if word in counts]
    entries = len(report.entries)
    return ", ".join(said) + f"; {entries} entry {'point' if entries == 1 else 'points'}"
