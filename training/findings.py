"""What a check before the launch finds: a severity, the thing, the fact, and the smallest mend (S6-R12)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["info", "warn", "error"]


@dataclass(frozen=True)
class Finding:
    """One finding. An `error` blocks until it is mended (S6-R11); `successor` is today's name of a renamed argument."""

    severity: Severity
    name: str
    fact: str
    fix: str = ""
    successor: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The finding as evidence holds it."""
        return asdict(self)


def blocking(findings: Iterable[Finding]) -> list[Finding]:
    """Those that must be mended before anything runs."""
    return [finding for finding in findings if finding.severity == "error"]
