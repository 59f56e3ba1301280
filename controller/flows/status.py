"""`hemma status`: local, host and origin side by side, read in one round trip to the host."""

from __future__ import annotations

from typing import Any

from controller.flows import both_sides, clones
from lanes.merging import CloneState, Place
from manifests.errors import HemmaError
from remote.repository import HostRepository, LocalRepository

Facts = dict[str, Any]


def read(
    local: LocalRepository, host: HostRepository, *, fetch: bool, meant: clones.Meant = clones.NOTHING_SAID
) -> Facts:
    """The whole picture as one object: `local`, `host`, `origin`, and `problem` when the host cannot be asked.

    `host.against_local` is [commits only the host has, commits only the local clone has], None when one side lacks the
    other's commits and so cannot count them. `meant`: what the repository says of notebooks' metadata.
    """
    local_facts, (host_facts, problem) = both_sides.ask(
        lambda: local.state(fetch=fetch, backups=True), lambda: _asked(host, fetch=fetch), local.leave
    )
    picture: Facts = {
        "local": _row("local", local_facts, meant),
        "host": None,
        "origin": _origin(local_facts),
        "problem": None,
    }
    if problem is not None:
        picture["problem"] = problem.as_dict()
    if host_facts is not None:
        picture["host"] = _row("host", host_facts, meant)
        picture["host"]["against_local"] = _against(local, local_facts, host_facts)
        picture["origin"]["host_saw"] = host_facts["origin_head"]
    return picture


def _asked(host: HostRepository, *, fetch: bool) -> tuple[Facts | None, HemmaError | None]:
    try:
        return host.state(fetch=fetch, notebooks=True, backups=True), None
    except HemmaError as error:
        return None, error


def _row(place: Place, facts: Facts, meant: clones.Meant) -> Facts:
    state = clones.clone_state(place, facts, meant)
    names = ("head", "branch", "stash_count", "is_shallow", "is_sparse", "has_submodules", "uses_lfs", "entry_count")
    return {
        **{name: facts[name] for name in names},
        "root": facts["root"],
        "ahead": state.ahead,
        "behind": state.behind,
        "relation": relation(state),
        "lost": facts.get("lost") and facts["lost"]["commits"],
        "operation": state.operation,
        "is_index_locked": state.is_index_locked,
        "dirty": [
            {"path": entry.path, "kind": entry.kind, "is_staged": entry.is_staged, "drift": entry.drift}
            for entry in state.dirty
        ],
        "holding": facts["holding"],
        "backups": facts.get("backups"),
        "fetch": facts["fetch"],
    }


def relation(state: CloneState) -> str:
    """One word for how a clone stands to origin."""
    if state.head is None:
        return "unborn"
    if state.gone is not None:
        return "gone"
    if state.origin_head is None:
        return "no upstream"
    if state.lost is not None:
        return "rewritten"
    if state.has_diverged:
        return "diverged"
    return "ahead" if state.ahead else "behind" if state.behind else "equal"


def _origin(facts: Facts) -> Facts:
    return {"url": facts["origin_url"], "head": facts["origin_head"], "branch": facts["branch"], "host_saw": None}


def _against(local: LocalRepository, local_facts: Facts, host_facts: Facts) -> list[int] | None:
    """How the host's HEAD stands to ours, counted here if we have its commit."""
    ours, theirs = local_facts["head"], host_facts["head"]
    if not ours or not theirs:
        return None
    if ours == theirs:
        return [0, 0]
    said = local.steps(
        [{"argv": ["rev-list", "--left-right", "--count", f"{theirs}...{ours}", "--"], "may_fail": True}]
    )
    return [int(number) for number in said[-1]["stdout"].split()] if not said[-1]["code"] else None
