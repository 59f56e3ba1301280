"""What a notebook is to Hemma: any nbformat 4.x read from bytes, what of it carries meaning, and how it is written.

Plain dicts: nbformat opens schema files and logs, which lanes does not do; the tests hold what is written here against it.
A notebook that cannot be read is BrokenNotebook with the reason; callers count that as meaningful and leave its bytes alone.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

Raw = bytes | str | Mapping[str, Any]

# Editors do not nest deeper; Python's own limit depends on who calls, and an answer must not.
MAX_DEPTH = 100
# The first minor version whose cells must have an id.
MINOR_WITH_IDS = 5
_VALID_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_SPLIT_MIMES = ("application/javascript", "image/svg+xml")

# What editors, kernels and Colab write by themselves. Every key that is in neither list counts as meant.
NOTEBOOK_DRIFT = frozenset({
    "accelerator", "celltoolbar", "colab", "gpuClass", "interpreter", "kernel_info", "kernelspec", "language_info",
    "nteract", "orig_nbformat", "orig_nbformat_minor", "papermill", "signature", "toc", "varInspector", "vscode",
})  # fmt: skip
CELL_DRIFT = frozenset({
    "ExecuteTime", "_cell_guid", "_uuid", "cellView", "colab", "colab_type", "collapsed", "execution", "executionInfo",
    "heading_collapsed", "hidden", "id", "jupyter", "nteract", "outputId", "papermill", "pycharm", "scrolled", "trusted",
    "vscode",
})  # fmt: skip


class BrokenNotebook(ValueError):
    """The text is no notebook of nbformat 4; the message says what is wrong, in a few words."""


@dataclass(frozen=True)
class NotebookPolicy:
    """What counts as metadata in this repository.

    `intended` names metadata keys of notebook or cells that were set on purpose (a manifest says so): they carry meaning.
    """

    outputs_are_metadata: bool = True
    widgets_are_metadata: bool = True
    intended: frozenset[str] = frozenset()

    def is_drift(self, key: str, drift: frozenset[str]) -> bool:
        """Whether this metadata key is only what a tool wrote, `drift` being the list for its place."""
        if key in self.intended:
            return False
        return self.widgets_are_metadata if key == "widgets" else key in drift


DEFAULT_POLICY = NotebookPolicy()


@dataclass(frozen=True)
class Cell:
    """One cell, text joined. `other` holds what the format does not know. Outputs and count are of code cells only."""

    cell_type: str
    source: str
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    cell_id: str | None = None
    attachments: dict[str, Any] = field(default_factory=dict[str, Any])
    outputs: tuple[dict[str, Any], ...] = ()
    execution_count: Any = None
    other: dict[str, Any] = field(default_factory=dict[str, Any])

    def as_dict(self) -> dict[str, Any]:
        """The cell as nbformat writes it, text split into lines."""
        made: dict[str, Any] = {**self.other, "cell_type": self.cell_type, "metadata": self.metadata}
        made["source"] = self.source.splitlines(keepends=True)
        if self.cell_id is not None:
            made["id"] = self.cell_id
        if self.attachments:
            made["attachments"] = {name: _split_bundle(bundle) for name, bundle in self.attachments.items()}
        if self.cell_type == "code":
            made["outputs"] = [_split_output(output) for output in self.outputs]
            made["execution_count"] = self.execution_count
        return made


@dataclass(frozen=True)
class Notebook:
    """A notebook of nbformat 4.`minor`; `other` holds top-level keys that the format does not know."""

    cells: tuple[Cell, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    minor: int = MINOR_WITH_IDS
    other: dict[str, Any] = field(default_factory=dict[str, Any])

    def as_bytes(self) -> bytes:
        """The file, as nbformat would write it; every cell has a valid id of its own where the version asks for one."""
        cells = [cell.as_dict() for cell in with_ids(self.cells, self.minor)]
        return dump(
            {**self.other, "cells": cells, "metadata": self.metadata, "nbformat": 4, "nbformat_minor": self.minor}
        )

    def language(self) -> str:
        """The language of the code cells, lower case; python when nothing says otherwise."""
        for key, name in (("language_info", "name"), ("kernelspec", "language")):
            value = cast("object", self.metadata.get(key))
            said = cast("dict[str, object]", value).get(name) if isinstance(value, dict) else None
            if isinstance(said, str) and said:
                return said.lower()
        return "python"


# --- reading -----------------------------------------------------------------------------------------------------


def read(notebook: Raw) -> Notebook:
    """The notebook that bytes, text or parsed JSON hold. Raises BrokenNotebook for everything else, and nothing else."""
    top = load(notebook)
    if not isinstance(top, dict):
        raise BrokenNotebook("holds no JSON object")
    known = cast("dict[str, Any]", top)
    if known.get("nbformat") != 4 or isinstance(known["nbformat"], bool):
        raise BrokenNotebook(f"nbformat is {_short(known.get('nbformat'))}, only 4 can be read")
    minor: object = known.get("nbformat_minor")
    if not isinstance(minor, int) or isinstance(minor, bool) or minor < 0:
        raise BrokenNotebook("nbformat_minor is no version number")
    cells: object = known.get("cells")
    if not isinstance(cells, list):
        raise BrokenNotebook("cells is no list")
    return Notebook(
        tuple(_cell(cell, f"cell {index}") for index, cell in enumerate(cast("list[object]", cells))),
        _object(known, "metadata", "the notebook"),
        minor,
        {key: value for key, value in known.items() if key not in ("nbformat", "nbformat_minor", "cells", "metadata")},
    )


def load(notebook: Raw) -> object:
    """The JSON value itself. Raises BrokenNotebook: no UTF-8, no JSON, a key twice in one object, too deep."""
    try:
        text = notebook.decode("utf-8") if isinstance(notebook, bytes) else notebook
        if not isinstance(text, str):
            text = json.dumps(text)
        value: object = json.loads(text.removeprefix("\ufeff"), object_pairs_hook=_object_of)
    except UnicodeDecodeError as error:
        raise BrokenNotebook(f"is not UTF-8 at byte {error.start}") from error
    except BrokenNotebook:
        raise
    except RecursionError as error:
        raise BrokenNotebook("is nested too deep") from error
    except (TypeError, ValueError) as error:
        raise BrokenNotebook(f"is not valid JSON ({error})") from error
    _check_depth(value)
    return value


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # json keeps the last of two equal keys; rewriting such a file would lose the first.
    made = dict(pairs)
    if len(made) != len(pairs):
        raise BrokenNotebook("has one key twice in an object")
    return made


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise BrokenNotebook("is nested too deep")


def _inside(value: object) -> Iterable[object]:
    """The containers right inside a JSON value."""
    inner: Iterable[object] = ()
    if isinstance(value, dict):
        inner = cast("dict[str, object]", value).values()
    elif isinstance(value, list):
        inner = cast("list[object]", value)
    return [item for item in inner if isinstance(item, dict | list)]


def _cell(value: object, where: str) -> Cell:
    if not isinstance(value, dict):
        raise BrokenNotebook(f"{where} is no object")
    cell = cast("dict[str, Any]", value)
    kind: object = cell.get("cell_type")
    if not isinstance(kind, str):
        raise BrokenNotebook(f"{where} has no cell_type")
    cell_id: object = cell.get("id")
    if not isinstance(cell_id, str | None):
        raise BrokenNotebook(f"{where} has an id that is no text")
    known = {"cell_type", "source", "metadata", "id", "attachments"} | ({"outputs", "execution_count"} & _of_code(kind))
    return Cell(
        kind,
        _text(cell.get("source"), where),
        _object(cell, "metadata", where),
        cell_id,
        {name: _joined_bundle(bundle) for name, bundle in _object(cell, "attachments", where).items()},
        tuple(_outputs(cell, where)) if kind == "code" else (),
        cell.get("execution_count") if kind == "code" else None,
        {key: item for key, item in cell.items() if key not in known},
    )


def _of_code(kind: str) -> set[str]:
    return {"outputs", "execution_count"} if kind == "code" else set()


def _object(holder: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    value: object = holder.get(key, {})
    if not isinstance(value, dict):
        raise BrokenNotebook(f"{where} has {key} that is no object")
    return cast("dict[str, Any]", value)


def _outputs(cell: dict[str, Any], where: str) -> list[dict[str, Any]]:
    value: object = cell.get("outputs", [])
    if not isinstance(value, list) or not all(isinstance(output, dict) for output in cast("list[object]", value)):
        raise BrokenNotebook(f"{where} has outputs that are no list of objects")
    return [_joined_output(output) for output in cast("list[dict[str, Any]]", value)]


def _text(value: object, where: str) -> str:
    joined = _joined(value)
    if not isinstance(joined, str):
        raise BrokenNotebook(f"{where} has a source that is no text")
    return joined


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


# --- text in one piece and in lines ------------------------------------------------------------------------------


def _joined(value: object) -> object:
    """Text in one piece: a list of strings is how nbformat writes it; anything else stays."""
    if not isinstance(value, list) or not all(isinstance(part, str) for part in cast("list[object]", value)):
        return value
    text = "".join(cast("list[str]", value))
    # Halves of one character in two neighbouring lines are that character when read again.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass") if _LONE.search(text) else text


_LONE = re.compile("[\ud800-\udfff]")


def _is_json(mime: str) -> bool:
    return mime == "application/json" or (mime.startswith("application/") and mime.endswith("+json"))


def _joined_bundle(bundle: object) -> Any:
    if not isinstance(bundle, dict):
        return bundle
    known = cast("dict[str, Any]", bundle)
    return {mime: data if _is_json(mime) else _joined(data) for mime, data in known.items()}


def _split_bundle(bundle: object) -> Any:
    if not isinstance(bundle, dict):
        return bundle
    known = cast("dict[str, Any]", bundle)
    return {mime: _lines(data) if _has_lines(mime) else data for mime, data in known.items()}


def _has_lines(mime: str) -> bool:
    return mime.startswith("text/") or mime in _SPLIT_MIMES


def _lines(value: object) -> object:
    return value.splitlines(keepends=True) if isinstance(value, str) else value


def _joined_output(output: dict[str, Any]) -> dict[str, Any]:
    made = dict(output)
    if "data" in made:
        made["data"] = _joined_bundle(made["data"])
    if made.get("output_type") == "stream" and "text" in made:
        made["text"] = _joined(made["text"])
    return made


def _split_output(output: dict[str, Any]) -> dict[str, Any]:
    made = dict(output)
    if "data" in made:
        made["data"] = _split_bundle(made["data"])
    if made.get("output_type") == "stream" and "text" in made:
        made["text"] = _lines(made["text"])
    return made


# --- meaning -----------------------------------------------------------------------------------------------------


def meaning_of_cell(cell: Cell, policy: NotebookPolicy) -> dict[str, Any]:
    """What a cell says, by the words that a change of it is called: source, cell_type, tags, attachments, ..."""
    tags: object = cell.metadata.get("tags", [])
    is_list = isinstance(tags, list) and all(isinstance(tag, str) for tag in cast("list[object]", tags))
    said: dict[str, Any] = {
        "source": cell.source,
        "cell_type": cell.cell_type,
        "tags": sorted(set(cast("list[str]", tags))) if is_list else tags,
        "attachments": cell.attachments,
        "metadata": {k: v for k, v in cell.metadata.items() if k != "tags" and not policy.is_drift(k, CELL_DRIFT)},
        "other": cell.other,
    }
    if not policy.outputs_are_metadata:
        said["outputs"] = [uncounted(output) for output in cell.outputs]
    return said


def meaning_of_notebook(notebook: Notebook, policy: NotebookPolicy) -> dict[str, Any]:
    """What a notebook says outside its cells: metadata that no tool wrote by itself, widgets state if it counts."""
    meant = {key: value for key, value in notebook.metadata.items() if not policy.is_drift(key, NOTEBOOK_DRIFT)}
    widgets: object = meant.pop("widgets", {})
    return {"metadata": meant, "widgets": widgets, "other": notebook.other}


def uncounted(output: dict[str, Any]) -> dict[str, Any]:
    """An output without the number of the execution that made it."""
    return {**output, "execution_count": None} if "execution_count" in output else output


# --- writing -----------------------------------------------------------------------------------------------------


def canonical(value: object) -> str:
    """One text per JSON value, for comparing: 1 and 1.0 and true differ, NaN equals itself."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def dump(value: object) -> bytes:
    """JSON as nbformat writes notebooks: sorted keys, indent 1, a newline at the end; lone surrogates as escapes."""
    text = json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    return _LONE.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode("utf-8")


def content_id(cell: Cell) -> str:
    """A cell id that follows from type and source alone."""
    said = f"{cell.cell_type}\0{cell.source}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(said).hexdigest()[:12]


def with_ids(cells: Iterable[Cell], minor: int) -> list[Cell]:
    """The cells with ids as format 4.`minor` wants them: none before 4.5; from there each valid, and no two alike."""
    made: list[Cell] = []
    taken: set[str] = set()
    for cell in cells:
        wanted: str | None = None
        if minor >= MINOR_WITH_IDS:
            present = cell.cell_id if cell.cell_id and _VALID_ID.fullmatch(cell.cell_id) else content_id(cell)
            wanted = _free(present, taken)
            taken.add(wanted)
        made.append(cell if wanted == cell.cell_id else replace(cell, cell_id=wanted))
    return made


def _free(name: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    number = 1
    while (numbered := f"{name[:50]}-{number}") in taken:
        number += 1
    return numbered
