"""What a restore would change: the state of a backup against the present one. Nothing of the clone is touched here.

The index of the backup is built in a file of its own, and git compares the work tree with that.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from typing import NamedTuple

from . import backup_state, backups, frames, kept_files, store
from .backup_clone import Clone, read_bytes, stat_of
from .backup_state import Head, Ref

_WORKTREE_REF = b"branch "


class RefChange(NamedTuple):
    """A ref as it is and as it will be; None is none."""

    name: bytes
    before: Ref | None
    after: Ref | None


class FromStore(NamedTuple):
    """A file to be put back from a store beside git's objects."""

    folder: bytes
    kept: kept_files.Kept


class Plan(NamedTuple):
    """Everything a restore would do, in the order of its fields. Paths are relative to the top of the work tree."""

    held: backups.Held
    head: tuple[Head, Head] | None
    refs: list[RefChange]
    stash: tuple[list[tuple[bytes, bytes]], list[tuple[bytes, bytes]]] | None
    checkout: list[bytes]  # tracked files that git holds
    files: dict[bytes, tuple[bytes, bytes]]  # path -> (mode, object)
    modes: dict[bytes, int]
    stored: dict[bytes, FromStore]
    removed: list[bytes]
    beside: dict[bytes, bytes | None]  # operation files and settings: the object, or None for one to be removed
    kept: list[bytes]  # files made since
    missing: list[tuple[bytes, str]]
    is_index_changed: bool

    def is_empty(self) -> bool:
        """Whether the clone is already as it was."""
        work = (self.head, self.refs, self.stash, self.checkout, self.files, self.stored, self.removed, self.beside)
        return not any(work) and not self.is_index_changed


def build_index(clone: Clone, held: backups.Held, place: bytes) -> None:
    """Make the index of a backup in the file `place`, with what is known of the present files. Raises store.Refused."""
    present = os.path.join(clone.git_dir, b"index")
    # The index of a sparse checkout made since marks every file outside of it: it is no start for one without.
    setting = ("-c", "core.sparseCheckout=false") if is_sparse_since(clone, held) else ()
    if os.path.exists(present) and not setting:
        shutil.copyfile(present, place)
        _clear_flags(clone, place)
    record = held.record
    commit = head_of(record).commit
    # git has no entry for an empty tree: staged and not there means that everything was taken out of the index.
    tree = held.staged or (None if record.get("is_staged") else commit)
    if tree:
        clone.run(*setting, "read-tree", "--reset", tree.decode(), index=place)
    else:
        clone.run("read-tree", "--empty", index=place)
    unmerged = record.get("unmerged")
    lines = [
        b"%s %s %d\t%s\0" % (str(mode).encode(), str(oid).encode(), int(str(stage)), frames.bytes_of(path))
        for path, sides in (unmerged.items() if isinstance(unmerged, dict) else ())
        for stage, mode, oid in sides
    ]
    if lines:
        clone.run("update-index", "-z", "--index-info", given=b"".join(lines), index=place)
    clone.try_run("update-index", "-q", "--refresh", index=place, runs_filters=True)


def is_sparse_since(clone: Clone, held: backups.Held) -> bool:
    """Whether the clone is a sparse checkout now and was none when the backup was made."""
    if not backup_state.is_sparse(clone):
        return False
    if not any(name.endswith(b"/info/sparse-checkout") for name in held.beside):
        return True
    # A list of patterns stays behind where a sparse checkout was given up; backups of before had no `config.worktree`.
    oids = [held.beside[name] for name in (b"state/config.worktree", b"common/config") if name in held.beside]
    argv = ("config", "--type=bool", "core.sparseCheckout")
    said = [clone.try_run(*argv[:1], "--blob", oid, *argv[1:]) for oid in oids]
    return next((each for each in said if each), b"").strip() == b"false"


def _clear_flags(clone: Clone, place: bytes) -> None:
    marked = backup_state.flagged_in(clone.run("ls-files", "-v", "-z", index=place), clone)
    paths = b"".join(path + b"\0" for _, path in marked)
    if paths:
        for flag in ("--no-assume-unchanged", "--no-skip-worktree"):
            clone.run("update-index", flag, "-z", "--stdin", given=paths, index=place)


def head_of(record: dict[str, object]) -> Head:
    """HEAD as a backup has it."""
    head = record.get("head")
    told = head if isinstance(head, dict) else {}
    ref, commit = told.get("ref"), told.get("commit")
    return Head(frames.bytes_of(str(ref)) if ref else None, str(commit).encode() if commit else None)


def make(clone: Clone, held: backups.Held, index: bytes, seen: backup_state.Look, later: list[backups.Held]) -> Plan:
    """Compare the backup `held`, whose index lies in the file `index`, with what is `seen` now.

    `later` are the backups made since, oldest first: an ignored file is kept only when something was about to take it.
    """
    record = held.record
    files, modes, stored, missing = dict(held.files), modes_of(record), _stored(record), _left_out(record)
    tracked = set(_fields(clone.run("ls-files", "-z", index=index)))
    _add_later(clone, held, later, tracked, (files, modes, stored))
    # Content that is kept twice is taken from git, which can tell that it is whole.
    stored = {path: each for path, each in stored.items() if path not in files}
    gone = {frames.bytes_of(str(path)) for path in _texts(record.get("deleted"))}
    nested = {path for path, why in missing if why == "a repository of its own"}
    wrong = clone.run("diff-files", "-z", "--name-only", "--ignore-submodules=all", index=index, runs_filters=True)
    known = {*files, *stored, *gone, *nested, *(path for path, _ in missing)}
    checkout = [path for path in _fields(wrong) if path not in known]
    made_since = clone.run("ls-files", "-o", "-z", "--exclude-standard", index=index)
    expected = {*files, *stored, *gone}
    for path, each in list(stored.items()):
        if not kept_files.is_intact(clone, each.folder, each.kept):
            missing.append((path, "it was kept as a link, and something wrote into it since"))
            del stored[path]
    refs, unfit = _ref_changes(clone, held, seen)
    return Plan(
        held,
        _head_change(head_of(record), seen.head),
        refs,
        _stash_change(clone, record, seen),
        list(dict.fromkeys(checkout)),
        {path: entry for path, entry in files.items() if not _is_there(clone, path, entry, modes.get(path))},
        modes,
        {path: each for path, each in stored.items() if not _is_stored_there(clone, each.kept)},
        sorted(path for path in gone if path not in files and _is_file(clone, path)),
        _beside_changes(clone, held, seen),
        [path for path in _fields(made_since) if path not in expected and not path.endswith(b"/")],
        [*missing, *unfit],
        _is_index_other(clone, index, record),
    )


def _fields(told: bytes) -> list[bytes]:
    return [field for field in told.split(b"\0") if field]


def _texts(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else []


def modes_of(record: dict[str, object]) -> dict[bytes, int]:
    """Permissions other than 0644 and 0755, by path."""
    modes = record.get("modes")
    return {frames.bytes_of(path): int(mode) for path, mode in (modes.items() if isinstance(modes, dict) else ())}


def _left_out(record: dict[str, object]) -> list[tuple[bytes, str]]:
    found = [(frames.bytes_of(str(path)), str(why)) for path, why in _pairs(record.get("left_out"))]
    return [(path, why) for path, why in found if path and path != b"refs"]


def _pairs(value: object) -> list[tuple[object, object]]:
    return [(each[0], each[1]) for each in value] if isinstance(value, list) else []


def _stored(record: dict[str, object]) -> dict[bytes, FromStore]:
    found: dict[bytes, FromStore] = {}
    for kind, folder in (("precious", kept_files.PRECIOUS), ("linked", kept_files.LINKED)):
        found.update({kept.path: FromStore(folder, kept) for kept in backups.kept_of(record, kind)})
    return found


def _add_later(
    clone: Clone,
    held: backups.Held,
    later: list[backups.Held],
    tracked: set[bytes],
    into: tuple[dict[bytes, tuple[bytes, bytes]], dict[bytes, int], dict[bytes, FromStore]],
) -> None:
    """Ignored files that a later backup kept: the oldest copy, where it is older than this backup or the file is gone."""
    files, modes, stored = into
    at = held.record.get("at")
    at_ns = int(float(at) * 10**9) if isinstance(at, (int, float)) else 0
    for each in later:
        extra = each.record.get("extra")
        for text, mtime_ns in extra.items() if isinstance(extra, dict) else ():
            path = frames.bytes_of(text)
            is_then = int(mtime_ns) <= at_ns or not os.path.lexists(clone.place(path))
            if path in files or path in stored or path in tracked or not is_then:
                continue
            linked = _stored(each.record)
            if path in each.files:
                files[path] = each.files[path]
                special = modes_of(each.record).get(path)
                modes.update({} if special is None else {path: special})
            elif path in linked:
                stored[path] = linked[path]


def _is_file(clone: Clone, path: bytes) -> bool:
    found = stat_of(clone.place(path))
    return found is not None and not stat.S_ISDIR(found.mode)


def wanted_mode(mode: bytes, special: int | None) -> int:
    """The permissions of a file whose entry has this mode."""
    return special if special is not None else int(mode[-3:], 8)


def _is_there(clone: Clone, path: bytes, entry: tuple[bytes, bytes], special: int | None) -> bool:
    """Whether the work tree has exactly this file."""
    mode, oid = entry
    found = stat_of(clone.place(path))
    if found is None or stat.S_ISLNK(found.mode) != (mode == b"120000"):
        return False
    if mode == b"120000":
        return _name(os.readlink(clone.place(path)), oid) == oid
    if not stat.S_ISREG(found.mode) or stat.S_IMODE(found.mode) != wanted_mode(mode, special):
        return False
    return _name(read_bytes(clone.place(path), found.size + 1), oid) == oid


def _name(content: bytes, like: bytes) -> bytes:
    kind = "sha256" if len(like) == 64 else "sha1"
    return hashlib.new(kind, b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest().encode()


def _is_stored_there(clone: Clone, kept: kept_files.Kept) -> bool:
    found = stat_of(clone.place(kept.path))
    return found is not None and (found.size, found.mtime_ns, found.mode) == (kept.size, kept.mtime_ns, kept.mode)


def _is_index_other(clone: Clone, index: bytes, record: dict[str, object]) -> bool:
    """Whether entries or marks of the index differ from the backup's."""
    intended = {frames.bytes_of(str(path)) for path in _texts(record.get("intended"))}
    now, then = (set(_fields(clone.run("ls-files", "-s", "-z", index=place))) for place in (None, index))
    hinted = {line for line in now if line.partition(b"\t")[2] in intended}
    marked = backup_state.flagged_in(clone.run("ls-files", "-v", "-z"), clone)
    flagged = [(frames.bytes_of(str(mark)), frames.bytes_of(str(path))) for mark, path in _pairs(record.get("flagged"))]
    is_hinted = {line.partition(b"\t")[2] for line in hinted} == intended
    return now - hinted != then or not is_hinted or set(marked) != set(flagged)


def _head_change(then: Head, now: Head) -> tuple[Head, Head] | None:
    is_same = then == now if then.ref is None or now.ref is None else then.ref == now.ref
    return None if is_same else (now, then)


def _ref_changes(
    clone: Clone, held: backups.Held, seen: backup_state.Look
) -> tuple[list[RefChange], list[tuple[bytes, str]]]:
    """Refs to be put back, those in their way, and those that have to stay as they are."""
    elsewhere = _checked_out_elsewhere(clone)
    found: list[RefChange] = []
    unfit: list[tuple[bytes, str]] = []
    for name, then in held.refs.items():
        now = seen.refs.get(name)
        # What origin has is not for an undo to say: only a ref that is gone comes back.
        if now == then or name == b"refs/stash" or (now is not None and name.startswith(b"refs/remotes/")):
            continue
        if now is not None and then.target and now.target == then.target:
            continue
        if name in elsewhere and now is not None:
            unfit.append((name, "another work tree has it checked out"))
        else:
            found.append(RefChange(name, now, then))
    wanted = {change.name for change in found}
    for name, now in seen.refs.items():
        blocks = any(each.startswith(name + b"/") or name.startswith(each + b"/") for each in wanted)
        if name not in held.refs and blocks:
            found.insert(0, RefChange(name, now, None))
    head = head_of(held.record)
    if head.ref and not head.commit and head.ref in seen.refs and head.ref not in held.refs:
        found.insert(0, RefChange(head.ref, seen.refs[head.ref], None))
    return found, unfit


def _checked_out_elsewhere(clone: Clone) -> set[bytes]:
    if not os.path.isdir(os.path.join(clone.common_dir, b"worktrees")):
        return set()
    found: set[bytes] = set()
    for block in clone.run("worktree", "list", "--porcelain").split(b"\n\n"):
        lines = block.split(b"\n")
        if os.path.realpath(lines[0][len(b"worktree ") :]) != os.path.realpath(clone.root):
            found |= {line[len(_WORKTREE_REF) :] for line in lines if line.startswith(_WORKTREE_REF)}
    return found


def _stash_change(
    clone: Clone, record: dict[str, object], seen: backup_state.Look
) -> tuple[list[tuple[bytes, bytes]], list[tuple[bytes, bytes]]] | None:
    """(now, wanted): the stashes of then first, as they were numbered; those made since below them."""
    then = [(str(oid).encode(), frames.bytes_of(str(said))) for oid, said in _pairs(record.get("stash"))]
    now = backup_state.stash_entries(clone, seen.refs)
    wanted = then + [entry for entry in now if entry not in then]
    return None if now == wanted else (now, wanted)


def _beside_changes(clone: Clone, held: backups.Held, seen: backup_state.Look) -> dict[bytes, bytes | None]:
    found: dict[bytes, bytes | None] = {}
    for name, oid in held.beside.items():
        if name in (b"common/config", b"state/config.worktree"):
            continue
        if name not in seen.beside or _name(read_bytes(backup_state.place_beside(clone, name)), oid) != oid:
            found[name] = oid
    is_operation = (name for name in seen.beside if name.startswith(b"state/") and not name.startswith(b"state/info/"))
    found.update({n: None for n in is_operation if n not in held.beside and n != b"state/config.worktree"})
    return found


def narrowed(plan: Plan, paths: list[bytes], index: bytes, clone: Clone) -> Plan:
    """Only what concerns these files and folders; refs, HEAD and index stay. Raises store.Refused for one nobody knows."""

    def is_chosen(path: bytes) -> bool:
        return any(chosen in (b"", path) or path.startswith(chosen + b"/") for chosen in paths)

    tracked = set(_fields(clone.run("ls-files", "-z", index=index)))
    known = {*tracked, *plan.held.files, *plan.files, *plan.stored, *plan.removed, *(path for path, _ in plan.missing)}
    known |= {kept.path for kind in ("precious", "linked") for kept in backups.kept_of(plan.held.record, kind)}
    for chosen in paths:
        if chosen and not any(path == chosen or path.startswith(chosen + b"/") for path in known):
            said = "%s is not in that backup: it was not there then, or git ignored it" % frames.text_of(chosen)
            raise store.Refused("no-such-path", said, "hemma undo --list PATH", 2)
    return plan._replace(
        head=None,
        refs=[],
        stash=None,
        checkout=[path for path in plan.checkout if is_chosen(path)],
        files={path: entry for path, entry in plan.files.items() if is_chosen(path)},
        stored={path: each for path, each in plan.stored.items() if is_chosen(path)},
        removed=[path for path in plan.removed if is_chosen(path)],
        beside={},
        kept=[path for path in plan.kept if is_chosen(path)],
        missing=[(path, why) for path, why in plan.missing if is_chosen(path)],
        is_index_changed=False,
    )
