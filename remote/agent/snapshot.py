"""Backups of a clone: what git does not hold, and where everything points, as one commit under refs/hemma/backup/.

`take` costs little more than one `git status`, and writes nothing when nothing changed since the last one. It runs beside
whatever else works in the clone: index and work tree are not touched, and no lock is taken that another git could meet.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from typing import Mapping, NamedTuple, Sequence

from . import (
    backup_room,
    backup_state,
    frames,
    kept_files,
    loose_objects,
    raw_refs,
    snapshot_content,
    snapshot_objects,
    snapshot_tips,
    store,
)
from .backup_clone import Clone, Stat, replace_file
from .snapshot_content import Blobs, Gathered, LeftOut, Limits
from .snapshot_objects import Entry

NOTES = b"last.json"
_BLOBS = b"blobs.json"
_NOTES_VERSION = 2
_BLOBS_INSIDE = 300  # more of them stand beside the notes, which every look reads
_NAMED = 1000
_WORTH_COUNTING = 1 << 20
CHECKED_AGAIN_S = 86400.0


DEFAULT_LIMITS = Limits()


class Snapshot(NamedTuple):
    """A backup: the one just made, or the last one when nothing changed since."""

    ref: str
    commit: str
    is_new: bool
    left_out: list[LeftOut]
    status_ms: float


def take(
    root: str,
    *,
    reason: str,
    run_id: str | None = None,
    precious: Sequence[str] | None = None,
    limits: Limits = DEFAULT_LIMITS,
    extra: Sequence[str] = (),
    since_s: float = 0.0,
) -> Snapshot | None:
    """Keep the state of the clone at `root`; None when there is none. Paths in `extra` are kept although git ignores them.

    `since_s` is when the caller's work began: untracked files that are older and in no backup were ignored then.
    `precious` are globs of ignored files that every backup keeps; None means those of the last one. Paths and globs are
    relative to the top of the work tree. Raises store.Refused with git's words, OSError when the git directory cannot be written.
    """
    clone = Clone.at(root)
    if clone is None:
        return None
    notes = backup_state.read_notes(clone, NOTES)
    if notes.get("version") != _NOTES_VERSION:
        notes = {}
    _stay_home(clone, notes)
    wanted = [frames.bytes_of(path) for path in extra]
    now_ns = time.time_ns()
    asked = backup_state.ask(clone, notes)
    # While git looks:
    last = _last(clone, notes)
    said = notes.get("precious") if precious is None else precious
    patterns = [str(pattern) for pattern in said] if isinstance(said, (list, tuple)) else []
    valued, is_more = kept_files.precious_files(clone, [frames.bytes_of(each) for each in patterns], limits.precious)
    seen = backup_state.look(clone, notes, wanted, asked)
    key = _digest(seen.digest_parts + [path + repr(tuple(found)).encode() for path, found in valued.items()])
    if last is not None and notes.get("key") == key and not notes.get("is_racy"):
        return last._replace(status_ms=seen.status_ms)
    return _make(
        clone,
        _Wanted(reason, run_id, limits, wanted, patterns, valued, is_more, now_ns, key, since_s),
        seen,
        notes,
        last,
    )


class _Wanted(NamedTuple):
    reason: str
    run_id: str | None
    limits: Limits
    extra: list[bytes]
    patterns: list[str]
    precious: dict[bytes, Stat]
    is_more_precious: bool
    now_ns: int
    key: str
    since_s: float


def is_due(root: str, when: str, slow_ms: float = 250.0) -> bool:
    """Whether a run's start is to take one: `when` is always, off, or auto (not where the last `git status` was slow)."""
    clone = Clone.at(root) if when != "off" else None
    if clone is None:
        return False
    notes = backup_state.read_notes(clone, NOTES)
    took, at = notes.get("status_ms"), notes.get("at")
    if when == "always" or not isinstance(took, (int, float)) or not isinstance(at, (int, float)):
        return True
    return took <= slow_ms or time.time() - at > CHECKED_AGAIN_S


def _stay_home(clone: Clone, notes: dict[str, object]) -> None:
    """Whoever fetches from this clone is not offered the backups; set once, and again when our notes are gone."""
    if not notes.get("is_hidden"):
        argv = ("config", "--local", "--replace-all", "transfer.hideRefs", "refs/hemma", "^refs/hemma$")
        notes["is_hidden"] = clone.try_run(*argv) is not None


def _last(clone: Clone, notes: dict[str, object]) -> Snapshot | None:
    ref, commit = notes.get("ref"), notes.get("commit")
    if not isinstance(ref, str) or not isinstance(commit, str):
        return None
    if backup_state.ref_of_ours(clone, frames.bytes_of(ref)) != commit.encode():
        return None
    left_out = notes.get("left_out")
    named = [LeftOut(str(p), str(why)) for p, why in left_out] if isinstance(left_out, list) else []
    return Snapshot(ref, commit, False, named, 0.0)


def _make(
    clone: Clone, wanted: _Wanted, seen: backup_state.Look, notes: dict[str, object], last: Snapshot | None
) -> Snapshot:
    snapshot_objects.tidy_after_crash(clone)
    kind = _object_format(clone, seen)
    known = _known_blobs(clone, notes) if last is not None else {}
    gathered = snapshot_content.gather(clone, seen, wanted.limits, known, kind, wanted.now_ns)
    stash = backup_state.stash_entries(clone, seen.refs)
    tips = snapshot_tips.find(clone, seen, stash, notes if last is not None else {}, kind)
    entries = gathered.entries + snapshot_tips.index_entries(clone, seen.status) + tips.entries
    entries += snapshot_content.beside(clone, seen)
    refs = b"".join(b"%s %s %s\n" % (ref.oid, name, ref.target) for name, ref in seen.refs.items())
    entries.append(Entry(b"refs", b"100644", content=refs))
    wanted = wanted._replace(extra=wanted.extra + _ignored_before(wanted, seen, notes))
    record = _record(clone, wanted, seen, gathered, stash)
    record["left_out"] = [list(each) for each in (gathered.left_out + tips.left_out)[:_NAMED]]
    content = _content_digest(entries, record, kind)
    if last is not None and content is not None and content == notes.get("content"):
        made = last
    else:
        made = _write(clone, wanted, entries, tips.parents, record, gathered, kind)
    _note(clone, wanted, seen, gathered, notes, made, content or "", tips)
    return made._replace(status_ms=seen.status_ms)


def _ignored_before(wanted: _Wanted, seen: backup_state.Look, notes: dict[str, object]) -> list[bytes]:
    """Untracked files that were there and ignored: an undo to before that has to find them here, since no other backup has them."""
    listed, at = notes.get("listed"), notes.get("at")
    if not isinstance(listed, list):
        return []
    known = {frames.bytes_of(str(path)) for path in listed}
    then_ns = int(max(wanted.since_s, float(at) if isinstance(at, (int, float)) else 0.0) * 1e9)
    found = ((path, seen.files.get(path)) for path in seen.status.untracked if path not in known)
    return [path for path, has in found if has is not None and has.ctime_ns <= then_ns]


def _write(
    clone: Clone,
    wanted: _Wanted,
    entries: list[Entry],
    parents: list[bytes],
    record: dict[str, object],
    gathered: Gathered,
    kind: str,
) -> Snapshot:
    seconds = wanted.now_ns // 10**9
    # Names sort by time, those of one second too.
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(seconds)) + ".%06dZ" % (wanted.now_ns // 1000 % 10**6)
    name = backup_state.BACKUPS + b"%s-%s" % (stamp.encode(), os.urandom(3).hex().encode())
    told = dict(record, version=1, reason=wanted.reason, run_id=wanted.run_id, at=wanted.now_ns / 1e9)
    written = [*entries, Entry(b"record", b"100644", content=json.dumps(told, sort_keys=True).encode("ascii"))]
    files = sum(1 for entry in entries if entry.path.startswith(b"files/"))
    lines = ["hemma: " + " ".join(wanted.reason.split()), "", "Run: %s" % (wanted.run_id or "-")]
    lines += ["Files: %d" % (files + len(gathered.linked)), "Bytes: %d" % gathered.copied_bytes]
    lines += ["Left-out: %d" % len(gathered.left_out), ""]
    message = "\n".join(lines).encode("utf-8", "replace")
    if raw_refs.are_files(clone) and loose_objects.is_little(written, parents):
        unread: list[bytes] = []
        commit = loose_objects.write(clone, written, parents, message, seconds, kind)
        raw_refs.write_new(clone, name, commit)
    else:
        size = gathered.copied_bytes
        commit, unread = snapshot_objects.write(clone, name, written, parents, message, seconds, size=size)
    if gathered.copied_bytes > _WORTH_COUNTING:
        backup_room.copied(clone, gathered.copied_bytes)
    gone = [LeftOut(frames.text_of(path), "it went while it was read") for path in unread]
    for path in unread:
        gathered.blobs.pop(path[len(b"files/") :], None)
    return Snapshot(name.decode(), commit.decode(), True, (gathered.left_out + gone)[:_NAMED], 0.0)


def _record(
    clone: Clone,
    wanted: _Wanted,
    seen: backup_state.Look,
    gathered: Gathered,
    stash: list[tuple[bytes, bytes]],
) -> dict[str, object]:
    """What a restore has to know besides the trees; everything in it is part of what makes a backup a new one."""
    status, text = seen.status, frames.text_of
    valued = []
    for path, found in wanted.precious.items():
        is_small = found.size <= wanted.limits.file_bytes
        kept = kept_files.keep(clone, kept_files.PRECIOUS, path, found, copies=is_small)
        if kept is None:
            gathered.left_out.append(LeftOut(text(path), "precious, and it can be neither copied nor linked"))
        else:
            valued.append(_kept(kept))
    if wanted.is_more_precious:
        gathered.left_out.append(LeftOut("", "more precious files than the %d of one backup" % wanted.limits.precious))
    absent = [path for path in status.unmerged if path not in seen.files]
    head = seen.head
    return {
        "head": {"ref": text(head.ref) if head.ref else None, "commit": head.commit.decode() if head.commit else None},
        "deleted": [text(path) for path in [*status.deleted, *absent]],
        "modes": {text(path): mode for path, mode in gathered.modes.items()},
        "extra": {text(path): seen.files[path].mtime_ns for path in wanted.extra if path in seen.files},
        "linked": [_kept(kept) for kept in gathered.linked],
        "precious": valued,
        "stash": [[oid.decode(), text(message)] for oid, message in stash],
        "unmerged": {
            text(path): [[side.stage, side.mode.decode(), side.oid.decode()] for side in sides]
            for path, sides in status.unmerged.items()
        },
        "intended": [text(path) for path in status.intended],
        "flagged": [[letter.decode(), text(path)] for letter, path in seen.flagged],
        "is_staged": status.is_staged or bool(status.unmerged),
    }


def _kept(kept: kept_files.Kept) -> list[object]:
    return [frames.text_of(kept.path), kept.key, kept.size, kept.mtime_ns, kept.mode]


def _object_format(clone: Clone, seen: backup_state.Look) -> str:
    oid = next((ref.oid for ref in seen.refs.values()), seen.head.commit)
    if oid is None:
        said = clone.try_run("rev-parse", "--show-object-format")
        return (said or b"sha1").strip().decode()
    return "sha256" if len(oid) == 64 else "sha1"


def _content_digest(entries: list[Entry], record: dict[str, object], kind: str) -> str | None:
    """A digest of everything a backup would hold, or None when some of it is too big to know before it is written."""
    if any(entry.source for entry in entries):
        return None
    parts = [
        b"%s %s %s" % (entry.mode, entry.oid or snapshot_content.blob_name(entry.content or b"", kind), entry.path)
        for entry in entries
    ]
    return _digest([json.dumps(record, sort_keys=True).encode("ascii"), *parts])


def _digest(parts: list[bytes]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(b"%d:" % len(part))
        found.update(part)
    return found.hexdigest()


def _known_blobs(clone: Clone, notes: dict[str, object]) -> Blobs:
    inside = notes.get("blobs")
    noted = inside if isinstance(inside, dict) else backup_state.read_notes(clone, _BLOBS)
    try:
        return {
            frames.bytes_of(path): (Stat(*fields[:5]), fields[5].encode(), fields[6].encode())
            for path, fields in noted.items()
            if isinstance(fields, list)
        }
    except (TypeError, AttributeError, IndexError):
        return {}


def _note(
    clone: Clone,
    wanted: _Wanted,
    seen: backup_state.Look,
    gathered: Gathered,
    notes: dict[str, object],
    made: Snapshot,
    content: str,
    tips: snapshot_tips.Tips,
) -> None:
    """Note what is known now, for the next one: without it the next one only reads more."""
    blobs = {frames.text_of(p): [*s, mode.decode(), oid.decode()] for p, (s, mode, oid) in gathered.blobs.items()}
    is_many = len(blobs) > _BLOBS_INSIDE
    if is_many:
        _write_notes(clone, _BLOBS, blobs)
    noted: dict[str, object] = {
        "version": _NOTES_VERSION,
        "at": wanted.now_ns / 1e9,
        "key": wanted.key,
        "is_racy": any(snapshot_content.is_racy(has, wanted.now_ns) for has in seen.files.values()),
        "content": content,
        "ref": made.ref,
        "commit": made.commit,
        "left_out": [list(each) for each in made.left_out],
        "status_ms": seen.status_ms,
        "is_hidden": notes.get("is_hidden"),
        "precious": wanted.patterns,
        "filters": clone.filters,
        "filters_key": seen.filters_key or None,
        "index": list(seen.index_stat) if seen.index_stat else None,
        "flagged": [[letter.decode(), frames.text_of(path)] for letter, path in seen.flagged],
        "tips": snapshot_tips.noted(tips),
        "blobs": None if is_many else blobs,
        "listed": None if is_many else [frames.text_of(path) for path in seen.files],
    }
    _write_notes(clone, NOTES, noted)


def _write_notes(clone: Clone, name: bytes, noted: Mapping[str, object]) -> None:
    place = clone.own(name)
    # Some file systems write a file out at once that takes another's place; nobody has to wait for that here.
    with contextlib.suppress(OSError):
        os.unlink(place)
    replace_file(place, json.dumps(noted).encode("ascii"))


def refusal_of(error: Exception) -> dict[str, object]:
    """What a run's record says of a backup that could not be made."""
    said = error.fields["message"] if isinstance(error, store.Refused) else str(error)
    return {"error": str(said)}
