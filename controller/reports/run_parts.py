"""The parts of a training run's report: stages with their evidence, results, alerts, attempts, request, resources, places."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from controller.reports import plots
from controller.reports.html import Markup, joined, tag

Facts = dict[str, Any]
_OUTCOMES = {"passed": "good", "partial": "warn", "failed": "bad", "not-checked": "bad"}
_LEVELS = {"ERROR": "bad", "WARN": "warn", "INFO": ""}
_LONGEST = 400
# Shown elsewhere on the page, or machinery.
_NOT_REQUEST = frozenset({"schema_version", "run_id", "root", "name", "task", "kind", "until", "resume", "environment"})


def mapping(value: object) -> Facts:
    """`value` if it is a JSON object, else an empty one: a run directory may hold anything, a report is made of it all the same."""
    return cast("Facts", value) if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    """`value` if it is a JSON list, else an empty one."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def mappings(value: object) -> list[Facts]:
    """The JSON objects in the list `value`."""
    return [mapping(each) for each in items(value) if isinstance(each, dict)]


def number(value: object) -> str:
    """A value for a cell: numbers short, everything else as text."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int) and abs(value) < 10**6:
        return str(value)
    return plots.short(float(value)) if isinstance(value, int | float) else words(value)


def named_number(name: object, value: object) -> str:
    """As `number`, in a unit that people read where the name says that it counts bytes."""
    if not str(name).endswith("bytes") or not isinstance(value, int | float):
        return number(value)
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if abs(value) >= size:
            return f"{value / size:,.1f} {unit}"
    return f"{number(value)} B"


def words(value: object) -> str:
    """A value as text of a bearable length."""
    said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return said if len(said) <= _LONGEST else f"{said[:_LONGEST]} … ({len(said)} characters)"


def moment(value: object) -> dt.datetime | None:
    """A time as events write it."""
    try:
        return dt.datetime.fromisoformat(str(value))
    except ValueError:
        return None


def facts_of(evidence: Iterable[Facts], stage: str) -> Facts:
    """The facts of a stage's newest evidence."""
    found: Facts = {}
    for each in evidence:
        if each.get("stage") == stage:
            found = mapping(each.get("facts"))
    return found


# --- stages -------------------------------------------------------------------------------------------------------


def stages(facts: Facts, order: Sequence[str]) -> Markup:
    """Every stage in its order, with its newest evidence to open; one without evidence says so."""
    newest = {str(each.get("stage")): each for each in facts["evidence"]}
    return tag("div", *(_stage(stage, newest.get(stage), facts["run_id"]) for stage in order), class_="card")


def _stage(stage: str, evidence: Facts | None, run_id: str) -> Markup:
    if evidence is None:
        return tag(
            "details", tag("summary", tag("span", stage, class_="grow soft"), tag("span", "not run", class_="chip"))
        )
    checks = mappings(evidence.get("checks"))
    outcome = str(evidence.get("outcome"))
    held = f"{sum(bool(each.get('held')) for each in checks)}/{len(checks)} checks" if checks else ""
    summary = tag(
        "summary",
        tag("span", stage, class_="grow"),
        tag("span", held, class_="soft small"),
        tag("span", outcome, class_=f"chip {_OUTCOMES.get(outcome, '')}"),
    )
    from_run = evidence.get("run_id")
    inside = tag(
        "div",
        tag("ul", *(_check(each) for each in checks)) if checks else None,
        *(tag("p", "not covered: ", words(each), class_="small") for each in items(evidence.get("not_covered"))),
        tag("p", "taken over from run ", tag("code", from_run), class_="small")
        if from_run not in (None, run_id)
        else None,
        _definitions(_short_facts(evidence)),
        class_="inside",
    )
    is_open = "open" if outcome not in ("passed", "partial") else None
    return tag("details", summary, inside, open=is_open)


def _check(check: Facts) -> Markup:
    mark = tag(
        "span", "held" if check.get("held") else "not held", class_="good-text" if check.get("held") else "bad-text"
    )
    fact = words(check.get("fact") or "")
    return tag("li", str(check.get("name")), ": ", mark, f". {fact}" if fact else "")


def _short_facts(evidence: Facts) -> dict[str, Any]:
    """The facts that fit on a line, when the evidence was made, and over what."""
    shown: dict[str, Any] = {
        str(key).replace("_", " "): named_number(key, value)
        for key, value in mapping(evidence.get("facts")).items()
        if isinstance(value, str | int | float | bool) and value != ""
    }
    hashes = {
        name: str(value)[:12] for name, value in mapping(evidence.get("hashes")).items() if isinstance(value, str)
    }
    if hashes:
        shown["over"] = tag("code", ", ".join(f"{name} {digest}" for name, digest in hashes.items()))
    if evidence.get("created_at"):
        shown["made"] = str(evidence["created_at"])[:19].replace("T", " ")
    return shown


def _definitions(rows: Mapping[str, Any]) -> Markup | None:
    if not rows:
        return None
    cells = [each for name, value in rows.items() for each in (tag("dt", name), tag("dd", value))]
    return tag("dl", *cells, class_="small")


# --- results ------------------------------------------------------------------------------------------------------


def results(found: Facts) -> Markup:
    """Metric, value, baseline, improvement (S14-R10); and what was not measured."""
    rows = mappings(found.get("rows"))
    if not rows:
        return Markup("")
    head = tag(
        "tr", tag("th", "metric"), *(tag("th", name, class_="number") for name in ("value", "baseline", "better by"))
    )
    conditions = found.get("conditions")
    return tag(
        "div",
        tag("div", tag("table", head, *(_result(row) for row in rows)), class_="wide"),
        *(tag("p", words(each), class_="soft small") for each in items(found.get("not_covered"))),
        tag("p", "Both under: ", _value(conditions), class_="soft small") if conditions else None,
        class_="card",
    )


def _result(row: Facts) -> Markup:
    change = row.get("improvement_percent")
    cell, style = "–", "number"
    if isinstance(change, int | float) and math.isfinite(change):
        cell = f"{change:+.1f} %"
        style = f"number {'good-text' if change > 0 else 'bad-text' if change < 0 else ''}".strip()
    return tag(
        "tr",
        tag("td", str(row.get("metric"))),
        tag("td", named_number(row.get("metric"), row.get("value")), class_="number"),
        tag("td", named_number(row.get("metric"), row.get("baseline")), class_="number"),
        tag("td", cell, class_=style),
    )


# --- what happened ------------------------------------------------------------------------------------------------


def alerts(found: Sequence[Facts]) -> Markup:
    """Every alert with its step, its numbers and the action it proposed."""
    if not found:
        return Markup("")
    return tag("div", *(_alert(each) for each in found), class_="card")


def _alert(alert: Facts) -> Markup:
    level = str(alert.get("level") or "INFO")
    said = [str(alert[name]) for name in ("text", "action") if alert.get(name)]
    step = f"step {alert['step']}" if alert.get("step") is not None else ""
    summary = tag(
        "summary",
        tag("span", str(alert.get("title") or alert.get("code") or ""), class_="grow"),
        tag("span", step, class_="soft small"),
        tag("span", level, class_=f"chip {_LEVELS.get(level, '')}"),
    )
    return tag("details", summary, tag("div", *(tag("p", each) for each in said), class_="inside small"))


def attempts(events: Sequence[Facts]) -> Markup:
    """Submits, failures with their cause and change, and what each attempt was charged, in the order of the log."""
    rows = [row for event in events if (row := _attempt(str(event.get("kind")), mapping(event.get("data"))))]
    if not rows:
        return Markup("")
    shown = [tag("tr", tag("td", what, class_="soft name"), tag("td", said)) for what, said in rows]
    return tag("div", tag("table", *shown), class_="card")


def _attempt(kind: str, data: Facts) -> tuple[str, str] | None:
    if kind == "submit":
        return "submitted", f"{data.get('attempt')} as {data.get('job')}"
    if kind == "job-ended":
        ended = [f"{name} {data[name]}" for name in ("code", "signal", "seconds") if data.get(name) is not None]
        return "ended", f"{data.get('outcome')}: {', '.join(ended)}"
    if kind == "analysis":
        said = f"{data.get('category')} ({data.get('code')}): {words(data.get('evidence') or '')}"
        return "analysed", f"{said}. Change: {words(data.get('change') or 'none')}"
    if kind in ("reserve", "settle"):
        return f"{kind}d", f"{data.get('attempt')}: {words(data.get('amount'))}"
    return None


# --- what it was --------------------------------------------------------------------------------------------------


def request(job: Facts) -> Markup:
    """What was asked for, as it was frozen."""
    rows: dict[str, Any] = {
        key.replace("_", " "): _value(value)
        for key, value in job.items()
        if key not in _NOT_REQUEST and value not in (None, {}, [], "")
    }
    return tag("div", _definitions(rows), class_="card") if rows else Markup("")


def _value(value: Any) -> Markup:
    if isinstance(value, dict):
        parts = [f"{key}: {named_number(key, each)}" for key, each in value.items() if each not in (None, {}, [], "")]
        return joined(", ".join(parts))
    if isinstance(value, list):
        return joined(", ".join(number(each) for each in value))
    return joined(number(value))


def resources(evidence: Sequence[Facts]) -> Markup:
    """The host as it was found, the plan made for it, and the versions that ran."""
    found, start = facts_of(evidence, "resources"), facts_of(evidence, "intake")
    rows: dict[str, Any] = {
        "GPU": "; ".join(str(each.get("name")) for each in mappings(found.get("gpus"))) or "none",
        "precision": _value(found.get("precision") or ""),
        "plan": words(mapping(found.get("plan")).get("words") or ""),
        "estimate": f"{number(found.get('estimated_s'))} s",
        "memory": _size(found.get("memory_bytes")),
        "disk": _size(found.get("free_bytes")),
        "versions": _value(start.get("versions") or {}),
    }
    return tag("div", _definitions(rows), class_="card") if found or start else Markup("")


def _size(value: object) -> str:
    return f"{value / 2**30:,.1f} GiB free" if isinstance(value, int | float) else "–"


def places(events: Mapping[str, list[Facts]], hashes: Facts) -> Markup:
    """Commit, where the result lies and what it was read back as, links, and the digests of what ran."""
    rows: dict[str, Any] = {}
    for data in events.get("committed", [])[-1:]:
        rows["commit"] = tag("code", str(data.get("commit")))
    for data in events.get("persisted", [])[-1:]:
        rows["result"] = str(data.get("destination"))
        rows["read back as"] = tag("code", f"sha256 {data.get('reread_sha256')}")
    for data in events.get("links", [])[-1:]:
        rows |= {str(name): _link(str(url)) for name, url in data.items()}
    rows |= {f"{name} digest": tag("code", str(value)) for name, value in hashes.items() if value}
    return tag("div", _definitions(rows), class_="card") if rows else Markup("")


def _link(url: str) -> Markup:
    """A link for http(s) only: any other scheme, and a command, is text."""
    if url.startswith(("https://", "http://")):
        return tag("a", url, href=url, rel="noreferrer noopener")
    return tag("code", url)
