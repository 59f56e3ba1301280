"""Is the host's root a clone of this folder's repository? How a no is said, and what is said of an unusual yes.

The agent finds the relation (remote/agent/clone.py) in the same request that it would act on; the request says which ones
it accepts (lanes.guards). A first commit that both share proves; the address of origin does where one side has no history to
compare. Loaded only where something is to be said.
"""

from __future__ import annotations

from manifests.errors import AnotherRepository

from lanes.lane_steps import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WHY = {
    "other": "they have no commit in common",
    "other-origin": "their origins differ, and there is no history to compare",
    "no-witness": "a shallow clone has no first commit to compare, and their origins do not say it",
    "unborn": "one of them has no commit yet, and their origins do not say it",
}


def without_repository(folder: str, host: str, root: str | None) -> AnotherRepository:
    """The refusal for a folder in no repository, with a root that was meant for all folders."""
    return AnotherRepository(
        f"{folder} is in no git repository, so nothing says that {root or 'the root'} on {host} is meant",
        remedy=f"name the host: -H {quoted(host)}   (or cd into a clone of that repository)",
    )


def refusal(facts: dict[str, Any]) -> AnotherRepository:
    """The refusal for guard facts with a relation that was not accepted: names both clones, and why they are two."""
    here, there = _table(facts.get("here")), _table(facts.get("there"))
    relation, host = str(facts.get("relation")), str(here.get("host") or there.get("host") or "the host")
    ours = f"{here.get('path')} ({_described(here)})"
    theirs = f"{there.get('path')} on {host} ({_described(there)})"
    if relation not in _WHY:
        said = here.get("said") or there.get("said") or "git could not look"
        where = "here" if here.get("said") else "on the host"
        return AnotherRepository(
            f"whether {theirs} is a clone of {ours} cannot be told: {where}: {said}",
            remedy=_readable(here, host),
        )
    return AnotherRepository(
        f"{theirs} is another repository than {ours}: {_WHY[relation]}", remedy=_remedy(here, there, host, relation)
    )


def fork_note(host: str, here: dict[str, Any], there: dict[str, Any]) -> str:
    """What is said, once, of two clones that share their history and have different origins."""
    return (
        f"{_plain(there.get('path'))} on {host} has another origin ({_plain(there.get('origin'))}) than this clone "
        f"({_plain(here.get('origin'))}); they share their history, so it is taken for a fork"
    )


def elsewhere_note(host: str, there: dict[str, Any]) -> str:
    """What is said of a run that was sent with -H into a clone that is not this folder's."""
    where = f"{_plain(there.get('path'))} on {host} ({_plain(_described(there))})"
    return f"ran in {where}: not proven to be a clone of this folder's repository"


def _remedy(here: dict[str, Any], there: dict[str, Any], host: str, relation: str) -> str:
    named = quoted(host)
    steps: list[str] = []
    if here.get("is_run"):
        steps.append(f"to run there all the same: hemma run -H {named} -- …")
    if relation == "no-witness" and there.get("is_shallow"):
        steps.append(f"hemma run -H {named} -- git fetch --unshallow")
    elif relation == "no-witness":
        steps.append("git fetch --unshallow")
    if here.get("superproject"):
        steps.append(f"this is a submodule: cd {quoted(str(here['superproject']))}")
        return "; or ".join([*steps, "hemma init   (here, with a root of its own)"])
    steps.append(f"cd into a clone of {quoted(str(there.get('origin') or there.get('path')))}")
    steps.append(f"if this repository has a clone of its own there: hemma init --force --host {named} --root PATH")
    return "; or ".join(steps)


def _readable(here: dict[str, Any], host: str) -> str:
    if here.get("said"):
        return f"git -C {quoted(str(here.get('path')))} status"
    return f"hemma run -H {quoted(host)} -- git status"


def _described(clone: dict[str, Any]) -> str:
    """A clone in a few words: its origin, and the beginning of its first commit."""
    parts = [f"origin {clone['origin']}" if clone.get("origin") else "no origin"]
    roots = clone.get("roots")
    if isinstance(roots, list) and roots:
        parts.append(f"first commit {str(roots[0])[:10]}")
    elif not clone.get("said"):
        parts.append("shallow" if clone.get("is_shallow") else "no commit yet")
    if clone.get("superproject"):
        parts.append(f"submodule of {clone['superproject']}")
    return ", ".join(parts)


def _plain(value: object) -> str:
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(value))


def _table(value: object) -> dict[str, Any]:
    return {str(key): entry for key, entry in value.items()} if isinstance(value, dict) else {}
