"""Did a notebook change in meaning, or only in what tools write into it? And its normal form without the latter (S18-R03).

Metadata only: kernel and language information, Colab's and other editors' keys, execution counts, cell ids, how the JSON is
laid out, and, as the policy says, outputs and widgets state. Everything else is meant: a key nobody here knows, a tag, a
source, the order. What cannot be read as a notebook is meaningful whenever its bytes differ.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from lanes.notebook_align import align
from lanes.notebook_format import (
    CELL_DRIFT,
    DEFAULT_POLICY,
    MINOR_WITH_IDS,
    NOTEBOOK_DRIFT,
    BrokenNotebook,
    Cell,
    Notebook,
    NotebookPolicy,
    Raw,
    canonical,
    dump,
    load,
    meaning_of_cell,
    meaning_of_notebook,
    read,
    uncounted,
)
from lanes.notebook_sections import sections

Kind = Literal["identical", "metadata-only", "meaningful"]
# added, removed, order, broken, and the words of meaning_of_cell: source, cell_type, tags, attachments, metadata, ...
What = str


@dataclass(frozen=True)
class CellChange:
    """One meaningful change. `index` counts cells from 0 as the file does: in the new notebook, in the old one for a
    removed cell, None for the notebook itself. `before` and `after` are text, or JSON where the thing is no text.
    """

    index: int | None
    heading: str
    what: What
    before: str = ""
    after: str = ""


@dataclass(frozen=True)
class NotebookDiff:
    """How two notebooks differ: `changes` are meaningful, `drift` names what tools wrote (kernelspec, cell ids, ...)."""

    kind: Kind
    changes: tuple[CellChange, ...] = ()
    drift: tuple[str, ...] = ()

    @property
    def is_meaningful(self) -> bool:
        """Whether discarding the difference would lose somebody's work."""
        return self.kind == "meaningful"


def compare(before: Raw, after: Raw, policy: NotebookPolicy = DEFAULT_POLICY) -> NotebookDiff:
    """How `after` differs from `before`. Never raises: a broken notebook that is not the same bytes is meaningful."""
    if _is_same(before, after):
        return NotebookDiff("identical")
    try:
        old, new = read(before), read(after)
    except BrokenNotebook:
        return NotebookDiff("meaningful", (CellChange(None, "", "broken", _fault(before), _fault(after)),))
    changes = (*_notebook_changes(old, new, policy), *_cell_changes(old, new, policy))
    drift = tuple(_drift(old, new, policy)) or (() if changes else ("formatting",))
    return NotebookDiff("meaningful" if changes else "metadata-only", changes, drift)


def _is_same(before: Raw, after: Raw) -> bool:
    if isinstance(before, Mapping) or isinstance(after, Mapping):
        try:
            return canonical(load(before)) == canonical(load(after))
        except BrokenNotebook:
            return before is after
    return _bytes(before) == _bytes(after)


def _bytes(text: bytes | str) -> bytes:
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text


def _fault(notebook: Raw) -> str:
    try:
        read(notebook)
    except BrokenNotebook as error:
        return str(error)
    return ""


def _shown(value: object) -> str:
    return value if isinstance(value, str) else canonical(value)


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return [what for what in new if canonical(old[what]) != canonical(new[what])]


def _notebook_changes(old: Notebook, new: Notebook, policy: NotebookPolicy) -> Iterator[CellChange]:
    said, says = meaning_of_notebook(old, policy), meaning_of_notebook(new, policy)
    for what in _differences(said, says):
        yield CellChange(None, "", what, _shown(said[what]), _shown(says[what]))


def _cell_changes(old: Notebook, new: Notebook, policy: NotebookPolicy) -> list[CellChange]:
    before = [meaning_of_cell(cell, policy) for cell in old.cells]
    after = [meaning_of_cell(cell, policy) for cell in new.cells]
    headings, old_headings = sections(new.cells), sections(old.cells)
    pairs = align(old.cells, new.cells)
    moved = _moves(pairs, before, after)
    changes: list[CellChange] = []
    for b, a in pairs:
        if b is not None and a is not None:
            for what in _differences(before[b], after[a]):
                shown = (_shown(before[b][what]), _shown(after[a][what]))
                changes.append(CellChange(a, headings[a], what, *shown))
        elif a is not None:
            if a in moved:
                changes.append(CellChange(a, headings[a], "order", f"cell {moved[a]}", f"cell {a}"))
            else:
                changes.append(CellChange(a, headings[a], "added", "", new.cells[a].source))
        elif b is not None and b not in moved.values():
            changes.append(CellChange(b, old_headings[b], "removed", old.cells[b].source, ""))
    return changes


def _moves(
    pairs: Sequence[tuple[int | None, int | None]], before: list[dict[str, Any]], after: list[dict[str, Any]]
) -> dict[int, int]:
    """New position -> old one, of cells that say the same as one that is gone elsewhere."""
    gone: defaultdict[str, list[int]] = defaultdict(list)
    for b, a in pairs:
        if b is not None and a is None:
            gone[canonical(before[b])].append(b)
    moved: dict[int, int] = {}
    for b, a in pairs:
        if a is not None and b is None and (places := gone[canonical(after[a])]):
            moved[a] = places.pop(0)
    return moved


def _drift(old: Notebook, new: Notebook, policy: NotebookPolicy) -> Iterator[str]:
    keys = sorted(old.metadata.keys() | new.metadata.keys())
    for key in (key for key in keys if policy.is_drift(key, NOTEBOOK_DRIFT)):
        if canonical(old.metadata.get(key)) != canonical(new.metadata.get(key)):
            yield key
    if old.minor != new.minor:
        yield "nbformat_minor"
    if len(old.cells) == len(new.cells):
        facts = [_drifting(cell, policy) for cell in old.cells], [_drifting(cell, policy) for cell in new.cells]
        yield from (
            (name for name in facts[0][0] if _column(facts[0], name) != _column(facts[1], name)) if facts[0] else ()
        )


def _drifting(cell: Cell, policy: NotebookPolicy) -> dict[str, Any]:
    return {
        "cell ids": cell.cell_id,
        "execution counts": [
            each["execution_count"] for each in (vars(cell), *cell.outputs) if "execution_count" in each
        ],
        "outputs": [uncounted(output) for output in cell.outputs] if policy.outputs_are_metadata else None,
        "cell metadata": {key: value for key, value in cell.metadata.items() if policy.is_drift(key, CELL_DRIFT)},
    }


def _column(facts: list[dict[str, Any]], name: str) -> list[str]:
    return [canonical(fact[name]) for fact in facts]


# --- the normal form ---------------------------------------------------------------------------------------------

# Of what tools write these stay: without them papermill finds no kernel, Colab no GPU, and a form shows its code.
_NOTEBOOK_KEPT: dict[str, tuple[str, ...] | None] = {
    "accelerator": None,
    "colab": ("gpuType", "machine_shape", "private_outputs"),
    "kernelspec": None,
    "language_info": None,
}
_CELL_KEPT: dict[str, tuple[str, ...] | None] = {"cellView": None, "jupyter": ("source_hidden",)}


def strip(notebook: Raw, policy: NotebookPolicy = DEFAULT_POLICY) -> bytes:
    """The normal form: equal bytes for notebooks that differ only in what tools wrote; doing it twice changes nothing.

    Kept are the kernel's name and language, Colab's choice of machine and hidden code. The version becomes 4.5 at least and ids
    follow from what cells say, because editors drop and invent them. A broken notebook comes back as it was.
    """
    try:
        found = read(notebook)
    except BrokenNotebook:
        return dump(dict(notebook)) if isinstance(notebook, Mapping) else _bytes(notebook)
    metadata = _kept(found.metadata, NOTEBOOK_DRIFT, _NOTEBOOK_KEPT, policy)
    cells = tuple(_stripped(cell, policy) for cell in found.cells)
    minor = max(found.minor, MINOR_WITH_IDS)
    return Notebook(cells, _without_versions(metadata, policy), minor, found.other).as_bytes()


def _stripped(cell: Cell, policy: NotebookPolicy) -> Cell:
    return replace(
        cell,
        metadata=_kept(cell.metadata, CELL_DRIFT, _CELL_KEPT, policy),
        cell_id=None,
        outputs=() if policy.outputs_are_metadata else tuple(uncounted(output) for output in cell.outputs),
        execution_count=None,
    )


def _kept(
    metadata: dict[str, Any], drift: frozenset[str], kept: dict[str, tuple[str, ...] | None], policy: NotebookPolicy
) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in metadata.items():
        if not policy.is_drift(key, drift):
            made[key] = value
        elif key in kept and (rest := _part(value, kept[key])) is not None:
            made[key] = rest
    return made


def _part(value: object, keys: tuple[str, ...] | None) -> object:
    """`value`, or of an object only these keys; None when nothing is left."""
    if keys is None or not isinstance(value, dict):
        return value if keys is None else None
    known = cast("dict[str, object]", value)
    return {key: known[key] for key in keys if key in known} or None


def _without_versions(metadata: dict[str, Any], policy: NotebookPolicy) -> dict[str, Any]:
    """Kernel and language without what differs from machine to machine: the kernel's title, the language's version."""
    made = dict(metadata)
    kernel, language = made.get("kernelspec"), made.get("language_info")
    if isinstance(kernel, dict) and "kernelspec" not in policy.intended:
        known = cast("dict[str, Any]", kernel)
        made["kernelspec"] = {
            "display_name": known.get("name", ""),
            **{key: known[key] for key in ("name", "language") if key in known},
        }
    if isinstance(language, dict) and "language_info" not in policy.intended:
        made["language_info"] = {k: v for k, v in cast("dict[str, Any]", language).items() if k != "version"}
    return made


# --- as text -----------------------------------------------------------------------------------------------------


def as_text(notebook: Raw, policy: NotebookPolicy = DEFAULT_POLICY) -> str:
    """The meaning of a notebook as plain text, for git's textconv: one heading line per cell, then its source.

    No indices: a cell that comes in must not change the text of all that follow. A broken notebook is its own text.
    """
    try:
        found = read(notebook)
    except BrokenNotebook as error:
        text = canonical(notebook) if isinstance(notebook, Mapping) else _bytes(notebook).decode("utf-8", "replace")
        return f"# broken notebook: {error}\n{text}"
    said = meaning_of_notebook(found, policy)
    lines = [f"# {what}: {canonical(value)}" for what, value in said.items() if value]
    for cell in found.cells:
        lines += [*_titles(meaning_of_cell(cell, policy)), cell.source, ""]
    return "\n".join(lines) + "\n"


def _titles(said: dict[str, Any]) -> Iterator[str]:
    tags = f" tags: {', '.join(map(str, said['tags']))}" if isinstance(said["tags"], list) and said["tags"] else ""
    yield f"# %% [{said['cell_type']}]{tags}"
    for what in ("attachments", "metadata", "other", "outputs"):
        if said.get(what):
            yield f"# {what}: {canonical(said[what])}"
