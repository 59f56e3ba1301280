"""The one full job: ready by its checklist, paid from two ledgers, healthy by its first metric, its alerts read (S8, S12)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from lanes.gates import evaluate
from lanes.readiness import readiness as checklist
from training.children import ChildEnd, run_child
from training.course import Course, Found, Stop, check
from training.events import read_metrics
from training.ledger import Ledger
from training.progress import progress_line
from training.stages.attempts import attempt
from training.stages.paid import paid


def readiness(course: Course) -> Found:
    """Every item of the checklist is computed from evidence; one that is missing stops the run (S8-R02..R04)."""
    sent = {"transport": "by-value", "payload_sha256": course.hashes().script}
    # The items ask for this stage's facts too: they stand there as evidence while it is being made.
    found = checklist(
        [*course.evidence, course.made("readiness", Found("passed", (), sent))], course.hashes(), accepts=course.accepts
    )
    checks = tuple(check(item.name, item.held, item.fact) for item in found.items)
    if not found.verdict.allowed:
        course.record("readiness", Found("failed", checks, sent))
        missing = "; ".join(f"{each.name}: {each.fact}" for each in checks if not each.held)
        raise Stop("preflight_checklist_unsatisfied", missing, "; ".join(found.verdict.next_steps))
    return Found("passed", checks, sent)


def job(course: Course) -> Found:
    """Run the job, at most as often as the manifest says, each attempt reserved before and settled after (S8-R15)."""
    most = int(course.job["attempts"])
    end, number = attempt(course, "full_job", lambda number: _once(course, number), most=most)
    assert end.result is not None
    facts = {**end.result, "attempts": number, "end": end.as_dict(), "spent": Ledger.of(course).spent()}
    return Found("passed", (check("ended by itself with a result", end.is_ok, f"attempt {number}"),), facts)


def healthy(course: Course) -> Found:
    """The first metric of the attempt that succeeded was seen in its own log, with a finite value (S8-R09, D12)."""
    first = course.first_metric or {}
    facts = {"first_metric_step": first.get("step"), "first_metric": first.get("value")}
    held = first.get("value") is not None
    return Found(
        "passed" if held else "failed",
        (check("first metric seen", held, f"step {first.get('step')}: {first.get('value')}"),),
        facts,
    )


def alerts(course: Course) -> Found:
    """Every alert of the job was read; an ERROR that nobody answered fails the stage (S12-R06, S12-R11)."""
    seen = course.alerts
    errors = [each for each in seen if each.get("level") == "ERROR" and not each.get("is_answered")]
    checks = (check("no ERROR is open", not errors, "; ".join(str(each.get("title")) for each in errors) or "none"),)
    counts = {level: sum(each.get("level") == level for each in seen) for level in ("ERROR", "WARN", "INFO")}
    return Found("failed" if errors else "passed", checks, {"counts": counts, "last": len(seen) - 1})


def _once(course: Course, number: int) -> ChildEnd:
    """One attempt: gate, reservation, submit, child, settlement. The gate is asked again for the bytes of this attempt."""
    _ask_gate(course, is_retry=number > 1)
    timeout_s = float(course.job["resources"]["timeout_s"])
    return paid(course, "full_job", timeout_s, lambda: _submitted(course, number))


def _submitted(course: Course, number: int) -> ChildEnd:
    hashes = course.hashes()
    job_id = f"job-{number}"
    course.event(
        "submit",
        job=job_id,
        attempt=f"full_job-{number}",
        kind="full",
        hashes=hashes.as_dict(),
        payload_sha256=hashes.script,
    )
    end = _child(course, job_id, number)
    course.event("job-ended", job=job_id, outcome="completed" if end.is_ok else "failed", **end.as_dict())
    return end


def _ask_gate(course: Course, *, is_retry: bool) -> None:
    """Evidence before spend. A correction changed the config, so what was proven for the old one is proven again (D1)."""
    verdict = evaluate("job", course.evidence, course.hashes(), accepts=course.accepts)
    if not verdict.allowed and is_retry:
        course.prove_again()
        verdict = evaluate("job", course.evidence, course.hashes(), accepts=course.accepts)
    if not verdict.allowed:
        facts = "; ".join(reason.fact for reason in verdict.reasons)
        raise Stop("submit_invariant_full", facts, "; ".join(verdict.next_steps))


def _child(course: Course, job_id: str, number: int) -> ChildEnd:
    watch = _Follow(course, job_id)
    end = run_child(
        ["work", "full", str(course.folder / "job.json")],
        name="job" if number == 1 else f"job-{number}",
        folder=course.folder,
        cwd=course.root,
        timeout_s=float(course.job["resources"]["timeout_s"]),
        extra_env=course.job.get("environment") or {},
        on_tick=watch.look,
        is_stopping=lambda: course.is_stopping,
    )
    watch.look()
    if end.is_ok:
        watch.close()
    return end


class _Follow:
    """Reads what the job's own callback writes, metrics and alerts, and puts first metric and alerts into the events."""

    def __init__(self, course: Course, job_id: str) -> None:
        self._course, self._job = course, job_id
        self._metrics, self._alerts = course.folder / "metrics.jsonl", course.folder / "alerts.jsonl"
        self._metrics_at = _size(self._metrics)
        self._alerts_at = _size(self._alerts) if len(course.alerts) else 0
        self._is_healthy = False
        self._step: int | None = None

    def look(self) -> None:
        """Take what is new since the last look."""
        lines, self._metrics_at = _new_lines(self._metrics, self._metrics_at)
        for line in lines:
            self._metric(line)
        lines, self._alerts_at = _new_lines(self._alerts, self._alerts_at)
        for line in lines:
            self._alert(line)
        self._progress()

    def close(self) -> None:
        """The job ended well: its closing row may stand where an earlier one stood, and then no look has seen it."""
        for row in read_metrics(self._metrics)[-1:]:
            self._metric(row)

    def _progress(self) -> None:
        try:
            said: dict[str, Any] = json.loads((self._course.folder / "progress.json").read_bytes())
        except (OSError, ValueError):
            return
        if said.get("step") != self._step:
            self._step = said.get("step")
            self._course.progress(line=progress_line(said, said.get("eta_s")), **said)

    def _metric(self, line: dict[str, Any]) -> None:
        loss = line.get("loss", line.get("last_loss"))
        if self._is_healthy or not isinstance(loss, int | float) or not line.get("step"):
            return
        self._is_healthy = True
        self._course.first_metric = {"step": line["step"], "value": loss}
        self._course.event("first-metric", job=self._job, step=line["step"], value=loss, metric="loss")

    def _alert(self, line: dict[str, Any]) -> None:
        number = len(self._course.alerts)
        data = {key: line.get(key) for key in ("level", "title", "text", "step", "numbers", "action")}
        self._course.alerts.append({**data, "sequence": number})
        self._course.event("alert", sequence=number, code=line.get("title"), **data)


def _new_lines(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """The whole lines after `offset`, and the offset after them; a line that is being written waits for the next look."""
    try:
        with path.open("rb") as file:
            # Rows that a resumed job writes anew are moved aside: the file may be shorter than it was.
            file.seek(min(offset, os.fstat(file.fileno()).st_size))
            offset = file.tell()
            raw = file.read()
    except OSError:
        return [], offset
    whole = raw[: raw.rfind(b"\n") + 1]
    found: list[dict[str, Any]] = []
    for line in whole.splitlines():
        try:
            value: object = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found, offset + len(whole)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
