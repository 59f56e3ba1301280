"""Bring three clones together by fast-forward and merge only, or say which fact a person has to judge.

Facts of the controller's clone, the host's and origin's go in; an ordered plan or an escalation comes out. Nothing here
decides alone what could lose work or change what runs (S9-R05, S9-R08..R11): such a fact is named, with its rule, and stays
unless the person has accepted that very rule.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

from manifests.commands import Command, Remedy, command, once

from lanes import origin_moves
from lanes.clone_state import CloneState, Dirty, Lanes, Place
from lanes.origin_moves import Question as _Question
from lanes.verdict import Reason, Verdict

Action = Literal[
    "discard-metadata", "fetch", "fast-forward", "merge", "push", "relay-to-host", "relay-to-origin", "follow"
]

LOGIC_IN_CELLS = "logic-in-cells"
# The rules a person can accept with `hemma sync --accept RULE`. The others need the fact mended first.
ACCEPTABLE = {
    "host-uncommitted": "the host's uncommitted files stay as they are beside the merge; a backup is kept",
    "runtime-diverged": "the host and origin both moved, and what comes in touches what the host executes",
    "runs-hold-the-tree": "a live run would see files change under it",
    "local-edits-host-files": "commits made locally touch files that the host owns",
    origin_moves.REWRITTEN: "your branches follow an origin that was moved back or rewritten; a backup is kept",
    LOGIC_IN_CELLS: "notebooks that were thin would hold logic of the repository",
}


@dataclasses.dataclass(frozen=True)
class Step:
    """One thing to do at one place, and why. `paths` only for discard-metadata."""

    place: Place
    action: Action
    why: str
    paths: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class SyncPlan:
    """Steps in the order in which they are done; empty when all three agree. `notes` say what stays as it is.

    `goes_on`: what comes after them can only be planned when they are done, by looking again.
    """

    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()
    goes_on: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The plan as agents read it under --json --dry-run."""
        return {"steps": [dataclasses.asdict(step) for step in self.steps], "notes": list(self.notes)}


@dataclasses.dataclass(frozen=True)
class Escalation:
    """A person has to judge; nothing was done. `verdict` has each rule, its fact, and what to do; `paths` what a rule is about."""

    verdict: Verdict
    paths: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict[str, tuple[str, ...]])


def plan_sync(
    local: CloneState, host: CloneState, lanes: Lanes, accepted: Collection[str] = (), *, restores: bool = False
) -> SyncPlan | Escalation:
    """Steps that bring the three together on the branch both clones are on: host first, then local (S9-R05).

    Only fast-forward, merge and a push that moves origin forward ever appear. An Escalation names every fact that a person
    must judge or mend; a rule in `accepted` (of ACCEPTABLE) does not stop the plan. With origin-rewritten among these the
    clones follow origin, with `restores` origin gets again what it had (lanes.origin_moves).
    """
    refused = [*_not_ready(local), *_not_ready(host), *_one_branch(local, host)]
    if not refused:
        refused = origin_moves.questions(local, host, accepted, restores=restores)
    follows = origin_moves.is_rewritten(local, host) and not restores
    brings_back = bool(local.gone or host.gone)
    if not refused and not brings_back:
        refused = [question for clone in (local, host) for question in _upstream(clone, local, host)]
    if not refused and follows:
        refused = list(origin_moves.follow_questions(local, host, lanes))
    elif not refused and not brings_back:
        refused = [*_host_tree(local, host, lanes), *_local_tree(local, host, lanes), *_notebooks(lanes)]
    if not refused and not follows:
        refused = list(_pushes_elsewhere(local, host, brings_back=brings_back))
    # Only what may be accepted is: nobody accepts a merge in progress, or work that would be written over.
    questions = [each for each in refused if each.is_final or each.rule not in accepted or each.rule not in ACCEPTABLE]
    if questions:
        steps = once(each.mend for each in questions)
        verdict = Verdict(False, tuple(Reason(each.rule, each.fact) for each in questions), steps)
        return Escalation(verdict, {each.rule: each.paths for each in questions})
    if follows:
        steps = [
            Step(each.place, "follow", "origin was moved back or rewritten") for each in (host, local) if each.lost
        ]
        return SyncPlan(tuple(steps), tuple(_notes(local, host)), goes_on=True)
    if brings_back:
        action: Action = "push" if host.reaches_origin else "relay-to-origin"
        return SyncPlan((Step("host", action, f"origin gets its {host.branch} again"),), goes_on=True)
    return SyncPlan(tuple(_steps(local, host)), tuple(_notes(local, host)))


def _not_ready(clone: CloneState) -> list[_Question]:
    where = "the host's clone" if clone.place == "host" else "the local clone"
    run = Command("hemma run -- git" if clone.place == "host" else "git")
    found: list[_Question] = []
    if clone.operation:
        fact = f"{where} is in the middle of a {clone.operation}"
        way_out = command("{} {} {}", run, clone.operation, "reset" if clone.operation == "bisect" else "--abort")
        found.append(
            _Question("operation-in-progress", fact, command("{} status, then finish it or: {}", run, way_out))
        )
    elif any(entry.kind == "conflicted" for entry in clone.dirty):
        found.append(_Question("conflicted", f"{where} has unresolved conflicts", command("{} status", run)))
    if clone.is_index_locked:
        fact = f"{where} has a locked index: another git works there, or died"
        found.append(_Question("index-locked", fact, command("wait, or see who: {} status", run)))
    if clone.branch is None:
        found.append(_Question("detached", f"{where} is on no branch", command("{} switch BRANCH", run)))
    elif clone.head is None:
        found.append(_Question("unborn", f"{where} has no commit yet on {clone.branch}", command("{} commit", run)))
    return found


def _one_branch(local: CloneState, host: CloneState) -> list[_Question]:
    if None in (local.branch, host.branch) or local.branch == host.branch:
        return []
    fact = f"the host is on {host.branch}, the local clone on {local.branch}"
    return [_Question("other-branch", fact, command("git switch {}", str(host.branch)))]


def _upstream(clone: CloneState, local: CloneState, host: CloneState) -> list[_Question]:
    """A branch that origin does not have is not brought together but begun: that is for a person to want."""
    if clone.origin_head is not None or clone.head is None:
        return []
    where = "the host's clone" if clone.place == "host" else "the local clone"
    if local.origin_head is None and host.origin_head is None:
        return [_Question("no-upstream", f"origin has no branch {clone.branch} that {where} knows of", "hemma push")]
    run = Command("hemma run -- git" if clone.place == "host" else "git")
    fact = f"{where} does not fetch origin's {clone.branch}"
    add = command("{} remote set-branches --add {} {}", run, clone.remote, clone.branch or "")
    return [_Question("no-upstream", fact, add)]


def _pushes_elsewhere(local: CloneState, host: CloneState, *, brings_back: bool) -> Iterable[_Question]:
    """The clones that would push, and whose settings send a push to another remote than origin."""
    pushing = [host if host.reaches_origin else local] if host.ahead or brings_back else []
    pushing += [local] if local.ahead and local not in pushing else []
    return (origin_moves.elsewhere(clone) for clone in pushing if clone.push_remote != clone.remote)


def _host_gets(local: CloneState, host: CloneState) -> tuple[str, ...]:
    """The paths that would change in the host's work tree."""
    return (host.incoming if host.behind else ()) + (local.outgoing if local.ahead else ())


def _host_tree(local: CloneState, host: CloneState, lanes: Lanes) -> list[_Question]:
    """What speaks against moving the host's work tree. Nothing, when it does not move."""
    if not host.behind and not local.ahead:
        return []
    arriving = _host_gets(local, host)
    found = _uncommitted(host, set(arriving))
    runtime = lanes.of_host(arriving)
    if host.has_diverged and lanes.of_host(host.incoming):
        counts = f"({host.ahead} and {host.behind} commits)"
        fact = f"host and origin diverged {counts} in what the host executes: {_some(runtime)}"
        found.append(_question("runtime-diverged", fact, runtime))
    if host.holding and runtime:
        fact = f"{len(host.holding)} live runs hold the host's tree ({_some(host.holding)}), and {_some(runtime)} would change"
        found.append(_question("runs-hold-the-tree", fact, runtime))
    return found


def _uncommitted(host: CloneState, arriving: Collection[str]) -> list[_Question]:
    """The host's uncommitted work, apart from metadata: in the way of what arrives, or only beside it (S9-R09)."""
    unsaved = [entry for entry in host.dirty if not entry.is_metadata_only]
    in_the_way = _paths(entry for entry in unsaved if entry.path in arriving)
    beside = _paths(entry for entry in unsaved if entry.path not in arriving and entry.kind != "untracked")
    found: list[_Question] = []
    if in_the_way:
        fact = f"uncommitted changes on the host would be overwritten: {_some(in_the_way)}"
        mend = "hemma commit -m '...' PATH, or hemma run -- git stash push -- PATH"
        found.append(_Question("host-overwritten", fact, mend, in_the_way))
    if beside:
        mend = "hemma commit -m '...' PATH, or hemma run -- git stash push, or "
        found.append(_question("host-uncommitted", f"the host has uncommitted changes: {_some(beside)}", beside, mend))
    return found


def _local_tree(local: CloneState, host: CloneState, lanes: Lanes) -> list[_Question]:
    found: list[_Question] = []
    foreign = lanes.of_host(local.outgoing) if local.ahead else ()
    if foreign:
        fact = f"{local.ahead} local commits change files that the host owns: {_some(foreign)}"
        found.append(_question("local-edits-host-files", fact, foreign))
    arriving = set(local.incoming) | set(host.outgoing)
    touched = _paths(entry for entry in local.dirty if entry.path in arriving)
    if touched:
        fact = f"uncommitted local changes would be overwritten: {_some(touched)}"
        mend = "git commit or git stash push them, then hemma sync"
        found.append(_Question("local-uncommitted", fact, mend, touched))
    return found


def _notebooks(lanes: Lanes) -> list[_Question]:
    paths = tuple(sorted(lanes.logic_gained))
    if not paths:
        return []
    return [_question(LOGIC_IN_CELLS, f"logic would move into the cells of {_some(paths)}", paths)]


def _question(rule: str, fact: str, paths: tuple[str, ...], instead: Remedy = "") -> _Question:
    accept = command("hemma sync --accept {}   ({})", rule, Command(ACCEPTABLE[rule]))
    return _Question(rule, fact, command("{}{}", Command(instead), accept), paths)


def _paths(entries: Iterable[Dirty]) -> tuple[str, ...]:
    return tuple(sorted({entry.path for entry in entries}))


def _steps(local: CloneState, host: CloneState) -> list[Step]:
    steps: list[Step] = []
    if host.behind or local.ahead:
        steps += _discard(host)
    if host.behind:
        steps += _into_host("origin has commits that the host lacks", is_merge=bool(host.ahead), host=host)
    if host.ahead:
        action: Action = "push" if host.reaches_origin else "relay-to-origin"
        steps.append(Step("host", action, "the host's commits go to origin first"))
    if local.behind or host.ahead:
        steps.append(Step("local", "fetch", "see what origin has now"))
        steps.append(Step("local", "merge" if local.ahead else "fast-forward", "origin's commits come here"))
    if local.ahead:
        steps.append(Step("local", "push", "local commits go to origin"))
        steps += _into_host("local commits come to the host", is_merge=False, host=host)
    return steps


def _discard(host: CloneState) -> list[Step]:
    paths = _paths(entry for entry in host.dirty if entry.is_metadata_only)
    why = "only notebook metadata differs; a backup is kept"
    return [Step("host", "discard-metadata", why, paths)] if paths else []


def _into_host(why: str, *, is_merge: bool, host: CloneState) -> list[Step]:
    bring: Action = "fetch" if host.reaches_origin else "relay-to-host"
    return [Step("host", bring, why), Step("host", "merge" if is_merge else "fast-forward", why)]


def _notes(local: CloneState, host: CloneState) -> list[str]:
    found: list[str] = []
    for clone in (host, local):
        left = _paths(entry for entry in clone.dirty if not entry.is_metadata_only)
        if left:
            found.append(
                f"uncommitted on {'the host' if clone.place == 'host' else 'this machine'}, and left alone: "
                f"{_some(left, unlisted=clone.unlisted)}"
            )
    return found


def _some(names: Sequence[str], shown: int = 5, unlisted: int = 0) -> str:
    rest = len(names) - shown + unlisted
    return ", ".join(names[:shown]) + (f" and {rest} more" if rest > 0 else "")
