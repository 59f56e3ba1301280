"""Two ledgers, money and GPU time: reserved before each attempt, settled after it, never above their caps (S8-R15, C22, D2).

A ledger is an append-only list of entries and nothing else; what is left follows from replaying it. A reservation that
would pass a cap *at its place in the list* counts for nothing, so writers that append at the same moment need no lock:
each replays the list and sees whether its own entry was granted. Amounts are whole numbers, so sums have no rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from manifests.commands import Remedy

from lanes.verdict import Reason, Verdict

MICROS = 1_000_000
SECONDS_PER_HOUR = 3600
Kind = Literal["reserve", "settle"]


@dataclass(frozen=True)
class Amount:
    """What an attempt takes from each ledger: millionths of the currency unit, and seconds of one GPU."""

    money_micros: int = 0
    gpu_seconds: int = 0

    def __post_init__(self) -> None:
        if self.money_micros < 0 or self.gpu_seconds < 0:
            raise ValueError("an amount is not negative")

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.money_micros + other.money_micros, self.gpu_seconds + other.gpu_seconds)

    def fits(self, cap: Amount) -> bool:
        """Whether neither part is above that of `cap`."""
        return self.money_micros <= cap.money_micros and self.gpu_seconds <= cap.gpu_seconds

    def __str__(self) -> str:
        return f"{self.money_micros / MICROS:.2f} in money, {self.gpu_seconds / SECONDS_PER_HOUR:.2f} GPU hours"


@dataclass(frozen=True)
class Entry:
    """One line of the list. `attempt` names the attempt it is for; one attempt is reserved once and settled once."""

    kind: Kind
    attempt: str
    amount: Amount


@dataclass(frozen=True)
class Balance:
    """What a list of entries comes to. `void`: attempts whose reservation passed a cap. `overrun`: took more than reserved."""

    spent: Amount = field(default_factory=Amount)
    reserved: Amount = field(default_factory=Amount)
    granted: frozenset[str] = frozenset()
    open: frozenset[str] = frozenset()
    void: frozenset[str] = frozenset()
    overrun: frozenset[str] = frozenset()

    @property
    def committed(self) -> Amount:
        """Spent and still reserved together: what the caps hold against."""
        return self.spent + self.reserved


def replay(entries: Iterable[Entry], cap: Amount) -> Balance:
    """The balance after all entries in their order. Second reservations and settlements of an attempt count for nothing.

    A settlement above its reservation is entered as it was, for it has been spent; the attempt is named in `overrun`,
    and what is over leaves less for the next. The executor ends an attempt at what it reserved, so there should be none.
    """
    held: dict[str, Amount] = {}
    settled: dict[str, Amount] = {}
    void: set[str] = set()
    overrun: set[str] = set()
    for entry in entries:
        known = held.get(entry.attempt)
        if entry.kind == "reserve":
            if known is None and entry.attempt not in void:
                committed = _committed(held, settled)
                granted = (committed + entry.amount).fits(cap)
                held.update({entry.attempt: entry.amount} if granted else {})
                void.update(() if granted else {entry.attempt})
        elif known is not None and entry.attempt not in settled:
            settled[entry.attempt] = entry.amount
            if not entry.amount.fits(known):
                overrun.add(entry.attempt)
    still = {attempt: amount for attempt, amount in held.items() if attempt not in settled}
    return Balance(
        _sum(settled.values()),
        _sum(still.values()),
        frozenset(held),
        frozenset(still),
        frozenset(void),
        frozenset(overrun),
    )


def may_reserve(entries: Sequence[Entry], attempt: str, amount: Amount | None, cap: Amount) -> Verdict:
    """Whether `attempt` may be reserved now. An unknown amount (None) always goes to a person (S8-R19).

    Asking again for an attempt that is reserved and not settled is allowed and costs nothing; one that is settled is over.
    """
    if amount is None:
        return _no(
            "an unknown cost is not approved by itself (S8-R19)", f"the cost of {attempt} is not known", "state it"
        )
    balance = replay(entries, cap)
    if attempt in balance.open:
        return Verdict(True, (Reason("an attempt is reserved once", f"{attempt} is reserved"),))
    if attempt in balance.granted:
        return _no("an attempt is reserved once", f"{attempt} is settled", "reserve under the next attempt's name")
    if attempt in balance.void:
        return _no(
            "a cap is never passed (S8-R15)", f"{attempt} was refused before", "raise the cap, then a new attempt"
        )
    if not (balance.committed + amount).fits(cap):
        fact = f"{attempt} needs {amount}; {_shares(balance.committed, cap)}"
        return _no("a cap is never passed (S8-R15)", fact, "raise the cap in the manifest, or ask for less")
    return Verdict(True, (Reason("within both caps", f"{balance.committed + amount}, of at most {cap}"),))


def reserve(entries: Sequence[Entry], attempt: str, amount: Amount | None, cap: Amount) -> Entry | Verdict:
    """The entry to append before `attempt`, or the verdict that refuses it. Replay again after appending when others write."""
    verdict = may_reserve(entries, attempt, amount, cap)
    return Entry("reserve", attempt, amount) if verdict.allowed and amount is not None else verdict


def settle(entries: Sequence[Entry], attempt: str, actual: Amount, cap: Amount) -> Entry | Verdict:
    """The entry to append after `attempt` ended, with what it really took; what was reserved above that is free again."""
    balance = replay(entries, cap)
    if attempt not in balance.granted:
        return _no("only what was reserved is settled", f"{attempt} has no reservation", "reserve before an attempt")
    if attempt not in balance.open:
        return _no("an attempt is settled once", f"{attempt} is settled", "nothing to do")
    return Entry("settle", attempt, actual)


def _committed(held: dict[str, Amount], settled: dict[str, Amount]) -> Amount:
    return _sum(settled.get(attempt, amount) for attempt, amount in held.items())


def _sum(amounts: Iterable[Amount]) -> Amount:
    total = Amount()
    for amount in amounts:
        total += amount
    return total


def _shares(taken: Amount, cap: Amount) -> str:
    money = f"{taken.money_micros / MICROS:.2f} of {cap.money_micros / MICROS:.2f} spent"
    hours = f"{taken.gpu_seconds / SECONDS_PER_HOUR:.2f} of {cap.gpu_seconds / SECONDS_PER_HOUR:.2f} GPU hours"
    return f"{money}, {hours}"


def _no(rule: str, fact: str, step: Remedy) -> Verdict:
    return Verdict(False, (Reason(rule, fact),), (step,))
