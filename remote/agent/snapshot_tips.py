"""What git must not forget for a backup to be whole: every commit that something points to, tags, and the index's own objects."""

from __future__ import annotations

import hashlib
import os
import shutil
from typing import NamedTuple

from . import snapshot_objects
from .backup_clone import Clone
from .backup_state import Look, Status, commits_in, place_beside
from .snapshot_objects import Entry

_MOST = 5_000
_MOST_TAGS = 5_000


class Tips(NamedTuple):
    """Parents of a backup's commit, entries for what is no commit, and what of it was too much."""

    key: str
    parents: list[bytes]
    entries: list[Entry]
    left_out: list[tuple[str, str]]


def find(clone: Clone, seen: Look, stash: list[tuple[bytes, bytes]], notes: dict[str, object], kind: str) -> Tips:
    """Everything that a ref, a stash or an operation under way points to; as noted last time when none of that moved."""
    wanted = _wanted(clone, seen, stash)
    key = hashlib.sha256(b"\n".join(wanted)).hexdigest()
    known = notes.get("tips")
    if isinstance(known, dict) and known.get("key") == key:
        entries = [Entry(p.encode(), mode.encode(), oid.encode()) for p, mode, oid in known["entries"]]
        return Tips(key, [oid.encode() for oid in known["parents"]], entries, [(p, w) for p, w in known["left_out"]])
    return _sorted_out(clone, key, wanted, kind)


def _wanted(clone: Clone, seen: Look, stash: list[tuple[bytes, bytes]]) -> list[bytes]:
    """Object names, HEAD first, those that origin holds too last."""
    own = [ref.oid for name, ref in seen.refs.items() if not name.startswith(b"refs/remotes/")]
    theirs = [ref.oid for name, ref in seen.refs.items() if name.startswith(b"refs/remotes/")]
    under_way: list[bytes] = []
    for name in seen.beside:
        if name.startswith(b"state/") and not name.startswith(b"state/info/"):
            content = snapshot_objects.read_file(place_beside(clone, name), b"100644")
            under_way += commits_in(content or b"")
    first = [seen.head.commit] if seen.head.commit else []
    return list(dict.fromkeys([*first, *(oid for oid, _ in stash), *under_way, *own, *theirs]))


def _sorted_out(clone: Clone, key: str, wanted: list[bytes], kind: str) -> Tips:
    asked = b"".join(oid + b"\n" for oid in wanted)
    said = (
        clone.run("cat-file", "--batch-check=%(objectname) %(objecttype)", "--buffer", given=asked) if wanted else b""
    )
    by_type: dict[bytes, list[bytes]] = {}
    for line in said.splitlines():
        oid, _, kind_of = line.partition(b" ")
        by_type.setdefault(kind_of, []).append(oid)
    commits = by_type.get(b"commit", [])
    entries = [Entry(b"tips/" + oid, b"100644", oid) for oid in by_type.get(b"blob", [])]
    entries += [Entry(b"tips/" + oid, b"040000", oid) for oid in by_type.get(b"tree", [])]
    left_out: list[tuple[str, str]] = []
    tags = by_type.get(b"tag", [])
    if tags:
        text = clone.run("cat-file", "--batch", "--buffer", given=b"".join(oid + b"\n" for oid in tags[:_MOST_TAGS]))
        content = _targets(text)
        commits += [oid for oid, kind_of in content if kind_of == b"commit"]
        entries += [Entry(b"tips/" + oid, b"100644", oid) for oid, kind_of in content if kind_of == b"blob"]
        entries += [Entry(b"tips/" + oid, b"040000", oid) for oid, kind_of in content if kind_of == b"tree"]
        made = hashlib.new(kind, b"blob %d\0" % len(text), usedforsecurity=False)
        made.update(text)
        entries.append(Entry(b"tags", b"100644", made.hexdigest().encode(), text))
    commits = list(dict.fromkeys(commits))
    if len(commits) > _MOST or len(tags) > _MOST_TAGS:
        left_out.append(("refs", "more than %d tips: the rest is held by its refs only" % _MOST))
    return Tips(key, commits[:_MOST], list({entry.path: entry for entry in entries}.values()), left_out)


def _targets(batch: bytes) -> list[tuple[bytes, bytes]]:
    """(object, type) of what each tag in the output of `cat-file --batch` names."""
    return [(oid, kind) for _, oid, kind in tags_in(batch)]


def tags_in(batch: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """(the tag's raw content, object, type) of each tag in the output of `cat-file --batch`."""
    found: list[tuple[bytes, bytes, bytes]] = []
    at = 0
    while at < len(batch):
        head, _, _ = batch[at:].partition(b"\n")
        at += len(head) + 1
        fields = head.split()
        if len(fields) != 3 or not fields[2].isdigit():  # "<name> missing"
            continue
        content = batch[at : at + int(fields[2])]
        at += int(fields[2]) + 1
        lines = content.split(b"\n", 2)
        if len(lines) > 1 and lines[0].startswith(b"object ") and lines[1].startswith(b"type "):
            found.append((content, lines[0][7:], lines[1][5:]))
    return found


def noted(tips: Tips) -> dict[str, object]:
    """The tips as `find` takes them back next time."""
    return {
        "key": tips.key,
        "parents": [oid.decode() for oid in tips.parents],
        "entries": [[entry.path.decode(), entry.mode.decode(), entry.oid.decode()] for entry in tips.entries],
        "left_out": tips.left_out,
    }


def index_entries(clone: Clone, status: Status) -> list[Entry]:
    """The tree of the index where it differs from HEAD's, and the stages of each conflict by name, for git to keep."""
    if not (status.is_staged or status.unmerged):
        return []
    copy = clone.own(b"index.%d" % os.getpid())
    try:
        os.makedirs(os.path.dirname(copy), 0o700, exist_ok=True)
        shutil.copyfile(os.path.join(clone.git_dir, b"index"), copy)
        if status.unmerged:
            zero = b"0" * len(next(iter(status.unmerged.values()))[0].oid)
            gone = b"".join(b"0 %s\t%s\0" % (zero, path) for path in status.unmerged)
            clone.run("update-index", "-z", "--index-info", given=gone, index=copy)
        tree = clone.run("write-tree", "--missing-ok", index=copy).strip()
    finally:
        for path in (copy, copy + b".lock"):
            if os.path.lexists(path):
                os.unlink(path)
    entries = [Entry(b"staged", b"040000", tree)]
    for path, sides in status.unmerged.items():
        entries += [
            Entry(b"sides/%d/%s" % (side.stage, path), side.mode, side.oid) for side in sides if side.mode != b"160000"
        ]
    return entries
