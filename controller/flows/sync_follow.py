"""The step of a sync that moves a branch to where origin was moved: what the clone answered, in words for a person."""

from __future__ import annotations

from typing import Any

from manifests.commands import Command, command
from manifests.errors import HemmaError, MergeConflict, NeedsPerson, RepositoryError
from remote.repository import Repository

Facts = dict[str, Any]


def follow(repository: Repository, place: str, facts: Facts) -> list[str]:
    """Move the clone's branch to what origin has, its own commits picked on top; returns the backup refs.

    Raises NeedsPerson when somebody commits there meanwhile or files are in the way, MergeConflict when one of the own
    commits has a conflict, RepositoryError with git's words. Only MergeConflict leaves anything changed.
    """
    done = repository.follow(
        branch=facts["branch"],
        to=facts["origin_head"],
        own=facts["lost"]["own"],
        **{"from": facts["head"]},
    )
    if done["failed"]:
        raise _not_done(place, done)
    if done["stopped"]:
        run = Command("hemma run -- git" if place == "host" else "git")
        commit, backup = done["stopped"][:9], done["backups"][0]
        raise MergeConflict(
            f"{place}: the branch follows origin now, and your commit {commit} conflicts with what is there; "
            f"all is kept under {backup}",
            remedy=command("resolve it, {} add FILE, {} cherry-pick --continue, then hemma sync", run, run),
        )
    return list(done["backups"])


def _not_done(place: str, done: Facts) -> HemmaError:
    said = done["said"].splitlines()
    words = next((line for line in said if line.startswith(("error: ", "fatal: "))), said[0] if said else "git failed")
    if done["failed"] == "moved":
        return NeedsPerson(f"{place}: somebody commits or switches branches there right now", remedy="hemma sync")
    if done["failed"] == "in-the-way":
        paths = done["paths"]
        names = ", ".join(paths[:8]) + (f" and {len(paths) - 8} more" if len(paths) > 8 else "")
        move = "hemma run -- mv" if place == "host" else "mv"
        return NeedsPerson(
            f"{place}: files that git does not track there would be overwritten: {names}; nothing was moved",
            remedy=command("{} FILE ELSEWHERE, then hemma sync", Command(move)),
            code="untracked-in-the-way",
        )
    what = {"kept": "keep a backup", "tree": "go along with origin", "pick": "pick your own commits anew"}[
        done["failed"]
    ]
    return RepositoryError(f"{place}: {what}: {words}; nothing was moved", remedy="hemma status")
