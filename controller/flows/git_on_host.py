"""git's own words on the host: one step of a request, and what it means when a step fails."""

from __future__ import annotations

import re
from typing import Any

from lanes import git_failures
from manifests.commands import Remedy, command
from manifests.errors import RepositoryError

_IDENTITY = (
    'hemma run -- git config --global user.name "$(git config user.name)" && '
    'hemma run -- git config --global user.email "$(git config user.email)"'
)


class GitFailed(RepositoryError):
    """git on the host did not do it; `said` is everything that git and its hooks printed."""

    code = "git-failed"

    def __init__(self, message: str, *, remedy: Remedy, said: str = "", code: str | None = None) -> None:
        super().__init__(message, remedy=remedy, code=code)
        self.said = said

    def as_dict(self) -> dict[str, str | int]:
        """The error as agents read it under --json, with git's words."""
        return {**super().as_dict(), "said": self.said}


def failure(done: dict[str, Any], outcome: str) -> GitFailed:
    """Why a git step on the host failed, in the words of git, of a hook, or of a trouble that is known."""
    said = words_of(done)
    verb = next((word for word in done["argv"] if not word.startswith("-") and "=" not in word), "")
    trouble = git_failures.explain(said)
    if trouble is not None:
        remedy = _IDENTITY if trouble.word == "no-identity" else command("hemma run --shell {}", str(trouble.remedy))
        return GitFailed(f"on the host {trouble.cause}: {outcome}", remedy=remedy, said=said, code=trouble.word)
    if m := re.search(r"^fatal: pathspec '(.*)' did not match any files$", said, re.MULTILINE):
        return GitFailed(
            f"there is no file {m[1]} on the host: {outcome}", remedy=command("hemma put {}", m[1]), code="file-missing"
        )
    # 1 without a word of git's own is a hook's.
    who = "a hook on the host refused" if done["code"] == 1 and "fatal: " not in said else f"git {verb} failed"
    return GitFailed(f"{who}: {outcome} ({last_line(said)})", remedy="mend what it says, then try again", said=said)


def last_line(said: str) -> str:
    """The last line with anything in it."""
    return next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "it said nothing")


def words_of(done: dict[str, Any]) -> str:
    """Everything that git and its hooks printed."""
    return "\n".join(filter(None, (done["stdout"].strip("\n"), done["stderr"].strip("\n"))))


def step(
    *argv: str, stdin: str | None = None, env: dict[str, str] | None = None, may_fail: bool = False
) -> dict[str, Any]:
    """One git command as the host takes it (`remote.repository`)."""
    return {"argv": list(argv), "input": stdin, "env": env or {}, "may_fail": may_fail}
