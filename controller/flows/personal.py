"""The personal memory: facts of one person and of their hosts, one per file in the state folder, used in every repository.

It lies where `hemma gotcha` puts what is about one host or one person (S17-R03). What it knows becomes a default where the
manifest and the settings say nothing (S17-R12); what is broken in it is told by `hemma doctor` and otherwise passed over.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lanes import interview as rules
from manifests.commands import command
from manifests.errors import HemmaError
from manifests.personal import PersonalFact
from manifests.places import private_dir, state_dir

if TYPE_CHECKING:
    from manifests.train import TrainManifest

ORIGIN = "personal memory"
SPACE = "trackio_space_id"
_OF_HOST = frozenset({question.key for question in rules.QUESTIONS if question.about == "host"} | {"repositories"})


@dataclass(frozen=True)
class Memory:
    """The facts as read, and what of them could not be, in words."""

    facts: tuple[PersonalFact, ...]
    problems: tuple[str, ...] = ()

    def value(self, key: str, host: str | None = None) -> str | None:
        """What is known, of this host where it is a fact of hosts; None when nothing is."""
        wanted = host if key in _OF_HOST else None
        return next((fact.value for fact in self.facts if (fact.key, fact.host) == (key, wanted)), None)


def folder() -> str:
    """Where the facts lie."""
    return os.path.join(state_dir(), "memory")


def place(key: str, host: str | None = None) -> str:
    """The one file of a fact: the same fact always has the same, so that none is there twice."""
    if key not in _OF_HOST or host is None:
        return os.path.join(folder(), f"{key}.json")
    digest = hashlib.sha256(host.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    name = re.sub(r"[^A-Za-z0-9-]", "_", host)[:40]
    return os.path.join(folder(), f"{key}-of-{name}-{digest}.json")


def read() -> Memory:
    """Every fact. One that is broken, or that no interview would take, is a problem instead; never raises for it."""
    try:
        names = sorted(name for name in os.listdir(folder()) if name.endswith(".json"))
    except OSError:
        return Memory(())
    facts: list[PersonalFact] = []
    problems: list[str] = []
    for name in names:
        path = os.path.join(folder(), name)
        try:
            fact = PersonalFact.read(path)
            _demand(fact)
        except HemmaError as error:
            problems.append(error.message)
        except rules.Refused as refused:
            problems.append(f"{path}: its value {refused.rule}")
        else:
            facts.append(fact)
    return Memory(tuple(facts), tuple(problems))


def _demand(fact: PersonalFact) -> None:
    if fact.key not in (*rules.KEYS, "repositories"):
        raise rules.Refused(f"stands under the unknown key {fact.key}", "")
    # A profile may be gone since; everything else is judged as when it was answered.
    rules.accepted(fact.key, fact.value, platforms=[fact.value])


def keep(key: str, value: str, host: str | None, today: dt.date) -> str | None:
    """Write a fact, or with an empty value forget it; returns what changed in words, None when nothing did.

    Raises HemmaError, code `file-unwritable`.
    """
    of_host = host if key in _OF_HOST else None
    if key in _OF_HOST and host is None:
        return None
    path = place(key, of_host)
    try:
        old = PersonalFact.read(path).value
    except HemmaError:
        old = None
    whose = f" of {of_host}" if of_host else ""
    if old == value or (not value and not os.path.lexists(path)):
        return None
    try:
        if not value:
            os.unlink(path)
            return f"{key}{whose} forgotten"
        private_dir(folder())
    except OSError as error:
        raise HemmaError(
            f"{path} cannot be written: {error.strerror}", remedy=command("ls -ld {}", folder()), code="file-unwritable"
        ) from error
    PersonalFact(key=key, value=value, host=of_host, day=today).write(path)
    return f"{key}{whose} = {value}"


# --- what later commands take from it --------------------------------------------------------------------------------


def usual(host: str | None) -> dict[str, Any]:
    """Defaults on this host by the names of what takes them: a request's resources and arguments, and `prune` (S17-R12)."""
    memory = read()
    found: dict[str, Any] = {}
    plan, tracker, disk = (memory.value(key, host) for key in ("gpu", "tracker", "disk_gb"))
    if plan:
        parsed = rules.gpu_plan(plan)
        found["train.resources.gpu"] = parsed.gpu
        if parsed.max_hours is not None:
            found["train.resources.max_gpu_hours"] = parsed.max_hours
    if tracker and "/" in tracker:
        found[f"train.arguments.{SPACE}"] = tracker
    if disk:
        found["prune.size_gb"] = rules.gigabytes(disk)
    return found


def kept_bytes(host: str) -> int | None:
    """The disk budget for the runs of this host, in bytes; None where none is known."""
    gigabytes = usual(host).get("prune.size_gb")
    return None if gigabytes is None else int(gigabytes * (1 << 30))


def config_rows(host: str) -> dict[str, dict[str, Any]]:
    """The same as rows of `hemma config`."""
    return {key: {"value": value, "from": ORIGIN} for key, value in usual(host).items()}


def completed(manifest: TrainManifest, host: str) -> tuple[TrainManifest, dict[str, Any]]:
    """The manifest with the usual values where it says nothing itself, and those that were taken (S17-R12)."""
    known = usual(host)
    resources = _unsaid(known, "train.resources.", manifest.resources.model_fields_set)
    arguments = _unsaid(known, "train.arguments.", manifest.arguments)
    changed = manifest.model_copy(
        update={
            "resources": manifest.resources.model_copy(update=resources),
            "arguments": {**manifest.arguments, **arguments},
        }
    )
    taken = {f"resources.{name}": value for name, value in resources.items()}
    return changed, {**taken, **{f"arguments.{name}": value for name, value in arguments.items()}}


def _unsaid(known: Mapping[str, Any], prefix: str, said: Any) -> dict[str, Any]:
    named = {key.removeprefix(prefix): value for key, value in known.items() if key.startswith(prefix)}
    return {name: value for name, value in named.items() if name not in said}
