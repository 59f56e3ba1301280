"""What each question to a host may bring back, by the name of its verb: the agent's replies as shapes.

A field that is not named here is none: a new one comes with its shape, and tests/remote/test_fuzzed_hosts.py asks a
real agent and reads what it says through these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remote import undo_answers
from remote.agent import frames
from remote.agent.shapes import (
    CLONE,
    COMMIT,
    DIGEST,
    GUARD,
    LINE,
    PATH,
    RECORD,
    RUN_ID,
    SIZES,
    STATUS,
    TIME,
    WORD,
    both,
    either,
    encoded,
    flag,
    listed,
    mapped,
    maybe,
    number,
    pair,
    record,
    text,
    whole,
)

if TYPE_CHECKING:
    from remote.agent.shapes import Shape

# Of verbs that are not in the table, which are those of the broker itself.
OTHER = record({}, {}, is_open=True)

FACTS = record(
    {
        "run_id": RUN_ID,
        "record": maybe(RECORD),
        "status": maybe(STATUS),
        "sizes": SIZES,
        "supervisor_alive": flag,
        "command_alive": flag,
        "boot_id": text(64),
        "modified_s": number,
    },
    {"damaged": text(400)},
)
_RUNS = record({"runs": listed(FACTS)}, {"rest": whole(), "before": maybe(RUN_ID), "total_bytes": whole()})
_REMOVED = record({"removed": listed(RUN_ID), "kept": listed(text(256))}, {})

_LOOK = record(
    {"path": PATH, "kind": either("file", "folder", "missing", "other")},
    {"size": whole(), "mode": whole(0, 0o7777), "digest": maybe(DIGEST)},
)
_PART = record(
    {
        "path": PATH,
        "content_base64": encoded(11 << 20),
        "digest": maybe(DIGEST),
        "size": whole(),
        "mode": whole(0, 0o7777),
        "version": text(256),
        "is_last": flag,
    },
    {},
)
_WRITTEN = record({"path": PATH, "digest": DIGEST, "is_changed": flag, "is_new": flag, "kept": maybe(PATH)}, {})
_RECEIVED = record({"received": whole()}, {})
_PIECE = record({"content_base64": encoded(8 << 20), "offset": whole(), "size": whole()}, {})

_ENTRY = record(
    {
        "kind": either("untracked", "changed", "conflicted", "submodule"),
        "path": PATH,
        "index": text(1, "."),
        "worktree": text(1, "."),
    },
    {"from": PATH},
)
_HOW = {"kind": either("ok", "silent", "locked", "rejected", "unreachable"), "has_branch": maybe(flag), "any": flag}
_FETCH = record({"is_asked": flag}, {"is_ok": flag, "error": maybe(LINE), **_HOW})
_FETCH_FAILED = record({"is_asked": flag, "is_ok": flag, "error": LINE, **_HOW}, {})
_LOST = record(
    {
        **dict.fromkeys(("commits", "own"), listed(COMMIT)),
        **dict.fromkeys(("shown", "made_by"), listed(LINE, 10)),
        "own_has_merges": flag,
        "changes": listed(PATH),
        "pushed_here_by": maybe(LINE),
    },
    {},
)
_GONE = record(
    {"last": maybe(COMMIT), "alone": listed(COMMIT), "shown": listed(LINE, 10), "elsewhere": maybe(PATH)}, {}
)
_FOLLOWED = record(
    {
        "failed": maybe(either("moved", "kept", "in-the-way", "tree", "pick")),
        "backups": listed(PATH, 10),
        "stopped": maybe(COMMIT),
        "said": LINE,
    },
    {"paths": listed(PATH)},
)
_SIDES = record({"before_base64": encoded(8 << 20), "after_base64": encoded(8 << 20)}, {})
_HOLDING = record({"run_id": RUN_ID, "command": text(1 << 22), "created_at": maybe(TIME)}, {})
_STATE = record(
    {
        "guard": GUARD,
        "root": PATH,
        "fetch": _FETCH,
        "origin_url": maybe(PATH),
        "operation": maybe(text(40)),
        **dict.fromkeys(("is_index_locked", "is_shallow", "is_sparse", "has_submodules", "uses_lfs"), flag),
        **dict.fromkeys(("is_unborn", "is_readable"), flag),
        "head": maybe(COMMIT),
        "branch": maybe(PATH),
        "upstream": maybe(PATH),
        "stash_count": whole(),
        "entry_count": whole(),
        "entries": listed(_ENTRY),
        "conflicted": listed(PATH),
        "origin_head": maybe(COMMIT),
        "remote": PATH,
        "push_remote": maybe(PATH),
        "push_key": maybe(PATH),
        "counts": mapped(maybe(pair(whole()))),
        "holding": listed(_HOLDING),
    },
    {
        "unpushed": listed(COMMIT),
        "unpulled": listed(COMMIT),
        **dict.fromkeys(("unpushed_count", "unpulled_count"), maybe(whole())),
        "incoming": listed(PATH),
        "outgoing": listed(PATH),
        "notebooks": mapped(_SIDES),
        "unreadable": LINE,
        "backups": undo_answers.SUMMARY,
        "tracking": PATH,
        "origin_before": maybe(COMMIT),
        "lost": maybe(_LOST),
        "gone": maybe(_GONE),
    },
)
_NO_CLONE = record({"guard": GUARD}, {})
_RESULT = record(
    {
        "argv": listed(text(WORD)),
        "code": whole(-255, 255),
        "stdout": text(frames.MAX_ANSWER),
        "stderr": text(frames.MAX_ANSWER),
    },
    {"in_the_way": listed(PATH), "in_the_way_count": whole()},
)
_STEPS = record({"results": listed(_RESULT), "stopped_at": maybe(whole())}, {"guard": GUARD, "is_partial": flag})

_ERROR = record({"error": LINE}, {})
_DISK = record(
    {"path": PATH, "free_bytes": whole(), "total_bytes": whole()},
    dict.fromkeys(("free_inodes", "total_inodes"), maybe(whole())),
)
_PROGRAM = record({"path": maybe(PATH), "version": maybe(LINE)}, {})
_PLACE = record({"path": PATH, "writable": flag, "reason": maybe(LINE)}, {})
_GPU = record({"name": LINE, "memory_mib": maybe(whole()), "driver": LINE}, {})
_TREE = record(
    {"path": PATH, "exists": flag, "is_git": flag, "toplevel": maybe(PATH), "is_toplevel": flag},
    {
        "head": maybe(COMMIT),
        "branch": maybe(PATH),
        "detached": flag,
        "dirty": record({}, {"error": LINE, "count": whole(), "first": listed(PATH, 100)}),
    },
)


def _or(one: Shape, other: Shape, mark: str) -> Shape:
    """`one` where the object has the name `mark`, else `other`."""

    def check(value: object) -> None:
        (one if isinstance(value, dict) and mark in value else other)(value)

    return check


def _part(shape: Shape) -> Shape:
    """A part of the probe: its facts, or why they could not be had."""
    return _or(_ERROR, shape, "error")


_PROBE = record(
    {
        "host": _part(
            record(
                {"hostname": LINE, "user": LINE, "system": LINE, "boot_id": text(64)},
                {"load": listed(number, 3), "processors": maybe(whole())},
            )
        ),
        "python": _part(record({"version": text(64), "path": PATH}, {})),
        "git": _part(_PROGRAM),
        "bash": _part(_PROGRAM),
        "root_disk": _part(_DISK),
        "state_disk": _part(_DISK),
        "home": _part(_PLACE),
        "state": _part(_PLACE),
        "gpus": _part(record({"tool": maybe(PATH), "gpus": listed(_GPU, 1024)}, {})),
        "memory": _part(record({"total_bytes": whole(), "cgroup_limit_bytes": maybe(whole())}, {})),
        "logind": _part(record({"systemd": flag, "kill_user_processes": flag, "linger": flag}, {"user": LINE})),
        "repository": maybe(_part(_TREE)),
        "clock": record({"host_time_s": number, "client_time_s": number}, {}),
    },
    {},
)

_TOLD = record({"relation": text(32), "there": CLONE}, {})

# What a reply may be, whatever was asked in particular.
SHAPES: dict[str, Shape] = {
    "probe": _PROBE,
    "list": _RUNS,
    "show": FACTS,
    "remove": _REMOVED,
    "kill": record({"signalled": flag}, {}),
    "git-state": _or(_STATE, _NO_CLONE, "root"),
    "git-steps": _STEPS,
    "undo": _or(undo_answers.UNDONE, _NO_CLONE, "root"),
    "backup": _or(undo_answers.MADE, _NO_CLONE, "ref"),
    "git-follow": _or(_FOLLOWED, _NO_CLONE, "failed"),
    "file-read": _PART,
    "file-write": _WRITTEN,
    "run-files": record({"run_id": RUN_ID, "folder": PATH, "files": mapped(maybe(_PIECE), 1000)}, {}),
    "values-missing": record({"missing": listed(text(80)), "folder": PATH}, {"exist": mapped(flag)}),
    "value-put": record({"path": PATH}, {}),
}


def shape_of(request: dict[str, Any]) -> Shape:
    """What the reply to this request is to look like: nothing that was asked for is missing, nothing else is there."""
    shape = _shape_of(request)
    return _beside_clone(shape) if request.get("clone") else shape


def _beside_clone(shape: Shape) -> Shape:
    """A reply of this shape, and beside it how the clone there is related, where that is not simply the same."""

    def check(value: object) -> None:
        if isinstance(value, dict) and "relation" in value:
            told = {str(name): each for name, each in value.items()}
            _TOLD({"relation": told.pop("relation"), "there": told.pop("there", None)})
            value = told
        shape(value)

    return check


def _shape_of(request: dict[str, Any]) -> Shape:
    verb = str(request.get("verb"))
    if verb == "file-read" and request.get("facts_only"):
        return _LOOK
    if verb == "file-write" and not request.get("is_last", True):
        return _RECEIVED
    if verb == "run-files":
        files = record(dict.fromkeys(request["paths"], maybe(_PIECE)), {})
        return record({"run_id": RUN_ID, "folder": PATH, "files": files}, {})
    if verb == "values-missing":
        asked = {"exist": record(dict.fromkeys(request["paths"], flag), {})} if "paths" in request else {}
        return record({"missing": listed(either(*request["names"])), "folder": PATH, **asked}, {})
    if verb == "undo" and request.get("action") == "list":
        return _or(undo_answers.LISTED, _NO_CLONE, "root")
    if verb == "git-state":
        return _or(both(_STATE, _state_asked(request)), _NO_CLONE, "root")
    return SHAPES.get(verb, OTHER)


def _state_asked(request: dict[str, Any]) -> Shape:
    needed: dict[str, Shape] = {"counts": record(dict.fromkeys(request.get("know") or (), maybe(pair(whole()))), {})}
    if request.get("notebooks"):
        needed["notebooks"] = mapped(_SIDES)
    if request.get("backups"):
        needed["backups"] = undo_answers.SUMMARY
    if request.get("fetch"):
        needed["fetch"] = _fetched
    return record(needed, {}, is_open=True)


def _fetched(value: object) -> None:
    """Whether origin was reached; if not, there is a word about it."""
    is_ok = isinstance(value, dict) and value.get("is_ok") is True
    (_FETCH if is_ok else _FETCH_FAILED)(value)
