"""How much of a disk the backups of a clone take, and giving it back when they are forgotten.

Counted is what would be gone without them: objects that nothing else in the clone reaches, and kept files that have no other
name. `git gc` keeps such objects for two more weeks, which for backups of large files is many times their bound: so what they
alone had is removed here. An object goes only if git itself says that no ref, reflog or index reaches it, and it was not
written again a moment ago.
"""

from __future__ import annotations

import json
import os
import time
from typing import Iterable, NamedTuple, Sequence

from . import kept_files
from .backup_clone import Clone, read_bytes, replace_file

_STAMP = b"pruned"
_UNNEEDED = b"unneeded"
PACKS = b"packs"  # what `git fast-import` notes of the packs that it made: `<pack>: <commit>`
PRUNE_EVERY_S = 86400.0
# Between writing objects and naming them by a ref a git command needs a moment; it marks those that are there as new.
_GRACE_S = 600.0
# Parts of a backup that it wrote itself. The index's own objects are the user's.
_OWN_PARTS = (b"files", b"state", b"common", b"refs", b"record", b"tags")


class Noted(NamedTuple):
    """What was known after the last tidying: when it was, bytes of objects and of kept files, and what was copied since."""

    at: float = 0.0
    objects: int = 0
    files: int = 0
    copied: int = 0


def noted(clone: Clone) -> Noted:
    """The note of the last tidying; zeros where there was none."""
    try:
        found = json.loads(read_bytes(clone.shared(_STAMP)) or b"{}")
        return Noted(float(found["at"]), int(found["objects"]), int(found["files"]), int(found["copied"]))
    except (ValueError, TypeError, KeyError):
        return Noted()


def note(clone: Clone, said: Noted) -> None:
    """Note it for `is_due` and `hemma status`. Raises OSError."""
    replace_file(clone.shared(_STAMP), json.dumps(said._asdict()).encode("ascii"))


def copied(clone: Clone, size: int) -> None:
    """A backup copied so many bytes. Raises OSError."""
    last = noted(clone)
    note(clone, last._replace(copied=last.copied + size))


def is_due(clone: Clone, keep_bytes: int) -> bool:
    """Whether to tidy up: once a day, and when an eighth of the bound came together since."""
    last = noted(clone)
    grown = last.copied + stored_bytes(clone) - last.files
    return time.time() - last.at > PRUNE_EVERY_S or grown > keep_bytes // 8


def used_bytes(clone: Clone) -> int:
    """What the backups take now: counted at the last tidying, and copied since."""
    last = noted(clone)
    return last.objects + last.copied + stored_bytes(clone)


# --- how much -----------------------------------------------------------------------------------------------------------


def object_bytes(clone: Clone, commits: Sequence[str]) -> int | None:
    """Bytes of the objects that only these backups hold; None where git is too old to say (before 2.31)."""
    asked = "".join(commit + "\n" for commit in commits).encode()
    others = ("--not", "--exclude=refs/hemma/*", "--all", "--reflog", "--indexed-objects")
    said = clone.try_run("rev-list", "--disk-usage", "--objects", "--stdin", *others, given=asked)
    return int(said) if said is not None and said.strip().isdigit() else None


def stored_bytes(clone: Clone, keys: Iterable[str] | None = None) -> int:
    """What kept files, those of these names or all, take that nothing else has: a link to a living file takes nothing."""
    wanted = None if keys is None else {key.encode() for key in keys}
    total = 0
    for folder in (kept_files.LINKED, kept_files.PRECIOUS):
        for above, _, names in os.walk(clone.shared(folder)):
            for name in names:
                if wanted is None or name in wanted:
                    found = os.lstat(os.path.join(above, name))
                    total += found.st_blocks * 512 if found.st_nlink == 1 else 0
    return total


# --- given back ---------------------------------------------------------------------------------------------------------


def own_objects(clone: Clone, commits: Iterable[str]) -> set[bytes]:
    """The objects that these backups wrote themselves, less those of the index."""
    found: set[bytes] = set()
    for commit in commits:
        listing = clone.try_run("ls-tree", "-r", "-t", "-z", "--full-tree", commit, *_OWN_PARTS)
        top = clone.try_run("rev-parse", "-q", "--verify", commit + "^{tree}")
        found |= {line.partition(b"\t")[0].split(b" ")[2] for line in (listing or b"").split(b"\0") if line}
        found |= {commit.encode(), *((top or b"").split())}
    return found


def free(clone: Clone, objects: set[bytes]) -> None:
    """Remove those of `objects`, and of what could not go last time, that nothing in the clone needs. Raises store.Refused."""
    left = objects | set(read_bytes(clone.shared(_UNNEEDED), 256 << 20).split())
    if not left:
        return
    _take_out_needed(clone, left)
    now = time.time()
    waiting = [oid for oid in left if not _free_loose(clone, oid, now)]
    for pack in _packs(clone):
        waiting += _free_pack(clone, pack, left, now)
    replace_file(clone.shared(_UNNEEDED), b"".join(oid + b"\n" for oid in waiting))


def _take_out_needed(clone: Clone, objects: set[bytes]) -> None:
    """Take what a ref, a reflog or an index reaches out of `objects`; all of it where git cannot tell."""
    process = clone.start("rev-list", "--objects", "--no-object-names", "--all", "--reflog", "--indexed-objects")
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            objects.discard(line.strip())
    assert process.stderr is not None
    process.stderr.close()
    if process.wait():
        objects.clear()


def _free_loose(clone: Clone, oid: bytes, now: float) -> bool:
    """Whether the loose object is gone, or never was one."""
    place = os.path.join(clone.common_dir, b"objects", oid[:2], oid[2:])
    try:
        if now - os.stat(place).st_mtime < _GRACE_S:
            return False
        os.unlink(place)
    except FileNotFoundError:
        pass
    except OSError:
        return False
    return True


def _packs(clone: Clone) -> list[bytes]:
    """The packs that backups wrote and that are still there, without `.pack`; forgets the others."""
    place = clone.shared(PACKS)
    folder = os.path.join(clone.common_dir, b"objects", b"pack")
    names = {os.path.basename(line.partition(b": ")[0]) for line in read_bytes(place).split(b"\n") if line}
    there = [name for name in sorted(names) if os.path.exists(os.path.join(folder, name))]
    if names:
        replace_file(place, b"".join(name + b": \n" for name in there))
    return [os.path.join(folder, name[: -len(b".pack")]) for name in there]


def _free_pack(clone: Clone, pack: bytes, unneeded: set[bytes], now: float) -> list[bytes]:
    """Remove a pack that a backup wrote; where some of it is needed, and less than half of its bytes, that is packed anew.

    Returns what is not needed and still there.
    """
    lines = clone.run("show-index", given=read_bytes(pack + b".idx", 1 << 30)).split(b"\n")
    places = sorted((int(offset), oid) for offset, oid, *_ in (line.split(b" ") for line in lines if line))
    ends = [offset for offset, _ in places[1:]] + [os.stat(pack + b".pack").st_size]
    needed = {oid: end - offset for (offset, oid), end in zip(places, ends) if oid not in unneeded}
    is_worth_it = sum(needed.values()) * 2 < ends[-1]
    is_fresh = now - os.stat(pack + b".pack").st_mtime < _GRACE_S
    if is_fresh or not is_worth_it or os.path.exists(pack + b".keep"):
        return [oid for _, oid in places if oid in unneeded]
    if needed:
        given = b"".join(oid + b"\n" for oid in needed)
        name = clone.run("pack-objects", "-q", os.path.join(os.path.dirname(pack), b"pack"), given=given).strip()
        with open(clone.shared(PACKS), "ab") as file:
            file.write(b"pack-%s.pack: \n" % name)
    for ending in (b".idx", b".rev", b".pack"):
        if os.path.exists(pack + ending):
            os.unlink(pack + ending)
    return []
