"""`hemma undo` on the machine of the clone: everything, or chosen files, as a backup has them.

What is there now is backed up first, so an undo can be undone. Nothing is deleted that this backup does not hold: what stands
in the way of a file is moved aside, and files and refs made since are left alone. Killed half way it leaves a mix of both
states that another undo completes, to either side.
"""

from __future__ import annotations

import os
from typing import NamedTuple, Sequence

from . import backup_state, backups, frames, gitwork, restore_plan, restore_work, snapshot, store
from .backup_clone import Clone
from .restore_plan import Plan
from .snapshot_content import LeftOut

# What `hemma undo` without a name never goes back to: it would go to and fro.
REASON = "before undo"


class Restored(NamedTuple):
    """What a restore changed, or would change. Paths and refs as text, see `frames.text_of`."""

    ref: str
    saved: str | None  # the backup of what was there before
    head: tuple[str, str] | None
    refs: list[tuple[str, str | None, str | None]]
    stashes: tuple[int, int] | None
    is_index_changed: bool
    files: list[str]
    removed: list[str]
    beside: list[str]
    moved: list[tuple[str, str]]
    kept: list[str]
    missing: list[LeftOut]

    def is_empty(self) -> bool:
        """Whether nothing had to change."""
        changed = (self.head, self.refs, self.stashes, self.files, self.removed, self.beside, self.moved)
        return not any(changed) and not self.is_index_changed


def restore(root: str, ref: str, paths: Sequence[str] | None = None, *, dry_run: bool = False) -> Restored:
    """Put the clone at `root`, or only these paths of it, back to the backup `ref`.

    Raises store.Refused: no-such-backup, no-such-path, git-busy, or git's words; then nothing was changed, unless it says so.
    """
    clone = Clone.at(root)
    if clone is None:
        raise store.Refused("not-a-repository", "%s is no git repository" % root, "cd into one", 2)
    found = backups.listed(clone)
    name = backups.find(found, ref).ref
    if dry_run:
        return _planned(clone, name, found, paths, None)
    with gitwork.locked(os.fsdecode(clone.root)):
        backup_state.refuse_if_locked(clone)
        at_risk = _at_risk(clone, name, found, paths)
        saved = snapshot.take(os.fsdecode(clone.root), reason=REASON, extra=at_risk)
        assert saved is not None
        return _planned(clone, name, found, paths, saved)


def _at_risk(clone: Clone, name: str, found: list[backups.Backup], paths: Sequence[str] | None) -> list[str]:
    """Files that the restore would write over or remove and that git does not track: ignored ones are kept by nothing else."""
    plan = _plan_only(clone, name, found, paths)
    tracked = set(clone.run("ls-files", "-z").split(b"\0"))
    touched = [*plan.files, *plan.stored, *plan.removed, *plan.checkout]
    there = [path for path in touched if path not in tracked and os.path.lexists(clone.place(path))]
    return [frames.text_of(path) for path in there if not os.path.isdir(clone.place(path))]


def _plan_only(clone: Clone, name: str, found: list[backups.Backup], paths: Sequence[str] | None) -> Plan:
    place = clone.own(b"plan.%d" % os.getpid())
    try:
        return _plan(clone, name, found, paths, place)
    finally:
        _remove_index(place)


def _remove_index(place: bytes) -> None:
    for path in (place, place + b".lock"):
        if os.path.lexists(path):
            os.unlink(path)


def _plan(clone: Clone, name: str, found: list[backups.Backup], paths: Sequence[str] | None, place: bytes) -> Plan:
    seen = backup_state.look(clone, {}, [])
    names = [each.ref for each in found]
    later = [backups.read(clone, each) for each in reversed(names[: names.index(name)])] if name in names else []
    held = backups.read(clone, name)
    store.make_private(os.fsdecode(os.path.dirname(place)))
    restore_plan.build_index(clone, held, place)
    plan = restore_plan.make(clone, held, place, seen, later)
    return plan if paths is None else restore_plan.narrowed(plan, _relative(paths), place, clone)


def _relative(paths: Sequence[str]) -> list[bytes]:
    found: list[bytes] = []
    for path in paths:
        plain = os.path.normpath(frames.bytes_of(path))
        if plain.startswith((b"/", b"../")) or plain == b"..":
            raise store.Refused("usage", "%s is not inside the repository" % path, "hemma undo --list", 2)
        found.append(b"" if plain == b"." else plain)
    return found


def _planned(
    clone: Clone,
    name: str,
    found: list[backups.Backup],
    paths: Sequence[str] | None,
    saved: snapshot.Snapshot | None,
) -> Restored:
    """Plan, and with `saved` also do it: the plan is made anew after the present was kept, of exactly what is kept."""
    place = clone.own(b"restored.%d" % os.getpid())
    try:
        plan = _plan(clone, name, found, paths, place)
        moved: list[tuple[str, str]] = []
        missing: list[tuple[bytes, str]] = list(plan.missing)
        if saved is not None and not plan.is_empty():
            worker = restore_work.Worker(clone, plan, {frames.bytes_of(each.path) for each in saved.left_out}, place)
            worker.work(is_whole=paths is None)
            moved, missing = worker.moved, missing + worker.missing
        return _told(plan, name, saved.ref if saved else None, moved, missing)
    finally:
        _remove_index(place)


def _told(
    plan: Plan, name: str, saved: str | None, moved: list[tuple[str, str]], missing: list[tuple[bytes, str]]
) -> Restored:
    text = frames.text_of

    def shown(head: backup_state.Head) -> str:
        return text(head.ref) if head.ref else (head.commit or b"none").decode()

    def target(ref: backup_state.Ref | None) -> str | None:
        return None if ref is None else text(ref.target) or ref.oid.decode()

    written = sorted({*plan.checkout, *plan.files, *plan.stored})
    return Restored(
        name,
        saved,
        (shown(plan.head[0]), shown(plan.head[1])) if plan.head else None,
        [(text(change.name), target(change.before), target(change.after)) for change in plan.refs],
        (len(plan.stash[0]), len(plan.stash[1])) if plan.stash else None,
        plan.is_index_changed,
        [text(path) for path in written],
        [text(path) for path in plan.removed],
        [text(path.partition(b"/")[2]) for path in plan.beside],
        moved,
        [text(path) for path in plan.kept],
        [LeftOut(text(path), why) for path, why in missing],
    )
