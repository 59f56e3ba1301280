"""The final check: a log of a run that kept every rule conforms, and each planted violation is reported by its criterion."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from lanes.conformance import CRITERIA, Conformance, conformance
from lanes.event_chain import chained
from lanes.gates import STAGES

HASHES = {"script": "s" * 64, "config": "c" * 64, "dataset": "d" * 64, "model": "m" * 64, "environment": "e" * 64}
DIGEST = "a" * 64
Bodies = list[dict[str, Any]]


def event(kind: str, /, **data: Any) -> dict[str, Any]:
    return {"kind": kind, "data": data}


def stage(name: str, outcome: str = "passed") -> dict[str, Any]:
    return event("stage", stage=name, outcome=outcome, hashes=dict(HASHES))


def submit(job: str, attempt: str) -> dict[str, Any]:
    return event("submit", job=job, attempt=attempt, kind="full", hashes=dict(HASHES), payload_sha256=HASHES["script"])


def good() -> Bodies:
    """A run whose first attempt ran out of memory, was analysed, mended within scope, and then completed."""
    return [
        event("research", sources=3),
        event("baseline", hashes=dict(HASHES)),
        event("edit", content="script", scope=True),
        *(stage(name) for name in STAGES[: STAGES.index("job")]),
        event("reserve", attempt="a1"),
        submit("j1", "a1"),
        event("alert", level="ERROR", code="cuda-oom", sequence=0),
        event("job-ended", job="j1", outcome="failed"),
        event("settle", attempt="a1"),
        event("analysis", attempt="a1", category="oom", change="batch 8 x 1 -> 4 x 2", alert=0),
        event("edit", content="config", scope=True),
        event("reserve", attempt="a2"),
        submit("j2", "a2"),
        event("first-metric", job="j2", step=1, value=2.5),
        event("alert", level="INFO", code="checkpoint", sequence=1),
        event("job-ended", job="j2", outcome="completed"),
        event("settle", attempt="a2"),
        event("persisted", destination="store/run-1", sha256=DIGEST, reread_sha256=DIGEST),
        event("evaluated", metric="perplexity", value=11.2, artifact_sha256=DIGEST),
        event("committed", commit="f" * 40),
        event("links", model="https://host/model", dashboard="https://host/board"),
        event("links-checked", unresolved={}),
    ]


def judged(bodies: Bodies, **options: Any) -> Conformance:
    records: list[dict[str, Any]] = []
    for body in bodies:
        records.append(chained(records[-1] if records else None, body))
    return conformance(records, **options)


def at(bodies: Bodies, kind: str, number: int = 0) -> int:
    return [place for place, each in enumerate(bodies) if each["kind"] == kind][number]


@pytest.mark.req("S21-R03")
def test_a_run_that_kept_the_rules_conforms() -> None:
    found = judged(good())
    assert found.missing == ()
    assert found.conforms
    assert set(found.criteria) == {"log is whole", *(name for name, _criterion in CRITERIA)}
    assert found.artifacts == ("store/run-1", "https://host/model", "https://host/board")


def drop(kind: str, number: int = 0) -> Callable[[Bodies], None]:
    return lambda bodies: bodies.__delitem__(at(bodies, kind, number))


def put(kind: str, number: int = 0, /, **data: Any) -> Callable[[Bodies], None]:
    return lambda bodies: bodies[at(bodies, kind, number)]["data"].update(data)


def move(kind: str, number: int, to: int) -> Callable[[Bodies], None]:
    return lambda bodies: bodies.insert(to, bodies.pop(at(bodies, kind, number)))


def add(place: int, *new: dict[str, Any]) -> Callable[[Bodies], None]:
    return lambda bodies: bodies.__setitem__(slice(place, place), list(new))


def of_stage(name: str, /, **data: Any) -> Callable[[Bodies], None]:
    def change(bodies: Bodies) -> None:
        next(each for each in bodies if each["data"].get("stage") == name)["data"].update(data)

    return change


def without_stage(name: str) -> Callable[[Bodies], None]:
    return lambda bodies: bodies.remove(next(each for each in bodies if each["data"].get("stage") == name))


def other(content: str) -> dict[str, str]:
    return {**HASHES, content: "0" * 64}


GATES, ORDER = "gates passed before each job", "stages in order"
EVALUATED, PERSISTED = "evaluated", "persisted and read again"
BEFORE = STAGES[: STAGES.index("job")]
PLANTED: list[tuple[str, Callable[[Bodies], None]]] = [
    ("research precedes and is cited", drop("research")),
    ("research precedes and is cited", put("research", sources=0)),
    ("research precedes and is cited", put("research", sources=True)),
    ("research precedes and is cited", put("research", sources=None)),
    ("research precedes and is cited", move("research", 0, 5)),
    ("baseline frozen first", drop("baseline")),
    ("baseline frozen first", move("baseline", 0, 4)),
    ("baseline frozen first", add(9, event("baseline", hashes=HASHES))),
    *((GATES, without_stage(name)) for name in BEFORE),
    *((GATES, of_stage(name, outcome="failed")) for name in BEFORE),
    (GATES, of_stage("gpu-preflight", outcome="partial")),
    (GATES, of_stage("cpu-smoke", outcome="not-checked")),
    (GATES, of_stage("cpu-smoke", outcome=None)),
    *((GATES, of_stage("cpu-smoke", hashes=other(content))) for content in HASHES),
    (GATES, of_stage("data-audit", hashes=other("dataset"))),
    (GATES, of_stage("resources", hashes=other("environment"))),
    (GATES, of_stage("readiness", hashes={})),
    (GATES, of_stage("readiness", hashes=None)),
    (GATES, put("submit", 1, hashes=other("config"))),
    (GATES, put("submit", 1, hashes={})),
    (GATES, add(10, stage("cpu-smoke", "failed"))),
    (ORDER, lambda bodies: bodies.insert(3, bodies.pop(8))),
    (ORDER, lambda bodies: bodies.insert(4, bodies.pop(6))),
    ("code sent by value is the code checked", put("submit", 1, payload_sha256="1" * 64)),
    ("code sent by value is the code checked", put("submit", 0, payload_sha256=None)),
    ("code sent by value is the code checked", put("submit", 0, payload_sha256="")),
    ("one full job at a time", move("job-ended", 0, 22)),
    ("one full job at a time", drop("job-ended", 0)),
    ("one full job at a time", drop("job-ended", 1)),
    ("healthy by its first metric", drop("first-metric")),
    ("healthy by its first metric", put("first-metric", step=0)),
    ("healthy by its first metric", put("first-metric", value=float("nan"))),
    ("healthy by its first metric", put("first-metric", value="2.5")),
    ("healthy by its first metric", put("first-metric", job="j1")),
    ("healthy by its first metric", put("job-ended", 1, outcome="failed")),
    ("healthy by its first metric", move("first-metric", 0, 10)),
    ("spend reserved and settled", drop("reserve", 0)),
    ("spend reserved and settled", drop("reserve", 1)),
    ("spend reserved and settled", drop("settle", 1)),
    ("spend reserved and settled", put("submit", 1, attempt="a1")),
    ("alerts numbered and answered", put("alert", 0, sequence=1)),
    ("alerts numbered and answered", drop("alert", 0)),
    ("alerts numbered and answered", put("analysis", alert=None)),
    ("alerts numbered and answered", move("analysis", 0, 11)),
    ("loop bounded, failures analysed", drop("analysis")),
    ("loop bounded, failures analysed", put("analysis", change="")),
    ("loop bounded, failures analysed", put("analysis", attempt="a2")),
    (
        "loop bounded, failures analysed",
        lambda bodies: bodies.insert(at(bodies, "analysis"), copy.deepcopy(bodies[at(bodies, "analysis")])),
    ),
    ("scope kept", put("edit", 1, scope=False)),
    ("scope kept", put("edit", 0, scope=None)),
    ("scope kept", put("edit", 0, scope="yes")),
    (EVALUATED, drop("evaluated")),
    (EVALUATED, put("evaluated", value=None)),
    (EVALUATED, put("evaluated", value=float("inf"))),
    (EVALUATED, put("evaluated", metric="")),
    (EVALUATED, put("evaluated", artifact_sha256="b" * 64)),
    (EVALUATED, move("evaluated", 0, 12)),
    (PERSISTED, drop("persisted")),
    (PERSISTED, put("persisted", reread_sha256=None)),
    (PERSISTED, put("persisted", reread_sha256="b" * 64)),
    (PERSISTED, put("persisted", destination="")),
    (PERSISTED, put("persisted", sha256="short", reread_sha256="short")),
    (PERSISTED, move("persisted", 0, 12)),
    ("committed", drop("committed")),
    ("committed", put("committed", commit="")),
    ("committed", move("committed", 0, 12)),
    ("linked", drop("links")),
    ("linked", put("links", dashboard=None)),
    ("linked", put("links", model="")),
    ("linked", drop("links-checked")),
    ("linked", put("links-checked", unresolved={"model": "https://host/model answers 404"})),
    ("no secret", add(20, event("secret-found", where="log"))),
]


@pytest.mark.req("S21-R02", "S21-R04", "S21-R05")
@pytest.mark.parametrize(("criterion", "plant"), PLANTED, ids=[f"{n}-{name}" for n, (name, _p) in enumerate(PLANTED)])
def test_a_planted_violation_is_reported(criterion: str, plant: Callable[[Bodies], None]) -> None:
    bodies = copy.deepcopy(good())
    plant(bodies)
    found = judged(bodies)
    assert not found.conforms
    assert found.criteria[criterion] is False
    assert any(line.startswith(f"{criterion}: ") for line in found.missing)


def test_enough_violations_are_planted() -> None:
    assert len(PLANTED) >= 50
    assert {name for name, _plant in PLANTED} == {name for name, _criterion in CRITERIA}


@pytest.mark.req("S21-R05")
def test_a_forged_log_conforms_to_nothing() -> None:
    records: list[dict[str, Any]] = []
    for body in good():
        records.append(chained(records[-1] if records else None, body))
    records[-1]["data"]["model"] = "https://elsewhere"
    assert conformance(records).criteria["log is whole"] is False
    assert conformance([], head=DIGEST).missing[0] == "log is whole: the chain breaks at event 0"
    assert not conformance([]).conforms


@pytest.mark.req("S7-R10")
def test_a_preflight_without_gpu_conforms_only_when_the_manifest_accepts_it() -> None:
    bodies = good()
    of_stage("gpu-preflight", outcome="partial")(bodies)
    assert judged(bodies, accepts_partial=True).conforms
    assert not judged(bodies).conforms


@pytest.mark.req("S13-R50")
def test_too_many_attempts_do_not_conform() -> None:
    assert not judged(good(), most_attempts=1).conforms
    assert judged(good(), most_attempts=2).conforms


@pytest.mark.parametrize("kind", ["stage", "submit", "alert", "analysis", "persisted", "links", "first-metric"])
@pytest.mark.parametrize("data", [None, [], "text", 7, {}])
def test_events_without_sense_are_judged_and_never_raise(kind: str, data: object) -> None:
    bodies = [*good(), {"kind": kind, "data": data}]
    assert isinstance(judged(bodies).conforms, bool)
