"""What the `undo` and `backup` requests may bring back: the agent's replies as shapes, see `remote.answers`."""

from __future__ import annotations

from remote.agent.shapes import (
    COMMIT,
    GUARD,
    LINE,
    PATH,
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

_REF = text(256, r"refs/hemma/backup/[0-9A-Za-z.\-]+")
_LEFT_OUT = record({"path": PATH, "why": LINE}, {})
_BACKUP = {
    "ref": _REF,
    "commit": COMMIT,
    "at": number,
    "reason": LINE,
    "run_id": maybe(text(256)),
    "files": whole(),
    "copied_bytes": whole(),
    "left_out": whole(),
}
_RESTORED = record(
    {
        "ref": _REF,
        "saved": maybe(_REF),
        "head": maybe(pair(PATH)),
        "refs": listed(record({"name": PATH, "before": maybe(PATH), "after": maybe(PATH)}, {})),
        "stashes": maybe(pair(whole())),
        **dict.fromkeys(("is_index_changed", "is_empty"), flag),
        **dict.fromkeys(("files", "removed", "beside", "kept"), listed(PATH)),
        "moved": listed(record({"path": PATH, "to": PATH}, {})),
        "missing": listed(_LEFT_OUT),
        "counts": mapped(whole()),
    },
    {},
)
LISTED = record(
    {
        "guard": GUARD,
        "root": PATH,
        "backups": listed(record({**_BACKUP, "changes": maybe(_RESTORED)}, {"problem": LINE})),
        "of_earlier": listed(PATH),
    },
    {},
)
UNDONE = record({"guard": GUARD, "root": PATH, "restored": maybe(_RESTORED)}, {"backup": record(_BACKUP, {})})
MADE = record({"guard": GUARD, "ref": _REF, "is_new": flag, "left_out": listed(_LEFT_OUT)}, {})
SUMMARY = record({"count": whole(), "newest_at": maybe(number), "oldest_at": maybe(number), "disk_bytes": whole()}, {})
