"""What a person looks at before judging an escalation: the change itself, as git shows it, where it lies (S9-R09..R12)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from controller.flows import sync, thin
from lanes.merging import LOGIC_IN_CELLS
from remote.repository import Repository

MOST_LINES = 200
_MOST_PATHS = 200
_PLAIN = ("diff", "--no-color", "--no-ext-diff", "--no-textconv", "--submodule=log")
_LITERALLY = {"GIT_LITERAL_PATHSPECS": "1"}

Paths = Sequence[str]


def of(seen: sync.Clones, rule: str, paths: Paths) -> str:
    """The diff behind `rule`, of these paths, at most MOST_LINES lines; empty for a rule that no diff explains.

    Asks the host once where the change lies there.
    """
    show = _SHOWN.get(rule)
    return _clipped(show(seen, paths)) if show else ""


def _clipped(lines: Sequence[str]) -> str:
    rest = len(lines) - MOST_LINES
    return "\n".join([*lines[:MOST_LINES], *([f"… and {rest} more lines"] if rest > 0 else [])])


def _diff(repository: Repository, what: Sequence[str], paths: Paths) -> list[str]:
    """First which files and how much, then line by line. A revision that git does not know shows nothing."""
    steps = [
        {"argv": [*_PLAIN, how, *what, "--", *paths[:_MOST_PATHS]], "env": _LITERALLY, "may_fail": True}
        for how in ("--stat", "--patch")
    ]
    results = repository.steps(steps)
    return [line for result in results for line in result["stdout"].splitlines()]


def _host_tree(seen: sync.Clones, paths: Paths) -> list[str]:
    return _diff(seen.host, ["HEAD"], paths)


def _local_tree(seen: sync.Clones, paths: Paths) -> list[str]:
    return _diff(seen.local, ["HEAD"], paths)


def _to_origin(seen: sync.Clones, paths: Paths) -> list[str]:
    return _diff(seen.local, [f"{seen.local_facts['origin_head']}...HEAD"], paths)


def _to_host(seen: sync.Clones, paths: Paths) -> list[str]:
    """What origin has for the host, then what the local clone has."""
    coming = (
        _diff(seen.host, [f"HEAD...{seen.host_facts['origin_head']}"], paths) if seen.host_facts["unpulled"] else []
    )
    return coming + (_to_origin(seen, paths) if seen.local_facts["unpushed"] else [])


def _cells(seen: sync.Clones, paths: Paths) -> list[str]:
    found = thin.logic(sync.notebooks_under_way(seen))
    return thin.as_lines({path: findings for path, findings in found.items() if path in paths})


_SHOWN: dict[str, Callable[[sync.Clones, Paths], list[str]]] = {
    "host-uncommitted": _host_tree,
    "host-overwritten": _host_tree,
    "local-uncommitted": _local_tree,
    "local-edits-host-files": _to_origin,
    "runtime-diverged": _to_host,
    "runs-hold-the-tree": _to_host,
    LOGIC_IN_CELLS: _cells,
}
