"""Three-way merge of notebooks, cell by cell: the git merge driver. What cannot be merged keeps both versions, readable.

nbdime does this too and brings a Jupyter server along; what a merge driver needs of it is this file. Changes to different cells,
to different lines of one cell, to tags and to metadata keys come together. A conflict stands in the notebook, which still opens:
as git's own markers inside a cell, or as both versions of cells between marker cells. What tools write never conflicts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

from lanes.notebook_align import Pair, align
from lanes.notebook_format import (
    CELL_DRIFT,
    DEFAULT_POLICY,
    NOTEBOOK_DRIFT,
    BrokenNotebook,
    Cell,
    Notebook,
    NotebookPolicy,
    Raw,
    canonical,
    dump,
    meaning_of_cell,
    read,
)
from lanes.notebook_sections import sections
from lanes.text_merge import MIDDLE, OURS, THEIRS, merge_text

# The tag of marker cells; `hemma notebook check` finds what was forgotten.
CONFLICT_TAG = "hemma-conflict"


@dataclass(frozen=True)
class Conflict:
    """Where both sides changed the same: the cell's index in the merged notebook (None: its metadata, or the whole file)."""

    index: int | None
    heading: str
    what: str


class Merged(NamedTuple):
    """The merged notebook, conflicts inside, and the list of them; none means that the merge is clean."""

    notebook: bytes
    conflicts: tuple[Conflict, ...]


class _Part(NamedTuple):
    """Cells of the result; `what` is set on what conflicts, and names it."""

    cells: tuple[Cell, ...]
    what: str = ""


class _Three(NamedTuple):
    base: Any
    ours: Any
    theirs: Any


_MISSING: Any = object()


def merge(base: Raw, ours: Raw, theirs: Raw, policy: NotebookPolicy = DEFAULT_POLICY) -> Merged:
    """`ours` with what `theirs` changed since `base`. Never raises.

    An empty `base` (both sides added the file) is a notebook without cells. If one side cannot be read as a notebook, lines are
    merged as text, and that is always a conflict unless only one side changed.
    """
    texts = _Three(_as_bytes(base), _as_bytes(ours), _as_bytes(theirs))
    for other, taken in ((texts.theirs, texts.ours), (texts.base, texts.theirs)):
        if texts.ours == other:
            return Merged(taken, ())
    if texts.base == texts.theirs:
        return Merged(texts.ours, ())
    try:
        notebooks = _Three(*(read(text) if text.strip() else Notebook(minor=0) for text in texts))
    except BrokenNotebook as error:
        return _as_lines(texts, f"broken: {error}")
    return _merge_notebooks(notebooks, policy)


def _as_bytes(notebook: Raw) -> bytes:
    if isinstance(notebook, Mapping):
        return dump(dict(notebook))
    return notebook.encode("utf-8", "surrogatepass") if isinstance(notebook, str) else notebook


def _as_lines(texts: _Three, what: str) -> Merged:
    # Latin 1 maps every byte to a character and back: broken files need not be text.
    merged = merge_text(*(text.decode("latin-1") for text in texts))
    return Merged(merged.text.encode("latin-1"), (Conflict(None, "", what),))


def _merge_notebooks(three: _Three, policy: NotebookPolicy) -> Merged:
    base, ours, theirs = cast("tuple[Notebook, Notebook, Notebook]", three)
    drift = {key for key in NOTEBOOK_DRIFT | {"widgets"} if policy.is_drift(key, NOTEBOOK_DRIFT)}
    metadata, faults = _merge_objects(_Three(base.metadata, ours.metadata, theirs.metadata), drift)
    other, more = _merge_objects(_Three(base.other, ours.other, theirs.other), set())
    parts = [_Part((_metadata_marker(key, ours, theirs),), f"metadata {key}") for key in (*faults, *more)]
    parts += _merge_cells(_Three(base.cells, ours.cells, theirs.cells), policy)
    cells = tuple(cell for part in parts for cell in part.cells)
    merged = Notebook(cells, metadata, max(ours.minor, theirs.minor), other)
    return Merged(merged.as_bytes(), tuple(_places(parts, sections(cells))))


def _places(parts: Sequence[_Part], headings: list[str]) -> list[Conflict]:
    found: list[Conflict] = []
    index = 0
    for part in parts:
        if part.what:
            found.append(Conflict(index, headings[index], part.what))
        index += len(part.cells)
    return found


# --- the sequence of cells ---------------------------------------------------------------------------------------


class _Side(NamedTuple):
    """One side seen from base: what stands in the place of each base cell, and what is new before each (and at the end)."""

    kept: dict[int, Cell]
    new: dict[int, list[Cell]]


def _side(base: Sequence[Cell], other: Sequence[Cell]) -> _Side:
    pairs: list[Pair] = align(base, other)
    kept: dict[int, Cell] = {}
    new: dict[int, list[Cell]] = {}
    at = 0
    for b, a in pairs:
        at = at if b is None else b + 1
        if b is None:
            new.setdefault(at, []).append(other[cast("int", a)])
        elif a is not None:
            kept[b] = other[a]
    return _Side(kept, new)


def _merge_cells(three: _Three, policy: NotebookPolicy) -> list[_Part]:
    base = cast("Sequence[Cell]", three.base)
    ours, theirs = _side(base, three.ours), _side(base, three.theirs)
    parts: list[_Part] = []
    for at in range(len(base) + 1):
        parts += _merge_new(ours.new.get(at, []), theirs.new.get(at, []), policy)
        if at < len(base):
            parts.append(_merge_one(base[at], ours.kept.get(at), theirs.kept.get(at), policy))
    return parts


def _merge_new(ours: list[Cell], theirs: list[Cell], policy: NotebookPolicy) -> list[_Part]:
    """New cells in one place: what both sides say alike is there once, and more on one side only is no conflict."""

    def says_same(one: Cell, other: Cell) -> bool:
        return _says(one, policy) == _says(other, policy)

    room = min(len(ours), len(theirs))
    start = next((i for i in range(room) if not says_same(ours[i], theirs[i])), room)
    end = next((i for i in range(room - start) if not says_same(ours[-1 - i], theirs[-1 - i])), room - start)
    mine, other = ours[start : len(ours) - end], theirs[start : len(theirs) - end]
    middle = _conflict(mine, other, "added") if mine and other else _Part(tuple(mine or other))
    return [_Part(tuple(ours[:start])), middle, _Part(tuple(ours[len(ours) - end :]))]


def _says(cell: Cell, policy: NotebookPolicy) -> str:
    return canonical(meaning_of_cell(cell, policy))


def _merge_one(base: Cell, ours: Cell | None, theirs: Cell | None, policy: NotebookPolicy) -> _Part:
    if ours is not None and theirs is not None:
        return _merge_cell(_Three(base, ours, theirs), policy)
    left = ours if ours is not None else theirs
    # Gone on both sides, or gone on one and only touched by tools on the other.
    if left is None or _says(left, policy) == _says(base, policy):
        return _Part(())
    return _conflict([ours] if ours else [], [theirs] if theirs else [], "removed")


def _conflict(ours: Sequence[Cell], theirs: Sequence[Cell], what: str) -> _Part:
    return _Part((_marker(OURS), *ours, _marker(MIDDLE), *theirs, _marker(THEIRS)), what)


def _marker(text: str) -> Cell:
    return Cell("markdown", f"`{text}`", {"tags": [CONFLICT_TAG]})


def _metadata_marker(key: str, ours: Notebook, theirs: Notebook) -> Cell:
    def shown(notebook: Notebook) -> str:
        held = notebook.metadata if key in notebook.metadata else notebook.other
        return canonical(held[key]) if key in held else "(removed)"

    lines = [f"Notebook metadata `{key}`:", "```", OURS, shown(ours), MIDDLE, shown(theirs), THEIRS, "```"]
    return Cell("markdown", "\n".join(lines), {"tags": [CONFLICT_TAG]})


# --- one cell ----------------------------------------------------------------------------------------------------


def _merge_cell(three: _Three, policy: NotebookPolicy) -> _Part:
    base, ours, theirs = cast("tuple[Cell, Cell, Cell]", three)
    said = _Three(*(_says(cell, policy) for cell in three))
    # Where ours says nothing new, theirs may; what tools wrote comes with the side that is taken.
    if said.ours == said.base and (said.theirs != said.base or base == ours):
        return _Part((theirs,))
    if said.theirs in (said.base, said.ours):
        return _Part((ours,))
    return _merge_fields(three, policy)


def _merge_fields(three: _Three, policy: NotebookPolicy) -> _Part:
    """Both sides say something new in one cell: field by field, and only lines of the source may conflict inside it."""
    base, ours, theirs = cast("tuple[Cell, Cell, Cell]", three)
    drift = {key for key in CELL_DRIFT if policy.is_drift(key, CELL_DRIFT)}
    kind = _pick(_each(three, lambda cell: cell.cell_type))
    metadata, faults = _merge_objects(_each(three, _without_tags), drift)
    attachments, more = _merge_objects(_each(three, lambda cell: cell.attachments), set())
    other, still_more = _merge_objects(_each(three, lambda cell: cell.other), set())
    outputs = _outputs(three, policy)
    what = ["cell_type"] if kind is _MISSING else []
    what += ["metadata"] if faults else []
    what += ["attachments"] if more else []
    what += ["other"] if still_more else []
    what += ["outputs"] if outputs is _MISSING else []
    if what:
        return _conflict([ours], [theirs], ", ".join(what))
    merged = merge_text(base.source, ours.source, theirs.source)
    if tags := _merge_tags(_each(three, _tags)):
        metadata["tags"] = tags
    of_side = next((cell for cell in (ours, theirs) if cell.source == merged.text), None)
    cell = replace(
        ours,
        cell_type=kind,
        source=merged.text,
        metadata=metadata,
        attachments=attachments,
        other=other,
        outputs=outputs if outputs is not None else of_side.outputs if of_side else (),
        execution_count=of_side.execution_count if of_side else None,
    )
    return _Part((cell,), "source" if merged.conflicts else "")


def _outputs(three: _Three, policy: NotebookPolicy) -> Any:
    """The merged outputs where they count, _MISSING for a conflict; None where they follow the source that made them."""
    if policy.outputs_are_metadata:
        return None
    return _pick(_each(three, lambda cell: cell.outputs))


def _each(three: _Three, of: Callable[[Any], Any]) -> _Three:
    return _Three(of(three.base), of(three.ours), of(three.theirs))


def _tags(cell: Cell) -> list[Any]:
    tags: object = cell.metadata.get("tags")
    return cast("list[Any]", tags) if isinstance(tags, list) else []


def _without_tags(cell: Cell) -> dict[str, Any]:
    """The metadata but for a list of tags; tags that are no list are a key like any other."""
    return {key: value for key, value in cell.metadata.items() if key != "tags" or not isinstance(value, list)}


def _same(one: Any, other: Any) -> bool:
    if one is _MISSING or other is _MISSING:
        return one is other
    return canonical(one) == canonical(other)


def _pick(three: _Three) -> Any:
    """The side that changed; _MISSING when both did, differently."""
    if _same(three.ours, three.theirs) or _same(three.theirs, three.base):
        return three.ours
    return three.theirs if _same(three.ours, three.base) else _MISSING


def _merge_objects(three: _Three, drift: set[str]) -> tuple[dict[str, Any], list[str]]:
    """Key by key, and the keys that conflict; there, as in drift, ours stays."""
    made: dict[str, Any] = {}
    faults: list[str] = []
    for key in dict.fromkeys([*three.ours, *three.theirs]):
        values = _each(three, lambda held, key=key: held.get(key, _MISSING))
        is_clash = not (
            _same(values.ours, values.theirs) or _same(values.theirs, values.base) or _same(values.ours, values.base)
        )
        value = values.ours if is_clash else _pick(values)
        if is_clash and key not in drift:
            faults.append(key)
        if value is not _MISSING:
            made[key] = value
    return made, faults


def _merge_tags(three: _Three) -> list[Any]:
    """Tags are a set: what either side added, less what either removed."""
    removed = [tag for tag in three.base if tag not in three.ours or tag not in three.theirs]
    merged = [tag for tag in three.ours if tag not in removed]
    return merged + [tag for tag in three.theirs if tag not in removed and tag not in merged]
