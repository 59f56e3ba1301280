"""Where a surprise belongs: the bar for the catalogue, and the place (S17-R01..R03).

The catalogue takes only what is root-caused, or reproduced, or clearly mechanistic, and holds elsewhere too. The rest is a
note of the project or a fact of one's own; a surprising failure alone is a guess.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from manifests.runbooks import About, Basis

from lanes.failure_codes import CODES, UNRECOGNISED

Place = Literal["memory", "note", "project", "profile", "training", "universal"]
PLACES: tuple[Place, ...] = get_args(Place)
CATALOGUE: frozenset[Place] = frozenset({"profile", "training", "universal"})
# Seen so often in one project, it is worth a line in the file that its agents read.
RECURS_AT = 2
_BY_CATEGORY: Mapping[str, About] = {
    "wrong_trainer_arg": "training",
    "dataset_schema_mismatch": "training",
    "divergence_nan": "training",
    "auth_token": "host",
    "unknown": "project",
}
_BY_CODE: Mapping[str, About] = {"cuda-oom": "training", "kv-cache": "training", "eval-without-data": "training",
                                 "disk-full": "host", "gpu-fault": "host", "gpu-busy": "host", "data-missing": "project"}  # fmt: skip


# What is more than these is no entry any more, but a page, or several entries.
MOST_LETTERS, MOST_SOURCES = 800, 8
_LISTED = re.compile(r"^\s*(?:[-*#]|\d+[.)])\s", re.MULTILINE)


@dataclass(frozen=True)
class Candidate:
    """What is known of a failure. `about`: whose it is; `seen`: how often the same was proposed here."""

    about: About
    symptom: str = ""
    cause: str = ""
    fix: str = ""
    sources: tuple[str, ...] = ()
    basis: Basis | None = None
    general: bool = False
    platform: str | None = None
    seen: int = 1


@dataclass(frozen=True)
class Route:
    """The place, why, and what the candidate lacks to be written there."""

    place: Place
    reasons: tuple[str, ...]
    missing: tuple[str, ...] = ()


def about(code: str) -> About:
    """Whose a failure with this code most likely is; the person who proposes may say otherwise."""
    if code in _BY_CODE:
        return _BY_CODE[code]
    known = CODES.get(code)
    return "project" if known is None or code == UNRECOGNISED else _BY_CATEGORY.get(known.category, "universal")


def route(candidate: Candidate) -> Route:
    """The place for a candidate. A fact of a host goes to its owner's memory; what fails the bar never to the catalogue."""
    if candidate.about == "host":
        return Route("memory", ("it is about one host or one person",), _needs(candidate, ("symptom", "fix")))
    if candidate.about == "project":
        return _of_project(candidate, "it is about this project")
    below = _below_the_bar(candidate)
    if below:
        return _of_project(candidate, *below)
    wanted = _needs(candidate, ("symptom", "cause", "fix", "sources"))
    if candidate.about == "platform":
        missing = wanted if candidate.platform else (*wanted, "platform")
        return Route("profile", ("it passes the bar and is about a platform",), missing)
    place: Place = "training" if candidate.about == "training" else "universal"
    return Route(place, ("it passes the bar and holds elsewhere too",), wanted)


def larger_than_an_entry(texts: Mapping[str, str], sources: int) -> str:
    """Why what is proposed is more than one entry (symptom, cause, fix), or an empty text (S17-R08)."""
    for name, text in texts.items():
        if len(text) > MOST_LETTERS:
            return f"its {name} has {len(text)} letters; an entry says it in {MOST_LETTERS}"
        if re.search(r"\S\s*\n\s*\n\s*\S", text) or len(_LISTED.findall(text)) > 1:
            return f"its {name} has several paragraphs or points"
    return f"it has {sources} sources; an entry needs few" if sources > MOST_SOURCES else ""


def _of_project(candidate: Candidate, *reasons: str) -> Route:
    if candidate.seen >= RECURS_AT or not reasons[0].startswith("not"):
        again = (f"it was seen {candidate.seen} times",) if candidate.seen >= RECURS_AT else ()
        return Route("project", (*reasons, *again), _needs(candidate, ("symptom", "fix")))
    return Route("note", reasons, _needs(candidate, ("symptom",)))


def _below_the_bar(candidate: Candidate) -> tuple[str, ...]:
    """What keeps it out of the catalogue (S17-R01, S17-R02)."""
    lacking: list[str] = []
    if candidate.basis is None:
        lacking.append("not root-caused, reproduced or clearly mechanistic")
    elif candidate.basis == "root-caused" and not candidate.cause:
        lacking.append("not root-caused: no cause is given")
    if not candidate.general:
        lacking.append("not said to hold elsewhere")
    return tuple(lacking)


def _needs(candidate: Candidate, wanted: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in wanted if not getattr(candidate, name))
