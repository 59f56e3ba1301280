"""`hemma sync`: ask lanes for a plan, do its steps here and on the host, stop at the first that cannot be done.

The whole state of a clone that a step could move is first kept under refs/hemma/backup/, for `hemma undo`. The host's part
of a plan is done in as few round trips as its order allows; a sync with nothing to do takes one.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from controller.flows import both_sides, clones, lane, sync_follow, thin
from controller.flows.judged import Judged
from lanes.classification import NO_FACTS, Owner, classify_path
from lanes.classification import Facts as PathFacts
from lanes.merging import CloneState, Escalation, Lanes, Step, SyncPlan, plan_sync
from lanes.origin_moves import ELSEWHERE
from manifests.commands import Command, command
from manifests.errors import MergeConflict, NeedsPerson, RepositoryError
from remote import relay_objects
from remote.agent import origin
from remote.refusals import HostRefused
from remote.repository import HostRepository, LocalRepository, Repository, checked

Facts = dict[str, Any]
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Clones:
    """Both clones with their facts and states, as they were when they were looked at."""

    local: LocalRepository
    host: HostRepository
    local_facts: Facts
    host_facts: Facts
    meant: clones.Meant
    bounds: Facts = dataclasses.field(default_factory=dict[str, Any])  # for how long, and how much of backups is kept

    @property
    def states(self) -> tuple[CloneState, CloneState]:
        """(local, host) as lanes.merging takes them."""
        here = clones.clone_state("local", self.local_facts, self.meant)
        return here, clones.clone_state("host", self.host_facts, self.meant)


def look(
    local: LocalRepository,
    host: HostRepository,
    *,
    fetch: bool = True,
    meant: clones.Meant = clones.NOTHING_SAID,
) -> Clones:
    """Look at both clones at once: one round trip to the host, while this machine asks origin itself.

    `meant` is what the repository says of notebooks' metadata. A host without a way to origin gets what origin has from here, so that its facts are about the same origin. Raises
    RepositoryError when this machine cannot ask origin: what is not seen cannot be said to agree.
    """
    here, there = both_sides.ask(
        lambda: local.state(fetch=fetch), lambda: host.state(fetch=fetch, notebooks=True), local.leave
    )
    seen = Clones(local, host, here, there, meant)
    if not fetch:
        return seen
    if not seen.local_facts["fetch"]["is_ok"]:
        raise _not_asked("local", seen.local_facts)
    # Only a host without a way to origin gets its commits from here: a slow origin, or a ref that it cannot write, is said.
    if not seen.host_facts["fetch"]["is_ok"] and seen.host_facts["fetch"]["kind"] != "unreachable":
        raise _not_asked("host", seen.host_facts)
    return seen if seen.host_facts["fetch"]["is_ok"] else _look_for_host(seen)


def _not_asked(place: str, facts: Facts) -> RepositoryError:
    fetched, run = facts["fetch"], Command("hemma run -- " if place == "host" else "")
    lines = [line for line in fetched["error"].splitlines() if line.startswith(("error: ", "fatal: ", " ! ["))]
    said = (lines or fetched["error"].splitlines() or ["?"])[0].strip()
    remedy = command("git fetch {}", facts["remote"])
    if fetched["kind"] == "silent":
        remedy = command(
            "git fetch {}   (look at it; to wait longer: HEMMA_ORIGIN_SILENCE_S=600 hemma sync)", facts["remote"]
        )
    elif fetched["kind"] == "rejected" and facts["branch"]:
        refspec = f"+refs/heads/{facts['branch']}:{facts['tracking']}"
        remedy = command("git fetch {} {}   (its refspec lacks the +), then hemma sync", facts["remote"], refspec)
    return RepositoryError(f"{place}: origin cannot be asked: {said}", remedy=command("{}{}", run, remedy))


def _look_for_host(seen: Clones) -> Clones:
    """The host cannot reach origin, we can: bring origin's objects to it, then look at it again."""
    branch, origin = seen.host_facts["branch"], seen.local_facts["origin_head"]
    is_same = branch == seen.local_facts["branch"]
    if branch and is_same and origin and origin != seen.host_facts["origin_head"]:
        _relayed(seen)
        facts = {**seen.host.state(notebooks=True), "fetch": seen.host_facts["fetch"]}
        return dataclasses.replace(seen, host_facts=facts)
    return seen


def _relayed(seen: Clones) -> None:
    """Bring what this clone knows of origin's branch to the host, as what the host knows of it."""
    ours, theirs = seen.local_facts, seen.host_facts
    if theirs["origin_head"] and theirs["branch"]:
        # The host never asks origin itself, so what origin had is written down before something else is.
        ref = f"{origin.SEEN}/{theirs['remote']}/{theirs['branch']}"
        relay_objects.keep(seen.host, ref, theirs["origin_head"])
    relay_objects.to_host(seen.local, seen.host, ours["tracking"], theirs["tracking"], theirs["origin_head"])


def plan(
    where: lane.Ground, seen: Clones, accepted: Collection[str] = (), *, restores: bool = False
) -> SyncPlan | Escalation:
    """The steps for what was seen, or what a person has to judge first; `restores`: origin gets again what it had."""
    local, host = seen.states
    notebooks = notebooks_under_way(seen)
    paths = {*local.outgoing, *host.incoming, *notebooks, *(host.lost.changes if host.lost else ())}
    owners = _owners(where, seen.local.root, paths, thin.lane_facts(notebooks))
    lanes = Lanes(
        host_owned=frozenset(path for path, owner in owners.items() if owner == "host"),
        logic_gained=frozenset(path for path in thin.logic(notebooks) if owners[path] != "local"),
    )
    return plan_sync(local, host, lanes, accepted, restores=restores)


def _owners(where: lane.Ground, top: str, paths: Iterable[str], facts: Mapping[str, PathFacts]) -> dict[str, Owner]:
    """Who owns each of `paths` (relative to the repository's top), by the rules that hold in the local clone.

    `facts` is what notebooks say of themselves, in the version that is under way.
    """
    prefix = os.path.relpath(os.path.realpath(top), where.base)
    named = {path: os.path.normpath(os.path.join(prefix, path)) for path in paths}
    return {path: classify_path(name, where.rules, facts.get(path, NO_FACTS)).owner for path, name in named.items()}


def notebooks_under_way(seen: Clones) -> dict[str, thin.Versions]:
    """The notebooks in commits that would come to the host or go from it to origin, as they are and as they would be."""
    local, host = seen.states
    if local.branch != host.branch or None in (local.origin_head, host.origin_head, local.head, host.head):
        return {}
    origin = str(host.origin_head)
    return {
        **thin.changes(seen.host, origin, "HEAD", host.outgoing),
        **thin.changes(seen.host, "HEAD", origin, host.incoming),
        **thin.changes(seen.local, str(local.origin_head), "HEAD", local.outgoing),
    }


@dataclasses.dataclass
class _Course:
    """A sync under way. `tip` is the commit that origin has by now because of it; None as long as nothing was pushed."""

    seen: Clones
    branch: str
    say: Say
    tip: str | None = None
    backups: list[str] = dataclasses.field(default_factory=list[str])
    kept: set[str] = dataclasses.field(default_factory=set[str])

    def at(self, place: str) -> Repository:
        """The clone at this place."""
        return self.seen.host if place == "host" else self.seen.local

    def facts(self, place: str) -> Facts:
        """What was seen of the clone at this place."""
        return self.seen.host_facts if place == "host" else self.seen.local_facts


def carry_out(seen: Clones, steps: SyncPlan, say: Say) -> list[str]:
    """Do the plan's steps in order; returns the backup refs that were made.

    Nothing is merged that was not seen: what comes to origin meanwhile waits for the next sync. Raises MergeConflict with
    the files, NeedsPerson when a clone moved meanwhile or untracked files are in the way, RepositoryError with git's words.
    """
    course = _Course(seen, str(seen.host_facts["branch"]), say)
    for step in steps.steps:
        if step.action in _MOVES_TREE and step.place not in course.kept:
            course.kept.add(step.place)
            course.backups += _keep(course, step.place)
        say(f"{step.place}: {step.action} ({step.why})")
        _ACTIONS[step.action](course, step)
    return course.backups


def _keep(course: _Course, place: str) -> list[str]:
    """Keep the clone's whole state for `hemma undo`; returns the backup's name. Raises RepositoryError, NeedsPerson."""
    repository, facts = course.at(place), course.facts(place)
    try:
        kept = repository.backup("before sync", course.seen.bounds)
    except HostRefused as refused:
        raise RepositoryError(
            f"{place}: keep a backup: {refused}", remedy=refused.remedy or "hemma status"
        ) from refused
    looks = [{"argv": ["rev-parse", "--verify", "HEAD"]}, {"argv": ["symbolic-ref", "--quiet", "HEAD"]}]
    head, branch = (result["stdout"].strip() for result in checked(repository.steps(looks), f"{place}: look again"))
    if (head, branch) != (facts["head"], f"refs/heads/{course.branch}"):
        raise NeedsPerson(f"{place}: somebody commits or switches branches there right now", remedy="hemma sync")
    return [str(kept["ref"])]


def _fetch(course: _Course, step: Step) -> None:
    """Fetch, again when another fetch moved the same ref at the same moment. Raises RepositoryError."""
    results: list[Facts] = []
    facts, repository = course.facts(step.place), course.at(step.place)
    for _ in range(3):
        results = repository.steps([{"argv": ["fetch", "--quiet", "--progress", "--no-tags", facts["remote"]]}])
        if not origin.is_overtaken(results[-1]["stderr"]):
            break
    checked(results, f"{step.place}: fetch")
    there = {"argv": ["cat-file", "-e", f"{course.tip}^{{commit}}"], "may_fail": True}
    if course.tip and repository.steps([there])[-1]["code"]:
        raise RepositoryError(
            f"{step.place}: what was pushed ({course.tip[:9]}) is not in what {facts['remote']} gives: "
            "a push goes to another repository than a fetch comes from",
            remedy="git remote -v, here and with hemma run: remote.NAME.pushurl or url.BASE.pushInsteadOf",
            code=ELSEWHERE,
        )


def _merge(course: _Course, step: Step) -> None:
    """Merge origin's branch, as a fast-forward or with a merge commit. Raises MergeConflict, NeedsPerson, RepositoryError."""
    repository, branch = course.at(step.place), course.branch
    commit = course.tip or course.facts(step.place)["origin_head"]
    said = ["--no-edit", "-m", f"Merge origin/{branch} into the {step.place} clone"]
    how = ["--ff-only"] if step.action == "fast-forward" else ["--ff", *said]
    # Over what a user's settings may say of merges: nothing is stashed, squashed or left uncommitted.
    argv = ["-c", f"branch.{branch}.mergeOptions=", "merge", "--quiet", "--no-autostash", "--no-squash", "--commit"]
    results = repository.steps([{"argv": [*argv, *how, commit], "taking": commit}])
    if not results[-1]["code"]:
        return
    if in_the_way := results[-1].get("in_the_way"):
        raise _in_the_way(step.place, in_the_way, results[-1].get("in_the_way_count", len(in_the_way)))
    facts = repository.state()
    if not facts["conflicted"] and facts["operation"] != "merge":
        checked(results, f"{step.place}: {step.action}")
    raise _conflict(step.place, facts["conflicted"], results[-1])


def _in_the_way(place: str, paths: list[str], count: int) -> NeedsPerson:
    names = ", ".join(paths[:8]) + (f" and {count - 8} more" if count > 8 else "")
    move = "hemma run -- mv" if place == "host" else "mv"
    return NeedsPerson(
        f"{place}: files that git does not track there would be overwritten: {names}; nothing was merged",
        remedy=command("{} FILE ELSEWHERE, then hemma sync", Command(move)),
        code="untracked-in-the-way",
    )


def _conflict(place: str, paths: list[str], result: Facts) -> MergeConflict:
    """The merge waits for a person: files in conflict, or a hook that did not let it be committed."""
    run = Command("hemma run -- git" if place == "host" else "git")
    ways = command("{} commit --no-edit, then hemma sync; or give it up: {} merge --abort", run, run)
    if not paths:
        said = (result["stderr"].strip() or result["stdout"].strip()).splitlines()
        fact = f"{place}: the merge was made but not committed, a hook refused it: {said[0] if said else 'it said nothing'}"
        return MergeConflict(fact, remedy=command("mend what the hook names, {}", ways), code="merge-not-committed")
    names = ", ".join(paths[:8]) + (f" and {len(paths) - 8} more" if len(paths) > 8 else "")
    edit = Command("hemma edit FILE" if place == "host" else "your editor")
    fact = f"{place}: both sides changed {names}; both are intact, the merge waits there"
    return MergeConflict(fact, remedy=command("resolve them ({}), {} add FILE, {}", edit, run, ways))


def _follow(course: _Course, step: Step) -> None:
    """Go along with an origin that was moved back or rewritten; the backup is part of it."""
    course.backups += sync_follow.follow(course.at(step.place), step.place, course.facts(step.place))


def _push(course: _Course, step: Step) -> None:
    """Move origin's branch forward; git itself refuses anything but a fast-forward."""
    _pushed(course, step.place, f"refs/heads/{course.branch}", step.place)


def _pushed(course: _Course, place: str, source: str, who: str) -> None:
    """Push `source` of the clone at `place` to origin's branch. Raises RepositoryError with what origin's hooks said."""
    remote, destination = course.facts(place)["remote"], f"refs/heads/{course.branch}"
    push = ["push", "--progress", remote, f"{source}:{destination}"]
    results = course.at(place).steps([{"argv": ["rev-parse", "--verify", source]}, {"argv": push}])
    lines = results[-1]["stderr"].splitlines()
    said = [line.removeprefix("remote:").strip() for line in lines if line.startswith("remote:")]
    if results[-1]["code"] and any(word in results[-1]["stderr"] for word in _MOVED):
        raise RepositoryError(f"{who}: origin has moved meanwhile, nothing was pushed", remedy="hemma sync")
    words = "; ".join(word for word in said[:_WORDS_SHOWN] if word)
    course.tip = str(checked(results, f"{who}: push{f' (origin said: {words})' if words else ''}")[0]["stdout"].strip())
    for word in said:
        course.say(f"origin: {word}")


def _relay_to_host(course: _Course, _: Step) -> None:
    _relayed(course.seen)


def _relay_to_origin(course: _Course, _: Step) -> None:
    """Push for a host that cannot: its commits come here by value, and go to origin if that is a fast-forward."""
    seen, theirs = course.seen, course.seen.host_facts
    ref = relay_objects.from_host(seen.host, seen.local, course.branch, known=theirs["origin_head"])
    _pushed(course, "local", ref, "local, for the host")
    relay_objects.note(seen.host, theirs["tracking"], str(course.tip))


def _discard(course: _Course, step: Step) -> None:
    """Put the committed notebook back where only metadata differ, unless the file changed since it was looked at."""
    for path in step.paths:
        sides = course.seen.host_facts["notebooks"][path]
        drifted = hashlib.sha256(base64.b64decode(sides["after_base64"])).hexdigest()
        course.seen.host.host.request(
            "file-write", path=path, content_base64=sides["before_base64"], expected_digest=drifted, mode=None
        )


# What git says when another push was quicker; a hook of origin's that refuses says something else.
_MOVED = ("non-fast-forward", "fetch first", "cannot lock ref", "failed to update ref", "incorrect old value")
_WORDS_SHOWN = 12
_MOVES_TREE = ("discard-metadata", "fast-forward", "merge")
_ACTIONS: dict[str, Callable[[_Course, Step], None]] = {
    "fetch": _fetch,
    "fast-forward": _merge,
    "merge": _merge,
    "push": _push,
    "relay-to-host": _relay_to_host,
    "relay-to-origin": _relay_to_origin,
    "discard-metadata": _discard,
    "follow": _follow,
}


def refusal(escalation: Escalation) -> Judged:
    """The escalation as an error, for where nobody can be asked: exit code 75, with the verdict."""
    return Judged(escalation.verdict)
