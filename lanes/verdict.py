"""The answer of a decision: allowed or not, for which reasons, and what would make a *no* a *yes* (design principle 1)."""

from __future__ import annotations

import dataclasses
from typing import Any

from manifests.commands import Remedy


@dataclasses.dataclass(frozen=True)
class Reason:
    """One rule and the fact it met."""

    rule: str
    fact: str


@dataclasses.dataclass(frozen=True)
class Verdict:
    """May it happen, why, and the commands to go on with."""

    allowed: bool
    reasons: tuple[Reason, ...] = ()
    next_steps: tuple[Remedy, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The verdict as agents read it under --json."""
        return {
            "allowed": self.allowed,
            "reasons": [dataclasses.asdict(reason) for reason in self.reasons],
            "next_steps": list(self.next_steps),
        }
