"""The `undo` request: list a clone's backups, or put it back to one; the same on the host and for the laptop's own clone."""

from __future__ import annotations

import json
import os

from . import backup_state, backups, launch, restore, run_backup, snapshot, store
from .backup_clone import Clone, replace_file

_BEFORE_UNDO = restore.REASON
_UNDONE = b"undone.json"
_LOOKED_AT = 20
# A chosen file may have been lost many runs ago, while the rest of the clone moved on.
_LOOKED_AT_FOR_FILES = 100
# Names in a reply, and in one row of a list; how many there are is said besides.
_NAMED = 5000
_NAMED_IN_LIST = 100


def answer(request: dict[str, object]) -> dict[str, object]:
    """The reply: `backups`, newest first, or what was (or, with `dry_run`, would be) `restored`.

    `what` names a run or a backup, `at_s` a time (the last backup before it); neither means the newest that differs from
    the present, or the next older one after another undo: what an undo itself backed up comes back by its name only.
    `action` is list or restore. Raises store.Refused.
    """
    guard = launch.guard_facts(_text(request.get("root")), None)
    if not guard["is_toplevel"]:
        return {"guard": guard}
    root = str(guard["root"])
    clone = Clone.at(root)
    assert clone is not None
    paths = request.get("paths")
    chosen = [str(path) for path in paths] if isinstance(paths, list) and paths else None
    found = backups.listed(clone)
    if request.get("action") == "list":
        return {"guard": guard, "root": root, **_listed(root, clone, found, chosen)}
    ref = _named(request, found) or _newest_other(root, _before_now(clone, found, chosen), chosen)
    if ref is None:
        return {"guard": guard, "root": root, "restored": None}
    done = restore.restore(root, ref, chosen, dry_run=bool(request.get("dry_run")))
    if not request.get("dry_run"):
        _note_undone(clone, ref, done.saved, found, chosen)
    about = next(each for each in found if each.ref == ref)
    return {"guard": guard, "root": root, "backup": about._asdict(), "restored": restored_fields(done)}


def _before_now(clone: Clone, found: list[backups.Backup], chosen: list[str] | None) -> list[backups.Backup]:
    """The backups that an undo without a name may go back to: where the last thing that happened was an undo, not the newer ones."""
    noted = backup_state.read_notes(clone, _UNDONE)
    refs = [each.ref for each in found]
    at = 0
    if noted.get("newest") == refs[:1] and noted.get("paths") == chosen and noted.get("to") in refs:
        at = refs.index(str(noted.get("to")))
    return [each for each in found[at:] if each.reason != _BEFORE_UNDO]


def _note_undone(
    clone: Clone, ref: str, saved: str | None, found: list[backups.Backup], chosen: list[str] | None
) -> None:
    newest = max([*(each.ref for each in found[:1]), *([saved] if saved else [])])
    noted = {"to": ref, "newest": [newest], "paths": chosen}
    replace_file(clone.own(_UNDONE), json.dumps(noted).encode("ascii"))


def backup(request: dict[str, object]) -> dict[str, object]:
    """Back the clone up now, for `reason`: `backup` is its name, and whether it is a new one. Raises store.Refused.

    Where `keep_days` and `keep_gb` are said, older ones beyond them are forgotten when that is due: a laptop's clone has no runs.
    """
    guard = launch.guard_facts(_text(request.get("root")), None)
    if not guard["is_toplevel"]:
        return {"guard": guard}
    made = snapshot.take(str(guard["root"]), reason=str(request.get("reason") or "asked for"))
    assert made is not None
    if "keep_gb" in request:
        days, size = run_backup.bounds(request)
        if backups.is_prune_due(str(guard["root"]), size):
            backups.prune(str(guard["root"]), days, size)
    return {
        "guard": guard,
        "ref": made.ref,
        "is_new": made.is_new,
        "left_out": [each._asdict() for each in made.left_out],
    }


def restored_fields(done: restore.Restored, most: int = _NAMED) -> dict[str, object]:
    """What a restore did, as JSON carries it: how much of each kind, and at most so many names of it."""
    fields: dict[str, object] = {
        **done._asdict(),
        "refs": [{"name": name, "before": before, "after": after} for name, before, after in done.refs],
        "moved": [{"path": path, "to": to} for path, to in done.moved],
        "missing": [each._asdict() for each in done.missing],
        "is_empty": done.is_empty(),
    }
    lists = {name: value for name, value in fields.items() if isinstance(value, list)}
    fields.update({name: value[:most] for name, value in lists.items()})
    return dict(fields, counts={name: len(value) for name, value in lists.items()})


def _listed(root: str, clone: Clone, found: list[backups.Backup], chosen: list[str] | None) -> dict[str, object]:
    """Every backup; for the newest also what an undo to it would change."""
    rows: list[dict[str, object]] = []
    for number, each in enumerate(found):
        row: dict[str, object] = dict(each._asdict(), changes=None)
        if number < _LOOKED_AT:
            try:
                row["changes"] = restored_fields(restore.restore(root, each.ref, chosen, dry_run=True), _NAMED_IN_LIST)
            except store.Refused as refused:
                if chosen is None:
                    row["problem"] = refused.fields["message"]
                else:
                    continue
        rows.append(row)
    return {"backups": rows, "of_earlier": backups.older_kind(clone)}


def _named(request: dict[str, object], found: list[backups.Backup]) -> str | None:
    """The one backup that the request names; None when it names none. Raises store.Refused for none or several."""
    what, at_s = _text(request.get("what")), request.get("at_s")
    if isinstance(at_s, (int, float)):
        before = [each for each in found if each.at <= at_s]
        if not before:
            said = "there is no backup from before %s" % (what or "then")
            raise store.Refused("no-such-backup", said, "hemma undo --list", 2)
        return before[0].ref
    if what is None:
        return None
    refs = set(_of_runs(request, what, found))
    try:
        refs.add(backups.find(found, what).ref)
    except store.Refused as refused:
        if not refs or refused.fields["error"] == "ambiguous-backup":
            raise
    if len(refs) > 1:
        raise store.Refused("ambiguous-backup", "%r names several backups" % what, "hemma undo --list", 2)
    return refs.pop()


def _of_runs(request: dict[str, object], what: str, found: list[backups.Backup]) -> list[str]:
    """The backup from before a run of this name. Raises store.Refused when it has none, or is not there any more."""
    try:
        folder = store.find(store.runs_folder(_text(request.get("state_dir"))), what)
    except store.Refused as refused:
        if refused.fields["error"] == "ambiguous-run":
            raise
        return [each.ref for each in found if each.run_id == what]
    noted = (store.read(folder, "run.json") or {}).get("backup")
    ref = noted.get("ref") if isinstance(noted, dict) else None
    run = os.path.basename(folder)
    if ref is None:
        said = "the run %s has no backup%s" % (run, _why(noted))
        raise store.Refused("no-such-backup", said, "hemma undo --list", 2)
    if ref not in [each.ref for each in found]:
        raise store.Refused("no-such-backup", "the backup of %s is no longer kept" % run, "hemma undo --list", 2)
    return [str(ref)]


def _why(noted: object) -> str:
    why = (noted.get("error") or noted.get("skipped")) if isinstance(noted, dict) else None
    return ": %s" % why if why else ""


def _newest_other(root: str, found: list[backups.Backup], chosen: list[str] | None) -> str | None:
    """The newest backup that an undo would change anything for, None when all are as it is now.

    Raises store.Refused when none of them has the chosen files: a mistyped name is not "nothing to undo".
    """
    strange: store.Refused | None = None
    is_known = False
    most = _LOOKED_AT if chosen is None else _LOOKED_AT_FOR_FILES
    for each in found[:most]:
        try:
            if not restore.restore(root, each.ref, chosen, dry_run=True).is_empty():
                return each.ref
            is_known = True
        except store.Refused as refused:
            if refused.fields["error"] != "no-such-path":
                raise
            strange = refused
    if strange is not None and not is_known:
        named = ", ".join(repr(path) for path in chosen or ())
        said = "no backup has %s, and no run, time or backup has that name" % named
        raise store.Refused("no-such-path", said, "hemma undo --list", 2)
    if len(found) > most:
        said = "none of the newest %d backups differs from what is there now; there are %d" % (most, len(found))
        raise store.Refused("no-such-backup", said, "hemma undo --list   and name one", 2)
    return None


def _text(value: object) -> str | None:
    return str(value) if value is not None else None
