"""Does what a plan of `hemma undo` says: refs and HEAD, files, what lies beside them, and the index last."""

from __future__ import annotations

import os
import stat
import time

from . import backup_state, backups, frames, kept_files, restore_plan, snapshot_tips, store
from .backup_clone import Clone, replace_file, stat_of
from .restore_plan import Plan

_COPIED_BACK_BYTES = 32 << 20
_INDEX_WAIT_S = 10.0
_SETTINGS_BACK = (b"branch.", b"remote.")


class Worker:
    """Does what a plan says, in an order that loses nothing wherever it is cut off."""

    def __init__(self, clone: Clone, plan: Plan, unsaved: set[bytes], index: bytes) -> None:
        self.clone = clone
        self.plan = plan
        self.unsaved = unsaved  # files of now that the backup of now does not hold
        self.index = index
        self.moved: list[tuple[str, str]] = []
        self.missing: list[tuple[bytes, str]] = []
        self.stamp = time.strftime(".before-undo-%H%M%S", time.gmtime())

    def work(self, *, is_whole: bool) -> None:
        """Refs and HEAD, files, what lies beside, and the index last: it takes its place in one rename."""
        if is_whole:
            self._bring_back_tags()
            self._move_refs()
            self._move_head()
            self._stash()
        self._check_out()
        self._write_files()
        self._remove()
        if is_whole:
            self._beside()
            self._settings()
            self._index()

    # -- refs ----------------------------------------------------------------------------------------------------

    def _bring_back_tags(self) -> None:
        """Annotated tags that git has forgotten, from their text."""
        if self.plan.held.tags is None or not any(change.name.startswith(b"refs/tags/") for change in self.plan.refs):
            return
        with backups.reading(self.clone) as objects:
            batch = objects.read(self.plan.held.tags) or b""
            wanted = {change.after.oid for change in self.plan.refs if change.after is not None}
            absent = {oid for oid in wanted if objects.read(oid) is None}
        for content, _, _ in snapshot_tips.tags_in(batch) if absent else []:
            self.clone.run("hash-object", "-t", "tag", "-w", "--stdin", given=content)

    def _move_refs(self) -> None:
        changes = self.plan.refs
        gone = [
            b"delete %s\0%s\0" % (c.name, c.before.oid) for c in changes if c.after is None and c.before is not None
        ]
        if gone:
            self._update_refs(gone)
        updates: list[bytes] = []
        for change in changes:
            if change.after is None:
                continue
            if change.after.target:
                self.clone.run("symbolic-ref", change.name, change.after.target)
                continue
            zero = b"0" * len(change.after.oid)
            # A branch may have been made a symbolic ref since: writing through it would move another one.
            before = change.before.oid if change.before is not None and not change.before.target else None
            old = zero if change.before is None else before or b""
            updates.append(b"option no-deref\0update %s\0%s\0%s\0" % (change.name, change.after.oid, old))
        if updates:
            self._update_refs(updates)

    def _update_refs(self, lines: list[bytes]) -> None:
        self.clone.run("update-ref", "-m", "hemma undo", "-z", "--stdin", given=b"".join(lines))

    def _move_head(self) -> None:
        if self.plan.head is None:
            return
        _, then = self.plan.head
        if then.ref is not None:
            self.clone.run("symbolic-ref", "-m", "hemma undo", "HEAD", then.ref)
        elif then.commit is not None:
            self.clone.run("update-ref", "-m", "hemma undo", "--no-deref", "HEAD", then.commit)

    def _stash(self) -> None:
        if self.plan.stash is None:
            return
        now, wanted = self.plan.stash
        missing = wanted[: len(wanted) - len(now)]
        if wanted[len(missing) :] != now:
            self.clone.try_run("update-ref", "-d", "refs/stash")
            missing = wanted
        for oid, said in reversed(missing):
            self.clone.run("stash", "store", "-q", "-m", said, oid)

    # -- files ---------------------------------------------------------------------------------------------------

    def _check_out(self) -> None:
        paths = [path for path in self.plan.checkout if self._clear_way(path)]
        if not paths:
            return
        # With the clone's own filters, as a checkout of git's would: these bytes are git's to give.
        given = b"".join(path + b"\0" for path in paths)
        argv = ("checkout-index", "-f", "-q", "-z", "--stdin")
        try:
            self.clone.run(*argv, given=given, index=self.index, runs_filters=True)
        except store.Refused as refused:
            self.missing.append((b"", str(refused.fields["message"])))

    def _write_files(self) -> None:
        with backups.reading(self.clone) as objects:
            for path, (mode, oid) in self.plan.files.items():
                content = objects.read(oid)
                if content is None:
                    self.missing.append((path, "git has lost its content"))
                elif self._clear_way(path):
                    self._write(path, mode, content)
        for path, each in self.plan.stored.items():
            if self._clear_way(path):
                staged = self._staged(path)
                kept_files.put_back(self.clone, each.folder, each.kept, staged, _COPIED_BACK_BYTES)
                os.replace(staged, self.clone.place(path))

    def _staged(self, path: bytes) -> bytes:
        folder = os.path.dirname(self.clone.place(path))
        os.makedirs(folder, exist_ok=True)
        staged = os.path.join(folder, b".hemma-undo-%d" % os.getpid())
        if os.path.lexists(staged):
            os.unlink(staged)
        return staged

    def _write(self, path: bytes, mode: bytes, content: bytes) -> None:
        staged = self._staged(path)
        if mode == b"120000":
            os.symlink(content, staged)
        else:
            handle = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                os.fchmod(file.fileno(), restore_plan.wanted_mode(mode, self.plan.modes.get(path)))
        os.replace(staged, self.clone.place(path))

    def _clear_way(self, path: bytes) -> bool:
        """Make `path` a place where a file can be: links and files above it and a folder at it are moved aside."""
        parts = path.split(b"/")
        for count in range(1, len(parts)):
            above = stat_of(self.clone.place(b"/".join(parts[:count])))
            if above is None:
                break
            if not stat.S_ISDIR(above.mode):
                self._move_aside(b"/".join(parts[:count]))
        place = self.clone.place(path)
        found = stat_of(place)
        if found is None:
            return True
        if stat.S_ISDIR(found.mode):
            if not _remove_empty(place):
                self._move_aside(path)
        elif path in self.unsaved:
            self._move_aside(path)
        return True

    def _move_aside(self, path: bytes) -> None:
        target = path + self.stamp.encode()
        while os.path.lexists(self.clone.place(target)):
            target += b"x"
        os.rename(self.clone.place(path), self.clone.place(target))
        self.moved.append((frames.text_of(path), frames.text_of(target)))

    def _remove(self) -> None:
        for path in self.plan.removed:
            if path in self.unsaved:
                self._move_aside(path)
            elif _is_inside(self.clone, path):
                os.unlink(self.clone.place(path))

    # -- beside the files ----------------------------------------------------------------------------------------

    def _beside(self) -> None:
        with backups.reading(self.clone) as objects:
            for name, oid in self.plan.beside.items():
                place = backup_state.place_beside(self.clone, name)
                content = objects.read(oid) if oid is not None else None
                if content is not None:
                    os.makedirs(os.path.dirname(place), exist_ok=True)
                    replace_file(place, content, 0o644)
                elif oid is None and os.path.lexists(place):
                    os.unlink(place)
        for folder in backup_state.OPERATION_FOLDERS:
            _remove_empty(os.path.join(self.clone.git_dir, folder))

    def _settings(self) -> None:
        """What a deleted branch or remote had in the clone's settings, and nothing has said anew since."""
        oid = self.plan.held.beside.get(b"common/config")
        if oid is None:
            return
        then = self.clone.try_run("config", "--blob", oid, "--list", "-z", "--no-includes")
        now = self.clone.try_run("config", "--local", "--list", "-z", "--no-includes") or b""
        known = {entry.partition(b"\n")[0] for entry in now.split(b"\0")}
        for entry in (then or b"").split(b"\0"):
            key, _, value = entry.partition(b"\n")
            if key.startswith(_SETTINGS_BACK) and key not in known:
                self.clone.try_run("config", "--local", "--add", key, value)

    def _index(self) -> None:
        record = self.plan.held.record
        hinted = record.get("intended")
        paths = [frames.bytes_of(str(path)) for path in (hinted if isinstance(hinted, list) else [])]
        there = [path for path in paths if os.path.lexists(self.clone.place(path))]
        if there:
            argv = ("--literal-pathspecs", "add", "-N", "-f", "--pathspec-from-file=-", "--pathspec-file-nul")
            self.clone.run(*argv, given=b"\0".join(there), index=self.index)
        self.clone.try_run("update-index", "-q", "--refresh", index=self.index, runs_filters=True)
        self._mark(record)
        _take_place(self.clone, self.index)

    def _mark(self, record: dict[str, object]) -> None:
        flagged = record.get("flagged")
        for letter, path in flagged if isinstance(flagged, list) else []:
            given = frames.bytes_of(str(path)) + b"\0"
            if str(letter) in ("S", "s"):
                self.clone.try_run("update-index", "--skip-worktree", "-z", "--stdin", given=given, index=self.index)
            if str(letter).islower():
                self.clone.try_run("update-index", "--assume-unchanged", "-z", "--stdin", given=given, index=self.index)


def _take_place(clone: Clone, index: bytes) -> None:
    """Make the file `index` the index, under git's own lock. Raises store.Refused when another git holds it for long."""
    lock = os.path.join(clone.git_dir, b"index.lock")
    deadline = time.monotonic() + _INDEX_WAIT_S
    while True:
        try:
            os.link(index, lock)
            break
        except FileExistsError:
            if time.monotonic() > deadline:
                said = "the files are as they were, but another git command holds the index"
                raise store.Refused("git-busy", said, "hemma undo again when it is done", 75) from None
            time.sleep(0.02)
    os.rename(lock, os.path.join(clone.git_dir, b"index"))


def _remove_empty(place: bytes) -> bool:
    """Remove a folder that holds only folders; False, with nothing changed, when there is a file in it."""
    if any(names for _, _, names in os.walk(place)) or not os.path.isdir(place):
        return False
    for folder, _, _ in os.walk(place, topdown=False):
        try:
            os.rmdir(folder)
        except OSError:
            return False
    return True


def _is_inside(clone: Clone, path: bytes) -> bool:
    """Whether no folder above this file is a link, which would lead out of the work tree."""
    parts = path.split(b"/")
    above = [stat_of(clone.place(b"/".join(parts[:count]))) for count in range(1, len(parts))]
    return all(each is not None and stat.S_ISDIR(each.mode) for each in above)
