"""`hemma sync`: ask lanes for a plan, do its steps here and on the host, stop at the first that cannot be done.

Every ref and every uncommitted change that a step could move is first kept under refs/hemma/backup/<time>/. The host's part
of a plan is done in as few round trips as its order allows; a sync with nothing to do takes one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from controller.flows import clones, lane
from lanes.merging import CloneState, Escalation, Step, SyncPlan, plan_sync
from manifests.errors import MergeConflict, NeedsPerson, RepositoryError
from remote import relay_objects
from remote.repository import HostRepository, LocalRepository, Repository, checked

Facts = dict[str, Any]
Say = Callable[[str], None]
BACKUPS = "refs/hemma/backup"


@dataclasses.dataclass(frozen=True)
class Clones:
    """Both clones with their facts and states, as they were when they were looked at."""

    local: LocalRepository
    host: HostRepository
    local_facts: Facts
    host_facts: Facts

    @property
    def states(self) -> tuple[CloneState, CloneState]:
        """(local, host) as lanes.merging takes them."""
        return clones.clone_state("local", self.local_facts), clones.clone_state("host", self.host_facts)


def look(local: LocalRepository, host: HostRepository, *, fetch: bool = True) -> Clones:
    """Look at both clones at once: one round trip to the host, while this machine asks origin itself.

    A host without a way to origin gets what origin has from here, so that its facts are about the same origin.
    """
    with ThreadPoolExecutor(2) as pool:
        here = pool.submit(local.state, fetch=fetch)
        there = pool.submit(host.state, fetch=fetch, notebooks=True)
        seen = Clones(local, host, here.result(), there.result())
    if not fetch or seen.host_facts["fetch"]["is_ok"] or not seen.local_facts["fetch"]["is_ok"]:
        return seen
    return _look_for_host(seen)


def _look_for_host(seen: Clones) -> Clones:
    """The host cannot reach origin, we can: bring origin's objects to it, then look at it again."""
    branch, origin = seen.host_facts["branch"], seen.local_facts["origin_head"]
    if branch and origin and origin != seen.host_facts["origin_head"]:
        relay_objects.to_host(seen.local, seen.host, branch, known=seen.host_facts["origin_head"])
        facts = {**seen.host.state(notebooks=True), "fetch": seen.host_facts["fetch"]}
        return dataclasses.replace(seen, host_facts=facts)
    return seen


def plan(where: lane.Ground, seen: Clones, accepted: Collection[str] = ()) -> SyncPlan | Escalation:
    """The steps for what was seen, or what a person has to judge first."""
    local, host = seen.states
    paths = {*local.incoming, *local.outgoing, *host.incoming, *host.outgoing}
    return plan_sync(local, host, clones.lanes_of(where, seen.local.root, paths), accepted)


def carry_out(seen: Clones, steps: SyncPlan, say: Say) -> list[str]:
    """Do the plan's steps in order; returns the backup refs that were made.

    Raises MergeConflict with the files, NeedsPerson when a clone moved meanwhile, RepositoryError with git's own words.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    backups: list[str] = []
    kept: set[str] = set()
    for step in steps.steps:
        repository: Repository = seen.host if step.place == "host" else seen.local
        if step.action != "fetch" and step.place not in kept:
            kept.add(step.place)
            backups += _keep(repository, stamp)
        say(f"{step.place}: {step.action} ({step.why})")
        _ACTIONS[step.action](seen, repository, step)
    return backups


def _keep(repository: Repository, stamp: str) -> list[str]:
    """Keep HEAD and all uncommitted changes of tracked files under the backup refs; returns the refs made."""
    made = repository.steps(
        [{"argv": ["rev-parse", "--verify", "HEAD"]}, {"argv": ["stash", "create", "hemma backup"], "may_fail": True}]
    )
    checked(made, f"{repository.place}: keep a backup")
    commits = {"HEAD": made[0]["stdout"].strip(), "worktree": made[1]["stdout"].strip() if len(made) > 1 else ""}
    refs = {f"{BACKUPS}/{stamp}/{name}": commit for name, commit in commits.items() if commit}
    checked(
        repository.steps([{"argv": ["update-ref", ref, commit]} for ref, commit in refs.items()]),
        f"{repository.place}: keep a backup",
    )
    return list(refs)


def _branch(seen: Clones) -> str:
    return str(seen.host_facts["branch"])


def _fetch(_: Clones, repository: Repository, step: Step) -> None:
    checked(repository.steps([{"argv": ["fetch", "--quiet", "--no-tags", "origin"]}]), f"{step.place}: fetch")


def _merge(seen: Clones, repository: Repository, step: Step) -> None:
    """Merge origin's branch, as a fast-forward or with a merge commit. Raises MergeConflict, RepositoryError."""
    branch = _branch(seen)
    how = (
        ["--ff-only"]
        if step.action == "fast-forward"
        else ["--no-edit", "-m", f"Merge origin/{branch} into the {step.place} clone"]
    )
    results = repository.steps([{"argv": ["merge", "--quiet", *how, f"refs/remotes/origin/{branch}"]}])
    if not results[-1]["code"]:
        return
    conflicted = repository.state()["conflicted"]
    if not conflicted:
        checked(results, f"{step.place}: {step.action}")
    run = "hemma run -- git" if step.place == "host" else "git"
    raise MergeConflict(
        f"{step.place}: both sides changed {', '.join(conflicted[:8])}; both are intact, the merge waits there",
        remedy=f"resolve them ({'hemma edit FILE' if step.place == 'host' else 'your editor'}), {run} add FILE, {run} commit --no-edit, "
        f"then hemma sync; or give it up: {run} merge --abort",
    )


def _push(seen: Clones, repository: Repository, step: Step) -> None:
    """Move origin's branch forward; git itself refuses anything but a fast-forward."""
    branch = _branch(seen)
    results = repository.steps([{"argv": ["push", "--quiet", "origin", f"HEAD:refs/heads/{branch}"]}])
    if results[-1]["code"] and any(
        word in results[-1]["stderr"] for word in ("non-fast-forward", "fetch first", "rejected")
    ):
        raise RepositoryError(f"{step.place}: origin has moved meanwhile, nothing was pushed", remedy="hemma sync")
    checked(results, f"{step.place}: push")


def _relay_to_host(seen: Clones, _: Repository, __: Step) -> None:
    relay_objects.to_host(seen.local, seen.host, _branch(seen), known=seen.host_facts["origin_head"])


def _relay_to_origin(seen: Clones, _: Repository, __: Step) -> None:
    """Push for a host that cannot: its commits come here by value, and go to origin if that is a fast-forward."""
    branch = _branch(seen)
    ref = relay_objects.from_host(seen.host, seen.local, branch, known=seen.host_facts["origin_head"])
    results = seen.local.steps([{"argv": ["push", "--quiet", "origin", f"{ref}:refs/heads/{branch}"]}])
    checked(results, "local: push the host's commits")


def _discard(seen: Clones, _: Repository, step: Step) -> None:
    """Put the committed notebook back where only metadata differ, unless the file changed since it was looked at."""
    import base64

    for path in step.paths:
        sides = seen.host_facts["notebooks"][path]
        drifted = hashlib.sha256(base64.b64decode(sides["after_base64"])).hexdigest()
        seen.host.host.request(
            "file-write", path=path, content_base64=sides["before_base64"], expected_digest=drifted, mode=None
        )


_ACTIONS: dict[str, Callable[[Clones, Repository, Step], None]] = {
    "fetch": _fetch,
    "fast-forward": _merge,
    "merge": _merge,
    "push": _push,
    "relay-to-host": _relay_to_host,
    "relay-to-origin": _relay_to_origin,
    "discard-metadata": _discard,
}


def refusal(escalation: Escalation) -> NeedsPerson:
    """The escalation as an error, for where nobody can be asked: exit code 75."""
    verdict = escalation.verdict
    facts = "; ".join(reason.fact for reason in verdict.reasons)
    return NeedsPerson(facts, remedy="; ".join(verdict.next_steps))
