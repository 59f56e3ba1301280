"""The structure as a projection: its change log comes to the file, nothing ever goes, and no word is without evidence."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes import memory_structure as structure
from manifests.verify import ModuleRow, StatusWords, VerifyReport

Modules = list[dict[str, Any]]
FIELDS = st.dictionaries(st.sampled_from(["path", "status", "owner", "purpose"]), st.integers(0, 3), max_size=4)
MODULES = st.dictionaries(st.sampled_from("abcd"), FIELDS, max_size=4).map(
    lambda given: [{"name": name, **fields} for name, fields in given.items()]
)
WORD = st.sampled_from([True, False, None])


def report(*rows: ModuleRow) -> VerifyReport:
    return VerifyReport(root="r", ok=True, counts={}, entries=(), modules=rows, findings=())


def row(
    *, tested: bool | None, active: bool | None, wired: bool = True, exists: bool = True, code: str = "1"
) -> ModuleRow:
    words = StatusWords(exists=exists, tested=tested, wired=wired, active=active)
    status = "WIRED" if wired else "NOT WIRED"
    return ModuleRow(name="a", path="a.py", status=status, words=words, digest=code)


def fields(modules: Modules) -> set[tuple[str, str]]:
    return {(each["name"], key) for each in modules for key in each}


@pytest.mark.req("C2", "S2-R04", "S2-R06")
@given(st.lists(MODULES, max_size=5))
def test_the_log_comes_to_the_file_whatever_is_done_to_the_file(edits: list[Modules]) -> None:
    log: list[dict[str, Any]] = []
    before: Modules = []
    for edit in edits:
        whole = structure.restored(edit, structure.replayed(log))
        log.append({"changes": structure.changes(structure.replayed(log), whole)})
        assert structure.replayed(log) == whole
        assert structure.lost_modules(before, whole) == []
        assert fields(edit) | fields(before) == fields(whole)
        before = whole


@pytest.mark.req("S2-R08", "S2-R04")
@given(MODULES, MODULES, MODULES)
def test_a_merge_has_every_module_and_field_of_both_branches(base: Modules, ours: Modules, theirs: Modules) -> None:
    merged = structure.merged_branches(
        {"modules": base}, {"modules": ours, "mine": 1}, {"modules": theirs, "theirs": 2}
    )
    assert (merged["mine"], merged["theirs"]) == (1, 2)
    assert fields(merged["modules"]) == fields(ours) | fields(theirs)
    assert structure.merged_branches({"modules": base}, {"modules": base}, {"modules": theirs})["modules"] == [
        {**each, **next((new for new in theirs if new["name"] == each["name"]), {})}
        for each in [*base, *(new for new in theirs if new["name"] not in {old["name"] for old in base})]
    ]


@pytest.mark.req("S2-R14", "S19-R06", "S19-R07")
@given(WORD, WORD, WORD, WORD, st.booleans(), st.booleans(), st.sampled_from("12"))
def test_complete_is_said_of_nothing_that_was_not_measured(
    tested: bool | None, active: bool | None, then: bool | None, also: bool | None, wired: bool, exists: bool, code: str
) -> None:
    now = report(row(tested=tested, active=active, wired=wired, exists=exists))
    stored = report(row(tested=then, active=also, code=code))
    (made,) = structure.judged([{"name": "a", "path": "a.py"}], [], now, stored)
    words = made["verified"]
    is_same = code == "1"
    assert words["tested"] is (tested if tested is not None else then if is_same else None)
    assert words["active"] is (active if active is not None else also if is_same else None)
    is_complete = bool(exists and wired and words["tested"] and words["active"])
    assert (made["status"] == "complete") == is_complete == (words["complete"] is True)
    assert made["status"] != "active" or (exists and wired)
    assert structure.unproven([], [made]) == []
    assert len(structure.unproven([], [{**made, "status": "complete", "verified": None}])) == 1
    # The same code keeps what was measured; other code does not.
    nothing = report(row(tested=None, active=None, wired=wired, exists=exists))
    assert structure.judged([{"name": "a", "path": "a.py"}], [made], nothing) == [made]
    other = report(row(tested=None, active=None, wired=wired, exists=exists, code="3"))
    (fresh,) = structure.judged([{"name": "a", "path": "a.py"}], [made], other)
    assert (fresh["verified"]["tested"], fresh["status"] == "complete") == (None, False)


def test_a_share_counts_what_verify_judges_and_what_is_planned() -> None:
    (complete,) = structure.judged([{"name": "a", "path": "a.py"}], [], report(row(tested=True, active=True)), None)
    modules: Modules = [
        complete,
        {"name": "b", "status": "planned"},
        {"name": "t", "status": None},
        {"name": "g", "status": "removed"},
    ]
    assert structure.progress(modules) == ({"planned": 1, "active": 0, "complete": 1}, [])
    (unknown,) = structure.judged([{"name": "u", "path": "a.py"}], [], report(row(tested=None, active=True)))
    assert structure.progress([*modules, unknown]) == ({"planned": 1, "active": 1, "complete": 1}, ["u"])
