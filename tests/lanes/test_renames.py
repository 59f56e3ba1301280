"""Renamed arguments: a successor is named when the installed class has it, and never when it has not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lanes.renames import is_renamed, renames, suggest

CASES = Path(__file__).resolve().parents[1] / "cases" / "renames"
INSTALLED: dict[str, list[str]] = yaml.safe_load((CASES / "installed.yaml").read_text(encoding="utf-8"))
GONE: list[dict[str, Any]] = yaml.safe_load((CASES / "gone.yaml").read_text(encoding="utf-8"))


@pytest.mark.req("S13-R12")
@pytest.mark.parametrize("case", GONE, ids=lambda case: f"{case['class']}.{case['name']}")
def test_a_name_that_is_gone_has_its_successor(case: dict[str, Any]) -> None:
    found = suggest(case["name"], INSTALLED[case["class"]], case["class"])
    assert found is not None
    assert found.successor == case["successor"]
    assert found.note


def test_at_least_forty_historical_names_are_resolved() -> None:
    assert len({case["name"] for case in GONE if case["successor"]}) >= 40


@pytest.mark.req("S13-R46")
@pytest.mark.parametrize(
    ("name", "owner", "keeps"),
    [
        ("max_seq_length", "SFTConfig", True),
        ("evaluation_strategy", "TrainingArguments", True),
        ("tokenizer", "DPOTrainer", True),
        ("torch_dtype", "ModelConfig", True),
        ("group_by_length", "TrainingArguments", False),
        ("max_prompt_length", "DPOConfig", False),
    ],
)
def test_it_says_whether_the_value_stays(name: str, owner: str, keeps: bool) -> None:
    found = suggest(name, INSTALLED[owner], owner)
    assert found is not None
    assert found.keeps_value is keeps


def test_an_older_installation_gets_its_own_name() -> None:
    """What a later release renamed again is not proposed where that release is not installed."""
    old = suggest("fp16_backend", ["half_precision_backend", "fp16"], "TrainingArguments")
    assert old is not None
    assert old.successor == "half_precision_backend"
    assert suggest("evaluation_strategy", ["evaluation_strategy"], "TrainingArguments") is None


@pytest.mark.parametrize(
    ("name", "owner", "meant"),
    [
        ("num_train_epoch", "TrainingArguments", "num_train_epochs"),
        ("gradient_accumulation_step", "SFTConfig", "gradient_accumulation_steps"),
        ("learing_rate", "DPOConfig", "learning_rate"),
        ("num_generation", "GRPOConfig", "num_generations"),
    ],
)
def test_a_slip_of_the_pen_is_mended(name: str, owner: str, meant: str) -> None:
    found = suggest(name, INSTALLED[owner], owner)
    assert found is not None
    assert (found.successor, is_renamed(name)) == (meant, False)


@pytest.mark.parametrize("name", ["", "quantum_flux", "x", "max_sequence_length_of_the_moon", "__class__"])
def test_what_is_not_known_gets_no_guess(name: str) -> None:
    assert suggest(name, INSTALLED["SFTConfig"], "SFTConfig") is None


NAMES = st.sampled_from([each.old for each in renames()]) | st.text(max_size=20)


@given(
    NAMES,
    st.sets(st.sampled_from(INSTALLED["SFTConfig"]) | st.text(max_size=8), max_size=12),
    st.sampled_from(sorted(INSTALLED)),
)
def test_only_a_name_that_is_installed_is_proposed(name: str, available: set[str], owner: str) -> None:
    found = suggest(name, available, owner)
    if found is not None and found.successor is not None:
        assert found.successor in available
        assert found.successor != name


def test_every_entry_says_where_it_went_or_that_it_went() -> None:
    assert all(each.note and each.classes for each in renames())
    assert all(each.old not in each.successors for each in renames())
    assert len({each.old for each in renames()}) >= 70
