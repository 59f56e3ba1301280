"""A chained log: any change but a cut at its end is found, and the cut too when its head is known."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes.event_chain import GENESIS, chained, link, verify

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
RECORDS = st.lists(st.dictionaries(st.text(max_size=4), VALUES, max_size=3), min_size=2, max_size=6)


def chain(bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for body in bodies:
        records.append(chained(records[-1] if records else None, body))
    return records


@pytest.mark.req("S21-R05")
@given(RECORDS)
def test_a_log_as_written_holds_also_after_a_trip_through_json(bodies: list[dict[str, Any]]) -> None:
    records = chain(bodies)
    assert verify(records) is None
    assert verify([json.loads(json.dumps(record)) for record in records], head=records[-1]["digest"]) is None
    assert records[0]["previous_digest"] == GENESIS


@pytest.mark.req("S21-R05")
@given(RECORDS, st.data())
def test_a_change_a_gap_and_a_swap_are_found_where_they_are(bodies: list[dict[str, Any]], data: st.DataObject) -> None:
    records = chain(bodies)
    at = data.draw(st.integers(0, len(records) - 1))
    changed = copy.deepcopy(records)
    changed[at]["planted"] = True
    assert verify(changed) == at
    if at + 1 < len(records):
        assert verify(records[:at] + records[at + 1 :]) == at
        assert verify([*records[:at], records[at + 1], records[at], *records[at + 2 :]]) == at
    assert verify([*records[: at + 1], records[at], *records[at + 1 :]]) == at + 1


@pytest.mark.req("S21-R05")
def test_a_record_that_was_rewritten_with_a_fresh_digest_breaks_the_next_one() -> None:
    records = chain([{"kind": "a"}, {"kind": "b"}, {"kind": "c"}])
    records[1]["kind"] = "forged"
    records[1]["digest"] = link(records[1]["previous_digest"], records[1])
    assert verify(records) == 2


@pytest.mark.req("S21-R05")
def test_a_cut_at_the_end_is_seen_by_whoever_kept_the_head() -> None:
    records = chain([{"kind": "a"}, {"kind": "b"}, {"kind": "c"}])
    head = records[-1]["digest"]
    assert verify(records[:-1]) is None
    assert verify(records[:-1], head=head) == 2
    assert verify([], head=head) == 0
    assert verify(records, head=records[0]["digest"]) is None, "a head kept earlier is still in the log"
    assert verify([]) is None


@pytest.mark.parametrize("seq", [True, 1.5, None, "0", -1])
def test_a_number_that_is_none_breaks(seq: object) -> None:
    record: dict[str, Any] = {"seq": seq, "previous_digest": GENESIS}
    record["digest"] = link(GENESIS, record)
    assert verify([record]) == 0
