"""`hemma colab dispatch`: a slice into Drive, every byte proven, and the link that opens its notebook (S9-R30, S9-R31).

Ids are drawn and written down before anything is made under them. So a dispatch that broke, at whatever moment, and was
started again makes nothing twice, also when Drive's listing does not yet show what is there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import filelock

from controller.flows.colab_view import RUNS
from controller.flows.drive import Place, child
from lanes.drive_links import colab_link, folder_link
from lanes.drive_runs import STATUS
from manifests.errors import HemmaError, UsageError
from manifests.files import read_json, write_json
from manifests.places import private_dir, state_dir
from remote.drive.store import DriveError, Entry, NotInDrive
from remote.drive.tree import walk

SLICES = "slices"
INDEX = "slice.json"
PATHS = "paths.json"
NOTEBOOK = "notebook.ipynb"
WRITERS = 8
# (files done, files in all, name)
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Dispatched:
    """What a dispatch did: `sent` and `present` are paths in the slice; `link` opens the notebook, `folder_link` the slice."""

    slice: str
    digest: str
    folder_id: str
    notebook_id: str | None
    link: str | None
    folder_link: str
    sent: tuple[str, ...]
    present: tuple[str, ...]
    size_bytes: int
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The dispatch as agents read it under --json."""
        return dataclasses.asdict(self)


def dispatch(place: Place, folder: str, *, parent: str | None = None, progress: Progress | None = None) -> Dispatched:
    """Bring the slice in the local `folder` into Drive, below `parent` or the place's `slices` folder.

    Only its own files go (S9-R31), slice.json last: a folder without it is no slice. What is there with the same bytes
    stays. Raises UsageError for what is no slice, HemmaError `slice-broken`, and what the store raises.
    """
    index = proven(folder)
    name = f"{index['name']}-{index['digest'][:12]}"
    paths = sorted(str(each["path"]) for each in index["files"])
    last = [path for path in (PATHS, INDEX) if os.path.exists(os.path.join(folder, path))]
    with _record(place, f"{parent or place.root}\0{index['digest']}") as record:
        made = _Maker(place, record)
        above = parent or made.folder(place.root, SLICES, SLICES)
        there = made.folder(above, name, name)
        known = _files_there(place, there)
        made.folders_for(there, [*paths, *last])
        sent = made.bring(folder, known, paths, progress, total=len(paths) + len(last))
        sent += made.bring(folder, known, last, progress, total=len(paths) + len(last), before=len(paths))
    ids = made.ids
    return Dispatched(
        slice=name,
        digest=str(index["digest"]),
        folder_id=there,
        notebook_id=ids.get(NOTEBOOK),
        link=_link(place, ids.get(NOTEBOOK)),
        folder_link=folder_link(there) if place.is_google else os.path.join(place.store.name.partition(":")[2], there),
        sent=tuple(sent),
        present=tuple(path for path in [*paths, *last] if path not in sent),
        size_bytes=sum(os.path.getsize(os.path.join(folder, path)) for path in sent),
        note=_elsewhere(place, parent, str(index.get("project") or "")),
    )


def bring_run(place: Place, folder: str, run: str) -> list[str]:
    """Bring a run's directory that did not come about in Drive into the place, its status last; the paths that were sent.

    So it is read, followed and collected like any other. Raises what the store raises.
    """
    found = [os.path.relpath(os.path.join(here, name), folder) for here, _, names in os.walk(folder) for name in names]
    paths = sorted((path.replace(os.sep, "/") for path in found), key=lambda path: (path == STATUS, path))
    with _record(place, f"run\0{run}") as record:
        made = _Maker(place, record)
        there = made.folder(made.folder(place.root, RUNS, RUNS), run, run)
        known = _files_there(place, there)
        made.folders_for(there, paths)
        sent = made.bring(folder, known, paths[:-1], None, total=len(paths))
        return sent + made.bring(folder, known, paths[-1:], None, total=len(paths))


class _Maker:
    """Makes folders and files under ids that the record holds."""

    def __init__(self, place: Place, record: _Record) -> None:
        self.store, self.record = place.store, record
        self.folders: dict[str, str] = {}
        self.ids: dict[str, str] = {}

    def folder(self, parent: str, name: str, key: str) -> str:
        """The folder `name` in `parent`: the one we know, the one that is there, or a new one."""
        known = self.record.get(f"folder {key}")
        entry = self._alive(known) or child(self.store, parent, name)
        if entry is None:
            entry = self._new_folder(parent, name, key, known)
        self.record.set({f"folder {key}": entry.id})
        return entry.id

    def _new_folder(self, parent: str, name: str, key: str, known: str | None) -> Entry:
        file_id = known or self._draw(parent, {f"folder {key}": name})[f"folder {key}"]
        entry = self.store.make_folder(parent, name, file_id=file_id)
        if not entry.is_trashed:
            return entry
        # It was thrown away by a person after we had made it: that one stays in the bin.
        self.record.drop([key for key in self.record.known if key.startswith(("folder ", "file "))])
        return self._new_folder(parent, name, key, None)

    def _alive(self, file_id: str | None) -> Entry | None:
        try:
            entry = self.store.metadata(file_id) if file_id else None
        except NotInDrive:
            return None
        return entry if entry and not entry.is_trashed else None

    def folders_for(self, top: str, paths: Sequence[str]) -> None:
        """Every folder that `paths` need below `top`, parents first."""
        needed = {"/".join(path.split("/")[:depth]) for path in paths for depth in range(1, path.count("/") + 1)}
        self.folders[""] = top
        for path in sorted(needed):
            above, _, name = path.rpartition("/")
            self.folders[path] = self.folder(self.folders[above], name, f"{top}/{path}")

    def bring(
        self,
        folder: str,
        known: dict[str, list[Entry]],
        paths: Sequence[str],
        progress: Progress | None,
        *,
        total: int,
        before: int = 0,
    ) -> list[str]:
        """Upload what is not there with the same bytes; returns the paths that were sent. Several at once."""
        digests = {path: _md5_of(os.path.join(folder, path)) for path in paths}
        due: list[str] = []
        for path in paths:
            same = [entry for entry in known.get(path, []) if self._md5(entry) == digests[path]]
            if same:
                self.ids[path] = same[0].id
            else:
                due.append(path)
        new = [path for path in due if not known.get(path) and not self.record.get(f"file {path}")]
        for above in sorted({path.rpartition("/")[0] for path in new}):
            mine = {f"file {path}": path.rpartition("/")[2] for path in new if path.rpartition("/")[0] == above}
            self._draw(self.folders[above], mine)
        with ThreadPoolExecutor(WRITERS) as pool:
            sent = pool.map(self._send, [folder] * len(due), due, [known.get(path, []) for path in due])
            for number, (path, file_id) in enumerate(zip(due, sent, strict=True), 1):
                self.ids[path] = file_id
                if progress:
                    progress(before + len(paths) - len(due) + number, total, path)
        return due

    def _send(self, folder: str, path: str, there: Sequence[Entry]) -> str:
        above, _, name = path.rpartition("/")
        # Of several with this name the newest is made right; the others are left to a person.
        file_id = max(there, key=lambda entry: entry.modified).id if there else self.record.known[f"file {path}"]
        entry = self.store.upload(
            os.path.join(folder, path), self.folders[above], name, file_id=file_id, is_new=not there
        )
        if entry.is_trashed:
            (file_id,) = self.store.new_ids(1, self.folders[above], [name])
            self.record.set({f"file {path}": file_id})
            entry = self.store.upload(
                os.path.join(folder, path), self.folders[above], name, file_id=file_id, is_new=True
            )
        return entry.id

    def _md5(self, entry: Entry) -> str:
        """The checksum of what is there; a plain folder has to read it."""
        if entry.md5 or entry.kind != "file":
            return entry.md5 or ""
        digest = hashlib.md5(usedforsecurity=False)
        for piece in self.store.read(entry.id, size=entry.size):
            digest.update(piece)
        return digest.hexdigest()

    def _draw(self, parent: str, names: dict[str, str]) -> dict[str, str]:
        """New ids for keys of the record, kept before anything is made under them."""
        drawn = dict(zip(names, self.store.new_ids(len(names), parent, list(names.values())), strict=True))
        self.record.set(drawn)
        return drawn


def _elsewhere(place: Place, parent: str | None, project: str) -> str:
    """What to say when the notebook will look for the slice in another folder than the one it was sent to."""
    called = place.store.metadata(place.root).name
    if parent is None and called == project:
        return ""
    where = "another folder" if parent else f"`{called}`"
    return (
        f"its notebook looks in a folder called {project}, and it was sent to {where}: "
        f"let `drive` name a folder {project}, or write `project:` into the manifest"
    )


def _files_there(place: Place, folder: str) -> dict[str, list[Entry]]:
    """Files below a folder by path; several when a name is there twice."""
    found: dict[str, list[Entry]] = {}
    folders = {folder: ""}
    for node in walk(place.store, folder):
        for parent in node.entry.parents:
            if parent in folders:
                path = f"{folders[parent]}/{node.entry.name}".lstrip("/")
                if node.entry.kind == "folder":
                    folders[node.entry.id] = path
                else:
                    found.setdefault(path, []).append(node.entry)
                break
    return found


def proven(folder: str) -> dict[str, Any]:
    """The index of the slice, every byte of it proven. Raises UsageError, HemmaError `slice-broken`."""
    from training.rows import bundle

    if not os.path.isfile(os.path.join(folder, INDEX)):
        raise UsageError(
            f"{folder} is no slice: it holds no {INDEX}", remedy="hemma slice issue manifests/slices/NAME.yaml"
        )
    return bundle.verify(folder)


def _link(place: Place, notebook: str | None) -> str | None:
    if notebook is None:
        return None
    return colab_link(notebook) if place.is_google else os.path.join(place.store.name.partition(":")[2], notebook)


def _md5_of(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


# --- the record --------------------------------------------------------------------------------------------------------


class _Record:
    """Ids of what a dispatch makes, on disk before it is made."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self.known = {key: str(value) for key, value in read_json(path).items()}
        except HemmaError:
            self.known = dict[str, str]()

    def get(self, key: str) -> str | None:
        """The id kept under `key`."""
        return self.known.get(key)

    def set(self, more: dict[str, str]) -> None:
        """Keep these ids; on disk when this returns."""
        if any(self.known.get(key) != value for key, value in more.items()):
            self.known |= more
            write_json(self.path, dict(self.known))

    def drop(self, keys: Sequence[str]) -> None:
        """Forget these."""
        for key in keys:
            self.known.pop(key, None)
        write_json(self.path, dict(self.known))


@contextmanager
def _record(place: Place, key: str) -> Generator[_Record]:
    """The record of one slice in one place, ours alone: two dispatches of it at once on one machine take turns."""
    name = hashlib.sha256(f"{place.store.name}\0{place.root}\0{key}".encode()).hexdigest()[:16]
    folder = private_dir(os.path.join(state_dir(), "drive", "dispatched"))
    path = os.path.join(folder, f"{name}.json")
    try:
        with filelock.FileLock(path + ".lock", timeout=600):
            yield _Record(path)
    except filelock.Timeout as error:
        raise DriveError(
            "the same slice is being dispatched for ten minutes now", remedy="wait for it, or end it"
        ) from error
