"""The cheap checks before the dear job: the data as a whole, one step on the CPU, the real model's hardest batch (S5, S7)."""

from __future__ import annotations

from typing import Any

from training.children import ChildEnd, run_child
from training.course import Course, Found, Stop, check
from training.stages.attempts import attempt
from training.stages.intake import surveyed
from training.stages.paid import PREFLIGHT_TIMEOUT_S, SMOKE_TIMEOUT_S, limit, paid

AUDIT_TIMEOUT_S = 4 * 3600.0
SMOKE_ATTEMPTS = 3


def child(course: Course, word: str, *, number: int = 1, timeout_s: float) -> ChildEnd:
    """Run one piece of work on the job as it is now."""
    return run_child(
        ["work", word, str(course.folder / "job.json")],
        name=word if number == 1 else f"{word}-{number}",
        folder=course.folder,
        cwd=course.root,
        timeout_s=timeout_s,
        extra_env=course.job.get("environment") or {},
        is_stopping=lambda: course.is_stopping,
    )


def data_audit(course: Course) -> Found:
    """Scan the whole dataset; what does not fit the method, or loses too many tokens, stops here (S5-R09, S5-R18)."""
    end = child(course, "data-audit", timeout_s=AUDIT_TIMEOUT_S)
    if not end.is_ok or end.result is None:
        raise Stop(
            "resource_unavailable",
            f"the dataset could not be audited: {end.last_line}",
            f"hemma logs {course.run_id}; mend the dataset, or name another one",
            needs_person=True,
        )
    audit = end.result
    if audit.get("mapping") and audit["mapping"] != course.job["dataset"]["mapping"]:
        dataset = {**course.job["dataset"], "mapping": audit["mapping"]}
        course.change({**course.job, "dataset": dataset, "is_mapping_found": not course.job["dataset"]["mapping"]})
    checks = tuple(check(each["name"], each["held"], each["fact"]) for each in audit["checks"])
    return Found("passed" if all(each.held for each in checks) else "failed", checks, audit)


def cpu_smoke(course: Course) -> Found:
    """The same code, one train and one eval step on the CPU in fp32; a high loss is no failure (S7-R02..R06)."""
    end, number = attempt(
        course,
        "cpu_smoke",
        lambda number: paid(
            course,
            "cpu_smoke",
            SMOKE_TIMEOUT_S,
            lambda: child(course, "smoke", number=number, timeout_s=SMOKE_TIMEOUT_S),
        ),
        most=SMOKE_ATTEMPTS,
    )
    return _trial(end, number)


def gpu_preflight(course: Course) -> Found:
    """The real model: longest real batch at the frozen length, one optimizer step, eval step, checkpoint there and back."""
    _refuse_without_gpu(course)
    timeout_s = limit(course, PREFLIGHT_TIMEOUT_S)
    end, number = attempt(
        course,
        "gpu_preflight",
        lambda number: paid(
            course, "preflight", timeout_s, lambda: child(course, "preflight", number=number, timeout_s=timeout_s)
        ),
        most=int(course.job["attempts"]),
    )
    found = _trial(end, number)
    uncovered = tuple(found.facts.get("not_covered") or ())
    # Where nothing of the job uses a GPU, the CPU is the very hardware it will run on: that covers it (S7-R08).
    if not uncovered or not course.job_uses_gpu:
        return found
    return Found("partial" if found.outcome == "passed" else found.outcome, found.checks, found.facts, uncovered)


def _refuse_without_gpu(course: Course) -> None:
    gpus, needs = surveyed(course)["gpus"], course.job["resources"]["gpu"]
    if gpus or needs == "none" or "no-gpu" in course.accepts:
        return
    raise Stop(
        "gpu_preflight_unavailable",
        "there is no GPU here, and the manifest does not accept a preflight without one",
        "add `accept: {no-gpu: REASON}` to the manifest, or run it on a host with a GPU",
        needs_person=True,
    )


def _trial(end: ChildEnd, number: int) -> Found:
    facts: dict[str, Any] = {**(end.result or {}), "attempts": number, "end": end.as_dict()}
    checks = tuple(check(each["name"], each["held"], each["fact"]) for each in facts.get("checks") or ())
    return Found("passed" if all(each.held for each in checks) else "failed", checks, facts)
