"""Facts of a clone, as the agent's git reader tells them, turned into what lanes.merging decides on.

`hemma status` comes through here and is to answer at once: what reads notebooks is loaded when one has changed.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Literal

from lanes.clone_state import CloneState, Dirty, Gone, Lost, Place

Facts = dict[str, Any]
# [tool.hemma.notebooks] as plain data (manifests.settings.NotebookSettings): what was meant.
Meant = Mapping[str, Any]
NOTHING_SAID: Meant = {}


def clone_state(place: Place, facts: Facts, meant: Meant) -> CloneState:
    """The clone behind these facts (`gitwork.state`); `meant` is what the repository says of notebooks' metadata."""
    fetched = facts["fetch"]
    return CloneState(
        place=place,
        head=facts["head"],
        branch=facts["branch"],
        origin_head=facts["origin_head"],
        ahead=facts.get("unpushed_count") or len(facts.get("unpushed") or ()),
        behind=facts.get("unpulled_count") or len(facts.get("unpulled") or ()),
        incoming=tuple(facts.get("incoming") or ()),
        outgoing=tuple(facts.get("outgoing") or ()),
        dirty=tuple(_dirty(entry, facts.get("notebooks") or {}, meant) for entry in facts["entries"]),
        unlisted=max(0, int(facts.get("entry_count") or 0) - len(facts["entries"])),
        operation=facts["operation"],
        is_index_locked=facts["is_index_locked"],
        holding=tuple(run["run_id"] for run in facts["holding"]),
        reaches_origin=bool(fetched.get("is_ok", True)),
        remote=facts["remote"],
        push_remote=facts["push_remote"],
        push_key=facts["push_key"] or "",
        origin_url=facts["origin_url"] or "",
        lost=_lost(facts.get("lost")),
        gone=_gone(facts.get("gone")),
    )


def _lost(said: Facts | None) -> Lost | None:
    if said is None:
        return None
    return Lost(
        count=len(said["commits"]),
        shown=tuple(said["shown"]),
        own=tuple(said["own"]),
        own_has_merges=said["own_has_merges"],
        changes=tuple(said["changes"]),
        made_by=tuple(said["made_by"]),
        pushed_by=said["pushed_here_by"],
    )


def _gone(said: Facts | None) -> Gone | None:
    if said is None:
        return None
    return Gone(said["last"], len(said["alone"]), tuple(said["shown"]), said["elsewhere"])


def _dirty(entry: Facts, changed_notebooks: Facts, meant: Meant) -> Dirty:
    sides = changed_notebooks.get(entry["path"])
    drift = _drift(sides, meant) if sides else None
    return Dirty(entry["path"], entry["kind"], is_staged=entry["index"] not in ".?", drift=drift)


def _drift(sides: Facts, meant: Meant) -> Literal["metadata-only", "meaningful"]:
    from lanes.drift import drift_of
    from manifests.settings import NotebookSettings

    before, after = (base64.b64decode(sides[name]) for name in ("before_base64", "after_base64"))
    return drift_of(before, after, NotebookSettings.model_validate(meant))
