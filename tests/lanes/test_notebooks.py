"""Metadata-only or meaningful, and the normal form: case files, then properties over any notebook of format 4."""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes.notebook_align import align
from lanes.notebook_format import Cell, NotebookPolicy, read
from lanes.notebooks import NotebookDiff, as_text, compare, strip
from tests.lanes.notebook_strategies import BROKEN, drifted, notebooks, written

pytestmark = pytest.mark.req("S18-R03")
CASES = Path(__file__).resolve().parent.parent / "cases/notebooks"
MEANT = NotebookPolicy(outputs_are_metadata=False, widgets_are_metadata=False)
POLICIES = st.sampled_from(
    [NotebookPolicy(), MEANT, NotebookPolicy(intended=frozenset({"colab", "kernelspec", "executionInfo"}))]
)


def notebook(*cells: str | dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """A notebook with these cells; text is a code cell, text with a leading # a markdown cell."""
    made = [cell if isinstance(cell, dict) else of_text(cell) for cell in cells]
    return {"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 4}


def of_text(source: str) -> dict[str, Any]:
    """A cell for this source."""
    if source.startswith("#"):
        return {"cell_type": "markdown", "metadata": {}, "source": source}
    return {"cell_type": "code", "metadata": {}, "source": source, "outputs": [], "execution_count": None}


def raw(made: dict[str, Any]) -> bytes:
    """The notebook as bytes."""
    return json.dumps(made).encode()


def whats(found: NotebookDiff) -> list[tuple[int | None, str, str]]:
    """The changes without their texts."""
    return [(change.index, change.heading, change.what) for change in found.changes]


# --- cases -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", sorted(CASES.glob("compare/*/")), ids=lambda path: path.name)
def test_a_case_is_judged_as_it_says(case: Path) -> None:
    expected = json.loads((case / "expected.json").read_text())
    policy = NotebookPolicy(**expected.get("policy", {}), intended=frozenset(expected.get("intended", ())))
    found = compare((case / "before.ipynb").read_bytes(), (case / "after.ipynb").read_bytes(), policy)
    assert found.kind == expected["kind"]
    assert [list(change) for change in whats(found)] == expected["changes"]
    assert list(found.drift) == expected["drift"]


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_notebook_is_meaningful_and_left_alone(text: bytes) -> None:
    good = raw(notebook("a = 1"))
    for before, after in ((text, good), (good, text), (text, text + b" ")):
        found = compare(before, after)
        assert (found.kind, [change.what for change in found.changes]) == ("meaningful", ["broken"])
    assert compare(text, text).kind == "identical"
    assert strip(text) == text
    assert as_text(text).startswith("# broken notebook: ")


def test_bytes_text_and_parsed_json_are_the_same_notebook() -> None:
    made = notebook("a = 1", title="T")
    text = json.dumps(made, indent=3)
    assert compare(text.encode(), text).kind == "identical"
    assert compare(made, text).kind == compare(text.encode(), made).kind == "identical"
    assert compare(text, json.dumps(made)) == NotebookDiff("metadata-only", (), ("formatting",))
    assert compare("\ufeff" + text, text).kind == "metadata-only"
    assert compare({"cells": {1, 2}}, made).kind == "meaningful"


def test_swapped_cells_are_an_order() -> None:
    found = compare(raw(notebook("a", "b", "# H", "c")), raw(notebook("b", "a", "# H", "c")))
    assert [(change.what, change.before, change.after) for change in found.changes] == [("order", "cell 1", "cell 0")]


def test_one_cell_that_comes_in_is_all_that_changed() -> None:
    cells = [f"value_{i} = {i}" for i in range(30)]
    after = [*cells[:10], "new = 1", *cells[10:]]
    assert whats(compare(raw(notebook(*cells)), raw(notebook(*after)))) == [(10, "", "added")]
    assert whats(compare(raw(notebook(*after)), raw(notebook(*cells)))) == [(10, "", "removed")]


def test_an_edited_cell_among_new_ones_is_known_again() -> None:
    before = notebook("# Data", "path = ROOT / 'data'\nprint(path)", "x")
    after = notebook("# Data", "new = 1", "path = ROOT / 'data2'\nprint(path)", "x")
    assert whats(compare(raw(before), raw(after))) == [(1, "Data", "added"), (2, "Data", "source")]


def test_an_intended_key_is_meaningful_and_stays() -> None:
    before, after = notebook("a", accelerator="GPU"), notebook("a", accelerator="TPU")
    assert compare(before, after).kind == "metadata-only"
    assert whats(compare(before, after, NotebookPolicy(intended=frozenset({"accelerator"})))) == [
        (None, "", "metadata")
    ]
    colab = notebook("a", colab={"provenance": [1]})
    assert b"provenance" not in strip(colab)
    assert b"provenance" in strip(colab, NotebookPolicy(intended=frozenset({"colab"})))


def test_the_normal_form_keeps_what_tools_need_to_run_it() -> None:
    metadata: dict[str, Any] = {
        "kernelspec": {"name": "python3", "display_name": "Python 3 (of one machine)", "language": "python"},
        "language_info": {"name": "python", "version": "3.11.7", "file_extension": ".py"},
        "accelerator": "GPU",
        "colab": {"gpuType": "T4", "provenance": []},
        "widgets": {},
    }
    form = {"cell_type": "code", "metadata": {"cellView": "form", "executionInfo": {}}, "source": "a", "outputs": [1]}
    stripped = json.loads(strip(notebook({**form, "outputs": [], "execution_count": 3}, **metadata)))
    assert stripped["metadata"] == {
        "kernelspec": {"name": "python3", "display_name": "python3", "language": "python"},
        "language_info": {"name": "python", "file_extension": ".py"},
        "accelerator": "GPU",
        "colab": {"gpuType": "T4"},
    }
    assert stripped["cells"][0]["metadata"] == {"cellView": "form"}
    assert stripped["cells"][0]["execution_count"] is None


def test_cells_that_say_the_same_have_ids_of_their_own() -> None:
    ids = [cell["id"] for cell in json.loads(strip(notebook("a", "a", "b", "a")))["cells"]]
    assert len(set(ids)) == 4
    assert ids[:2] == [ids[0], f"{ids[0]}-1"]


def test_text_for_git_diff_does_not_number_cells() -> None:
    tagged = {**of_text("a = 1"), "metadata": {"tags": ["parameters"]}}
    text = as_text(notebook("# Title", tagged, title="T"))
    assert text == '# metadata: {"title":"T"}\n# %% [markdown]\n# Title\n\n# %% [code] tags: parameters\na = 1\n\n'


def test_attachments_and_outputs_of_no_known_form_are_kept() -> None:
    odd = {
        **of_text("a"),
        "attachments": {"a.png": "no bundle"},
        "outputs": [{"output_type": "display_data", "data": ["x"]}],
    }
    stripped = json.loads(strip(notebook(odd), MEANT))["cells"][0]
    assert (stripped["attachments"], stripped["outputs"]) == (odd["attachments"], odd["outputs"])
    assert as_text(notebook(odd)).startswith('# %% [code]\n# attachments: {"a.png":"no bundle"}\na\n')


def test_a_notebook_of_two_thousand_cells_is_compared_in_seconds() -> None:
    cells = [f"x = {i % 7}\nprint(x)" for i in range(2000)]
    start = time.monotonic()
    found = compare(raw(notebook(*cells)), raw(notebook(*reversed(cells))))
    assert found.is_meaningful
    assert time.monotonic() - start < 20


# --- properties --------------------------------------------------------------------------------------------------


@given(st.data(), notebooks(), POLICIES)
def test_stripping_never_changes_meaning_and_settles_at_once(
    data: st.DataObject, made: dict[str, Any], policy: NotebookPolicy
) -> None:
    text = data.draw(written(made))
    once = strip(text, policy)
    assert compare(text, once, policy).kind in ("identical", "metadata-only")
    assert strip(once, policy) == once
    assert once.endswith(b"}\n")


@given(st.data(), notebooks())
def test_what_tools_write_is_metadata_only_and_vanishes_in_the_normal_form(
    data: st.DataObject, made: dict[str, Any]
) -> None:
    other = data.draw(written(data.draw(drifted(made))))
    text = data.draw(written(made))
    assert compare(text, other).kind in ("identical", "metadata-only")
    assert strip(text) == strip(other)


@given(notebooks(), notebooks(), POLICIES)
def test_equal_normal_forms_and_no_meaningful_change_go_together(
    one: dict[str, Any], other: dict[str, Any], policy: NotebookPolicy
) -> None:
    if strip(one, policy) == strip(other, policy):
        assert not compare(one, other, policy).is_meaningful
    assert compare(one, other, policy).is_meaningful == compare(other, one, policy).is_meaningful
    assert compare(one, one, policy).kind == "identical"


@given(notebooks())
def test_the_normal_form_is_valid_for_nbformat_and_written_as_it_writes(made: dict[str, Any]) -> None:
    text = strip(made, MEANT).decode()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        known = nbformat.reads(text, as_version=nbformat.NO_CONVERT)
        nbformat.validate(known)
    if "\\ud800" not in text:
        assert nbformat.writes(known, version=nbformat.NO_CONVERT) + "\n" == text


EDITS = ["source", "cell_type", "tags", "attachments", "metadata", "other", "added", "removed", "order"]


@given(st.data(), notebooks(), st.sampled_from(EDITS))
def test_every_kind_of_edit_is_meaningful_and_named(data: st.DataObject, made: dict[str, Any], what: str) -> None:
    cells = json.loads(json.dumps(made["cells"])) or [of_text("a")]
    before = {**made, "cells": json.loads(json.dumps(cells))}
    at = data.draw(st.integers(0, len(cells) - 1))
    cell = cells[at]
    if what == "source":
        cell["source"] = "".join(cell["source"]) + "\nedited = True"
    elif what == "cell_type":
        cells[at] = {
            "cell_type": "raw" if cell["cell_type"] == "markdown" else "markdown",
            **_only(cell, "metadata", "source", "id"),
        }
    elif what == "tags":
        cell["metadata"]["tags"] = [*cell["metadata"].get("tags", []), "brand-new"]
    elif what == "attachments":
        cell["attachments"] = {"new.png": {"image/png": "AAAA"}}
    elif what == "metadata":
        cell["metadata"]["slideshow"] = {"slide_type": "brand-new"}
    elif what == "other":
        cell["unheard_of"] = 1
    elif what == "added":
        cells.insert(at, of_text("brand = 'new'"))
    elif what == "removed":
        del cells[at]
    else:
        # Something must be different for an order to change.
        before["cells"].append(of_text("the_last = 1"))
        cells.insert(0, of_text("the_last = 1"))
    found = compare(before, {**made, "cells": cells})
    assert found.is_meaningful
    assert what in [change.what for change in found.changes] or what in {"cell_type", "removed", "order"}


def _only(cell: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: cell[key] for key in keys if key in cell}


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_nothing_crashes_it(text: bytes | str) -> None:
    assert compare(text, strip(text)).kind == "identical"
    assert compare(raw(notebook("a")), text).is_meaningful
    as_text(text)


@given(notebooks(), notebooks())
def test_alignment_names_every_cell_once_and_in_order(one: dict[str, Any], other: dict[str, Any]) -> None:
    before, after = read(one).cells, read(other).cells
    pairs = align(before, after)
    assert [b for b, _ in pairs if b is not None] == list(range(len(before)))
    assert [a for _, a in pairs if a is not None] == list(range(len(after)))


def test_long_stretches_pair_by_position() -> None:
    before = [Cell("code", f"old {i}") for i in range(200)]
    after = [Cell("code", f"new {i} x y z") for i in range(150)]
    pairs = align(before, after)
    assert pairs[:150] == [(i, i) for i in range(150)]
    assert pairs[150:] == [(i, None) for i in range(150, 200)]
