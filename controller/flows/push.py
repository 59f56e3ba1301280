"""`hemma push`: the host's branch to where the clone's settings say, by the host's git; origin only moves forward.

S9-R05, S9-R08; the settings are read by the same code as for a sync (remote.agent.origin.Route).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from controller.flows.git_on_host import GitFailed, failure, last_line, step, words_of
from lanes.origin_moves import ELSEWHERE
from manifests.commands import command
from remote.agent import origin
from remote.repository import Hear, HostRepository


@dataclass(frozen=True)
class Pushed:
    """What a push did: `summary` in git's words, e.g. the range of commits; `said` is what hooks and origin printed.

    `url` is where it went, when that is another address than a fetch comes from (pushurl, pushInsteadOf).
    """

    remote: str
    branch: str
    url: str | None
    is_changed: bool
    summary: str
    said: str

    def as_dict(self) -> dict[str, Any]:
        """The push as agents read it under --json."""
        facts = {"remote": self.remote, "branch": self.branch, "url": self.url}
        return {**facts, "changed": self.is_changed, "summary": self.summary}


def push(settings: dict[str, Any], hear: Hear | None = None) -> Pushed:
    """Push the host's branch to the branch of that name, at the remote that its settings name; origin only moves forward.

    `hear` is told of git's progress. Raises GitFailed: no-branch, no-remote, push-elsewhere (the settings name no remote),
    push-rejected (origin has more), origin-silent, origin-unreachable, or with what git or a hook said.
    """
    repository = HostRepository(settings["host"], hear)
    branch, way, follows = _way(repository)
    remote, ref = str(way.push_remote), f"refs/heads/{branch}"
    # A branch follows what it is fetched from; a fork that it is only pushed to is not that.
    track = [] if follows or remote != way.remote else ["--set-upstream"]
    steps = [
        step("push", "--porcelain", "--progress", *track, remote, f"{ref}:{ref}"),
        step("remote", "get-url", remote, may_fail=True),
        step("remote", "get-url", "--push", remote, may_fail=True),
    ]
    done, *urls = repository.steps(steps)
    flag, summary = _outcome(done["stdout"])
    if done["code"]:
        raise _not_pushed(done, f"{remote}/{branch}", flag, summary)
    fetched, pushed = (url["stdout"].removesuffix("\n") for url in urls)
    at = _shown(pushed) if pushed != fetched else None
    return Pushed(remote, branch, at, flag != "=", summary, done["stderr"].strip("\n"))


def _way(repository: HostRepository) -> tuple[str, origin.Route, bool]:
    """(branch, its way, whether it follows some branch already). Raises GitFailed."""
    steps = [
        step("symbolic-ref", "--quiet", "--short", "HEAD", may_fail=True),
        step(*origin.CONFIG_ASKED, may_fail=True),
    ]
    results = repository.steps(steps)
    if len(results) < len(steps):
        raise failure(results[-1], "nothing was pushed")
    branch, config = results[0]["stdout"].removesuffix("\n"), origin.parse_config(results[1]["stdout"])
    if not branch:
        raise GitFailed(
            "the host's clone is on no branch (detached HEAD): nothing was pushed",
            remedy="hemma run -- git switch -c NAME",
            code="no-branch",
        )
    way = origin.Route(config, branch)
    if not way.remotes:
        raise GitFailed(
            "the host's clone has no remote to push to",
            remedy="hemma run -- git remote add origin URL",
            code="no-remote",
        )
    if not way.is_known:
        raise GitFailed(
            f"the host's clone pushes {branch} to {_shown(str(way.push_remote))} ({way.push_key}), and has no remote of that name: "
            "nothing was pushed",
            remedy=command("hemma run -- git config {} {}", f"branch.{branch}.pushRemote", way.remote),
            code=ELSEWHERE,
        )
    return branch, way, f"branch.{branch}.remote" in config


def _shown(url: str) -> str:
    """An address without the name and password that may stand in it."""
    return re.sub(r"://[^/@]*@", "://", url)


def _outcome(porcelain: str) -> tuple[str, str]:
    """(flag, summary) of the one ref that was pushed: ` ` moved, `*` new, `=` up to date, `!` rejected; `` when unknown."""
    for line in porcelain.split("\n"):
        fields = line.split("\t")
        if len(fields) == 3 and fields[0] in (" ", "*", "=", "!", "+"):
            return fields[0], fields[2]
    return "", ""


def _not_pushed(done: dict[str, Any], name: str, flag: str, summary: str) -> GitFailed:
    said = words_of(done)
    if flag == "!" and re.search(r"\((fetch first|non-fast-forward|needs force)\)", summary):
        return GitFailed(
            f"{name} has commits that the host's clone has not: nothing was pushed",
            remedy="hemma sync",
            said=said,
            code="push-rejected",
        )
    if flag == "!":
        return GitFailed(
            f"{name} did not take it: {summary}", remedy="see what it said above", said=said, code="push-refused"
        )
    if m := re.search(r"^error: (origin has said nothing for .*)$", said, re.MULTILINE):
        return GitFailed(
            f"{name}: {m[1]}, nothing is known of the push",
            remedy="hemma push   (again; to wait longer: HEMMA_ORIGIN_SILENCE_S=600 hemma push)",
            said=said,
            code="origin-silent",
        )
    if done["code"] == 128:
        return GitFailed(
            f"{name} cannot be reached from the host: {last_line(said)}",
            remedy="hemma sync   (it can go through this machine)",
            said=said,
            code="origin-unreachable",
        )
    return failure(done, "nothing was pushed")
