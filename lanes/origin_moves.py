"""Origin that moved back, was rewritten, or lost a branch: which fact a person judges, and the two ways on.

A sync only ever moves origin forward. So commits that origin had and has no longer would be brought back by the next push,
whatever their owner took them away for. Both ways are a person's to choose: go along with origin, or restore it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator

from manifests.commands import Command, Remedy, command

from lanes.clone_state import CloneState, Lanes

REWRITTEN = "origin-rewritten"
GONE = "origin-branch-gone"
ELSEWHERE = "push-elsewhere"
RESTORE = Command("hemma sync --restore")
_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class Question:
    """One fact for a person: its rule, what to do about it, and the paths it is about.

    `is_final`: that the rule was accepted does not answer it.
    """

    rule: str
    fact: str
    mend: Remedy
    paths: tuple[str, ...] = ()
    is_final: bool = False


def is_rewritten(local: CloneState, host: CloneState) -> bool:
    """Whether origin has lost commits that a clone still has."""
    return local.lost is not None or host.lost is not None


def questions(local: CloneState, host: CloneState, accepted: Collection[str], *, restores: bool) -> list[Question]:
    """What a person must judge of origin before anything else; empty once a way was chosen that can be gone."""
    if local.gone or host.gone:
        return [] if restores else [_gone(local, host)]
    if not is_rewritten(local, host) or restores:
        return []
    stuck = [clone for clone in (host, local) if clone.lost and clone.lost.own_has_merges]
    if REWRITTEN in accepted and not stuck:
        return []
    return [_rewritten(local, host, stuck)]


def _rewritten(local: CloneState, host: CloneState, stuck: list[CloneState]) -> Question:
    holders = [clone for clone in (host, local) if clone.lost]
    most = max((clone.lost for clone in holders if clone.lost), key=lambda lost: lost.count)
    who = " and ".join(_where(clone) for clone in holders)
    fact = (
        f"origin's {holders[0].branch} was moved back or rewritten: {_commits(most.count)} that it had "
        f"({_some(most.shown, most.count)}) {'is' if most.count == 1 else 'are'} no longer in it, and still in {who}; "
        f"{_mover(holders)}"
    )
    restore = command("{}   (origin gets these commits again, without force)", RESTORE)
    if stuck:
        names = " and ".join(_where(clone) for clone in stuck)
        keep = Command("git branch kept" if stuck[0].place == "local" else "hemma run -- git branch kept")
        stops = f"{fact}; {names} merged commits of its own into them, and merges cannot be picked anew"
        mend = command("{}; or keep yours ({}) and start anew from what origin has", restore, keep)
        return Question(REWRITTEN, stops, mend, is_final=True)
    own = sum(len(clone.lost.own) for clone in holders if clone.lost)
    kept = f"; {_commits(own)} of your own {'is' if own == 1 else 'are'} picked anew on top" if own else ""
    go_along = command(
        "hemma sync --accept {}   (your branch follows origin, after a backup{})", REWRITTEN, Command(kept)
    )
    return Question(REWRITTEN, fact, command("{}, or {}", go_along, restore))


def _mover(holders: list[CloneState]) -> str:
    """Who could have done it, as far as the clones can know."""
    for clone in holders:
        if clone.lost and clone.lost.pushed_by:
            return f"it was pushed from {_where(clone)}, by {clone.lost.pushed_by}"
    makers = list(dict.fromkeys(name for clone in holders if clone.lost for name in clone.lost.made_by))
    if makers:
        return f"what origin has instead was committed by {', '.join(makers[:_SHOWN])}"
    return f"whoever may force a push to {holders[0].origin_url or 'origin'} could have done it"


def _gone(local: CloneState, host: CloneState) -> Question:
    clones = [clone for clone in (host, local) if clone.gone]
    told = max((clone.gone for clone in clones if clone.gone), key=lambda gone: gone.alone)
    branch, last = clones[0].branch, f", last at {told.last[:9]}" if told.last else ""
    if told.alone:
        rest = (
            f"{_commits(told.alone)} of it ({_some(told.shown, told.alone)}) in no branch of origin, as after a squash"
        )
    else:
        rest = "all its commits are in other branches of origin, as after a merge"
    fact = (
        f"origin had a branch {branch}{last}, and has none now: {rest}; "
        f"whoever may delete branches of {clones[0].origin_url or 'origin'} could have done it"
    )
    there = told.elsewhere or "BRANCH"
    go_along = command("to go along: hemma run -- git switch {} && git switch {} && hemma sync", there, there)
    return Question(
        GONE,
        fact,
        command("{}   (your branch stays in both clones), or {}   (origin gets it again)", go_along, RESTORE),
    )


def follow_questions(local: CloneState, host: CloneState, lanes: Lanes) -> Iterator[Question]:
    """What speaks against moving the trees to what origin has."""
    for clone in (host, local):
        if clone.lost is None:
            continue
        changes = set(clone.lost.changes)
        touched = tuple(sorted({entry.path for entry in clone.dirty if entry.path in changes}))
        if touched:
            run = Command("hemma run -- git" if clone.place == "host" else "git")
            mend = command("{} stash push, then hemma sync --accept {}", run, REWRITTEN)
            fact = f"uncommitted changes in {_where(clone)} are in the way of going along with origin: {_some(touched, len(touched))}"
            yield Question(
                f"{clone.place}-overwritten" if clone.place == "host" else "local-uncommitted", fact, mend, touched
            )
        runtime = lanes.of_host(clone.lost.changes)
        if clone.place == "host" and clone.holding and runtime:
            fact = (
                f"{len(clone.holding)} live runs hold the host's tree ({_some(clone.holding, len(clone.holding))}), "
                f"and {_some(runtime, len(runtime))} would change"
            )
            mend = command("wait for them, or hemma sync --accept {} --accept runs-hold-the-tree", REWRITTEN)
            yield Question("runs-hold-the-tree", fact, mend, runtime)


def elsewhere(clone: CloneState) -> Question:
    """A push of this clone would go to another remote than the one that the three are brought together at."""
    run = Command("hemma run -- git" if clone.place == "host" else "git")
    fact = (
        f"{_where(clone)} pushes {clone.branch} to {clone.push_remote} ({clone.push_key}) and fetches it from {clone.remote}: "
        "a sync brings the three together at one remote"
    )
    own = Command("hemma push" if clone.place == "host" else "git push")
    key = f"branch.{clone.branch}.pushRemote"
    mend = command("{}   (it goes to {}), or {} config {} {}", own, clone.push_remote or "", run, key, clone.remote)
    return Question(ELSEWHERE, fact, mend)


def _where(clone: CloneState) -> str:
    return "the host's clone" if clone.place == "host" else "the local clone"


def _commits(count: int) -> str:
    return "1 commit" if count == 1 else f"{count} commits"


def _some(names: Collection[str], count: int) -> str:
    shown = list(names)[:_SHOWN]
    return ", ".join(shown) + (f" and {count - len(shown)} more" if count > len(shown) else "")
