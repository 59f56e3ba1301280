"""Memory as text: appending, archiving and merging keep every byte of every entry; what is lost is found."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes import memory
from lanes import memory_structure as structure

TODAY = dt.date(2026, 6, 30)
ANY = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=6)  # fmt: skip
ENTRIES = st.lists(st.dictionaries(st.text(), ANY, max_size=4), max_size=6)


def entry(number: int, date: str = "2026-06-01", **more: Any) -> dict[str, Any]:
    return {
        "date": date,
        "time": "10:00:00",
        "requested": f"task {number}",
        "executed": "done",
        "status": "success",
        **more,
    }


def log_of(*entries: dict[str, Any]) -> str:
    return memory.appended(memory.EMPTY, entries)


@pytest.mark.req("S2-R04", "S2-R07")
@given(ENTRIES, ENTRIES)
def test_appending_keeps_every_character_that_stood_there(first: list[Any], then: list[Any]) -> None:
    text = memory.appended(memory.EMPTY, first)
    grown = memory.appended(text, then)
    assert [*memory.parse(grown).entries] == first + then == json.loads(grown)["entries"]
    was, now = memory.parse(text), memory.parse(grown)
    assert [was.raw(index) for index in range(len(first))] == [now.raw(index) for index in range(len(first))]


@pytest.mark.req("S2-R04", "S2-R07")
@given(ENTRIES, ENTRIES, ENTRIES, st.sampled_from([memory.EMPTY, "[]", '{"é": 1, "entries": [\n], "later": ["x"]}']))
def test_putting_bytes_behind_is_the_same_as_reading_it_all(
    first: list[Any], then: list[Any], last: list[Any], empty: str
) -> None:
    text = memory.appended(empty, first)
    raw, place = memory.grown(text.encode(), memory.place_in(memory.parse(text)), then)
    raw, place = memory.grown(raw, place, last)
    assert raw.decode() == memory.appended(memory.appended(text, then), last)
    assert place == memory.place_in(memory.parse(raw.decode()))


@given(ENTRIES, ENTRIES, st.integers(1, 400))
def test_what_is_known_of_an_older_version_changes_nothing(first: list[Any], then: list[Any], cut: int) -> None:
    old = memory.parse(memory.appended(memory.EMPTY, first))
    new = memory.parse(memory.appended(old.text, then), old)
    assert new == memory.parse(new.text)
    assert new.continues(old)
    whole = new.text.rstrip()
    with pytest.raises(memory.LogBroken):
        memory.parse(whole[: -min(cut, len(whole))], old)


@pytest.mark.parametrize(
    "text",
    [
        '[\n {"a": 1}\n]',
        '{"project": "x", "deep": {"entries": [1]}, "entries": [ {"a" : 1.50} ], "later": [2]}',
        '{"entries":[]}',
        "[]",
    ],
)
def test_logs_of_other_layouts_keep_their_own_bytes(text: str) -> None:
    before, grown = memory.parse(text), memory.appended(text, [{"new": True}])
    now = memory.parse(grown)
    assert list(now.entries) == [*before.entries, {"new": True}]
    assert [now.raw(index) for index in range(len(before.entries))] == [
        before.raw(i) for i in range(len(before.entries))
    ]
    without = json.loads(grown)
    if isinstance(without, dict):
        assert {**without, "entries": json.loads(text)["entries"]} == json.loads(text)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[", '{"entries": 3}', '{"entries": [1]}', '[{"a": 1},]', '[{"a": 1} {"b": 2}]', '{"entries": []', "null",
     '{"entries": []} more', "[" * 5000],
)  # fmt: skip
def test_what_is_no_log_is_refused(text: str) -> None:
    with pytest.raises(memory.LogBroken):
        memory.appended(text, [{}])


@given(st.text(alphabet='{}[]",:entris \n1', max_size=60))
def test_any_text_is_a_log_or_refused(text: str) -> None:
    try:
        grown = memory.appended(text, [{"new": 1}])
    except memory.LogBroken:
        return
    assert json.loads(grown)


@pytest.mark.req("S2-R17")
def test_old_entries_move_byte_for_byte_once_there_are_more_than_200() -> None:
    old = [entry(number, "2026-05-01", odd={"kept": number}) for number in range(150)]
    young = [entry(number, "2026-06-29") for number in range(60)]
    text = log_of(*old, *young)
    left, archive, count = memory.archived(text, memory.EMPTY, TODAY)
    assert (count, len(memory.parse(left).entries)) == (150, 60)
    before, there = memory.parse(text), memory.parse(archive)
    assert [there.raw(index) for index in range(150)] == [before.raw(index) for index in range(150)]
    assert memory.lost_entries(before.entries, [*there.entries, *memory.parse(left).entries]) == []
    # A crash after the archive was written: the log still has them, and they are not written twice.
    assert memory.archived(text, archive, TODAY) == (left, archive, 150)
    assert memory.archived(left, archive, TODAY)[2] == 0


DAYS = st.sampled_from(["2026-04-01", "2026-05-29", "2026-05-30", "2026-05-31", "2026-06-29", "soon", ""])


@pytest.mark.req("S2-R17", "C2")
@given(st.lists(DAYS, min_size=201, max_size=230), st.integers(0, 20))
def test_archive_and_log_always_say_the_same_sequence(days: list[str], days_later: int) -> None:
    text = log_of(*(entry(number, day) for number, day in enumerate(days)))
    log, archive = text, memory.EMPTY
    for today in (TODAY, TODAY + dt.timedelta(days_later), TODAY + dt.timedelta(40)):
        is_due = memory.is_due(memory.place_in(memory.parse(log)), today)
        log, archive, count = memory.archived(log, archive, today)
        assert is_due == bool(count)
        moved = memory.parse(archive).entries
        assert [*moved, *memory.parse(log).entries] == list(memory.parse(text).entries)
        young = (today - dt.timedelta(30)).isoformat()
        assert [each["date"] for each in moved if each["date"].startswith("2026") and each["date"] >= young] == []


def test_ten_thousand_entries_move_in_one_step_and_a_crash_in_it_is_made_good() -> None:
    text = log_of(*(entry(number % 50, "2026-05-01") for number in range(10_000)), entry(1, "2026-06-29"))
    left, archive, count = memory.archived(text, memory.EMPTY, TODAY)
    assert (count, len(memory.parse(left).entries)) == (10_000, 1)
    assert memory.archived(text, archive, TODAY) == (left, archive, 10_000)


def test_a_small_log_and_undated_entries_stay() -> None:
    few = log_of(*(entry(number, "2020-01-01") for number in range(200)))
    assert memory.archived(few, memory.EMPTY, TODAY) == (few, memory.EMPTY, 0)
    many = log_of(*(entry(number, "soon") for number in range(300)))
    assert memory.archived(many, memory.EMPTY, TODAY)[2] == 0
    all_old = log_of(*(entry(number, "2020-01-01") for number in range(201)))
    left, archive, count = memory.archived(all_old, memory.EMPTY, TODAY)
    assert (count, memory.parse(left).entries, len(memory.parse(archive).entries)) == (201, (), 201)


@pytest.mark.req("S2-R05", "S2-R08")
def test_what_was_removed_rewritten_or_moved_is_found() -> None:
    one, two, three = (entry(number) for number in range(3))
    assert memory.lost_entries([one, two], [one, two, three]) == []
    assert len(memory.lost_entries([one, two], [one, {**two, "notes": "shortened"}])) == 1
    assert len(memory.lost_entries([one, one], [one])) == 1
    assert memory.moved_entries([one, two], [one, three, two]) == []
    assert [lost.entry for lost in memory.moved_entries([one, two], [two, one])] == [two]
    assert "task 1" in str(memory.lost_entries([two], [])[0])


@pytest.mark.req("S2-R13")
def test_the_concept_changes_only_with_an_approval_in_the_log() -> None:
    before, after = {"vision": "one host", "platform": ""}, {"vision": "two hosts", "platform": "Linux"}
    assert [lost.entry["field"] for lost in memory.changed_concept(before, after, [])] == ["vision"]
    approval = entry(1, concept={"field": "vision", "from": "one host", "to": "two hosts", "approved_by": "p"})
    assert memory.changed_concept(before, after, [approval]) == []
    assert len(memory.changed_concept(before, {**after, "vision": "three"}, [approval])) == 1
    assert len(memory.changed_concept(before, {"platform": "Linux"}, [])) == 1
    # What stands may be approved afterwards, by a person and by nobody else, and only as it stands.
    for by, left in (("p", 0), (None, 1)):
        later = entry(2, concept={"field": "vision", "from": "two hosts", "to": "two hosts", "approved_by": by})
        assert len(memory.changed_concept(before, after, [later])) == left
        assert len(memory.changed_concept(before, {**after, "vision": "three"}, [later])) == 1


def test_the_structure_keeps_what_vanished_and_what_people_added() -> None:
    standing = [{"name": "a", "path": "a.py", "owner": "me", "status": "active"}, {"name": "gone", "status": "active"},
                {"name": "later", "status": "planned"}]  # fmt: skip
    found = [{"name": "a", "path": "src/a.py", "status": "complete"}, {"name": "b", "path": "b.py", "status": "active"}]
    merged = structure.merged(standing, found, "2026-06-30")
    assert merged[0] == {"name": "a", "path": "src/a.py", "owner": "me", "status": "complete"}
    assert merged[1] == {"name": "gone", "status": "removed", "removed_on": "2026-06-30"}
    assert [each["name"] for each in merged] == ["a", "gone", "later", "b"]
    assert structure.lost_modules(standing, merged) == []
    assert len(structure.lost_modules(standing, found)) == 3


@pytest.mark.req("S2-R19")
@given(st.lists(st.integers(0, 40), max_size=8), st.lists(st.integers(0, 40), max_size=8))
def test_a_merge_has_every_entry_of_both_each_in_its_own_order(mine: list[int], theirs: list[int]) -> None:
    base = log_of(entry(1000), entry(1001))
    ours, other = (
        memory.appended(base, [entry(each, f"2026-06-{each % 28 + 1:02}", by=who) for each in numbers])
        for who, numbers in (("us", mine), ("them", theirs))
    )
    merged = memory.parse(memory.merged_log(base, ours, other)).entries
    assert len(merged) == 2 + len(mine) + len(theirs)
    for side in (ours, other):
        assert memory.lost_entries(memory.parse(side).entries, merged) == []
    for who, numbers in (("us", mine), ("them", theirs)):
        assert [each["requested"] for each in merged if each.get("by") == who] == [f"task {each}" for each in numbers]


def test_the_same_entry_on_both_sides_is_one_entry() -> None:
    both = log_of(entry(1), entry(2))
    assert memory.merged_log(log_of(entry(1)), both, both) == both
