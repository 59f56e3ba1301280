"""Clones of a repository, here and on the host: facts out, vetted git commands in.

Both clones are read and changed by the same code (remote/agent/gitwork.py), here in this process, there in the agent. Every
git command passes lanes.git_safety before it runs anywhere: merge only, nothing that could lose work.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Protocol

from lanes import git_failures, git_safety, guards
from manifests.commands import command
from manifests.errors import NeedsPerson, RepositoryError
from remote.agent import gitwork
from remote.host import Host

STEPS_TIMEOUT_S = 900.0
STATE_TIMEOUT_S = 180.0

Facts = dict[str, Any]


class Repository(Protocol):
    """A clone, wherever it lies."""

    place: str

    def state(self, *, fetch: bool = False, know: Sequence[str] = (), notebooks: bool = False) -> Facts:
        """What `gitwork.state` tells of the clone."""
        ...

    def steps(self, steps: Sequence[Facts]) -> list[Facts]:
        """Run git commands in order; the results, up to and with the first that failed."""
        ...


class HostRepository:
    """The authoritative clone. One call is one request and one reply."""

    place = "host"

    def __init__(self, spec: Facts) -> None:
        self.host = Host(spec)

    def state(self, *, fetch: bool = False, know: Sequence[str] = (), notebooks: bool = False) -> Facts:
        """The facts of the clone. Raises RootMissing, NotARepository, WrongDirectory, RepositoryError, Unreachable."""
        fields: Facts = {"fetch": fetch, "know": list(know), "notebooks": notebooks}
        return _readable(self.place, _guarded(self.host.request("git-state", timeout_s=STATE_TIMEOUT_S, **fields)))

    def steps(self, steps: Sequence[Facts]) -> list[Facts]:
        """Run git commands in order on the host, under its lock. Raises NeedsPerson for one that is not merge-only."""
        return _guarded(self.host.request("git-steps", timeout_s=STEPS_TIMEOUT_S, steps=_vetted(steps)))["results"]


class LocalRepository:
    """The controller's own clone."""

    place = "local"

    def __init__(self, root: str) -> None:
        self.root = root

    def state(self, *, fetch: bool = False, know: Sequence[str] = (), notebooks: bool = False) -> Facts:
        """The facts of the clone. Raises RootMissing, NotARepository, WrongDirectory."""
        request: Facts = {"root": self.root, "fetch": fetch, "know": list(know), "notebooks": notebooks}
        return _readable(self.place, _guarded(gitwork.state(request)))

    def steps(self, steps: Sequence[Facts]) -> list[Facts]:
        """Run git commands in order here. Raises NeedsPerson for one that is not merge-only."""
        return _guarded(gitwork.steps({"root": self.root, "steps": _vetted(steps)}))["results"]


def _guarded(reply: Facts) -> Facts:
    refusal = guards.judge(reply["guard"]) if "guard" in reply else None
    if refusal is not None:
        raise refusal
    return reply


def _readable(place: str, facts: Facts) -> Facts:
    """The facts, where git could read the clone. Raises RepositoryError with why it could not."""
    if facts["is_readable"]:
        return facts
    said = str(facts.get("unreadable") or "")
    what, trouble = f"{place}: git cannot read the state of {facts['root']}", git_failures.explain(said)
    if trouble is not None:
        raise git_trouble(what, trouble, is_there=place == "host")
    raise RepositoryError(f"{what}: {said.splitlines()[0] if said else 'it gives no reason'}", remedy="git status")


def _vetted(steps: Sequence[Facts]) -> list[Facts]:
    for step in steps:
        verdict = git_safety.ours(step["argv"])
        if not verdict.allowed:
            reason = verdict.reasons[0]
            raise NeedsPerson(
                f"git {' '.join(step['argv'])}: {reason.fact} ({reason.rule})", remedy="; ".join(verdict.next_steps)
            )
    return list(steps)


def checked(results: Sequence[Facts], what: str) -> list[Facts]:
    """The results if the last of them succeeded. Raises RepositoryError with what git said otherwise."""
    last = results[-1] if results else None
    if last is not None and last["code"]:
        trouble = git_failures.explain(f"{last['stderr']}\n{last['stdout']}")
        if trouble is not None:
            raise git_trouble(what, trouble, is_there=what.startswith("host"))
        raise RepositoryError(f"{what}: {_words(last)}", remedy="hemma status")
    return list(results)


def git_trouble(what: str, trouble: git_failures.GitTrouble, *, is_there: bool) -> RepositoryError:
    """The error for a known trouble of git's; `is_there`: its remedy is for the host, so it goes through `hemma run`."""
    remedy = command("hemma run --shell {}", str(trouble.remedy)) if is_there else trouble.remedy
    return RepositoryError(f"{what}: {trouble.cause}", remedy=remedy, code=trouble.word)


def _words(result: Facts) -> str:
    """Why git failed, on one line: its own word for it, with the names it lists below, else the last thing it said."""
    said = (result["stderr"].strip() or result["stdout"].strip()).splitlines()
    marked = [number for number, line in enumerate(said) if line.startswith(("fatal: ", "error: ", "! [", " ! ["))]
    if not marked:
        return said[-1] if said else "git failed"
    names = itertools.takewhile(lambda line: line.startswith("\t"), said[marked[0] + 1 :])
    return " ".join([said[marked[0]].strip(), *(name.strip() for name in names)])
