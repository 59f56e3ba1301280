"""Try, read the whole log when it fails, change something specific, try again: bounded, and never outside the request.

Each attempt is a child of its own. A failure is always analysed, also the last (D7); a change passes the scope guard over
the resolved arguments before it is made (S13-R45); the ladder's rung is carried across attempts of any kind (D5).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lanes.corrections import Correction, NoCorrection, Situation, correct
from lanes.failures import FailureFacts, classify
from lanes.oom_ladder import Attempt
from lanes.scope import compare
from training.children import ChildEnd
from training.course import Course, Stop
from training.stages.paid import longest_job

# The trainer's own evaluation in a traceback.
_EVALUATING = re.compile(r", in (?:evaluate|evaluation_loop|prediction_step)\b")
_TRACEBACK_CHARS = 8000
Start = Callable[[int], ChildEnd]


@dataclass
class History:
    """What was tried in one phase. `last` is the end of the newest attempt."""

    phase: str
    attempts: list[Attempt] = field(default_factory=list[Attempt])
    tried: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    rung: int = 0


def attempt(course: Course, phase: str, start: Start, *, most: int) -> tuple[ChildEnd, int]:
    """Run `start(number)` until it succeeds; returns its end and the number of attempts.

    Raises Stop with `<phase>_<reason>`: retries_exhausted, scope_change, unrecoverable, timeout (S13-R51, S13-R53).
    """
    history = History(phase)
    for number in range(1, most + 1):
        end = start(number)
        if end.is_ok:
            return end, number
        if course.is_stopping:
            raise Stop("stopped", f"{phase} was stopped", f"hemma train --resume {course.run_id} MANIFEST")
        _prepare_next(course, history, end, number, is_last=number == most)
    raise AssertionError("the last attempt raises")  # pragma: no cover


def diagnose(end: ChildEnd) -> dict[str, Any]:
    """What broke, from the whole log and from outside facts: signal, kernel kills, time-out."""
    facts = FailureFacts(
        exit_code=end.code, signal=end.signal, timed_out=end.is_timed_out, cgroup_oom_kills=end.oom_kills
    )
    found = classify(end.tail, facts)
    return {
        "category": found.category,
        "code": found.code,
        "evidence": "; ".join(each.line for each in found.evidence),
        "smallest_mend": found.smallest_mend,
        "routes_to": found.routes_to,
    }


def _prepare_next(course: Course, history: History, end: ChildEnd, number: int, *, is_last: bool) -> None:
    """Analyse the failed attempt and change the job for the next, or raise Stop."""
    found = diagnose(end)
    is_gpu_memory = (found["category"], found["code"]) == ("oom", "cuda-oom")
    history.attempts.append(Attempt("cuda-oom" if is_gpu_memory else "other", history.rung))
    change = correct(found["category"], found["code"], _situation(course, history, end.tail))
    course.event(
        "analysis",
        attempt=f"{history.phase}-{number}",
        category=found["category"],
        code=found["code"],
        evidence=found["evidence"],
        change=change.why,
        **_record(change),
        changes={key: list(pair) for key, pair in change.changes.items()} if isinstance(change, Correction) else {},
        alerts=_answered(course),
    )
    words = f"{found['category']} ({found['code']}): {found['evidence'] or 'no line of the log says why'}"
    if isinstance(change, NoCorrection):
        mend = found["smallest_mend"] or change.remedy
        raise Stop(f"{history.phase}_{change.reason}", f"{words}. {change.why}", mend, needs_person=True)
    if is_last:
        raise Stop(f"{history.phase}_retries_exhausted", f"{words}, after {number} attempts", change.why)
    if change.wait_s:
        _wait(course, history, change)
    elif change.timeout_s is not None:
        resources = {**course.job["resources"], "timeout_s": change.timeout_s}
        history.tried.append(dict(change.changes))
        course.change({**course.job, "resources": resources})
    elif change.arguments == course.job["arguments"]:
        history.tried.append(dict(change.changes))
    else:
        _apply(course, history, change)


def _record(change: Correction | NoCorrection) -> dict[str, Any]:
    """What an analysis says of its change beside the change itself (S13-R04). None of them changes the scope."""
    if isinstance(change, NoCorrection):
        return {"scopeChange": False, "unrecoverable": True}
    return {
        "scopeChange": False,
        "unrecoverable": False,
        "ladderRung": change.rung,
        "effectiveBatchPreserved": change.effective_batch_preserved,
        "recheckedDocs": change.rechecked_docs,
    }


def _wait(course: Course, history: History, change: Correction) -> None:
    """Let `wait_s` pass; a stop meanwhile ends the run as it would end an attempt."""
    history.tried.append(dict(change.changes))
    course.event("wait", seconds=change.wait_s, why=change.why)
    until = time.monotonic() + change.wait_s
    while time.monotonic() < until:
        if course.is_stopping:
            raise Stop("stopped", f"{history.phase} was stopped", f"hemma train --resume {course.run_id} MANIFEST")
        time.sleep(min(1.0, max(0.0, until - time.monotonic())))


def _answered(course: Course) -> list[int]:
    """The numbers of the ERROR alerts that this analysis is the answer to: all that are still open (S12-R11)."""
    found = [each for each in course.alerts if each.get("level") == "ERROR" and not each.get("is_answered")]
    for each in found:
        each["is_answered"] = True
    return [each["sequence"] for each in found]


def _signature(course: Course) -> str:
    """The release whose own signature the survey read the names from."""
    name = "transformers" if course.job["method"] == "causal-lm" else "trl"
    release = ((course.survey or {}).get("versions") or {}).get(name)
    return f"{name} {release}, its config class as installed" if release else ""


def _situation(course: Course, history: History, tail: str) -> Situation:
    findings = (course.survey or {}).get("findings") or []
    renames = {each["name"]: each["successor"] for each in findings if each.get("successor")}
    return Situation(
        method=course.job["method"],
        arguments=course.job["arguments"],
        history=tuple(history.attempts),
        devices=max(1, len((course.survey or {}).get("gpus") or [])),
        renames=renames,
        tried=tuple(history.tried),
        timeout_s=float(course.job["resources"]["timeout_s"]) if history.phase == "full_job" else None,
        highest_timeout_s=longest_job(course) if history.phase == "full_job" else None,
        is_in_evaluation=_EVALUATING.search(tail[-_TRACEBACK_CHARS:]) is not None,
        signature=_signature(course),
    )


def _apply(course: Course, history: History, change: Correction) -> None:
    """Change the job's arguments, if the scope guard finds the request untouched."""
    proposed = {**course.job, "arguments": change.arguments}
    verdict = compare(course.job, proposed)
    course.event("edit", content="config", scope=verdict.allowed, changes=sorted(change.changes), why=change.why)
    if not verdict.allowed:
        fact = "; ".join(reason.fact for reason in verdict.reasons)
        raise Stop(
            f"{history.phase}_scope_change", f"the fix would change the request: {fact}", change.why, needs_person=True
        )
    course.change(proposed)
    course.was_corrected = True
    # The arguments are others now: what was found of the old ones is not asked again.
    course.survey = None
    history.tried.append(dict(change.changes))
    history.rung = max(history.rung, change.rung)
