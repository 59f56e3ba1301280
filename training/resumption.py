"""What `--resume RUN` means on the host: where the job goes on, and what of that run is not done again (S11-R13..R15, S21-R05).

The newest whole checkpoint of that run counts, or of the one that it had resumed itself; a run that failed before its first
one is resumed from the beginning. A job that had ended well is not run again: its result, series and events are taken over.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lanes.corrections import changed_arguments
from lanes.gates import standing
from manifests.errors import HemmaError
from manifests.evidence import Evidence
from manifests.files import read_json
from training.checkpoints import Checkpoint, hashed, newest_valid, read_manifest
from training.course import REQUEST, Course, Stop
from training.events import is_before, read, read_metrics
from training.proof import evidence_of, is_supervised

# What a job that ended well left in the event log, and the conformance check wants to see before its result (S21).
JOB_EVENTS = ("reserve", "submit", "first-metric", "alert", "analysis", "settle", "job-ended")
_MOST_LINKS = 100
# The word in `accept:` with which a person goes on under other arguments.
CHANGED = "resume-changed"


def settle(course: Course) -> None:
    """Say in the job where it goes on: `resume` becomes the folder whose checkpoint it takes, or nothing.

    Rows of the series up to there are taken over, so that the run's own curve is whole. Raises Stop for an unknown run.
    """
    asked = course.job.get("resume")
    if not asked:
        return
    folders = list(_chain(course, str(asked)))
    if not folders:
        raise Stop(
            "resume_unknown", f"there is no training run {asked} on this host", "hemma ps --all", needs_person=True
        )
    found = next(((folder, each) for folder in folders if (each := _checkpoint(course, folder))), None)
    course.resumed = folders[0]
    _demand_the_same(course, folders[0])
    course.change({**course.job, "resume": str(found[0]) if found else None})
    if found is None:
        course.event("resume", run=folders[0].parent.name, checkpoint=None, step=0)
        return
    folder, checkpoint = found
    _take_series(folder, course.folder, checkpoint.step)
    course.event("resume", run=folder.parent.name, checkpoint=checkpoint.path.name, step=checkpoint.step)


def _demand_the_same(course: Course, earlier: Path) -> None:
    """Going on under other arguments is another training under the name of the first: it is refused, or accepted and said.

    Both are compared as they were asked, before any correction. A longer `max_steps` also bends the rest of the schedule.
    """
    try:
        before = read_json(str(earlier / REQUEST)).get("arguments")
    except HemmaError:  # made before requests were kept
        return
    changed = changed_arguments(before if isinstance(before, dict) else {}, course.job["arguments"])
    if not changed:
        return
    said = "; ".join(f"{name}: {was!r} -> {now!r}" for name, (was, now) in changed.items())
    course.event("resume-changed", run=earlier.parent.name, changes=changed, is_accepted=CHANGED in course.accepts)
    if CHANGED not in course.accepts:
        raise Stop(
            "resume_changed",
            f"run {earlier.parent.name} was asked with other arguments ({said})",
            f"start it as a run of its own, without --resume; or add `accept: {{{CHANGED}: REASON}}` to the manifest",
            needs_person=True,
        )


def take_over_job(course: Course) -> bool:
    """Take over the job of the run that is resumed, when it had ended well and nothing has changed since; returns whether."""
    earlier = course.resumed
    evidence = evidence_of(earlier, "job", supervised=is_supervised(course.folder))[0] if earlier else None
    if (
        earlier is None
        or evidence is None
        or not standing("job", [evidence], course.hashes(), accepts=course.accepts).is_proven
    ):
        return False
    if not _is_whole(earlier, evidence):
        return False
    source, target = earlier / "artifacts" / "model", course.folder / "artifacts" / "model"
    shutil.copytree(source, target, copy_function=_link, dirs_exist_ok=True)
    _take_series(earlier, course.folder, None)
    if (earlier / "alerts.jsonl").exists():
        shutil.copyfile(earlier / "alerts.jsonl", course.folder / "alerts.jsonl")
    for each in read(earlier / "events.jsonl"):
        # A chain of runs: what that run had taken over itself is among its events.
        if each["kind"] in JOB_EVENTS and not str(each["data"].get("attempt", "")).startswith(("cpu_", "gpu_")):
            _again(course, str(each["kind"]), {"from_run": earlier.parent.name, **each["data"]})
    course.keep(evidence)
    return True


def _chain(course: Course, asked: str) -> Iterator[Path]:
    """The training folder of the run, of the one whose checkpoint it had gone on from itself, and so on."""
    if "/" in asked or asked.startswith("."):
        return
    folder = course.folder.parent.parent / asked / course.folder.name
    for _ in range(_MOST_LINKS):
        if folder == course.folder or not (folder / "job.json").is_file():
            return
        yield folder
        try:
            before = read_json(str(folder / "job.json")).get("resume")
        except HemmaError:  # what it had resumed is lost with it
            return
        if not before or not os.path.isabs(str(before)):
            return
        folder = Path(str(before))


def _checkpoint(course: Course, folder: Path) -> Checkpoint | None:
    return newest_valid(folder / "checkpoints", lambda each: _tell(course, each.as_dict()))


def _tell(course: Course, damage: dict[str, str]) -> None:
    course.event("checkpoint-damaged", **damage)


def _take_series(source: Path, target: Path, step: int | None) -> None:
    rows = read_metrics(source / "metrics.jsonl")
    kept = [row for row in rows if step is None or is_before(row, step)]
    path = target / "metrics.jsonl"
    path.touch(mode=0o600)
    path.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")


def _is_whole(earlier: Path, evidence: Evidence) -> bool:
    """Whether the model is, byte for byte, the one of the checkpoint that the job named."""
    model = earlier / "artifacts" / "model"
    places = [
        earlier / "checkpoints",
        Path(str(read_json(str(earlier / "job.json")).get("resume") or "/")) / "checkpoints",
    ]
    names = sorted(str(path.relative_to(model)) for path in model.rglob("*") if path.is_file())
    for place in places:
        try:
            listed: dict[str, Any] = read_manifest(place / str(evidence.facts.get("checkpoint")))["files"]
        except (OSError, ValueError):
            continue
        digests = hashed(model, names)
        return bool(names) and all(name in listed and listed[name]["digest"] == digests[name] for name in names)
    return False


def _again(course: Course, kind: str, data: dict[str, Any]) -> None:
    """Tell an event of the earlier run in this one's log, and remember what later stages ask for."""
    course.event(kind, **data)
    if kind == "first-metric":
        course.first_metric = {"step": data["step"], "value": data["value"]}
    elif kind == "alert":
        course.alerts.append({key: value for key, value in data.items() if key not in ("code", "from_run")})
    elif kind == "analysis":
        for each in course.alerts:
            each["is_answered"] = each.get("is_answered") or each["sequence"] in data.get("alerts", ())


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
