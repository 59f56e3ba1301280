"""The three-way merge: what comes together, what conflicts and stays readable, and that no line is ever lost."""

from __future__ import annotations

import json
from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes.notebook_format import NotebookPolicy
from lanes.notebook_merge import CONFLICT_TAG, Merged, merge
from lanes.notebook_rules import check_thin
from lanes.notebooks import compare, strip
from lanes.text_merge import merge_text
from tests.lanes.notebook_strategies import BROKEN, drifted, notebooks
from tests.lanes.test_notebooks import notebook, of_text

pytestmark = pytest.mark.req("S18-R03")


def sources(merged: Merged) -> list[str]:
    """What the cells of the merged notebook say."""
    return ["".join(cell["source"]) for cell in json.loads(merged.notebook)["cells"]]


def cell(source: str, **more: Any) -> dict[str, Any]:
    """A code cell with other fields."""
    return {**of_text(source), **more}


def both(base: dict[str, Any], ours: dict[str, Any], theirs: dict[str, Any]) -> Merged:
    """The merge of three notebooks; it must be a valid notebook."""
    merged = merge(base, ours, theirs)
    nbformat.validate(nbformat.reads(merged.notebook.decode(), as_version=nbformat.NO_CONVERT))
    return merged


# --- what comes together -----------------------------------------------------------------------------------------


def test_different_cells_lines_tags_and_keys_come_together() -> None:
    base = notebook("# T", cell("a = 1\nb = 2\nc = 3", metadata={"tags": ["parameters", "old"]}), "x = 1", title="T")
    ours = notebook(
        "# T", cell("a = 9\nb = 2\nc = 3", metadata={"tags": ["parameters", "old", "mine"]}), "x = 1", "y", title="U"
    )
    theirs = notebook(
        "# New",
        "z",
        cell("a = 1\nb = 2\nc = 7", metadata={"tags": ["parameters", "yours"]}),
        "x = 1",
        title="T",
        more=1,
    )
    merged = both(base, ours, theirs)
    assert merged.conflicts == ()
    assert sources(merged) == ["# New", "z", "a = 9\nb = 2\nc = 7", "x = 1", "y"]
    made = json.loads(merged.notebook)
    assert made["cells"][2]["metadata"]["tags"] == ["parameters", "mine", "yours"]
    assert made["metadata"] == {"title": "U", "more": 1}


def test_outputs_come_with_the_source_that_made_them() -> None:
    def ran(source: str, text: str) -> dict[str, Any]:
        return cell(source, outputs=[{"output_type": "stream", "name": "stdout", "text": text}], execution_count=1)

    merged = both(
        notebook(cell("a = 1\n\nb = 1")),
        notebook(ran("a = 2\n\nb = 1", "ours")),
        notebook(ran("a = 1\n\nb = 2", "theirs")),
    )
    assert sources(merged) == ["a = 2\n\nb = 2"]
    assert json.loads(merged.notebook)["cells"][0]["outputs"] == []
    # Ours only ran it again: the source and the outputs of theirs belong together.
    merged = both(notebook("a = 1"), notebook(ran("a = 1", "ours")), notebook(ran("a = 2", "theirs")))
    assert json.loads(merged.notebook)["cells"][0]["outputs"][0]["text"] == ["theirs"]


def test_what_tools_wrote_on_both_sides_never_conflicts() -> None:
    base = notebook("a", kernelspec={"name": "python3", "display_name": "Python 3"})
    ours = notebook(cell("a", execution_count=3), kernelspec={"name": "python3", "display_name": "mine"})
    theirs = notebook(cell("a", execution_count=4), "b", kernelspec={"name": "python3", "display_name": "theirs"})
    merged = both(base, ours, theirs)
    assert merged.conflicts == ()
    assert json.loads(merged.notebook)["metadata"]["kernelspec"]["display_name"] == "mine"


def test_the_same_new_cells_on_both_sides_are_there_once() -> None:
    assert sources(both(notebook("a"), notebook("a", "n1", "n2"), notebook("a", "n1", "n2", "n3"))) == [
        "a",
        "n1",
        "n2",
        "n3",
    ]


def test_a_cell_moved_on_one_side_and_kept_on_the_other_is_there_once() -> None:
    base, ours = notebook("a = 1", "b = 2", "c = 3", "d = 4"), notebook("b = 2", "c = 3", "a = 1", "d = 4")
    theirs = notebook("a = 1", "b = 2", "c = 3", "d = 4", "e = 5")
    merged = both(base, ours, theirs)
    assert (sources(merged), merged.conflicts) == (["b = 2", "c = 3", "a = 1", "d = 4", "e = 5"], ())


def test_a_notebook_added_on_both_sides_has_an_empty_base() -> None:
    text = json.dumps(notebook("a")).encode()
    assert merge(b"", text, text) == Merged(text, ())
    merged = merge(b"", text, json.dumps(notebook("b")))
    assert sources(merged) == ["`<<<<<<< ours`", "a", "`=======`", "b", "`>>>>>>> theirs`"]


# --- what conflicts ----------------------------------------------------------------------------------------------


def test_the_same_line_conflicts_inside_the_cell() -> None:
    merged = both(
        notebook("# H", "a = 1\nb = 1\nc = 1"),
        notebook("# H", "a = 2\nb = 1\nc = 2"),
        notebook("# H", "a = 3\nb = 1\nc = 1"),
    )
    assert sources(merged)[1] == "<<<<<<< ours\na = 2\n=======\na = 3\n>>>>>>> theirs\nb = 1\nc = 2"
    assert [(c.index, c.heading, c.what) for c in merged.conflicts] == [(1, "H", "source")]
    assert "conflict" in [finding.rule for finding in check_thin(merged.notebook)]


def test_edited_here_and_removed_there_keeps_the_edit_between_markers() -> None:
    merged = both(notebook("# H", "a = 1", "z"), notebook("# H", "a = 2", "z"), notebook("# H", "z"))
    assert sources(merged) == ["# H", "`<<<<<<< ours`", "a = 2", "`=======`", "`>>>>>>> theirs`", "z"]
    assert [(c.index, c.what) for c in merged.conflicts] == [(1, "removed")]
    marker = json.loads(merged.notebook)["cells"][1]
    assert (marker["cell_type"], marker["metadata"]["tags"]) == ("markdown", [CONFLICT_TAG])


@pytest.mark.parametrize(
    ("ours", "theirs", "what"),
    [
        ({"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}, "metadata"),
        (
            {"attachments": {"a.png": {"image/png": "AA"}}},
            {"attachments": {"a.png": {"image/png": "BB"}}},
            "attachments",
        ),
        ({"cell_type": "markdown"}, {"cell_type": "raw"}, "cell_type"),
        ({"unheard_of": 1}, {"unheard_of": 2}, "other"),
    ],
)
def test_what_is_no_text_conflicts_as_two_cells(ours: dict[str, Any], theirs: dict[str, Any], what: str) -> None:
    merged = merge(notebook(cell("a")), notebook(cell("a", **ours)), notebook(cell("a", **theirs)))
    assert sources(merged) == ["`<<<<<<< ours`", "a", "`=======`", "a", "`>>>>>>> theirs`"]
    assert [c.what for c in merged.conflicts] == [what]


def test_outputs_conflict_where_they_are_meant() -> None:
    def ran(text: str) -> dict[str, Any]:
        return notebook(cell("a", outputs=[{"output_type": "stream", "name": "stdout", "text": text}]))

    assert merge(ran("1"), ran("2"), ran("3")).conflicts == ()
    assert [
        c.what for c in merge(ran("1"), ran("2"), ran("3"), NotebookPolicy(outputs_are_metadata=False)).conflicts
    ] == ["outputs"]


def test_metadata_of_the_notebook_conflicts_in_a_cell_of_its_own() -> None:
    merged = both(notebook("a", title="T"), notebook("a", title="U"), notebook("a"))
    assert [(c.index, c.what) for c in merged.conflicts] == [(0, "metadata title")]
    assert '"U"' in sources(merged)[0]
    assert "(removed)" in sources(merged)[0]
    assert json.loads(merged.notebook)["metadata"]["title"] == "U"


@pytest.mark.parametrize(
    "text", [value for value in BROKEN.values() if value.strip()], ids=[k for k, v in BROKEN.items() if v.strip()]
)
def test_a_broken_side_keeps_all_its_bytes(text: bytes) -> None:
    base, theirs = json.dumps(notebook("a"), indent=1).encode(), json.dumps(notebook("b"), indent=1).encode()
    assert merge(base, text, base) == Merged(text, ())
    assert merge(text, text, theirs) == Merged(theirs, ())
    merged = merge(base, text, theirs)
    assert merged.conflicts[0].what.startswith("broken: ")
    lines = set(merged.notebook.split(b"\n"))
    assert set(text.split(b"\n")) <= lines


# --- properties --------------------------------------------------------------------------------------------------


@given(notebooks(), notebooks())
def test_one_side_changed_is_that_side(base: dict[str, Any], other: dict[str, Any]) -> None:
    for merged in (merge(base, other, base), merge(base, base, other), merge(base, other, other)):
        assert merged.conflicts == ()
        assert not compare(other, merged.notebook).is_meaningful


@given(st.data(), notebooks(), notebooks())
def test_drift_on_one_side_and_an_edit_on_the_other_is_the_edit(
    data: st.DataObject, base: dict[str, Any], other: dict[str, Any]
) -> None:
    touched = data.draw(drifted(base))
    for merged in (merge(base, touched, other), merge(base, other, touched)):
        assert merged.conflicts == ()
        assert not compare(strip(other), merged.notebook).is_meaningful


def lines_of(made: dict[str, Any]) -> set[str]:
    """Every line of every source."""
    return {line for each in made["cells"] for line in "".join(each["source"]).split("\n")}


@given(notebooks(max_cells=4), notebooks(max_cells=4), notebooks(max_cells=4))
def test_no_new_line_of_either_side_is_lost_and_both_orders_agree(
    base: dict[str, Any], ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    merged, mirrored = merge(base, ours, theirs), merge(base, theirs, ours)
    result = lines_of(json.loads(merged.notebook))
    assert (lines_of(ours) | lines_of(theirs)) - lines_of(base) <= result
    assert bool(merged.conflicts) == bool(mirrored.conflicts)
    nbformat.validate(nbformat.reads(merged.notebook.decode(), as_version=nbformat.NO_CONVERT))
    has_markers = any("<<<<<<< ours" in line for line in result)
    assert has_markers == bool(merged.conflicts)


LINES = st.lists(st.sampled_from(["a", "b", "c", ""]), max_size=6).map("\n".join)


@given(LINES, LINES, LINES)
def test_lines_merge_like_git_does(base: str, ours: str, theirs: str) -> None:
    assert merge_text(base, ours, base) == (ours, 0)
    assert merge_text(base, base, theirs) == (theirs, 0)
    assert merge_text(base, ours, ours) == (ours, 0)
    merged, mirrored = merge_text(base, ours, theirs), merge_text(base, theirs, ours)
    assert merged.conflicts == mirrored.conflicts
    if not merged.conflicts:
        assert merged == mirrored
