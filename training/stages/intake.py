"""Intake and host audit: the baseline is frozen, and what the run needs is there before anything dear starts."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from manifests.commands import command
from manifests.errors import HemmaError
from training.children import run_child
from training.course import Course, Found, Stop, check
from training.persist_backends import backend_for
from training.stages.links import is_link
from training.stages.paid import demand_room

SURVEY_TIMEOUT_S = 600.0
GIB = 1 << 30
# The baseline: exactly what the user said; the scope guard compares with it (S1-R08, S1-R09).
BASELINE = ("method", "model", "dataset", "sequence_length", "packing", "lora", "seed")


def intake(course: Course) -> Found:
    """Freeze the baseline, resolve the destination, and look at model, tokenizer and arguments (S1-R08, S4-R01, S11-R21)."""
    job = course.job
    if not course.is_frozen:
        references = _cited(job)
        course.is_frozen = True
        course.event("research", sources=len(references), references=references)
        course.event("baseline", hashes=course.hashes().as_dict(), **{name: job.get(name) for name in BASELINE})
    survey = surveyed(course)
    findings = [each for each in survey["findings"] if each["severity"] == "error"]
    place, fact = destination(course)
    checks = (
        check("model and tokenizer are there", not survey["missing"], survey["missing"] or survey["model"]["summary"]),
        check("arguments are known to the installed versions", not findings, _joined(findings)),
        check("destination can be written", place is not None, fact),
    )
    facts = {
        "reference": "; ".join(job.get("references") or []) or f"stock {job['method']} trainer of the installed TRL",
        "destination": str(place or ""),
        "timeout_s": job["resources"]["timeout_s"],
        "model": survey["model"],
        "versions": survey["versions"],
        "findings": survey["findings"],
    }
    return Found("passed" if all(each.held for each in checks) else "failed", checks, facts)


def _cited(job: dict[str, Any]) -> list[str]:
    """What the request was modelled on, as URLs. Raises Stop: research precedes spending, and is cited (S3-R01)."""
    said = [str(each) for each in job.get("references") or []]
    wrong = [each for each in said if not each.startswith(("https://", "http://")) or not is_link(each)]
    if said and not wrong:
        return said
    raise Stop(
        "research_missing",
        f"references: {wrong[0]!r} is no URL"
        if wrong
        else "references: the request names nothing that it was modelled on",
        "name in the manifest, under references:, the https:// pages that model, method and settings are from",
        needs_person=True,
    )


def surveyed(course: Course) -> dict[str, Any]:
    """What the training environment says of the request: looked at once, in a child. Raises Stop when it cannot be asked."""
    if course.survey is not None:
        return course.survey
    end = run_child(
        ["work", "survey", str(course.folder / "job.json")],
        name="survey",
        folder=course.folder,
        cwd=course.root,
        timeout_s=SURVEY_TIMEOUT_S,
    )
    if not end.is_ok or end.result is None:
        python, lacking = course.job["python"], re.search(r"No module named '([\w.]+)'", end.last_line)
        what = f"lacks the package {lacking[1]}" if lacking else f"cannot look at the request: {end.last_line}"
        raise Stop(
            "resource_unavailable",
            f"the training environment ({python}, `python:` of the manifest) {what}",
            command("hemma run -- {} -m pip list   (the train group must be installed there)", python),
        )
    course.survey = end.result
    return end.result


def resources(course: Course) -> Found:
    """Is the host fit for it: disk, inodes, memory, GPU and driver; how much memory and time it will take (S4-R06, S4-R14)."""
    survey = surveyed(course)
    demand_room(course)
    plan, needs = survey["plan"], course.job["resources"]["gpu"]
    gpus = survey["gpus"]
    for each in survey["precision"].get("proposals", ()):
        course.event("proposal", text=each)
    free, inodes = _free(course.folder)
    wanted = int(plan["checkpoint_bytes"] * 3 + GIB)
    memory = available_memory()
    checks = (
        check("room for three checkpoints", free > wanted, f"{_gib(free)} free, {_gib(wanted)} wanted"),
        check("inodes", inodes > 10_000, f"{inodes} free"),
        check("memory for the model", memory > plan["host_bytes"], f"{_gib(memory)} of {_gib(plan['host_bytes'])}"),
        check("GPU", bool(gpus) or needs != "required", _gpu_words(gpus, needs)),
        check("fits the GPU", bool(plan["fits"]), plan["words"]),
        check("timeout above the estimate", *_timeout(course, plan)),
    )
    facts = {
        "gpus": gpus,
        "uses_gpu": bool(gpus) and needs != "none",
        "estimated_s": plan["estimated_s"],
        "precision": survey["precision"],
        "plan": plan,
        "free_bytes": free,
        "memory_bytes": memory,
    }
    return Found("passed" if all(each.held for each in checks) else "failed", checks, facts)


def destination(course: Course) -> tuple[str | None, str]:
    """(where the result will go, in full, and what was found there); None when it cannot go there (S14-R04).

    The back-end itself is asked: a directory is written to, a second host is reached, the hub knows the token.
    """
    try:
        found = backend_for(course.job["persist"], root=course.root, name=result_name(course)).resolve()
    except HemmaError as error:
        return None, f"{error.message} (do: {error.remedy})" if error.remedy else error.message
    free = found.get("free_bytes")
    place = str(found["destination"])
    return place, f"{place}, {_gib(free)} free" if isinstance(free, int) else place


def result_name(course: Course) -> str:
    """What the result is called at its destination."""
    return f"{course.job['name']}/{course.run_id}"


def available_memory() -> int:
    """Bytes that this control group, or else the machine, still has: the smaller of both."""
    found = [_meminfo()]
    limit, used = _number("/sys/fs/cgroup/memory.max"), _number("/sys/fs/cgroup/memory.current")
    if limit is not None and used is not None:
        found.append(max(0, limit - used))
    return min(found)


def _meminfo() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _number(path: str) -> int | None:
    try:
        return int(Path(path).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _timeout(course: Course, plan: dict[str, Any]) -> tuple[bool, str]:
    limit, estimate = course.job["resources"]["timeout_s"], plan["estimated_s"]
    return limit > estimate, f"{limit:.0f} s for an estimate of {estimate:.0f} s ({plan['estimate_source']})"


def _gpu_words(gpus: list[dict[str, Any]], needs: str) -> str:
    if not gpus:
        return f"none here (the manifest says: {needs})"
    return "; ".join(f"{gpu['name']}, {_gib(gpu['free_bytes'])} of {_gib(gpu['total_bytes'])} free" for gpu in gpus)


def _free(folder: Path) -> tuple[int, int]:
    facts = os.statvfs(folder)
    # A file system without a fixed number of inodes (btrfs, network ones) says 0 of 0.
    return facts.f_bavail * facts.f_frsize, facts.f_favail if facts.f_files else 1 << 30


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / (1 << 20):.0f} MiB"


def _joined(findings: list[dict[str, Any]]) -> str:
    return "; ".join(f"{each['name']}: {each['fact']}" for each in findings) or "all of them"
