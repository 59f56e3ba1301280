"""Two ledgers whose caps hold in every order of reserving and settling, each attempt counted, none twice."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes.budget import MICROS, Amount, Entry, may_reserve, replay, reserve, settle
from lanes.verdict import Verdict

CAP = Amount(100 * MICROS, 36_000)


def appended(entries: list[Entry], made: Entry | Verdict) -> list[Entry]:
    assert isinstance(made, Entry), made
    return [*entries, made]


@pytest.mark.req("S8-R15")
def test_every_attempt_is_paid_for_and_not_once_for_all() -> None:
    """D2: three attempts of 30 cost 90; the fourth does not fit."""
    entries: list[Entry] = []
    for number in range(3):
        entries = appended(entries, reserve(entries, f"a{number}", Amount(40 * MICROS, 3600), CAP))
        entries = appended(entries, settle(entries, f"a{number}", Amount(30 * MICROS, 1800), CAP))
    balance = replay(entries, CAP)
    assert balance.spent == Amount(90 * MICROS, 5400)
    assert balance.reserved == Amount()
    refused = reserve(entries, "a3", Amount(40 * MICROS, 3600), CAP)
    assert isinstance(refused, Verdict)
    assert not refused.allowed
    assert "130.00" not in refused.reasons[0].fact
    assert "90.00" in refused.reasons[0].fact
    assert isinstance(reserve(entries, "a3", Amount(10 * MICROS, 3600), CAP), Entry)


@pytest.mark.req("S8-R15")
def test_either_ledger_alone_refuses() -> None:
    assert not may_reserve([], "a", Amount(101 * MICROS, 0), CAP).allowed
    assert not may_reserve([], "a", Amount(0, 36_001), CAP).allowed
    assert may_reserve([], "a", CAP, CAP).allowed


@pytest.mark.req("S8-R19")
def test_an_unknown_cost_goes_to_a_person() -> None:
    verdict = may_reserve([], "a", None, CAP)
    assert not verdict.allowed
    assert verdict.next_steps
    assert reserve([], "a", None, CAP) == verdict


def test_one_attempt_is_reserved_once_and_settled_once() -> None:
    entries = appended([], reserve([], "a", Amount(60 * MICROS, 0), CAP))
    again = appended(entries, reserve(entries, "a", Amount(60 * MICROS, 0), CAP))
    assert replay(again, CAP).reserved == Amount(60 * MICROS, 0)
    done = appended(again, settle(again, "a", Amount(1, 1), CAP))
    assert isinstance(settle(done, "a", Amount(2, 2), CAP), Verdict)
    assert isinstance(settle(done, "b", Amount(2, 2), CAP), Verdict)
    assert isinstance(reserve(done, "a", Amount(1, 1), CAP), Verdict)
    doubled = [*done, Entry("settle", "a", Amount(5, 5)), Entry("settle", "stranger", Amount(9, 9))]
    assert replay(doubled, CAP).spent == Amount(1, 1)


def test_what_was_spent_above_its_reservation_is_told_and_leaves_less() -> None:
    entries = [Entry("reserve", "a", Amount(10, 10)), Entry("settle", "a", CAP)]
    balance = replay(entries, CAP)
    assert balance.overrun == {"a"}
    assert not may_reserve(entries, "b", Amount(1, 0), CAP).allowed


def test_a_refused_reservation_stays_refused_after_room_was_made() -> None:
    entries = [Entry("reserve", "a", CAP), Entry("reserve", "b", Amount(1, 1)), Entry("settle", "a", Amount())]
    assert replay(entries, CAP).void == {"b"}
    assert not may_reserve(entries, "b", Amount(1, 1), CAP).allowed
    assert may_reserve(entries, "c", Amount(1, 1), CAP).allowed


def test_no_amount_is_negative() -> None:
    with pytest.raises(ValueError, match="negative"):
        Amount(-1, 0)


AMOUNTS = st.builds(Amount, st.integers(0, 60 * MICROS), st.integers(0, 20_000))
ENTRIES = st.lists(
    st.builds(Entry, st.sampled_from(["reserve", "settle"]), st.sampled_from([f"a{n}" for n in range(8)]), AMOUNTS),
    max_size=30,
)


@pytest.mark.req("S8-R15", "S8-R14")
@given(ENTRIES)
def test_no_order_of_entries_takes_reservations_above_a_cap(entries: list[Entry]) -> None:
    for end in range(len(entries) + 1):
        balance = replay(entries[:end], CAP)
        if not balance.overrun:
            assert balance.committed.fits(CAP)
        assert balance.open <= balance.granted
        assert not balance.granted & balance.void


@pytest.mark.req("S8-R14")
@given(st.randoms())
def test_a_hundred_submits_at_once_pass_no_cap(chance: random.Random) -> None:
    """F14: all asked before any was written; each is in the list, and only what fits counts."""
    asked = [Entry("reserve", f"s{n}", Amount(7 * MICROS, 600)) for n in range(100)]
    chance.shuffle(asked)
    balance = replay(asked, CAP)
    assert len(balance.granted) == 14
    assert len(balance.void) == 86
    assert balance.committed.fits(CAP)
