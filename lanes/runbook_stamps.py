"""How old a `verified` stamp is, and whether that is too old: what costs money ages faster (S17-R14..R16)."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

# Beyond these a stamp is stale. Teardown and billing are looked at every quarter (S17-R15).
MONTHS, MONEY_MONTHS = 6, 3


@dataclass(frozen=True)
class Limits:
    """After how many whole months a stamp is stale, in general and where money hangs on it."""

    months: int = MONTHS
    money_months: int = MONEY_MONTHS

    def limit(self, *, money: bool) -> int:
        """The limit for one fact."""
        return min(self.months, self.money_months) if money else self.months


def age_months(stamp: str, today: dt.date) -> int:
    """Whole calendar months from the month `stamp` (YYYY-MM) to that of `today`; negative when it lies ahead."""
    year, month = (int(part) for part in stamp.split("-"))
    return (today.year - year) * 12 + today.month - month


def stale(stamp: str, today: dt.date, limits: Limits, *, money: bool) -> str:
    """Why the stamp does not hold any more, or an empty text. A stamp of the future never holds."""
    age = age_months(stamp, today)
    if age < 0:
        return f"verified {stamp} lies in the future"
    limit = limits.limit(money=money)
    if age <= limit:
        return ""
    return f"verified {stamp} is {age} months ago, the limit{' for what costs money' if money else ''} is {limit}"


def due(stamp: str, limits: Limits, *, money: bool) -> dt.date:
    """The first day on which the stamp does not hold any more."""
    year, month = (int(part) for part in stamp.split("-"))
    months = year * 12 + month - 1 + limits.limit(money=money) + 1
    return dt.date(months // 12, months % 12 + 1, 1)
