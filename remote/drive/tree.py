"""All that lies below a folder of a store, level by level: as many calls as it is deep, not as it has folders."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from lanes.drive_paths import distinct
from remote.drive.store import DriveError, Entry, Store

MAX_DEPTH = 12
GROUP = 50  # folders in one listing; see google.py


@dataclass(frozen=True, slots=True)
class Node:
    """One entry with its path below the folder that was walked, every part a safe name; `is_linked`: through a shortcut."""

    path: str
    entry: Entry
    is_linked: bool = False


def walk(store: Store, folder: str, *, depth: int = MAX_DEPTH) -> list[Node]:
    """Everything below `folder`, down to `depth` levels, folders too; parents before their children.

    Shortcuts are followed: the node has the target's facts under the shortcut's name. A folder that is reached twice,
    by shortcuts in a circle too, is read once. Raises as the store does when the folder itself cannot be listed.
    """
    return walk_many(store, {folder: ""}, depth=depth)


def walk_many(store: Store, folders: dict[str, str], *, depth: int = MAX_DEPTH) -> list[Node]:
    """The same below several folders at once; `folders` maps each one's id to the path that its nodes begin with."""
    found: list[Node] = []
    seen, level = set(folders), dict(folders)
    for _ in range(depth):
        if not level:
            break
        nodes = _level(store, level)
        found += nodes
        level = {
            node.entry.id: node.path for node in nodes if node.entry.kind == "folder" and node.entry.id not in seen
        }
        seen |= set(level)
    return found


def nodes_of(entries: Iterable[Entry], folders: dict[str, str]) -> list[Node]:
    """Entries as nodes below the folders they lie in; those of other folders are left out."""
    by_folder: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        for parent in entry.parents:
            if parent in folders:
                by_folder[parent].append(entry)
    found: list[Node] = []
    for folder, start in folders.items():
        children = by_folder.get(folder, [])
        names = distinct((child.id, child.name, child.modified) for child in children)
        found += [Node(f"{start}/{names[child.id]}" if start else names[child.id], child) for child in children]
    return found


def _level(store: Store, folders: dict[str, str]) -> list[Node]:
    groups = [list(folders)[at : at + GROUP] for at in range(0, len(folders), GROUP)]
    entries = [entry for group in _at_once(store, groups) for entry in group]
    nodes = nodes_of(entries, folders)
    return [Node(node.path, _followed(store, node.entry), node.entry.kind == "shortcut") for node in nodes]


def _at_once(store: Store, groups: Sequence[Sequence[str]]) -> list[list[Entry]]:
    if len(groups) == 1:
        only = groups[0]
        return [store.list(only[0]) if len(only) == 1 else store.list_many(only)]
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(store.list_many, groups))


def _followed(store: Store, entry: Entry) -> Entry:
    """What a shortcut leads to, under the shortcut's name and in its place; a dead one stays what it is."""
    if entry.kind != "shortcut" or not entry.target:
        return entry
    try:
        target = store.metadata(entry.target)
    except DriveError:
        return replace(entry, may_download=False)
    return replace(target, name=entry.name, parents=entry.parents)
