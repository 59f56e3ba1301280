"""How fast to ask Drive, and what to do about an answer that is an error: a token bucket and a reading of faults.

Google's own limit is 12,000 queries a minute for a user; what passes it is answered 403 or 429 and tried again later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Meaning = Literal["passing", "absent", "unreadable", "sign-in", "used-up", "conflict", "wrong"]

# Reasons of a 403 that mean "slower"; every other one is an answer.
_SLOWER = {"userRateLimitExceeded", "rateLimitExceeded", "sharingRateLimitExceeded", "backendError", "internalError"}
_USED_UP = {
    "storageQuotaExceeded", "quotaExceeded", "dailyLimitExceeded", "dailyLimitExceededUnreg", "teamDriveFileLimitExceeded",
    "numChildrenInNonRootLimitExceeded", "activeItemCreationLimitExceeded", "downloadQuotaExceeded",
}  # fmt: skip
_SIGN_IN = {"authError", "insufficientPermissions", "accessNotConfigured", "SERVICE_DISABLED", "appNotInstalled"}


@dataclass(frozen=True)
class Bucket:
    """Tokens come at `rate_per_s`; at most `burst` are kept."""

    rate_per_s: float
    burst: float


@dataclass(frozen=True)
class Level:
    """How full a bucket was at a moment (seconds on any steady clock); below 0: taken before they came."""

    tokens: float
    at_s: float


def take(bucket: Bucket, level: Level, now_s: float) -> tuple[Level, float]:
    """One token taken at `now_s`: the new level, and how many seconds to wait before acting on it.

    Takers at the same moment get waits that are one token apart, so none starves.
    """
    earned = max(0.0, now_s - level.at_s) * bucket.rate_per_s
    tokens = min(bucket.burst, level.tokens + earned) - 1
    return Level(tokens, max(now_s, level.at_s)), max(0.0, -tokens / bucket.rate_per_s)


def meaning_of(status: int, reasons: frozenset[str]) -> Meaning:
    """What an error answer of Drive means, from its HTTP status and the reasons in its body.

    Only `passing` is worth another try by itself. A 403 is looked at closely: most are answers, a few are "too fast".
    """
    if status in {408, 429} or status >= 500:
        return "used-up" if reasons & _USED_UP else "passing"
    if status == 403:
        if reasons & _USED_UP:
            return "used-up"
        return "passing" if reasons & _SLOWER else "sign-in" if reasons & _SIGN_IN else "unreadable"
    plain: dict[int, Meaning] = {401: "sign-in", 404: "absent", 410: "absent", 409: "conflict"}
    return plain.get(status, "wrong")


def backoff_s(attempt: int, chance: float, asked_s: float | None, *, first_s: float, most_s: float) -> float:
    """Seconds to wait after failed try `attempt` (1, 2, …): exponential with full jitter, never before the server asked.

    `chance` is evenly spread over 0..1. Half of the step is kept, so that no retry comes at once.
    """
    step = min(most_s, first_s * 2.0 ** min(attempt - 1, 30))
    wait = step * (0.5 + chance / 2)
    return wait if asked_s is None else max(asked_s, wait)
