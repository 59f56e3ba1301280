"""How an entry of the runbooks that fits a failure is shown: one line on stderr, as errors show it (S17-R04)."""

from __future__ import annotations

from collections.abc import Iterable

from controller.reports import console
from lanes.gotcha_match import Match


def in_one_line(entry_id: str, fix: str) -> str:
    """Its id, what mends the failure, and the command that shows cause and sources."""
    return f"{entry_id}: {' '.join(fix.split())}   (hemma runbook show {entry_id})"


def show(found: Iterable[Match]) -> None:
    """Name the entries; nothing where there is none."""
    for match in found:
        console.line(console.err(), "known", in_one_line(match.entry.id, match.entry.fix))
