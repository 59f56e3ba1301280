"""Is the host's root a clone of this folder's repository? How a no is said, and what is said of an unusual yes.

The agent finds the relation (remote/agent/clone.py) in the same request that it would act on; the request says which ones
it accepts (lanes.guards). A first commit that both share proves; the address of origin does where one side has no history to
compare. Loaded only where something is to be said.
"""

from __future__ import annotations

from manifests.commands import Command, command, joined
from manifests.errors import AnotherRepository

from lanes import git_failures

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
        remedy=command("name the host: -H {}   (or cd into a clone of that repository)", host),
    )


def refusal(facts: dict[str, Any]) -> AnotherRepository:
    """The refusal for guard facts with a relation that was not accepted: names both clones, and why they are two."""
    here, there = _table(facts.get("here")), _table(facts.get("there"))
    relation, host = str(facts.get("relation")), str(here.get("host") or there.get("host") or "the host")
    ours = f"{here.get('path')} ({described(here)})"
    theirs = f"{there.get('path')} on {host} ({described(there)})"
    if relation not in _WHY:
        said = here.get("said") or there.get("said") or "git could not look"
        where = "here" if here.get("said") else "on the host"
        trouble = git_failures.explain(str(said))
        return AnotherRepository(
            f"whether {theirs} is a clone of {ours} cannot be told: {where}: {trouble.cause if trouble else said}",
            remedy=_readable(here, host, trouble),
        )
    return AnotherRepository(
        f"{theirs} is another repository than {ours}: {_WHY[relation]}", remedy=_remedy(here, there, host, relation)
    )


def fork_note(host: str, here: dict[str, Any], there: dict[str, Any]) -> str:
    """What is said, once, of two clones that share their history and have different origins."""
    return (
        f"{there.get('path')} on {host} has another origin ({there.get('origin')}) than this clone "
        f"({here.get('origin')}); they share their history, so it is taken for a fork"
    )


def elsewhere_note(host: str, there: dict[str, Any]) -> str:
    """What is said of a run that was sent with -H into a clone that is not this folder's."""
    where = f"{there.get('path')} on {host} ({described(there)})"
    return f"ran in {where}: not proven to be a clone of this folder's repository"


def _remedy(here: dict[str, Any], there: dict[str, Any], host: str, relation: str) -> Command:
    steps: list[Command] = []
    if here.get("is_run"):
        steps.append(command("hemma run -H {} -- COMMAND   (there all the same)", host))
    if relation == "no-witness" and there.get("is_shallow"):
        steps.append(command("hemma run -H {} -- git fetch --unshallow", host))
    elif relation == "no-witness":
        steps.append(command("git fetch --unshallow"))
    if here.get("superproject"):
        steps.append(command("cd {}   (this is a submodule of it)", str(here["superproject"])))
    else:
        steps.append(command("cd into a clone of {}", str(there.get("origin") or there.get("path"))))
    steps.append(command("hemma init --force --host {} --root PATH   (its own clone there, if it has one)", host))
    return joined(steps, by="; or ")


def _readable(here: dict[str, Any], host: str, trouble: git_failures.GitTrouble | None) -> Command:
    if trouble is not None:
        return trouble.remedy if here.get("said") else command("hemma run -H {} --shell {}", host, str(trouble.remedy))
    if here.get("said"):
        return command("git -C {} status", str(here.get("path")))
    return command("hemma run -H {} -- git status", host)


def described(clone: dict[str, Any]) -> str:
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


def _table(value: object) -> dict[str, Any]:
    return {str(key): entry for key, entry in value.items()} if isinstance(value, dict) else {}
