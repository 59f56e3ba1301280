"""A git command that is refused before it goes anywhere: the early, friendly answer to plain words (S9-R08, S9-R11).

It speaks only where words are enough, whatever the repository holds. The rest is judged where git is called
(remote/agent/git_judge.py), by the same tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from manifests.commands import joined
from manifests.errors import NeedsPerson

from lanes.git_guard import judge_early
from lanes.git_safety import plain_words
from lanes.verdict import Verdict


class GitRefused(NeedsPerson):
    """A git command that could lose work or rewrite history; `verdict` says by which rules, and what to do instead."""

    code = "git-refused"
    verdict = Verdict(allowed=False)

    def as_dict(self) -> dict[str, Any]:
        """The error as agents read it under --json, with the whole verdict."""
        return {**super().as_dict(), "verdict": self.verdict.as_dict()}


def judge_command(argv: Sequence[str]) -> Verdict:
    """Whether the command `argv` may start, as far as its words tell: only git itself is looked at."""
    is_git = bool(argv) and argv[0].rpartition("/")[2] == "git"
    return judge_early(argv[1:]) if is_git else Verdict(allowed=True)


def demand_run(argv: Sequence[str], shell: str | None = None) -> None:
    """Raise GitRefused (75) for a plain git command, as words or as a line for a shell, that is refused in any repository."""
    verdict = judge_command(argv if shell is None else plain_words(shell))
    if not verdict.allowed:
        rules = ", ".join(dict.fromkeys(reason.rule for reason in verdict.reasons))
        facts = "; ".join(reason.fact for reason in verdict.reasons)
        refused = GitRefused(f"{facts} (rule: {rules})", remedy=joined(verdict.next_steps))
        refused.verdict = verdict
        raise refused
