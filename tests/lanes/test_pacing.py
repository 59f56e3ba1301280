"""The token bucket lets no more through than it may, and faults are read by their reason, not their number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes.pacing import Bucket, Level, backoff_s, meaning_of, take

pytestmark = pytest.mark.req("S9-R14")


@given(st.floats(1, 500), st.integers(1, 50), st.lists(st.floats(0, 2, allow_nan=False), min_size=1, max_size=80))
def test_no_window_of_time_sees_more_than_rate_and_burst(rate: float, burst: int, gaps: list[float]) -> None:
    bucket, level, now = Bucket(rate, burst), Level(burst, 0.0), 0.0
    at: list[float] = []
    for gap in gaps:
        now += gap
        level, wait = take(bucket, level, now)
        at.append(now + wait)
    at.sort()
    for first in range(len(at)):
        for last in range(first, len(at)):
            assert last - first + 1 <= burst + (at[last] - at[first]) * rate + 1 + 1e-6


def test_takers_at_one_moment_are_spread() -> None:
    bucket, level = Bucket(10, 1), Level(1, 5.0)
    waits: list[float] = []
    for _ in range(4):
        level, wait = take(bucket, level, 5.0)
        waits.append(round(wait, 6))
    assert waits == [0, 0.1, 0.2, 0.3]


def test_a_clock_that_steps_back_gives_nothing_away() -> None:
    level, wait = take(Bucket(10, 1), Level(0, 5.0), 4.0)
    assert (level.at_s, wait > 0) == (5.0, True)


@pytest.mark.parametrize(
    ("status", "reasons", "meaning"),
    [
        (403, {"userRateLimitExceeded"}, "passing"),
        (403, {"rateLimitExceeded"}, "passing"),
        (403, {"insufficientFilePermissions"}, "unreadable"),
        (403, {"cannotDownloadFile"}, "unreadable"),
        (403, {"appNotAuthorizedToFile"}, "unreadable"),
        (403, {"storageQuotaExceeded"}, "used-up"),
        (403, {"dailyLimitExceeded", "userRateLimitExceeded"}, "used-up"),
        (403, {"insufficientPermissions"}, "sign-in"),
        (403, set(), "unreadable"),
        (429, set(), "passing"),
        (500, set(), "passing"),
        (503, {"backendError"}, "passing"),
        (401, {"authError"}, "sign-in"),
        (404, {"notFound"}, "absent"),
        (409, {"fileIdInUse"}, "conflict"),
        (400, {"badRequest"}, "wrong"),
    ],
)
def test_a_fault_is_read_by_its_reason(status: int, reasons: set[str], meaning: str) -> None:
    assert meaning_of(status, frozenset(reasons)) == meaning


@given(st.integers(1, 200), st.floats(0, 1), st.none() | st.floats(0, 100))
def test_waits_grow_to_a_ceiling_and_keep_to_what_the_server_asked(
    attempt: int, chance: float, asked: float | None
) -> None:
    wait = backoff_s(attempt, chance, asked, first_s=0.5, most_s=32)
    assert 0.25 <= wait <= max(32, asked or 0)
    assert asked is None or wait >= asked
