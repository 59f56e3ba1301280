"""Facts of a clone, as the agent's git reader tells them, turned into what lanes.merging decides on."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Mapping
from typing import Any

from controller.flows import lane
from lanes.classification import NO_FACTS, Owner, classify_path
from lanes.classification import Facts as PathFacts
from lanes.drift import Drift, drift_of
from lanes.merging import CloneState, Dirty, Place
from manifests.settings import NotebookSettings

Facts = dict[str, Any]


def clone_state(place: Place, facts: Facts, meant: NotebookSettings) -> CloneState:
    """The clone behind these facts (`gitwork.state`); `meant` is what the repository says of notebooks' metadata."""
    fetched = facts["fetch"]
    return CloneState(
        place=place,
        head=facts["head"],
        branch=facts["branch"],
        origin_head=facts["origin_head"],
        ahead=len(facts.get("unpushed") or ()),
        behind=len(facts.get("unpulled") or ()),
        incoming=tuple(facts.get("incoming") or ()),
        outgoing=tuple(facts.get("outgoing") or ()),
        dirty=tuple(_dirty(entry, facts.get("notebooks") or {}, meant) for entry in facts["entries"]),
        operation=facts["operation"],
        is_index_locked=facts["is_index_locked"],
        holding=tuple(run["run_id"] for run in facts["holding"]),
        reaches_origin=bool(fetched.get("is_ok", True)),
    )


def _dirty(entry: Facts, changed_notebooks: Facts, meant: NotebookSettings) -> Dirty:
    sides = changed_notebooks.get(entry["path"])
    drift: Drift | None = None
    if sides:
        before, after = (base64.b64decode(sides[name]) for name in ("before_base64", "after_base64"))
        drift = drift_of(before, after, meant)
    return Dirty(entry["path"], entry["kind"], is_staged=entry["index"] not in ".?", drift=drift)


def owners(where: lane.Ground, top: str, paths: Iterable[str], facts: Mapping[str, PathFacts]) -> dict[str, Owner]:
    """Who owns each of `paths` (relative to the repository's top), by the rules that hold in the local clone.

    `facts` is what notebooks say of themselves, in the version that is under way.
    """
    prefix = os.path.relpath(os.path.realpath(top), where.base)
    named = {path: os.path.normpath(os.path.join(prefix, path)) for path in paths}
    return {path: classify_path(name, where.rules, facts.get(path, NO_FACTS)).owner for path, name in named.items()}
