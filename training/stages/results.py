"""After the job: measured, put where it outlives the run, committed on the host, and checked against the event log (S14, S21)."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from lanes.conformance import conformance as judged
from lanes.git_safety import judge
from manifests.errors import HemmaError
from training.content import tree
from training.course import Course, Found, Stop, check
from training.events import read as read_events
from training.persist import Receipt
from training.persist_backends import backend_for
from training.stages.intake import result_name
from training.stages.links import unresolved
from training.stages.paid import EVALUATE_TIMEOUT_S, limit, paid
from training.stages.side_artefacts import gathered
from training.stages.trials import child

# Larger files are in no commit: they are named there by digest.
COMMIT_BYTES = 1 << 20
LANE = "hemma"


def evaluate(course: Course) -> Found:
    """Measure the result against its base under the same conditions; the numbers come from the saved artefact (S14-R02)."""
    timeout_s = limit(course, EVALUATE_TIMEOUT_S)
    end = paid(course, "evaluation", timeout_s, lambda: child(course, "evaluate", timeout_s=timeout_s))
    if not end.is_ok or end.result is None:
        raise Stop("evaluation_failed", f"the result could not be evaluated: {end.last_line}", _again(course))
    digest = tree(model_folder(course))
    for name, value in end.result["metrics"].items():
        course.event("evaluated", metric=name, value=value, artifact_sha256=digest)
    finite = all(isinstance(value, int | float) and math.isfinite(value) for value in end.result["metrics"].values())
    checks = (check("metrics are numbers", finite and bool(end.result["metrics"]), _in_words(end.result["metrics"])),)
    return Found("passed" if finite else "failed", checks, {**end.result, "artifact_sha256": digest})


def persist(course: Course) -> Found:
    """Put the result at its destination, and beside it what tells how it came about: logs, metrics, alerts, evidence, scripts.

    Both are read back there by digest: a push log proves nothing (S14-R03, S14-R05).
    """
    receipt, digest, again = _put(course, model_folder(course))
    with gathered(course) as folder:
        beside, beside_digest, beside_again = _put(course, folder, part="run")
    course.event("persisted", destination=receipt["destination"], sha256=digest, reread_sha256=again)
    course.event(
        "side-artefacts",
        destination=beside["destination"],
        sha256=beside_digest,
        reread_sha256=beside_again,
        files=len(beside["files"]),
    )
    course.event("links", model=receipt["url"], run=beside["url"], dashboard=_dashboard(course))
    checks = (
        check("read back with the same digest", again == digest, f"{receipt['destination']}: {again[:12]}"),
        check("logs and evidence lie beside it", beside_again == beside_digest, str(beside["destination"])),
    )
    facts = {"receipt": receipt, "sha256": digest, "beside": beside}
    return Found("passed" if all(each.held for each in checks) else "failed", checks, facts)


def _put(course: Course, source: Path, part: str = "") -> tuple[Receipt, str, str]:
    """(receipt, digest of what was sent, digest of what was read back there). Raises Stop when the destination refuses."""
    digest = tree(source)
    try:
        backend = backend_for(course.job["persist"], root=course.root, name=result_name(course), part=part)
        receipt = backend.put(source)
        return receipt, digest, str(backend.verify(receipt)["sha256"])
    except HemmaError as error:
        raise Stop("persist_failed", error.message, error.remedy or _again(course)) from error


def commit(course: Course) -> Found:
    """Commit manifest, evidence and small results on the host, with trailers that say where they came from (S9-R17)."""
    place = course.root / course.job["results"] / course.job["name"] / course.run_id
    kept = _gather(course, place)
    wanted = [*course.job.get("commit", []), str(place.relative_to(course.root))]
    paths = [path for path in wanted if (course.root / path).exists()]
    _git(course, "add", "--", *paths)
    message = f"Results of {course.job['name']}, run {course.run_id}"
    trailers = {"Hemma-Run": course.run_id, "Hemma-Lane": LANE, "Hemma-Host": os.uname().nodename}
    words = [word for name, value in trailers.items() for word in ("--trailer", f"{name}: {value}")]
    _git(course, "commit", "-q", "-m", message, *words, "--", *paths)
    head = _git(course, "rev-parse", "HEAD").strip()
    course.event("committed", commit=head, paths=paths)
    return Found("passed", (check("committed on the host", True, f"{head[:12]}: {len(kept)} files"),), {"commit": head})


def _dashboard(course: Course) -> str:
    """Where the curves are looked at: the Space that they are sent to, or else the series itself, which `hemma dashboard` shows."""
    space = str((course.job.get("arguments") or {}).get("trackio_space_id") or "")
    return f"https://huggingface.co/spaces/{space}" if space else (course.folder / "metrics.jsonl").resolve().as_uri()


def _in_words(metrics: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in metrics.items()
    )


def conformance(course: Course) -> Found:
    """Read the whole event log again and say what of the acceptance table it does not prove (S21)."""
    _check_links(course)
    records = read_events(course.folder / "events.jsonl")
    found = judged(records, most_attempts=int(course.job["attempts"]) * 3, accepts_partial="no-gpu" in course.accepts)
    checks = tuple(check(name, held, "") for name, held in found.criteria.items())
    facts = {"conforms": found.conforms, "missing": list(found.missing), "artifacts": list(found.artifacts)}
    return Found("passed" if found.conforms else "failed", checks, facts)


def _check_links(course: Course) -> None:
    said = [each["data"] for each in read_events(course.folder / "events.jsonl") if each["kind"] == "links"]
    if said:
        course.event("links-checked", unresolved=unresolved(course, said[-1]))


def model_folder(course: Course) -> Path:
    """Where the job saved its result."""
    return course.folder / "artifacts" / "model"


def _gather(course: Course, place: Path) -> list[str]:
    """Copy what belongs into git to `place`: evidence and small results; larger ones are listed by digest (S9-R17)."""
    place.mkdir(parents=True, exist_ok=True)
    listed: dict[str, Any] = {}
    kept: list[str] = []
    for folder in ("evidence", "artifacts/results"):
        for path in sorted((course.folder / folder).rglob("*")):
            name = str(path.relative_to(course.folder))
            if not path.is_file() or path.name == "index.json":  # all evidence once more, for `hemma gates`
                continue
            if path.stat().st_size > COMMIT_BYTES:
                listed[name] = {"sha256": tree(path), "size_bytes": path.stat().st_size}
                continue
            target = place / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            kept.append(name)
    model = {
        str(path.relative_to(course.folder)): {"sha256": tree(path), "size_bytes": path.stat().st_size}
        for path in sorted(model_folder(course).rglob("*"))
        if path.is_file()
    }
    (place / "digests.json").write_text(json.dumps({**listed, **model}, indent=1) + "\n", encoding="utf-8")
    return [*kept, "digests.json"]


def _git(course: Course, *words: str) -> str:
    verdict = judge(words)
    if not verdict.allowed:  # merge only, here as everywhere
        raise Stop("commit_refused", verdict.reasons[0].fact, verdict.next_steps[0] if verdict.next_steps else "")
    done = subprocess.run(["git", *words], cwd=course.root, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise Stop("commit_failed", f"git {words[0]}: {said[-1] if said else 'it said nothing'}", _again(course))
    return done.stdout


def _again(course: Course) -> str:
    return f"mend it, then hemma train --resume {course.run_id} MANIFEST: what is proven is not repeated"
