"""`hemma colab collect`: a run's results out of Drive, what changed only, each byte compared with Drive's checksum.

Requirement: S9-R14, S9-R24. A file appears whole and under its name, or not at all; what came before an outage stays.
Nothing in Drive is changed. Files are not synced to the platter one by one: after a power loss collect again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

from controller.flows import colab_view
from controller.flows.drive import Place
from manifests.commands import command
from manifests.errors import HemmaError
from manifests.files import read_json, write_json
from manifests.places import private_dir, state_dir
from remote.drive.store import DigestMismatch, Entry, NotReadable, Store
from remote.drive.tree import Node, walk

PARTS = ".hemma-part"
READERS = 12
BIG = 4 << 20
BIG_AT_ONCE = 4  # each holds a piece of some MiB in memory
TRIES = 4
# (files done, files in all, bytes so far)
Progress = Callable[[int, int, int], None]


@dataclass
class Collected:
    """What a collect did; paths are relative to `folder`. `failed` names what could not be had, and why."""

    run: str
    folder: str
    changed: list[str] = field(default_factory=list[str])
    unchanged: int = 0
    failed: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    size_bytes: int = 0
    on_host: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The collect as agents read it under --json."""
        return {**dataclasses.asdict(self), "changed": sorted(self.changed)}


def collect(place: Place, name: str, folder_id: str, target: str, *, progress: Progress | None = None) -> Collected:
    """Bring every file below `folder_id` to the local folder `target`.

    What is there with Drive's checksum is not read. A broken transfer goes on where it broke, in a later call too.
    Raises what the store raises when the folder itself cannot be listed; faults of single files are in `failed`.
    """
    done = Collected(name, target)
    known = _Known(place, folder_id, target)
    os.makedirs(target, exist_ok=True)
    nodes = [node for node in walk(place.store, folder_id) if node.entry.kind != "folder"]
    # The largest first, so that none of them is alone at the end.
    due = sorted((node for node in nodes if not known.holds(node)), key=lambda node: -(node.entry.size or 0))
    done.unchanged = len(nodes) - len(due)
    big = threading.Semaphore(BIG_AT_ONCE)
    with ThreadPoolExecutor(READERS) as pool:
        running = {pool.submit(_bring, place.store, node, target, big): node for node in due}
        _gather(running, known, done, len(nodes), progress)
    known.write()
    with contextlib.suppress(OSError):
        os.rmdir(os.path.join(target, PARTS))
    return done


def to_host(settings: dict[str, Any], done: Collected, into: str) -> list[str]:
    """Put what was collected on the host, below `into` of the repository there; returns the paths that changed there.

    Each file whole, in one rename, its digest proven on the host. What is the same there is not sent again.
    """
    from remote import files as host_files

    changed: list[str] = []
    for path in _all_files(done.folder):
        there, local = f"{into}/{path}", os.path.join(done.folder, path)
        seen = host_files.look(settings["host"], there, with_digest=True)
        if seen.digest == host_files.digest_of(local):
            continue
        host_files.put(settings["host"], local, there, parents=True)
        changed.append(path)
    done.on_host = into
    return changed


def _all_files(folder: str) -> list[str]:
    found: list[str] = []
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != PARTS)
        found += [os.path.relpath(os.path.join(here, name), folder).replace(os.sep, "/") for name in sorted(names)]
    return found


def _gather(
    running: dict[Future[str], Node], known: _Known, done: Collected, total: int, progress: Progress | None
) -> None:
    try:
        # Not `wait`: it looks at every future each time, which for thousands of small files costs more than the files.
        for future in as_completed(running):
            _enter(future, running[future], known, done)
            if progress:
                progress(done.unchanged + len(done.changed) + len(done.failed), total, done.size_bytes)
    except BaseException:
        for future in running:
            future.cancel()
        known.write()
        raise


def _enter(future: Future[str], node: Node, known: _Known, done: Collected) -> None:
    try:
        md5 = future.result()
    except HemmaError as error:
        if error.exit_code == 255 or error.code == "drive-not-signed-in":
            raise
        done.failed.append({"path": node.path, "why": error.message})
    except OSError as error:
        done.failed.append({"path": node.path, "why": f"cannot be written here: {error.strerror}"})
    else:
        known.enter(node, md5)
        done.changed.append(node.path)
        done.size_bytes += node.entry.size or 0


# --- one file ----------------------------------------------------------------------------------------------------------


def _bring(store: Store, node: Node, target: str, big: threading.Semaphore) -> str:
    """Bring one file; returns its MD5. Raises NotReadable, DigestMismatch, OSError."""
    entry = node.entry
    why = colab_view.why_not(entry)
    if why:
        raise NotReadable(why, remedy="ask its owner")
    if (entry.size or 0) < BIG:
        return _tried(store, entry, node.path, target)
    with big:
        return _tried(store, entry, node.path, target)


def _tried(store: Store, entry: Entry, path: str, target: str) -> str:
    final = os.path.join(target, *path.split("/"))
    _make_inside(os.path.dirname(final), target)
    for _ in range(TRIES):
        part = os.path.join(target, PARTS, _part_name(entry))
        got = _received(store, entry, part)
        if entry.md5 is None or got == entry.md5:
            os.replace(part, final)
            return got
        os.unlink(part)
        # It was rewritten between listing and reading, or the bytes were wrong: which of both, its metadata tells.
        entry = store.metadata(entry.id)
    raise DigestMismatch(f"{TRIES} times its bytes were not those of its checksum", remedy="collect again later")


def _make_inside(folder: str, target: str) -> None:
    """Make this folder below `target`. Raises NotReadable where a link leads out of it."""
    real, border = os.path.realpath(folder), os.path.realpath(target)
    if real != border and not real.startswith(border.rstrip(os.sep) + os.sep):
        raise NotReadable(f"{folder} leads through a link out of {target}", remedy=command("ls -la {}", folder))
    os.makedirs(real, exist_ok=True)


def _part_name(entry: Entry) -> str:
    """The name of a file's unfinished copy: another version of it is another copy."""
    version = entry.md5 or entry.version
    return hashlib.sha256(f"{entry.id}\0{version}\0{entry.size}".encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _received(store: Store, entry: Entry, part: str) -> str:
    """The rest of a file into `part`, after what is there; returns the MD5 of all of it."""
    os.makedirs(os.path.dirname(part), exist_ok=True)
    digest = hashlib.md5(usedforsecurity=False)
    with open(part, "a+b") as file:
        file.seek(0)
        while piece := file.read(1 << 20):
            digest.update(piece)
        offset = file.tell()
        if entry.size is not None and offset > entry.size:
            file.truncate(0)
            offset, digest = 0, hashlib.md5(usedforsecurity=False)
        for piece in store.read(entry.id, offset, size=entry.size):
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


# --- what is here already ----------------------------------------------------------------------------------------------


class _Known:
    """What earlier collects brought to this folder: path -> checksum, version, and the file's size and time here."""

    def __init__(self, place: Place, folder_id: str, target: str) -> None:
        key = f"{place.store.name}\0{folder_id}\0{os.path.realpath(target)}".encode("utf-8", "surrogateescape")
        folder = os.path.join(state_dir(), "drive", "collected")
        self.path = os.path.join(folder, f"{hashlib.sha256(key).hexdigest()[:16]}.json")
        self.target = target
        try:
            self.known = read_json(self.path)
        except HemmaError:
            self.known = dict[str, Any]()

    def holds(self, node: Node) -> bool:
        """Whether the file is here as Drive has it now."""
        entry, kept = node.entry, self.known.get(node.path)
        facts = self._facts(node.path)
        if facts is None or facts[0] != entry.size:
            return False
        if isinstance(kept, dict) and kept.get("facts") == facts:
            return kept.get("md5") == entry.md5 if entry.md5 else kept.get("version") == entry.version
        # Brought by another machine, or before the record was lost: the bytes themselves tell.
        if entry.md5 is None or self._md5(node.path) != entry.md5:
            return False
        self.enter(node, entry.md5)
        return True

    def enter(self, node: Node, md5: str) -> None:
        """Remember what was brought."""
        version = node.entry.version
        self.known[node.path] = {"md5": md5, "version": version, "facts": self._facts(node.path)}

    def write(self) -> None:
        """Put the record on disk."""
        private_dir(os.path.dirname(self.path))
        write_json(self.path, self.known)

    def _facts(self, path: str) -> list[int] | None:
        try:
            facts = os.lstat(os.path.join(self.target, *path.split("/")))
        except OSError:
            return None
        return [facts.st_size, facts.st_mtime_ns]

    def _md5(self, path: str) -> str:
        with open(os.path.join(self.target, *path.split("/")), "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
