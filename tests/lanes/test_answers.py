"""Answers are judged by their kind and their words, whatever a model says."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lanes.answers import Kind, faults

pytestmark = pytest.mark.req("S14-R11")
CASES = yaml.safe_load((Path(__file__).resolve().parents[1] / "cases/answers/kinds.yaml").read_text(encoding="utf-8"))
KINDS = get_args(Kind)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["answer"][:30] or "empty")
def test_answer_is_of_exactly_these_kinds(case: dict[str, Any]) -> None:
    found = {kind for kind in KINDS if not faults(case["answer"], kind=kind)}
    assert found == {*case["is"], "any"}


def test_every_fault_is_named() -> None:
    said = "Rebase it."
    assert faults(said, contains=["merge"], lacks=["rebase"], matches="^No", differs_from=" Rebase  it.") == [
        "'merge' is not in it",
        "'rebase' is in it",
        "it does not match '^No'",
        "it is what the base says",
    ]
    assert faults("", kind="text") == ["it says nothing"]
    assert faults("x", kind="json") == ["it is no json"]
    assert faults("No: Merge.", contains=["merge"], lacks=["rebase"], matches="^No", differs_from=said) == []


@given(st.text(max_size=200), st.sampled_from(KINDS), st.lists(st.text(max_size=4), max_size=3))
def test_any_answer_can_be_judged(answer: str, kind: Kind, words: list[str]) -> None:
    assert all(isinstance(each, str) for each in faults(answer, kind=kind, contains=words, differs_from=answer))
    assert "it is what the base says" in faults(answer, kind="any", differs_from=answer)


@pytest.mark.parametrize(
    "answer", ["(" * 100_000, "[" * 100_000, "-" * 100_000, "1" * 100_000, "`" * 9_999, "{'a':" * 5000]
)
def test_endless_answer_takes_no_time(answer: str) -> None:
    for kind in KINDS:
        faults(answer, kind=kind)
