"""The report of a training run: one HTML file that needs nothing else, made from the run directory's own files.

Every number in it is read from evidence, events and results, none from memory (S14-R12). It opens without a network, on a
phone as on a wide screen, light or dark; what it was made from is in it as JSON.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from controller.reports import plots, run_parts
from controller.reports.html import Markup, data, document, joined, tag
from lanes.gates import STAGES
from lanes.redaction import redact_value

# What of a run's directory a report is made of; all that there is, is used.
FILES = (
    "job.json",
    "evidence/index.json",
    "events.jsonl",
    "alerts.jsonl",
    "metrics.jsonl",
    "artifacts/results/benchmark_results.json",
)
RESULTS = FILES[-1]
_LOSSES = (("training loss", "loss"), ("evaluation loss", "eval_loss"))

Facts = dict[str, Any]


def facts_from(run_id: str, files: Mapping[str, bytes | None]) -> Facts:
    """What the files of a run directory say, named as in FILES; one that is missing or torn is an empty part, never an error."""
    index = _object(files.get("evidence/index.json"))
    said = {
        "run_id": run_id,
        "job": _object(files.get("job.json")),
        "evidence": run_parts.mappings(index.get("evidence")),
        "hashes": run_parts.mapping(index.get("hashes")),
        "stopped": run_parts.mapping(index.get("stopped")),
        "finished": index.get("finished"),
        "events": _lines(files.get("events.jsonl")),
        "alerts": _lines(files.get("alerts.jsonl")),
        "metrics": _lines(files.get("metrics.jsonl")),
        "results": _object(files.get(RESULTS)),
    }
    return cast("Facts", redact_value(said))  # the page is made to be sent to others


def page(facts: Facts, made_at: dt.datetime) -> str:
    """The report as one HTML page. Whatever the facts hold is shown as text: no name in them becomes markup."""
    job, events = facts["job"], _kinds(facts["events"])
    name = str(job.get("name") or facts["run_id"])
    body = tag(
        "main",
        _head(facts, name),
        _tiles(facts, events),
        _section("Stages", run_parts.stages(facts, STAGES)),
        _section("Loss", tag("div", _loss(facts["metrics"]), class_="card")),
        _section("Result beside its base", run_parts.results(facts["results"])),
        _section("Alerts", run_parts.alerts(facts["alerts"])),
        _section("Attempts", run_parts.attempts(facts["events"])),
        _section("The request", run_parts.request(job)),
        _section("Resources", run_parts.resources(facts["evidence"])),
        _section("Where it is", run_parts.places(events, facts["hashes"])),
        tag(
            "p",
            f"Made {made_at:%Y-%m-%d %H:%M} UTC from the files of run ",
            tag("code", facts["run_id"]),
            class_="soft small",
        ),
        data(facts, "run-facts"),
    )
    return document(f"{name}: {_state(facts)[0]}", body)


def _section(title: str, content: Markup) -> Markup | None:
    """A part of the page; one without content is left out."""
    return tag("section", tag("h2", title), content) if content else None


def _head(facts: Facts, name: str) -> Markup:
    word, kind = _state(facts)
    stopped = facts["stopped"] or {}
    return joined(
        tag("h1", name, " ", tag("span", word, class_=f"chip {kind}")),
        tag("p", facts["job"].get("task") or "", class_="soft") if facts["job"].get("task") else None,
        tag("p", tag("code", facts["run_id"]), _origin(facts), class_="soft small"),
        tag("p", stopped.get("message"), class_="card") if stopped.get("message") else None,
        tag("p", "Do: ", tag("code", stopped.get("remedy"))) if stopped.get("remedy") else None,
    )


def _origin(facts: Facts) -> str:
    """Where, of which commit and when it began, as its first event has it."""
    started = next((each for each in facts["events"] if each.get("kind") == "started"), {})
    said, begun = run_parts.mapping(started.get("data")), run_parts.moment(started.get("at"))
    parts = [
        f"on {said['host']}" if said.get("host") else "",
        f"commit {str(said['commit'])[:12]}" if said.get("commit") else "",
    ]
    parts.append(f"begun {begun:%Y-%m-%d %H:%M} UTC" if begun else "")
    return "".join(f", {each}" for each in parts if each)


def _state(facts: Facts) -> tuple[str, str]:
    """How it ended in one word, and its colour."""
    if facts["stopped"]:
        return str(facts["stopped"].get("reason") or "stopped"), "bad"
    if not facts["finished"]:
        return "under way", "warn"
    conforms = run_parts.facts_of(facts["evidence"], "conformance").get("conforms")
    if conforms:
        return "conforms", "good"
    return (f"done up to {facts['finished']}", "good") if conforms is None else ("does not conform", "bad")


def _tiles(facts: Facts, events: Mapping[str, list[Facts]]) -> Markup:
    spent = run_parts.mapping(run_parts.facts_of(facts["evidence"], "job").get("spent"))
    # What was asked for, not how fast it was measured.
    asked = run_parts.mapping(facts["results"].get("metrics"))
    rows = [row for row in run_parts.mappings(facts["results"].get("rows")) if str(row.get("metric")) in asked]
    found: list[tuple[str, str]] = [("stages proven", _proven(facts))]
    losses = _series(facts["metrics"], "loss")
    if losses:
        found.append(("last training loss", plots.short(losses[-1][1])))
    found += [(str(row.get("metric")), run_parts.number(row.get("value"))) for row in rows[:2]]
    found.append(("duration", _duration(facts["events"])))
    names = {"gpu_hours": "GPU hours", "money": "spent"}
    found += [(names[key], run_parts.number(value)) for key, value in spent.items() if key in names]
    found.append(("alerts", _alerts(events.get("alert", []) or facts["alerts"])))
    return tag(
        "div", *(tag("div", tag("b", value), tag("span", what), class_="tile") for what, value in found), class_="tiles"
    )


def _alerts(found: Sequence[Facts]) -> str:
    """How many, from the event log that the gates count as well; errors by themselves."""
    errors = sum(each.get("level") == "ERROR" for each in found)
    return f"{len(found)} ({errors} ERROR)" if errors else str(len(found))


def _proven(facts: Facts) -> str:
    passed = {str(each.get("stage")) for each in facts["evidence"] if each.get("outcome") in ("passed", "partial")}
    return f"{len(passed & set(STAGES))} of {len(STAGES)}"


def _duration(events: Sequence[Facts]) -> str:
    times = [moment for event in events if (moment := run_parts.moment(event.get("at")))]
    if not times:
        return "–"
    seconds = int((times[-1] - times[0]).total_seconds())
    hours, minutes = divmod(seconds // 60, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min" if minutes >= 10 else f"{minutes} min {seconds % 60:02} s"


def _loss(metrics: Sequence[Facts]) -> Markup:
    return plots.curves([(name, _series(metrics, key)) for name, key in _LOSSES], label="loss by step")


def _series(metrics: Iterable[Facts], key: str) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    for row in metrics:
        step, value = row.get("step"), row.get(key)
        if isinstance(step, int | float) and isinstance(value, int | float):
            found.append((float(step), float(value)))
    return found


def _kinds(events: Iterable[Facts]) -> dict[str, list[Facts]]:
    """The data of events by their kind, in order."""
    found: dict[str, list[Facts]] = {}
    for event in events:
        found.setdefault(str(event.get("kind")), []).append(run_parts.mapping(event.get("data")))
    return found


def _object(raw: bytes | None) -> Facts:
    try:
        value: object = json.loads(raw or b"{}")
    except (ValueError, RecursionError):
        return {}
    return cast("Facts", value) if isinstance(value, dict) else {}


def _lines(raw: bytes | None) -> list[Facts]:
    return [found for line in (raw or b"").splitlines() if (found := _object(line))]
