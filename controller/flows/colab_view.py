"""What the runs' folder in Drive holds, kept between calls: the second look asks only what changed (S9-R14).

The view on disk is a cache. Every fault in it, and every token that Drive no longer knows, means to look anew.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from controller.flows.drive import Place
from lanes.drive_runs import STATUS, File
from manifests.errors import HemmaError
from manifests.files import read_json, write_json
from manifests.places import private_dir, state_dir
from remote.drive.store import DriveError, Entry, NotInDrive, Store
from remote.drive.tree import Node, nodes_of, walk_many

RUNS = "runs"
DEPTH = 4
READERS = 16
MAX_STATUS_BYTES = 1 << 20
_FORMAT = 1


@dataclass
class View:
    """Entries below the runs' folders `tops`; `linked` are those reached by a shortcut, which lie elsewhere.

    `contents`: id -> (version, text) of the status files that were read; `problems`: why others could not be.
    """

    tops: list[str]
    token: str | None = None
    entries: dict[str, Entry] = field(default_factory=dict[str, Entry])
    linked: set[str] = field(default_factory=set[str])
    contents: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    problems: dict[str, str] = field(default_factory=dict[str, str])

    def nodes(self) -> list[Node]:
        """All entries with their paths below the runs' folders: the first part is the run."""
        found: list[Node] = []
        level = dict.fromkeys(self.tops, "")
        seen: set[str] = set()
        while level:
            nodes = nodes_of(self.entries.values(), level)
            found += nodes
            seen |= set(level)
            level = {n.entry.id: n.path for n in nodes if n.entry.kind == "folder" and n.entry.id not in seen}
        return found


@dataclass(frozen=True)
class RunFolder:
    """One run as the store shows it: its folder, its files by path, and the text of its status.json if it could be read."""

    name: str
    id: str
    entries: dict[str, Entry]
    status_text: str | None
    problem: str = ""

    def files(self) -> list[File]:
        """The files as decisions want them."""
        return [_file(path, entry, self.problem if path == STATUS else "") for path, entry in self.entries.items()]


def look(place: Place, *, is_fresh: bool = False) -> list[RunFolder]:
    """Every run in Drive, in order of their names. Requirement: S9-R14, S9-R24.

    At first a call for each level of folders and one for each status; later one for what changed and one for each
    status that did. `is_fresh` forgets what was known. Raises as the store does.
    """
    view = None if is_fresh else _kept(place)
    if view is None or not _brought_up_to_date(place.store, view):
        view = _anew(place)
    runs = _runs(view)
    _read_all(place.store, view, [run[2][STATUS] for run in runs if STATUS in run[2]])
    _keep(place, view)
    return [_folder(view, *run) for run in runs]


def look_at(store: Store, folder: Entry) -> RunFolder:
    """One run, given its folder: for a link or an id that a person has (S9-R15)."""
    entries = {node.path: node.entry for node in walk_many(store, {folder.id: ""}, depth=DEPTH)}
    files = {path: entry for path, entry in entries.items() if entry.kind != "folder"}
    view = View([folder.id])
    if STATUS in files:
        _read_all(store, view, [files[STATUS]])
    return _folder(view, folder.name, folder.id, files)


def forget(place: Place) -> None:
    """Drop what is kept of this place; the next look is a whole one."""
    if os.path.exists(_path(place)):
        os.unlink(_path(place))


# --- looking -----------------------------------------------------------------------------------------------------------


def _anew(place: Place) -> View:
    # The token comes first: what changes while we list is then told again, never missed.
    token = place.store.start_token()
    tops = [
        entry.target if entry.kind == "shortcut" and entry.target else entry.id
        for entry in place.store.list(place.root)
        if entry.name == RUNS and "folder" in (entry.kind, entry.target_kind)
    ]
    view = View(tops, token)
    if tops:
        view.entries = {
            node.entry.id: node.entry for node in walk_many(place.store, dict.fromkeys(tops, ""), depth=DEPTH)
        }
    return view


def _brought_up_to_date(store: Store, view: View) -> bool:
    """Whether `view` could be made current by what changed since; False when it has to be made anew."""
    if view.token is None or not view.tops:
        return False
    try:
        changes = store.changes(view.token)
    except NotInDrive:
        return False
    view.token = changes.token
    for file_id in changes.gone:
        view.entries.pop(file_id, None)
    folders = {*view.tops, *(entry.id for entry in view.entries.values() if entry.kind == "folder")}
    new: dict[str, str] = {}
    for entry in changes.entries:
        known = view.entries.pop(entry.id, None)
        if known is not None and entry.id in view.linked:
            view.entries[entry.id] = dataclasses.replace(entry, name=known.name, parents=known.parents)
        elif not entry.is_trashed and folders & set(entry.parents):
            if entry.kind == "shortcut":  # it leads somewhere that no change speaks of
                return False
            view.entries[entry.id] = entry
            if entry.kind == "folder" and known is None:
                new[entry.id] = ""
    _add(view, walk_many(store, new, depth=DEPTH - 1) if new else [])
    return True


def _add(view: View, nodes: Sequence[Node]) -> None:
    view.entries.update((node.entry.id, node.entry) for node in nodes)
    view.linked |= {node.entry.id for node in nodes if node.is_linked}


def _runs(view: View) -> list[tuple[str, str, dict[str, Entry]]]:
    """(name, folder's id, files by path below it) of every run."""
    nodes = view.nodes()
    folders = {node.path: node.entry.id for node in nodes if "/" not in node.path and node.entry.kind == "folder"}
    files: dict[str, dict[str, Entry]] = {name: {} for name in folders}
    for node in nodes:
        run, slash, path = node.path.partition("/")
        if slash and run in files and node.entry.kind != "folder":
            files[run][path] = node.entry
    return [(name, folders[name], files[name]) for name in sorted(folders)]


def _folder(view: View, name: str, folder_id: str, entries: dict[str, Entry]) -> RunFolder:
    status = entries.get(STATUS)
    text = view.contents.get(status.id, ("", None))[1] if status else None
    return RunFolder(name, folder_id, entries, text, view.problems.get(status.id, "") if status else "")


# --- reading status files ----------------------------------------------------------------------------------------------


def _read_all(store: Store, view: View, entries: Sequence[Entry]) -> None:
    """The content of each status file whose version is another than that we have; several at once."""
    due = [entry for entry in entries if view.contents.get(entry.id, ("", ""))[0] != entry.version]
    if due:
        with ThreadPoolExecutor(min(READERS, len(due))) as pool:
            for entry, (text, problem) in zip(due, pool.map(partial(_text_of, store), due), strict=True):
                view.contents.pop(entry.id, None)
                if problem:
                    view.problems[entry.id] = problem
                elif text is not None:
                    view.contents[entry.id] = (entry.version, text)
    wanted = {entry.id for entry in entries}
    view.contents = {file_id: kept for file_id, kept in view.contents.items() if file_id in wanted}


def _text_of(store: Store, entry: Entry) -> tuple[str | None, str]:
    """(text, "") or (None, why it cannot be read)."""
    why = why_not(entry)
    if why:
        return None, why
    try:
        content = read_whole(store, entry, MAX_STATUS_BYTES)
    except HemmaError as error:
        return None, error.message
    return content.decode("utf-8", "replace"), ""


def read_whole(store: Store, entry: Entry, most: int) -> bytes:
    """The first `most` bytes of a file. Whole files are compared with their checksum, and read once more if it differs.

    Raises DriveError, also when the file is rewritten faster than it can be read.
    """
    for _ in range(3):
        size = entry.size if entry.size is None else min(entry.size, most)
        content = b"".join(store.read(entry.id, size=size))
        is_whole = entry.size is not None and entry.size <= most
        if entry.md5 is None or not is_whole or _md5(content) == entry.md5:
            return content
        entry = store.metadata(entry.id)
    raise DriveError(f"{entry.name} changed while it was read, three times", remedy="try again", code="drive-digest")


def why_not(entry: Entry) -> str:
    """Why the content of an entry cannot be had, by its metadata alone; empty when it can."""
    if entry.kind == "document":
        return "a document of Google's own kind, which has no bytes: export it in Drive"
    if entry.kind == "shortcut":
        return "a shortcut whose target is gone or not shared with this account"
    return "" if entry.may_download else "its owner allows looking, not downloading"


def _file(path: str, entry: Entry, problem: str) -> File:
    return File(path, entry.id, entry.size, entry.modified, problem or why_not(entry))


# --- the cache ---------------------------------------------------------------------------------------------------------


def _path(place: Place) -> str:
    name = hashlib.sha256(f"{place.store.name}\0{place.root}".encode()).hexdigest()[:16]
    return os.path.join(state_dir(), "drive", f"view-{name}.json")


def _kept(place: Place) -> View | None:
    """The view of last time, or None when there is none that can be used."""
    try:
        kept = read_json(_path(place))
        if kept["format"] != _FORMAT or kept["place"] != [place.store.name, place.root]:
            return None
        read: list[dict[str, Any]] = kept["entries"]
        entries = [Entry(**_arguments(each)) for each in read]
        contents = {str(key): (str(pair[0]), str(pair[1])) for key, pair in kept["contents"].items()}
        by_id = {entry.id: entry for entry in entries}
        return View(list(map(str, kept["tops"])), kept["token"], by_id, set(kept["linked"]), contents)
    except (HemmaError, KeyError, TypeError, ValueError, AttributeError, IndexError):
        return None


def _arguments(kept: dict[str, Any]) -> dict[str, Any]:
    return {**kept, "parents": tuple(kept["parents"])}


def _keep(place: Place, view: View) -> None:
    if view.token is None:
        return
    private_dir(os.path.dirname(_path(place)))
    kept: dict[str, Any] = {
        "format": _FORMAT,
        "place": [place.store.name, place.root],
        "tops": view.tops,
        "token": view.token,
        "entries": [dataclasses.asdict(entry) for entry in view.entries.values()],
        "linked": sorted(view.linked),
        "contents": view.contents,
    }
    write_json(_path(place), kept)


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
