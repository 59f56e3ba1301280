"""The decisions of the Colab lane: what a spool says, which sources travel, which rows, what may be rewritten."""

from __future__ import annotations

import ast
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes import slice_spool as spool
from lanes.slice_compare import compare, is_equal, localized_paths
from lanes.slice_rows import RowsWrong, kept, keyed, row_lines
from lanes.slice_sources import SourceMissing, chosen, required
from manifests.errors import UsageError
from manifests.slices import SliceIndex
from tests.manifests.test_slices import whole

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
done = st.builds(lambda key, result: {"key": key, "state": "done", "result": result}, st.text(max_size=8), values)


# --- spool ----------------------------------------------------------------------------------------------------------


@given(st.lists(done, max_size=5))
def test_what_is_spooled_is_read_again(made: list[dict[str, Any]]) -> None:
    read = spool.entries(b"".join(map(spool.encode, made)))
    assert [{**each, "sum": spool.checksum(each)} for each in json.loads(json.dumps(made))] == read


@pytest.mark.req("S9-R36")
@given(st.lists(done, min_size=1, max_size=4), st.data())
def test_cut_anywhere_only_whole_lines_count_and_the_rest_is_behind_the_mark(
    made: list[dict[str, Any]], data: st.DataObject
) -> None:
    lines = [spool.encode(each) for each in made]
    whole_text = b"".join(lines)
    cut = whole_text[: data.draw(st.integers(0, len(whole_text)))]
    mark = spool.whole_bytes(cut)
    assert cut[:mark] in {b"".join(lines[:count]) for count in range(len(lines) + 1)}
    assert spool.entries(cut[:mark]) == spool.entries(whole_text)[: cut[:mark].count(b"\n")]


@pytest.mark.req("S9-R36")
@given(done, st.data())
def test_a_line_with_any_byte_changed_is_never_taken_for_another_result(
    entry: dict[str, Any], data: st.DataObject
) -> None:
    line = spool.encode(entry)
    at = data.draw(st.integers(0, len(line) - 2))
    byte = data.draw(st.integers(0, 255).filter(lambda each: each not in {line[at], 10}))
    found = spool.decode(line[:at] + bytes([byte]) + line[at + 1 :])
    assert found is None or found == spool.decode(line)  # e.g. \u00E9 and \u00e9 are one


@pytest.mark.parametrize("line", [b"", b"1", b"[]", b"{}", b'{"key":1}', b"\xff", b"[" * 5000, b'{"a":NaN,"sum":"x"}'])
def test_what_is_no_entry_is_none(line: bytes) -> None:
    assert spool.decode(line) is None


@pytest.mark.req("S9-R34", "S9-R36")
def test_a_plan_leaves_out_what_is_done_and_keeps_count_of_tries() -> None:
    known = spool.Completed()
    known.take([
        {"key": "a", "state": "failed", "tries": 1}, {"key": "a", "state": "done"}, {"key": "a", "state": "done"},
        {"key": "b", "state": "failed", "tries": 2}, {"key": "c", "state": "quarantined", "error": "x"},
        {"key": "d", "state": "quarantined"}, {"key": "d", "state": "done"}, {"key": "c", "state": "failed", "tries": 2},
    ])  # fmt: skip
    assert (known.done, known.quarantined, known.repeated) == ({"a", "d"}, {"c": "x"}, 1)
    plan = spool.plan_resume("abcde", known, retries_quarantined=False)
    assert (plan.todo, plan.tries["b"]) == ((1, 4), 2)
    again = spool.plan_resume("abcde", known, retries_quarantined=True)
    assert (again.todo, again.tries.get("c")) == ((1, 2, 4), None)


def test_results_hold_each_row_once_in_the_order_of_the_slice() -> None:
    found = [{"key": key, "state": "done", "result": {"n": at}} for at, key in enumerate("bab")]
    lines = spool.results_of("abc", found).decode().splitlines()
    assert [json.loads(line) for line in lines] == [{"key": "a", "result": {"n": 1}}, {"key": "b", "result": {"n": 0}}]


# --- sources --------------------------------------------------------------------------------------------------------


def parsed(path: str) -> ast.Module:
    """A file of the tree."""
    return ast.parse(TREE[path])


TREE = {
    "prep/__init__.py": "from . import base\n",
    "prep/base.py": "import os, torch\n",
    "prep/clean.py": "from prep.deep import tool\nfrom .near import x\ndef f():\n    import late.thing as t\n",
    "prep/near.py": "from ..prep import far\n",
    "prep/far.py": "import prep.clean\n",
    "prep/deep/__init__.py": "",
    "prep/deep/tool.py": "",
    "late/__init__.py": "",
    "late/thing.py": "import json\n",
    "prep/unused.py": "",
}


@pytest.mark.req("S9-R31")
def test_the_sources_are_what_the_entry_can_import_and_no_more() -> None:
    found = required(["prep.clean"], TREE.keys(), parsed)
    assert found == sorted(set(TREE) - {"prep/unused.py"})


def test_an_entry_that_is_not_tracked_is_named() -> None:
    with pytest.raises(SourceMissing, match=r"prep\.gone is no tracked module"):
        required(["prep.gone"], TREE.keys(), parsed)


def test_globs_name_files_folders_and_trees() -> None:
    names = ["a/b/c.txt", "a/d.txt", "a/e.py", "f.txt"]
    found = chosen(["a", "*.txt", "a/*.txt", "a/**/*.txt", "g"], names)
    assert found == {
        "a": names[:3], "*.txt": ["f.txt"], "a/*.txt": ["a/d.txt"], "a/**/*.txt": ["a/b/c.txt", "a/d.txt"], "g": [],
    }  # fmt: skip


# --- rows -----------------------------------------------------------------------------------------------------------


@pytest.mark.req("S9-R35")
def test_rows_are_kept_by_value_and_kind() -> None:
    rows = [{"a": 1, "b": "x"}, {"a": True, "b": "x"}, {"a": 2, "b": "y"}, {"b": "x"}]
    assert list(kept(rows, {"a": [1, 2], "b": "x"}, as_text=False)) == rows[:1]
    assert list(kept([{"a": "1"}, {"a": "2"}], {"a": 1}, as_text=True)) == [{"a": "1"}]


@pytest.mark.req("S9-R36")
@given(st.lists(st.dictionaries(st.text(max_size=3), values, max_size=3), max_size=8))
def test_without_a_key_rows_are_known_by_their_content_and_all_differ(rows: list[dict[str, Any]]) -> None:
    names = [name for name, _ in keyed(rows, None)]
    assert len(set(names)) == len(rows)
    again = [{key: row[key] for key in reversed(row)} for row in rows]  # in another order of fields
    assert [name for name, _ in keyed(again, None)] == names


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"id": 1}, {"id": "1"}], "row 2 has the key '1' of an earlier row"),
        ([{"id": ""}], "no text or number"),
        ([{}], "no text or number"),
        ([{"id": True}], "no text or number"),
        ([[1]], "row 1 is no object"),
        ([{"id": 1, "x": float("nan")}], "row 1 is no JSON"),
    ],
)
def test_rows_that_cannot_be_told_apart_are_refused(rows: list[object], said: str) -> None:
    with pytest.raises(RowsWrong, match=said):
        list(keyed(rows, "id"))


def test_rows_that_were_done_elsewhere_are_left_out() -> None:
    lines = row_lines(keyed([{"id": at} for at in range(5)], "id"), {"1", "2"}, 2)
    assert [json.loads(line)["key"] for line in lines] == ["0", "3"]


# --- slices ---------------------------------------------------------------------------------------------------------


def test_two_slices_differ_by_rows_files_and_settings() -> None:
    one, other = whole(), whole(gpu="none", files=[{"path": "rows.jsonl", "size_bytes": 3, "sha256": "c" * 64}])
    both = [SliceIndex.parse(each, "slice.json") for each in (one, other)]
    found = compare(both[0], both[1], ({"a": 1, "b": 1}, {"b": 2, "c": 3}))
    assert found["rows"] == {"added": ["c"], "removed": ["a"], "changed": ["b"]}
    assert found["files"]["changed"] == ["rows.jsonl"]
    assert found["settings"] == {"gpu": ["optional", "none"]}
    assert not is_equal(found)
    assert is_equal(compare(both[0], both[0], ({}, {})))


@pytest.mark.req("S9-R32")
def test_only_declared_paths_are_localized() -> None:
    index = SliceIndex.parse(
        whole(localizable=[{"name": "images", "default": "files/images", "fields": []}]), "slice.json"
    )
    assert localized_paths(index, {"gone": "x"}, ["images=/mnt/a=b"]) == {"images": "/mnt/a=b"}
    assert localized_paths(index, {"images": "/x"}, ["images="]) == {}
    for words in (["other=/x"], ["images"], ["images=/a\nb"]):
        with pytest.raises(UsageError):
            localized_paths(index, {}, words)
