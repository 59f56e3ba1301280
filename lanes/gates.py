"""May the next, dearer stage start? Answered from recorded evidence that is bound to content hashes, never from a claim.

A script, config, dataset or environment that is another than the one a stage saw closes the gates behind it again, and
the answer names which (S7-R18, S8-R06, D1). What is missing, failed, was not checked or has no hash keeps them closed (D11).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from manifests.evidence import Content, Evidence, Hashes, Stage

from lanes.verdict import Reason, Verdict

STAGES: tuple[Stage, ...] = get_args(Stage)
CONTENTS: tuple[Content, ...] = get_args(Content)
# What each stage's finding depends on. An edited script leaves the data audit standing; all from the smoke on saw all five.
DEPENDS_ON: Mapping[Stage, tuple[Content, ...]] = {
    "intake": ("config", "dataset", "model"),
    "resources": ("config", "model", "environment"),
    "data-audit": ("config", "dataset", "model", "environment"),
}
# The one thing that a manifest may accept as not covered: a machine without GPU runs the preflight's CPU part.
ACCEPTABLE = {"gpu-preflight": "no-gpu"}

State = Literal["proven", "missing", "failed", "not-checked", "partial", "changed", "unbound"]


@dataclass(frozen=True)
class Standing:
    """How one stage stands. `changed` names the contents that differ from those its evidence saw."""

    stage: Stage
    state: State
    fact: str
    changed: tuple[Content, ...] = ()

    @property
    def is_proven(self) -> bool:
        """Whether the stage's evidence holds for what is there now; it then is not repeated."""
        return self.state == "proven"


def evaluate(
    stage: Stage, evidence: Sequence[Evidence], hashes_now: Hashes, *, accepts: Collection[str] = ()
) -> Verdict:
    """Whether `stage` may start: every stage before it is proven for the contents there are now.

    `accepts` are the words by which the manifest accepts a partial stage (`no-gpu`). Reasons name each stage that is not
    proven, in order; the one next step is the first of them, since its evidence may change what those after it need.
    """
    before = STAGES[: STAGES.index(stage)]
    open_ones = [each for each in standings(evidence, hashes_now, accepts=accepts, stages=before) if not each.is_proven]
    if not open_ones:
        return Verdict(True, (Reason("every stage before is proven", ", ".join(before) or "it is the first"),))
    reasons = tuple(Reason(f"{each.stage} comes before {stage}", each.fact) for each in open_ones)
    return Verdict(False, reasons, (f"run the stage {open_ones[0].stage}",))


def standings(
    evidence: Sequence[Evidence],
    hashes_now: Hashes,
    *,
    accepts: Collection[str] = (),
    stages: Sequence[Stage] = STAGES,
) -> tuple[Standing, ...]:
    """How each of `stages` stands, in order. The evidence with the highest sequence counts, also when it is the worse."""
    return tuple(standing(stage, evidence, hashes_now, accepts=accepts) for stage in stages)


def standing(
    stage: Stage, evidence: Sequence[Evidence], hashes_now: Hashes, *, accepts: Collection[str] = ()
) -> Standing:
    """How one stage stands."""
    newest = newest_of(stage, evidence)
    if newest is None:
        return Standing(stage, "missing", f"{stage} has no evidence")
    if newest.outcome in ("failed", "not-checked"):
        return _not_passed(newest)
    if stage == "healthy" and not first_metric_seen(newest):
        return Standing(stage, "failed", f"{stage} is claimed, but no first metric was seen (D12)")
    unbound = [content for content in _depends_on(stage) if not _known(newest.hashes, content)]
    if unbound:
        return Standing(stage, "unbound", f"the evidence of {stage} names no hash of: {', '.join(unbound)}")
    changed: tuple[Content, ...] = tuple(
        content for content in _depends_on(stage) if _differs(newest.hashes, hashes_now, content)
    )
    if changed:
        return Standing(stage, "changed", f"changed since {stage}: {', '.join(changed)}", changed)
    if newest.outcome == "partial" and ACCEPTABLE.get(stage) not in accepts:
        fact = f"{stage} did not cover: {'; '.join(newest.not_covered)}"
        word = ACCEPTABLE.get(stage)
        return Standing(stage, "partial", fact + (f" (the manifest may accept it: {word})" if word else ""))
    return Standing(stage, "proven", f"evidence {newest.sequence}")


def newest_of(stage: Stage, evidence: Sequence[Evidence]) -> Evidence | None:
    """The evidence of `stage` with the highest sequence; of two with the same one, that which is not passed."""
    own = [each for each in evidence if each.stage == stage]
    return max(own, key=lambda each: (each.sequence, each.outcome != "passed"), default=None)


def first_metric_seen(newest: Evidence) -> bool:
    """Whether this evidence holds a finite metric of step 1 or later: what healthy means (S8-R09, D12)."""
    step, value = newest.facts.get("first_metric_step"), newest.facts.get("first_metric")
    whole = isinstance(step, int) and not isinstance(step, bool) and step >= 1
    return whole and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _not_passed(newest: Evidence) -> Standing:
    if newest.outcome == "not-checked":
        return Standing(newest.stage, "not-checked", f"{newest.stage} could not be checked: {_broken(newest)}")
    return Standing(newest.stage, "failed", f"{newest.stage} failed: {_broken(newest)}")


def _broken(newest: Evidence) -> str:
    facts = [f"{check.name} ({check.fact})" if check.fact else check.name for check in newest.checks if not check.held]
    return "; ".join(facts) or "no check is named"


def _depends_on(stage: Stage) -> tuple[Content, ...]:
    return DEPENDS_ON.get(stage, CONTENTS)


def _known(hashes: Hashes, content: Content) -> bool:
    value: str | None = getattr(hashes, content)
    return bool(value and value.strip())


def _differs(then: Hashes, now: Hashes, content: Content) -> bool:
    return not _known(now, content) or getattr(then, content) != getattr(now, content)
