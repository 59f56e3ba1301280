"""The queue of proposals: one file each, with the user (the state folder), never in the repository (S17-R07)."""

from __future__ import annotations

import os
import re

from manifests.commands import command, listed
from manifests.errors import HemmaError
from manifests.places import private_dir, state_dir
from manifests.runbooks import Proposal


class NoProposal(HemmaError):
    """No proposal has this id, or it is not open any more."""

    code = "no-proposal"


def queue() -> str:
    """The folder of proposals."""
    return os.path.join(state_dir(), "gotchas")


def proposals(*, every: bool = False) -> list[Proposal]:
    """Open proposals, or all of them, oldest first."""
    found = [Proposal.read(os.path.join(queue(), name)) for name in _names()]
    chosen = [proposal for proposal in found if every or proposal.status == "open"]
    return sorted(chosen, key=lambda proposal: (proposal.created, proposal.id))


def _names() -> list[str]:
    try:
        return sorted(name for name in os.listdir(queue()) if name.endswith(".json"))
    except FileNotFoundError:
        return []


def find(name: str) -> Proposal | None:
    """The proposal of that id, if there is one."""
    path = os.path.join(queue(), f"{name}.json")
    return Proposal.read(path) if os.path.exists(path) else None


def opened(name: str) -> Proposal:
    """The open proposal of that id, or of the only id that begins so. Raises NoProposal."""
    ids = [other.removesuffix(".json") for other in _names()] if re.fullmatch(r"[a-z0-9-]+", name) else []
    fitting = [name] if name in ids else [other for other in ids if other.startswith(name)]
    if not fitting:
        raise NoProposal(f"no proposal is called {name[:80]!r}", remedy="hemma gotcha list --all")
    if len(fitting) > 1:
        said = f"{len(fitting)} proposals begin with {name!r}"
        raise NoProposal(said, remedy=command("one of: {}", listed([*fitting[:5], *(["…"] if fitting[5:] else [])])))
    found = Proposal.read(os.path.join(queue(), f"{fitting[0]}.json"))
    if found.status != "open":
        raise NoProposal(f"{found.id} is {found.status} already", remedy="hemma gotcha list")
    return found


def write(proposal: Proposal) -> str:
    """Keep a proposal; returns its file."""
    path = os.path.join(private_dir(queue()), f"{proposal.id}.json")
    proposal.write(path)
    return path
