"""A verdict that says no, as the error that ends a command: exit code 75, and under --json every rule, fact and next step."""

from __future__ import annotations

from typing import Any

from lanes.verdict import Verdict
from manifests.commands import joined
from manifests.errors import NeedsPerson


class Judged(NeedsPerson):
    """A person has to judge what `verdict` says; nothing was done."""

    def __init__(self, verdict: Verdict, *, code: str | None = None) -> None:
        facts = "; ".join(reason.fact for reason in verdict.reasons)
        super().__init__(facts, remedy=joined(verdict.next_steps, "; "), code=code)
        self.verdict = verdict

    def as_dict(self) -> dict[str, Any]:
        """The error as agents read it under --json, with the verdict."""
        return {**super().as_dict(), "verdict": self.verdict.as_dict()}
