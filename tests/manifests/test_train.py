"""A training request as a person writes it: every fault is named with its key, and nothing is guessed."""

from __future__ import annotations

import contextlib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from manifests import train
from manifests.errors import UsageError


def request(**changes: object) -> str:
    """The example with changes; None takes a key out."""
    said = {**yaml.safe_load(train.EXAMPLE), **changes}
    return yaml.safe_dump({key: value for key, value in said.items() if value is not None})


def test_the_example_is_valid_and_survives_a_round_trip() -> None:
    manifest = train.parse(train.EXAMPLE, "example.yaml")
    assert train.TrainManifest.model_validate(manifest.as_dict()) == manifest
    assert manifest.job()["resources"]["timeout_s"] == 1800.0


@pytest.mark.req("S14-R11")
def test_what_is_asked_of_an_adapter_is_declared_and_no_part_of_the_training() -> None:
    manifest = train.parse(request(integrate={"checks": [{"prompt": "x", "contains": ["y"]}]}), "x")
    assert manifest.integrate.checks[0].contains == ("y",)
    assert manifest.job() == train.parse(request(), "x").job()


@pytest.mark.req("S1-R08")
def test_unknown_fields_are_kept() -> None:
    assert train.parse(request(our_own_note="keep me"), "x").as_dict()["our_own_note"] == "keep me"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": None}, "method: Field required"),
        ({"method": None, "metod": "sft"}, "`metod` is unknown; did you mean `method`?"),
        ({"dataset": {"sorce": "a"}}, "`dataset.sorce` is unknown; did you mean `dataset.source`?"),
        ({"sequence_lenght": 64}, "did you mean `sequence_length`"),
        ({"method": "ppo"}, "method"),
        ({"method": "grpo"}, "dataset.reward"),
        ({"method": "causal-lm", "lora": {}}, "lora belongs to"),
        ({"model": {"id": "a/b", "config": {}}}, "not both"),
        ({"model": {"config": {"model_type": "llama"}}}, "needs `tokenizer`"),
        ({"sequence_length": 0}, "sequence_length"),
        ({"sequence_length": "long"}, "sequence_length"),
        ({"persist": {"kind": "directory", "destination": "<your-place>"}}, "placeholder"),
        ({"persist": {"kind": "directory", "destination": " "}}, "placeholder"),
        ({"resources": {"timeout": "soon"}}, "duration"),
        ({"resources": {"timeout": "0s"}}, "resources.timeout"),
        ({"accept": {"no-gpu": " "}}, "reason"),
        ({"commit": ["../elsewhere"]}, "inside the repository"),
        ({"name": "../x"}, "name"),
        ({"schema_version": 99}, "newer Hemma"),
        ({"sequence_lenght": 5}, "did you mean `sequence_length`"),
        ({"resources": {"time_out": "1h"}}, "did you mean `resources.timeout`"),
        ({"integrate": {"checks": [{"prompt": "x", "contain": ["y"]}]}}, "did you mean `integrate.checks.0.contains`"),
        ({"integrate": {"checks": [{"prompt": "x", "kind": "poem"}]}}, "integrate.checks.0.kind"),
        ({"integrate": {"place": "../out"}}, "inside the repository"),
    ],
)
@pytest.mark.req("S6-R05")
def test_each_fault_is_named(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        train.parse(request(**changes), "manifests/runs/x.yaml")
    assert words in caught.value.message
    assert "manifests/runs/x.yaml" in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize(
    "text", ["", "[]", "a: [", "- 1\n- 2", "\t", "{a: b: c}", "null", "!!python/object:os.system {}"]
)
def test_what_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        train.parse(text, "x.yaml")


@given(st.text(max_size=60))
def test_no_text_gets_a_traceback(text: str) -> None:
    with contextlib.suppress(UsageError):
        train.parse(text, "x.yaml")


@pytest.mark.parametrize(
    ("said", "wanted"), [("90s", 90.0), ("30m", 1800.0), ("1.5h", 5400.0), ("1d", 86400.0), (60, 60.0)]
)
def test_durations(said: object, wanted: float) -> None:
    assert train.parse(request(resources={"timeout": said}), "x").resources.timeout == wanted
