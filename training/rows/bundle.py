"""A slice on this disk, as the engine reads it: is every byte the one that was issued, and where do its paths lie.

Plain data, no models: the engine runs where nothing but Python is installed. manifests/slices.py says what the fields mean.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from typing import Any

from manifests.errors import HemmaError
from manifests.files import read_json

Index = dict[str, Any]
KNOWN_VERSION = 1
_PAGES = ("notebook.ipynb", "README.md")


class SliceBroken(HemmaError):
    """The slice on this disk is not the one that was issued."""

    code = "slice-broken"


def read_index(folder: str) -> Index:
    """slice.json of the slice in `folder`, its own digest proven. Raises SliceBroken, HemmaError `file-missing`."""
    index = read_json(os.path.join(folder, "slice.json"))
    if index.get("kind") != "hemma-slice" or not isinstance(index.get("files"), list):
        raise _broken(folder, "slice.json is none of a slice")
    if int(index.get("schema_version", 1)) > KNOWN_VERSION:
        raise _broken(folder, "it was issued by a newer Hemma than the engine in it knows")
    if digest_of(index) != index.get("digest"):
        raise _broken(folder, "slice.json was changed after it was issued")
    return index


def digest_of(index: Index) -> str:
    """The digest of a slice, from what slice.json holds (see manifests/slices.py, slice_digest)."""
    kept = {key: value for key, value in index.items() if key not in {"digest", "files"}}
    kept["files"] = [each for each in index["files"] if each["path"] not in _PAGES]
    return hashlib.sha256(json.dumps(kept, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def faults(folder: str, index: Index) -> list[str]:
    """What differs from the issued bundle: files gone, cut or changed, and files that were not in it; empty when all holds."""
    found: list[str] = []
    for each in index["files"]:
        path = os.path.join(folder, *each["path"].split("/"))
        try:
            size = os.path.getsize(path)
            if size != each["size_bytes"]:
                found.append(f"{each['path']}: {size} bytes, not {each['size_bytes']}")
            elif file_sha256(path) != each["sha256"]:
                found.append(f"{each['path']}: its content was changed")
        except OSError as error:
            found.append(f"{each['path']}: {error.strerror}")
    listed = {"slice.json", "paths.json", *(each["path"] for each in index["files"])}
    strangers = sorted(name for name in _present(folder) if name not in listed)
    return found + [f"{name}: is no part of this slice" for name in strangers] + _path_faults(folder, index)


def file_sha256(path: str) -> str:
    """The sha256 of a file, in hex. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(folder: str, digest: str = "") -> Index:
    """The index of a slice every byte of which is proven; `digest` is the one expected. Raises SliceBroken with each fault."""
    index = read_index(folder)
    if digest and index["digest"] != digest:
        raise _broken(folder, f"it is slice {index['digest'][:12]}, not {digest[:12]}")
    found = faults(folder, index)
    if found:
        more = f" (and {len(found) - 5} more)" if len(found) > 5 else ""
        raise _broken(folder, "; ".join(found[:5]) + more)
    return index


def demand_same_source(folder: str, source: str) -> None:
    """The engine at `source`, when a notebook brought it, is the very one in the slice. Raises SliceBroken."""
    if not os.path.isdir(source):
        return
    with zipfile.ZipFile(os.path.join(folder, "source.pyz")) as archive:
        for name in (each for each in archive.namelist() if not each.endswith("/")):
            try:
                with open(os.path.join(source, *name.split("/")), "rb") as file:
                    is_same = file.read() == archive.read(name)
            except OSError:
                is_same = False
            if not is_same:
                raise _broken(folder, f"its {name} is another than the notebook's")


def _broken(folder: str, fact: str) -> SliceBroken:
    return SliceBroken(f"{folder}: {fact}", remedy="copy the slice again, whole, from where it was issued")


def _present(folder: str) -> list[str]:
    names: list[str] = []
    for here, folders, files in os.walk(folder):
        # A Jupyter that shows the folder keeps copies there; they are nobody's work.
        folders[:] = [name for name in folders if name not in {".ipynb_checkpoints", "__pycache__"}]
        names += [os.path.relpath(os.path.join(here, name), folder).replace(os.sep, "/") for name in files]
    return names


# --- paths ----------------------------------------------------------------------------------------------------------


def local_paths(folder: str, index: Index) -> dict[str, str]:
    """Each localizable path of the slice as it is on this machine: from paths.json, else its default (S9-R32)."""
    chosen = _chosen(folder)
    return {
        each["name"]: os.path.join(os.path.abspath(folder), str(chosen.get(each["name"], each["default"])))
        for each in index.get("localizable", ())
    }


def localized(row: dict[str, Any], index: Index, paths: dict[str, str]) -> dict[str, Any]:
    """`row` with the values of its localizable fields put below their path; all else as it was issued."""
    made = dict(row)
    for each in index.get("localizable", ()):
        for field in each["fields"]:
            if isinstance(made.get(field), str) and made[field]:
                made[field] = os.path.join(paths[each["name"]], made[field])
    return made


def _chosen(folder: str) -> dict[str, Any]:
    path = os.path.join(folder, "paths.json")
    return read_json(path) if os.path.exists(path) else {}


def _path_faults(folder: str, index: Index) -> list[str]:
    declared = {each["name"] for each in index.get("localizable", ())}
    try:
        chosen = _chosen(folder)
    except HemmaError as error:
        return [f"paths.json: {error.message}"]
    undeclared = [f"paths.json: {name} is not declared localizable" for name in sorted(set(chosen) - declared)]
    wrong = [f"paths.json: {name} is no path" for name, value in sorted(chosen.items()) if not isinstance(value, str)]
    return undeclared + wrong


def rows_of(folder: str) -> list[tuple[str, dict[str, Any]]]:
    """(key, row) of each row of the slice, in order. Raises SliceBroken, OSError."""
    with open(os.path.join(folder, "rows.jsonl"), "rb") as file:
        try:
            return [(each["key"], each["row"]) for each in map(json.loads, file)]
        except (ValueError, KeyError, TypeError) as error:
            raise _broken(folder, "rows.jsonl holds a line that is no row") from error
