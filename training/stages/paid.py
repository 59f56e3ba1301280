"""Nothing that costs starts unpaid: each child that trains or evaluates is reserved before it and settled after (S8-R15, S8-R19).

The survey and the data audit are not: they use no card, and are what decides whether money is spent at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from lanes.budget import MICROS, SECONDS_PER_HOUR, Amount
from training.children import ChildEnd
from training.course import Course, Stop
from training.ledger import Ledger

# Limits of their own: a trial that takes longer is not the cheap check that it should be.
SMOKE_TIMEOUT_S = 900.0
PREFLIGHT_TIMEOUT_S = 1800.0
EVALUATE_TIMEOUT_S = 3600.0
LONGEST_S = 30 * 86400.0
_REMEDY = "raise resources.max_cost or resources.max_gpu_hours in the manifest, or lower resources.timeout"


def paid(course: Course, phase: str, timeout_s: float, start: Callable[[], ChildEnd]) -> ChildEnd:
    """`start()` within both caps: reserved for `timeout_s`, settled by what it took. Raises Stop `cost_cap_<phase>`."""
    course.reserved[phase] += 1
    attempt, ledger = f"{phase}-{course.reserved[phase]}", Ledger.of(course)
    wanted = amount(course, timeout_s, phase)
    refused = ledger.reserve(f"{course.run_id}/{attempt}", wanted)
    if refused:
        raise _refusal(phase, refused)
    course.event("reserve", attempt=attempt, amount=str(wanted), timeout_s=timeout_s)
    begun = time.monotonic()
    try:
        return start()
    finally:
        spent = amount(course, time.monotonic() - begun, phase) or Amount()
        ledger.settle(f"{course.run_id}/{attempt}", spent)
        course.event("settle", attempt=attempt, amount=str(spent))


def demand_room(course: Course) -> None:
    """Refuse now, with nothing started, what the caps would end at the preflight: smoke and preflight must fit together.

    The job is asked for at its own place, when everything is prepared (S8-R16). Raises Stop `cost_cap_preflight` (S7-R15).
    """
    smoke = amount(course, SMOKE_TIMEOUT_S, "cpu_smoke")
    preflight = amount(course, limit(course, PREFLIGHT_TIMEOUT_S), "preflight")
    wanted = None if smoke is None or preflight is None else smoke + preflight
    refused = Ledger.of(course).refusal(f"{course.run_id}/preflight", wanted)
    if refused:
        raise _refusal("preflight", refused)


def limit(course: Course, most_s: float) -> float:
    """How long a trial may take: `most_s`, and never longer than the job itself."""
    return min(most_s, float(course.job["resources"]["timeout_s"]))


def longest_job(course: Course) -> float:
    """The longest time limit in seconds that both caps still hold for one more attempt; 30 days at most."""
    taken, cap = Ledger.of(course).committed(), Ledger.of(course).cap
    hour = amount(course, float(SECONDS_PER_HOUR), "full_job")
    found = LONGEST_S
    if hour is not None and hour.money_micros:
        found = min(found, (cap.money_micros - taken.money_micros) / hour.money_micros * SECONDS_PER_HOUR)
    if hour is not None and hour.gpu_seconds:
        found = min(found, (cap.gpu_seconds - taken.gpu_seconds) / hour.gpu_seconds * SECONDS_PER_HOUR)
    return max(0.0, found)


def amount(course: Course, seconds: float, phase: str) -> Amount | None:
    """What `seconds` of a phase cost: the host's price, and the time of its cards where the phase uses them.

    None when the price is not known (S8-R19). The smoke runs on the CPU: it takes money, no card.
    """
    rate = course.job["resources"]["cost_per_hour"]
    if rate is None:
        return None
    uses_cards = course.job_uses_gpu and phase != "cpu_smoke"
    gpus = len((course.survey or {}).get("gpus") or []) if uses_cards else 0
    return Amount(round(float(rate) * MICROS * seconds / SECONDS_PER_HOUR), round(seconds * gpus))


def _refusal(phase: str, fact: str) -> Stop:
    return Stop(f"cost_cap_{phase}", fact, _REMEDY, needs_person=True)
