"""Clones of a repository, here and on the host: facts out, vetted git commands in.

Both clones are read and changed by the same code (remote/agent/gitwork.py), here in this process, there in the agent. Every
git command passes lanes.git_safety before it runs anywhere: merge only, nothing that could lose work.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from lanes import git_failures, git_safety, guards
from manifests.commands import command, joined
from manifests.errors import NeedsPerson, RepositoryError, no_answer
from remote.agent import follow, gitnet, gitwork
from remote.host import Host
from remote.refusals import HostRefused

STEPS_TIMEOUT_S = 900.0
STATE_TIMEOUT_S = 180.0

Facts = dict[str, Any]
Hear = Callable[[str], None]


def silence_s() -> float:
    """For how many seconds origin may say nothing before it is given up, here and on the host: HEMMA_ORIGIN_SILENCE_S."""
    try:
        asked = float(os.environ.get("HEMMA_ORIGIN_SILENCE_S") or 0)
    except ValueError:
        asked = 0.0
    return asked if 0 < asked < float("inf") else gitnet.SILENCE_S


class Repository(Protocol):
    """A clone, wherever it lies."""

    place: str

    def state(
        self, *, fetch: bool = False, know: Sequence[str] = (), notebooks: bool = False, backups: bool = False
    ) -> Facts:
        """What `gitwork.state` tells of the clone."""
        ...

    def steps(self, steps: Sequence[Facts]) -> list[Facts]:
        """Run git commands in order; the results, up to and with the first that failed."""
        ...

    def follow(self, **fields: Any) -> Facts:
        """Move the branch to what origin has (`remote.agent.follow`)."""
        ...

    def backup(self, reason: str, bounds: Facts | None = None) -> Facts:
        """Keep the clone's state now: `ref` names it. `bounds` (keep_days, keep_gb) are those of older ones. Raises HemmaError."""
        ...

    def undo(self, **fields: Any) -> Facts:
        """List backups or go back to one, see `remote.agent.undo.answer`. Raises HemmaError."""
        ...


class HostRepository:
    """The authoritative clone. One call is one request and one reply."""

    place = "host"

    def __init__(self, spec: Facts, hear: Hear | None = None) -> None:
        self.host = Host(spec)
        self.hear = hear

    def state(
        self, *, fetch: bool = False, know: Sequence[str] = (), notebooks: bool = False, backups: bool = False
    ) -> Facts:
        """The facts of the clone. Raises RootMissing, NotARepository, WrongDirectory, RepositoryError, Unreachable."""
        fields: Facts = {"fetch": fetch, "know": list(know), "notebooks": notebooks, "backups": backups}
        fields["silence_s"] = silence_s()
        return _readable(self.place, _guarded(self._asked("git-state", STATE_TIMEOUT_S, **fields)))

    def steps(self, steps: Sequence[Facts]) -> list[Facts]:
        """Run git commands in order on the host, under its lock. Raises NeedsPerson for one that is not merge-only."""
        return _results(
            lambda left: self._asked("git-steps", STEPS_TIMEOUT_S, steps=left, silence_s=silence_s()), steps
        )

    def follow(self, **fields: Any) -> Facts:
        """Move the host's branch to what origin has, under its lock; nothing is lost (`remote.agent.follow`)."""
        return _guarded(self._asked("git-follow", STEPS_TIMEOUT_S, **fields))

    def _asked(self, verb: str, timeout_s: float, **fields: Any) -> Facts:
        return self.host.request(verb, timeout_s=max(timeout_s, silence_s() + 60.0), hear=self.hear, **fields)

    def backup(self, reason: str, bounds: Facts | None = None) -> Facts:
        """Keep the clone's state now, on the host. Raises HemmaError."""
        return _guarded(self.host.request("backup", timeout_s=STEPS_TIMEOUT_S, reason=reason, **(bounds or {})))

    def undo(self, **fields: Any) -> Facts:
        """List backups or go back to one, on the host. Raises HemmaError."""
        return _guarded(self.host.request("undo", timeout_s=STEPS_TIMEOUT_S, **fields))


class LocalRepository:
    """The controller's own clone."""

    place = "local"

    def __init__(self, root: str, hear: Hear | None = None) -> None:
        self.root = root
        self.hear = hear

    def state(
        self, *, fetch: bool = False, know: Sequence[str] = (), notebooks: bool = False, backups: bool = False
    ) -> Facts:
        """The facts of the clone. Raises RootMissing, NotARepository, WrongDirectory."""
        request: Facts = {"fetch": fetch, "know": list(know), "notebooks": notebooks, "backups": backups}
        request["silence_s"] = silence_s()
        self._listen()
        return _readable(self.place, _guarded(gitwork.state({"root": self.root, **request})))

    def steps(self, steps: Sequence[Facts]) -> list[Facts]:
        """Run git commands in order here. Raises NeedsPerson for one that is not merge-only."""
        self._listen()
        return _results(lambda left: gitwork.steps({"root": self.root, "steps": left, "silence_s": silence_s()}), steps)

    def follow(self, **fields: Any) -> Facts:
        """Move our branch to what origin has, under the lock; nothing is lost (`remote.agent.follow`)."""
        return _guarded(follow.follow({"root": self.root, **fields}))

    def leave(self) -> None:
        """End what still talks to origin for us, with all that it started: whoever asked goes away."""
        gitnet.end_all()

    def _listen(self) -> None:
        gitnet.listener = self._heard

    def _heard(self, text: str) -> bool:
        if text and self.hear is not None:
            self.hear(text)
        return True

    def backup(self, reason: str, bounds: Facts | None = None) -> Facts:
        """Keep the clone's state now, here. Raises HemmaError."""
        return self._answer("backup", {"reason": reason, **(bounds or {})})

    def undo(self, **fields: Any) -> Facts:
        """List backups or go back to one, here. Raises HemmaError."""
        return self._answer("undo", fields)

    def _answer(self, verb: str, fields: Facts) -> Facts:
        from remote.agent import verbs

        # The clone is this one itself: there is no other that it might be mistaken for.
        reply = verbs.answer({"root": self.root, **fields, "verb": verb, "clone": None})
        if "error" in reply:
            raise HostRefused(reply)
        return _guarded(reply)


def _guarded(reply: Facts) -> Facts:
    refusal = guards.judge(reply["guard"]) if "guard" in reply else None
    if refusal is not None:
        raise refusal
    return reply


def _results(ask: Callable[[list[Facts]], Facts], steps: Sequence[Facts]) -> list[Facts]:
    """One result per step, up to and with the first that failed; what one answer has no room for is asked for again."""
    left, found = _vetted(steps), list[Facts]()
    while True:
        reply = _guarded(ask(left))
        results: list[Facts] = reply["results"]
        found += results
        left = left[len(results) :]
        is_over = not left or (reply["stopped_at"] is not None and results and results[-1]["code"])
        if is_over and len(found) <= len(steps):
            return found
        if is_over or not (reply.get("is_partial") and results):
            raise no_answer(f"{len(found)} results of {len(steps)} git commands")


def _readable(place: str, facts: Facts) -> Facts:
    """The facts, where git could read the clone. Raises RepositoryError with why it could not."""
    if "is_readable" not in facts:
        raise no_answer("nothing of a clone that is there")
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
                f"git {' '.join(step['argv'])}: {reason.fact} ({reason.rule})", remedy=joined(verdict.next_steps, "; ")
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
