"""Files that a backup keeps beside git's objects: those too big to copy, and the ones the repository calls precious.

A file is kept once under a name made of its path, inode, time and size. A small one is copied. A big one shares its blocks
where the file system can (reflink), else it is hard-linked: that survives its removal and replacement, as git and most
programs do it, and not a program that writes into the same file. Such a copy is known by its time, and said to be changed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from typing import Callable, Iterator, NamedTuple, Sequence, TypeVar

from . import store
from .backup_clone import Clone, Stat, stat_of

LINKED = b"linked"
PRECIOUS = b"precious"
_REFLINK = 0x40049409  # FICLONE of Linux
# A pattern like `**/.env` walks the tree; beyond this many names a run's start would wait for it.
_MOST_VISITED = 50_000
T = TypeVar("T")


class Kept(NamedTuple):
    """One kept file: its name in the store, and what it was."""

    path: bytes
    key: str
    size: int
    mtime_ns: int
    mode: int


def keep(clone: Clone, folder: bytes, path: bytes, found: Stat, *, copies: bool) -> Kept | None:
    """Keep a file of the work tree in `folder` of the clone's own store; None when neither a copy nor a link can be made."""
    seed = b"%s\0%d %d %d" % (path, found.inode, found.mtime_ns, found.size)
    kept = Kept(path, hashlib.sha256(seed).hexdigest()[:40], found.size, found.mtime_ns, found.mode)
    place = place_of(clone, folder, kept)
    if stat_of(place) is not None:
        return kept
    store.make_private(os.fsdecode(os.path.dirname(place)))
    staged = b"%s.%d.new" % (place, os.getpid())
    try:
        _transfer(clone.place(path), staged, copies=copies, is_link=stat.S_ISLNK(found.mode))
        _give_time(staged, kept)
        os.replace(staged, place)
    except OSError:
        try:
            os.unlink(staged)
        except OSError:
            pass
        return None
    return kept


def place_of(clone: Clone, folder: bytes, kept: Kept) -> bytes:
    """Where the store has this file."""
    return clone.shared(folder, kept.key[:2].encode(), kept.key.encode())


def is_intact(clone: Clone, folder: bytes, kept: Kept) -> bool:
    """Whether the store still has the file as it was: a hard link shows what was written into the file since."""
    found = stat_of(place_of(clone, folder, kept))
    return found is not None and (found.size, found.mtime_ns) == (kept.size, kept.mtime_ns)


def put_back(clone: Clone, folder: bytes, kept: Kept, staged: bytes, copies_up_to: int) -> None:
    """Make the kept file at `staged`, a place in the work tree, for a rename into its own. Raises OSError."""
    place = place_of(clone, folder, kept)
    is_link = stat.S_ISLNK(kept.mode)
    _transfer(place, staged, copies=kept.size <= copies_up_to, is_link=is_link)
    if not is_link and stat.S_IMODE(os.lstat(staged).st_mode) != stat.S_IMODE(kept.mode):
        os.chmod(staged, stat.S_IMODE(kept.mode))
    _give_time(staged, kept)


def _give_time(place: bytes, kept: Kept) -> None:
    found = os.lstat(place)
    if found.st_mtime_ns != kept.mtime_ns:  # not where it is the very same file
        os.utime(place, ns=(found.st_atime_ns, kept.mtime_ns), follow_symlinks=False)


def _transfer(source: bytes, target: bytes, *, copies: bool, is_link: bool) -> None:
    """`source` at `target`, a new file: copied when asked, else with shared blocks, else as a hard link. Raises OSError."""
    if is_link:
        os.symlink(os.readlink(source), target)
        return
    if copies:
        _copy(source, target)
    elif not _reflink(source, target):
        os.link(source, target, follow_symlinks=False)


def _copy(source: bytes, target: bytes) -> None:
    with (
        open(os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as reading,
        open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as writing,
    ):
        shutil.copyfileobj(reading, writing, 1 << 20)


def _reflink(source: bytes, target: bytes) -> bool:
    import fcntl

    reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.ioctl(writing, _REFLINK, reading)
        except OSError:
            os.unlink(target)
            return False
        finally:
            os.close(writing)
    finally:
        os.close(reading)
    return True


def precious_files(clone: Clone, patterns: list[bytes], most: int) -> tuple[dict[bytes, Stat], bool]:
    """The files that these globs name, at most `most`, and whether there are more. Links to folders are not followed."""
    found: dict[bytes, Stat] = {}
    visited = 0
    for pattern in patterns:
        for path in _candidates(clone, pattern.split(b"/")):
            visited += 1
            if visited > _MOST_VISITED or len(found) >= most:
                return found, True
            known = stat_of(clone.place(path)) if matches(pattern, path) else None
            if known is not None and (stat.S_ISREG(known.mode) or stat.S_ISLNK(known.mode)):
                found[path] = known
    return found, False


def _candidates(clone: Clone, parts: list[bytes]) -> Iterator[bytes]:
    """Every path below the part of a pattern that has no wildcard, no deeper than the pattern can reach."""
    fixed: list[bytes] = []
    for part in parts:
        if b"*" in part or b"?" in part:
            break
        fixed.append(part)
    if any(os.path.islink(clone.place(b"/".join(fixed[:count]))) for count in range(1, len(fixed))):
        return  # what lies behind a link is not of this work tree
    if fixed == parts or os.path.islink(clone.place(b"/".join(fixed))):
        yield b"/".join(fixed)
        return
    start = clone.place(b"/".join(fixed))
    depth = None if b"**" in parts else len(parts) - len(fixed)
    for folder, folders, names in os.walk(start):
        inside = os.path.relpath(folder, start)
        level = 0 if inside == b"." else inside.count(b"/") + 1
        inside_folders = list(folders)
        folders[:] = [] if depth is not None and level + 1 >= depth else sorted(n for n in folders if n != b".git")
        above = os.path.relpath(folder, clone.root)
        links = [name for name in inside_folders if os.path.islink(os.path.join(folder, name))]
        for name in sorted([*names, *links]):
            yield name if above == b"." else os.path.join(above, name)


def matches(pattern: bytes, path: bytes) -> bool:
    """Whether a path is what a glob names: `*` and `?` within a name, `**` across folders; a folder names all below it."""
    names = path.split(b"/")
    wanted = [part for part in pattern.split(b"/") if part]
    if not any(b"*" in part or b"?" in part for part in wanted):
        return names[: len(wanted)] == wanted
    return _walk(wanted, names, b"**", _is_name)


def _is_name(pattern: bytes, name: bytes) -> bool:
    return _walk(list(pattern), list(name), ord("*"), _is_letter)


def _is_letter(wanted: int, letter: int) -> bool:
    return wanted in (letter, ord("?"))


def _walk(wanted: Sequence[T], given: Sequence[T], star: T, is_one: Callable[[T, T], bool]) -> bool:
    """Match with one kind of star, going back to the last star only: time is bounded by the product of both lengths."""
    at, place, star_at, star_place = 0, 0, -1, 0
    while place < len(given):
        if at < len(wanted) and wanted[at] == star:
            star_at, star_place = at, place
            at += 1
        elif at < len(wanted) and is_one(wanted[at], given[place]):
            at += 1
            place += 1
        elif star_at >= 0:
            star_place += 1
            at, place = star_at + 1, star_place
        else:
            return False
    return all(part == star for part in wanted[at:])
