"""Facts of a clone, as the agent's git reader tells them, turned into what lanes.merging decides on."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable
from typing import Any, Literal

from controller.flows import lane
from lanes import notebooks
from lanes.classification import classify_path
from lanes.merging import CloneState, Dirty, Lanes, Place

Facts = dict[str, Any]


def clone_state(place: Place, facts: Facts) -> CloneState:
    """The clone behind these facts (`gitwork.state`)."""
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
        dirty=tuple(_dirty(entry, facts.get("notebooks") or {}) for entry in facts["entries"]),
        operation=facts["operation"],
        is_index_locked=facts["is_index_locked"],
        holding=tuple(run["run_id"] for run in facts["holding"]),
        reaches_origin=bool(fetched.get("is_ok", True)),
    )


def _dirty(entry: Facts, changed_notebooks: Facts) -> Dirty:
    sides = changed_notebooks.get(entry["path"])
    drift: Literal["metadata-only", "meaningful"] | None = None
    if sides:
        before, after = (base64.b64decode(sides[name]) for name in ("before_base64", "after_base64"))
        drift = "meaningful" if notebooks.compare(before, after).is_meaningful else "metadata-only"
    return Dirty(entry["path"], entry["kind"], is_staged=entry["index"] not in ".?", drift=drift)


def lanes_of(where: lane.Ground, top: str, paths: Iterable[str]) -> Lanes:
    """Who owns these paths (relative to the repository's top): by the rules that hold in the local clone."""
    prefix = os.path.relpath(os.path.realpath(top), where.base)
    owned = {
        path
        for path in paths
        if classify_path(os.path.normpath(os.path.join(prefix, path)), where.rules).owner == "host"
    }
    return Lanes(frozenset(owned))
