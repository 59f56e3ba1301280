"""Gates open for evidence of what is there now, and for nothing else; the checklist is computed, not ticked."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lanes.gates import CONTENTS, DEPENDS_ON, STAGES, evaluate, standing, standings
from lanes.readiness import CHECKLIST, is_healthy, readiness
from manifests.evidence import Check, EventRecord, Evidence, Hashes, Outcome, Stage
from manifests.files import read_json

NOW = Hashes(script="s" * 64, config="c" * 64, dataset="d" * 64, model="m" * 64, environment="e" * 64)
AT = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
FACTS: dict[str, dict[str, Any]] = {
    "intake": {"reference": "trl/examples/sft.py", "destination": "store/run-1", "timeout_s": 7200},
    "resources": {"estimated_s": 3600, "uses_gpu": True},
    "data-audit": {"verdict": "mappable"},
    "cpu-smoke": {"train_steps": 1, "eval_steps": 1, "first_metric": 9.5, "alert_log": True},
    "gpu-preflight": {"device": "cuda:0", "real_model_loaded": True, "tracker": "trackio"},
    "readiness": {"transport": "by-value", "payload_sha256": "s" * 64},
    "healthy": {"first_metric_step": 1, "first_metric": 2.5},
}


def made(stage: Stage, outcome: Outcome = "passed", sequence: int = 0, **more: Any) -> Evidence:
    fields: dict[str, Any] = {"hashes": NOW, "facts": FACTS.get(stage, {}), **more}
    if outcome == "partial":
        fields.setdefault("not_covered", ("the GPU part",))
    return Evidence(stage=stage, outcome=outcome, sequence=sequence, created_at=AT, run_id="r", **fields)


ALL = [made(stage, sequence=number) for number, stage in enumerate(STAGES)]


def without(*stages: Stage) -> list[Evidence]:
    return [each for each in ALL if each.stage not in stages]


@pytest.mark.req("S8-R04")
@pytest.mark.parametrize("number", range(len(STAGES)))
def test_a_stage_starts_when_all_before_it_are_proven_and_only_then(number: int) -> None:
    stage = STAGES[number]
    assert evaluate(stage, ALL[:number], NOW).allowed
    for missing in STAGES[:number]:
        verdict = evaluate(stage, [each for each in ALL[:number] if each.stage != missing], NOW)
        assert not verdict.allowed
        assert verdict.next_steps == (f"run the stage {missing}",)


@pytest.mark.req("S7-R18", "S8-R06")
@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("stage", STAGES)
def test_a_changed_content_closes_the_gates_of_what_saw_it_and_is_named(stage: Stage, content: str) -> None:
    now = NOW.model_copy(update={content: "0" * 64})
    found = standing(stage, ALL, now)
    assert found.is_proven == (content not in DEPENDS_ON.get(stage, CONTENTS))
    if not found.is_proven:
        assert found.state == "changed"
        assert found.changed == (content,)
        assert content in found.fact


@pytest.mark.req("S7-R18")
@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_hash_that_is_not_known_is_no_hash(value: str | None) -> None:
    nothing = NOW.model_copy(update={"script": value})
    assert standing("cpu-smoke", [made("cpu-smoke", hashes=nothing)], NOW).state == "unbound"
    assert standing("cpu-smoke", [made("cpu-smoke", hashes=nothing)], nothing).state == "unbound"
    assert standing("cpu-smoke", [made("cpu-smoke")], nothing).state == "changed"


def test_the_newest_evidence_counts_also_when_it_is_the_worse() -> None:
    """D8 and D11: what failed, or could not be checked, stays so until it passes again."""
    for outcome in ("failed", "not-checked"):
        held = Check(name="step", held=False, fact="KeyError: text")
        worse = made("cpu-smoke", outcome, 5, checks=(held,))
        found = standing("cpu-smoke", [worse, made("cpu-smoke", sequence=4)], NOW)
        assert found.state == outcome
        assert "KeyError: text" in found.fact
        assert standing("cpu-smoke", [worse, made("cpu-smoke", sequence=6)], NOW).is_proven
        assert not standing("cpu-smoke", [worse, made("cpu-smoke", sequence=5)], NOW).is_proven
    assert "no check is named" in standing("cpu-smoke", [made("cpu-smoke", "failed")], NOW).fact


@pytest.mark.req("S7-R09", "S7-R10")
def test_a_partial_preflight_counts_when_the_manifest_accepts_it_and_nothing_else_partial_does() -> None:
    partial = [*without("gpu-preflight"), made("gpu-preflight", "partial")]
    assert not evaluate("job", partial, NOW).allowed
    assert evaluate("job", partial, NOW, accepts=("no-gpu",)).allowed
    audit = [*without("data-audit"), made("data-audit", "partial")]
    assert not evaluate("job", audit, NOW, accepts=("no-gpu", "data-audit")).allowed


@pytest.mark.req("S8-R09")
@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"first_metric_step": 0, "first_metric": 1.0},
        {"first_metric_step": 1, "first_metric": float("nan")},
        {"first_metric_step": True, "first_metric": 1.0},
        {"first_metric_step": 1, "first_metric": True},
        {"first_metric_step": 1},
        {"first_metric_step": "1", "first_metric": "2"},
    ],
)
def test_healthy_is_a_metric_seen_and_not_a_claim(facts: dict[str, Any]) -> None:
    """D12: the stages after the job do not start on the word alone."""
    claimed = [*without("healthy"), made("healthy", facts=facts)]
    assert not is_healthy(claimed, NOW).allowed
    assert not evaluate("evaluate", claimed, NOW).allowed
    assert is_healthy(ALL, NOW).allowed


@given(st.lists(st.sampled_from(ALL), max_size=8), st.sampled_from(STAGES))
def test_more_stages_never_open_without_what_comes_before(evidence: list[Evidence], stage: Stage) -> None:
    verdict = evaluate(stage, evidence, NOW)
    before = set(STAGES[: STAGES.index(stage)])
    assert verdict.allowed == (before <= {each.stage for each in evidence})
    assert [each.stage for each in standings(evidence, NOW)] == list(STAGES)
    assert verdict.reasons


# --- the checklist ------------------------------------------------------------------------------------------------


@pytest.mark.req("S8-R02", "S8-R03", "S8-R04")
def test_the_whole_checklist_holds_for_a_run_that_is_ready() -> None:
    found = readiness(ALL, NOW)
    assert found.verdict.allowed, found.verdict
    assert len(found.items) == len(CHECKLIST)


OPEN: list[tuple[str, Stage, dict[str, Any]]] = [
    ("reference implementation", "intake", {"reference": ""}),
    ("reference implementation", "intake", {"reference": None}),
    ("concrete destination", "intake", {"destination": "your-name/model"}),
    ("concrete destination", "intake", {"destination": "TODO"}),
    ("concrete destination", "intake", {"destination": "<org>/model"}),
    ("concrete destination", "intake", {"destination": "${HUB_ID}"}),
    ("concrete destination", "intake", {"destination": 7}),
    ("timeout sized to the work", "intake", {"timeout_s": 3600}),
    ("timeout sized to the work", "intake", {"timeout_s": None}),
    ("timeout sized to the work", "intake", {"timeout_s": "long"}),
    ("timeout sized to the work", "resources", {"estimated_s": None}),
    ("timeout sized to the work", "resources", {"estimated_s": 0}),
    ("dataset format verified", "data-audit", {"verdict": "incompatible"}),
    ("dataset format verified", "data-audit", {"verdict": None}),
    ("one train and one eval step on CPU", "cpu-smoke", {"eval_steps": 0}),
    ("one train and one eval step on CPU", "cpu-smoke", {"train_steps": None}),
    ("monitoring live", "cpu-smoke", {"first_metric": None}),
    ("monitoring live", "cpu-smoke", {"alert_log": "yes"}),
    ("monitoring live", "gpu-preflight", {"tracker": "none"}),
    ("monitoring live", "gpu-preflight", {"tracker": None}),
    ("result on the GPU, or why none", "gpu-preflight", {"device": "cpu"}),
    ("result on the GPU, or why none", "gpu-preflight", {"device": "cpu", "no_gpu_reason": "it is small"}),
    ("result on the GPU, or why none", "gpu-preflight", {"device": None}),
    ("real model loaded", "gpu-preflight", {"real_model_loaded": "yes"}),
    ("code travels by value", "readiness", {"transport": "path"}),
    ("code travels by value", "readiness", {"payload_sha256": "0" * 64}),
]


@pytest.mark.req("S8-R02", "S8-R03", "S8-R04", "S8-R06")
@pytest.mark.parametrize(("item", "stage", "facts"), OPEN)
def test_an_item_without_its_fact_is_open_and_named(item: str, stage: Stage, facts: dict[str, Any]) -> None:
    found = readiness([*without(stage), made(stage, facts={**FACTS[stage], **facts})], NOW)
    assert [each.name for each in found.items if not each.held] == [item]
    assert not found.verdict.allowed
    assert item in found.verdict.reasons[0].rule


@pytest.mark.req("S8-R04")
@pytest.mark.parametrize("stage", ["intake", "data-audit", "cpu-smoke", "gpu-preflight", "resources", "readiness"])
def test_items_of_a_stage_that_is_not_proven_are_open(stage: Stage) -> None:
    """D10, D11: facts of a stage that failed, or saw other contents, satisfy nothing."""
    for worse in ([], [made(stage, "failed")], [made(stage, hashes=Hashes())]):
        if stage == "readiness" and worse:
            continue
        assert not readiness([*without(stage), *worse], NOW).verdict.allowed


@pytest.mark.req("S7-R07", "S7-R09")
def test_a_job_that_needs_no_gpu_says_why() -> None:
    cpu = made("gpu-preflight", facts={**FACTS["gpu-preflight"], "device": "cpu", "no_gpu_reason": "4 M weights"})
    none = made("resources", facts={**FACTS["resources"], "uses_gpu": False})
    assert readiness([*without("gpu-preflight", "resources"), cpu, none], NOW).verdict.allowed


# --- the files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "more"),
    [
        ("passed", {"checks": [{"name": "a", "held": False}]}),
        ("passed", {"not_covered": ["gpu"]}),
        ("partial", {"not_covered": []}),
        ("fine", {}),
    ],
)
def test_evidence_that_contradicts_itself_is_broken(outcome: Any, more: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Evidence.model_validate({**made("job").as_dict(), "outcome": outcome, **more})


def test_an_event_carries_its_place_in_the_chain() -> None:
    record = {"seq": 0, "kind": "edit", "at": AT, "previous_digest": "0" * 64, "digest": "a" * 64}
    assert EventRecord.model_validate(record).data == {}
    for wrong in ({"seq": True}, {"seq": -1}, {"digest": "A" * 64}, {"kind": ""}):
        with pytest.raises(ValidationError):
            EventRecord.model_validate({**record, **wrong})


def test_old_evidence_loads_and_comes_back_whole() -> None:
    for path in sorted((Path(__file__).resolve().parents[1] / "old_versions").glob("evidence.v*.json")):
        old, found = read_json(str(path)), Evidence.read(str(path)).as_dict()
        # What it could not say is empty, and no gate takes that for proven.
        assert {found.pop(name, "") for name in ("previous", "origin") if name not in old} <= {""}
        assert found["hashes"].pop("model") is None or "model" in old["hashes"]
        assert found == old
