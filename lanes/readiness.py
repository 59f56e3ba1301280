"""The checklist before the one full job, each item computed from recorded evidence (S8-R02..R06, D10; D12 after it).

Facts that the stages record for it (an absent or mistyped fact leaves its item open, D11):

    intake         reference (what the script was modelled on), destination (where results go), timeout_s
    resources      estimated_s, uses_gpu
    data-audit     verdict (compatible | mappable)
    cpu-smoke      train_steps, eval_steps, first_metric, alert_log
    gpu-preflight  device, real_model_loaded, tracker; no_gpu_reason where nothing of the job needs a GPU
    readiness      transport, payload_sha256
    healthy        first_metric_step, first_metric
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from manifests.commands import command
from manifests.evidence import Evidence, Hashes, Stage

from lanes.gates import newest_of, standing
from lanes.verdict import Reason, Verdict

PLACEHOLDER = re.compile(
    r"\b(todo|tbd|fixme|changeme|placeholder)\b|your[-_ ]|[<>{}$…]|\.\.\.|^(none|null|xxx)$", re.IGNORECASE
)


@dataclass(frozen=True)
class Item:
    """One line of the checklist: whether it is satisfied, by which fact of which stage, and the stage that would satisfy it."""

    name: str
    held: bool
    stage: Stage
    fact: str


@dataclass(frozen=True)
class Readiness:
    """The whole checklist; `verdict` allows the job when no item is open."""

    items: tuple[Item, ...]
    verdict: Verdict


class _Facts:
    """Facts of stages that are proven now; those of any other are as good as absent."""

    def __init__(self, evidence: Sequence[Evidence], hashes_now: Hashes, accepts: Collection[str]) -> None:
        self.evidence, self.now, self.accepts = evidence, hashes_now, accepts

    def of(self, stage: Stage) -> tuple[dict[str, Any], str]:
        """The stage's facts and, when there are none to rely on, why."""
        found = standing(stage, self.evidence, self.now, accepts=self.accepts)
        newest = newest_of(stage, self.evidence)
        return (newest.facts if newest and found.is_proven else {}), ("" if found.is_proven else found.fact)

    def get(self, stage: Stage, name: str) -> Any:
        """One fact of a stage, None when it is not there."""
        return self.of(stage)[0].get(name)


def readiness(evidence: Sequence[Evidence], hashes_now: Hashes, *, accepts: Collection[str] = ()) -> Readiness:
    """The checklist as the evidence has it. The readiness stage itself is not asked for, only the facts it recorded."""
    facts = _Facts(evidence, hashes_now, accepts)
    items = tuple(_item(name, stage, check, facts) for name, stage, check in CHECKLIST)
    missing = [item for item in items if not item.held]
    if not missing:
        return Readiness(
            items, Verdict(True, (Reason("every item is satisfied (S8-R04)", f"{len(items)} of {len(items)}"),))
        )
    reasons = tuple(Reason(f"{item.name} (S8-R04)", item.fact) for item in missing)
    steps = tuple(dict.fromkeys(command("complete it in the stage {}", item.stage) for item in missing))
    return Readiness(items, Verdict(False, reasons, steps))


def is_healthy(evidence: Sequence[Evidence], hashes_now: Hashes) -> Verdict:
    """Whether the full job is known to be healthy: its first metric was *seen*, with a finite value (S8-R09, D12)."""
    found = standing("healthy", evidence, hashes_now)
    rule = "healthy is the first metric seen (D12)"
    if not found.is_proven:
        return Verdict(False, (Reason(rule, found.fact),), ("wait for the first metric",))
    return Verdict(True, (Reason(rule, found.fact),))


def _item(name: str, stage: Stage, check: Callable[[_Facts], str | None], facts: _Facts) -> Item:
    why = "" if stage == "readiness" else facts.of(stage)[1]
    missing = why or check(facts)
    return Item(name, missing is None, stage, missing or "recorded")


def _reference(facts: _Facts) -> str | None:
    return None if _words(facts.get("intake", "reference")) else "no reference implementation is recorded"


def _dataset(facts: _Facts) -> str | None:
    verdict = facts.get("data-audit", "verdict")
    return None if verdict in ("compatible", "mappable") else f"the data audit says: {verdict}"


def _smoke(facts: _Facts) -> str | None:
    steps = (facts.get("cpu-smoke", "train_steps"), facts.get("cpu-smoke", "eval_steps"))
    return None if steps == (1, 1) else f"the smoke ran {steps[0]} train and {steps[1]} eval steps, not 1 and 1"


def _on_gpu(facts: _Facts) -> str | None:
    """CPU evidence never counts as GPU evidence (S7-R09): without a GPU there is a reason that says why none is needed."""
    if str(facts.get("gpu-preflight", "device")).startswith("cuda"):
        return None
    needs = facts.get("resources", "uses_gpu")
    if needs is False and _words(facts.get("gpu-preflight", "no_gpu_reason")):
        return None
    return f"the preflight ran on {facts.get('gpu-preflight', 'device')}, and no reason says that the job needs no GPU"


def _real_model(facts: _Facts) -> str | None:
    return (
        None if facts.get("gpu-preflight", "real_model_loaded") is True else "the preflight did not load the real model"
    )


def _destination(facts: _Facts) -> str | None:
    destination = facts.get("intake", "destination")
    if _words(destination) and not PLACEHOLDER.search(str(destination)):
        return None
    return f"no concrete destination for the results: {destination!r}"


def _timeout(facts: _Facts) -> str | None:
    timeout, estimated = facts.get("intake", "timeout_s"), facts.get("resources", "estimated_s")
    if not _number(timeout) or not _number(estimated) or estimated <= 0:
        return f"timeout {timeout} s or estimate {estimated} s is not known"
    return None if timeout > estimated else f"a timeout of {timeout} s for work of about {estimated} s"


def _monitoring(facts: _Facts) -> str | None:
    if not _number(facts.get("cpu-smoke", "first_metric")) or facts.get("cpu-smoke", "alert_log") is not True:
        return "the smoke saw no metric, or no alert log"
    tracker = facts.get("gpu-preflight", "tracker")
    return None if _words(tracker) and tracker != "none" else f"the tracker is {tracker}"


def _by_value(facts: _Facts) -> str | None:
    """The readiness stage's evidence is being made when this is asked: its facts count by their hash alone."""
    newest = newest_of("readiness", facts.evidence)
    sent = newest.facts if newest else {}
    if sent.get("transport") != "by-value":
        return f"the code travels {sent.get('transport')}"
    now = facts.now.script
    return (
        None if now and sent.get("payload_sha256") == now else "what would be sent is not the script as it is now (D1)"
    )


def _words(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


CHECKLIST: tuple[tuple[str, Stage, Callable[[_Facts], str | None]], ...] = (
    ("reference implementation", "intake", _reference),
    ("concrete destination", "intake", _destination),
    ("timeout sized to the work", "intake", _timeout),
    ("dataset format verified", "data-audit", _dataset),
    ("one train and one eval step on CPU", "cpu-smoke", _smoke),
    ("monitoring live", "cpu-smoke", _monitoring),
    ("result on the GPU, or why none", "gpu-preflight", _on_gpu),
    ("real model loaded", "gpu-preflight", _real_model),
    ("code travels by value", "readiness", _by_value),
)
