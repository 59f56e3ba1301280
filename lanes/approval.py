"""What may start without a person, what needs a yes, and what always needs a human (S8-R12, S8-R13, S8-R19)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lanes.verdict import Reason, Verdict

YES = "add --yes, or answer the question at a terminal"


def of_training(request: Mapping[str, Any], *, is_approved: bool) -> Verdict:
    """Whether this training request may be submitted now. Free work on the CPU may; GPU time and money need a yes.

    A recurring commitment (`schedule`) needs a human at every start, an approval beforehand does not count.
    """
    resources = request["resources"]
    reasons: list[Reason] = []
    if request.get("schedule"):
        return Verdict(
            False,
            (Reason("a recurring commitment needs a human, always (S8-R13)", f"schedule: {request['schedule']}"),),
            ("submit each run by hand",),
        )
    if resources["cost_per_hour"] is None:
        reasons.append(Reason("an unknown cost is never approved by itself (S8-R19)", "cost_per_hour is not known"))
    elif resources["cost_per_hour"] > 0:
        hours = resources["timeout_s"] / 3600
        fact = (
            f"up to {resources['cost_per_hour'] * hours:.2f} for {hours:.1f} h, of at most {resources['max_cost']:.2f}"
        )
        reasons.append(Reason("paid work needs a yes (S8-R12)", fact))
    if resources["gpu"] == "required":
        reasons.append(Reason("GPU time needs a yes (S8-R12)", f"up to {resources['max_gpu_hours']:.1f} GPU hours"))
    if not reasons or is_approved:
        return Verdict(True, tuple(reasons) or (Reason("free work needs no yes", "no cost, no GPU required"),))
    return Verdict(False, tuple(reasons), (YES,))
