"""What each relation of two clones allows, and how a no is said."""

from __future__ import annotations

import itertools
import shlex

import pytest

from lanes import clone_identity, guards

HERE = {"path": "/laptop/mine", "host": "gpu", "origin": "forge.example/mine", "roots": ["a" * 40], "head": "a" * 40}
THERE = {"path": "/host/theirs", "host": "box", "origin": "forge.example/theirs", "roots": ["b" * 40], "head": "b" * 40}
WORDS = ("same", "fork", "same-origin", "shared-commit", "unborn", "no-witness", "unreadable", "other", "other-origin")


def test_what_is_proven_may_always_go_on_and_another_repository_never() -> None:
    for is_run, is_own, is_said in itertools.product((False, True), repeat=3):
        accepted = guards.accepted_relations(is_run=is_run, is_root_own=is_own, is_host_said=is_said)
        if is_run and is_said:
            assert accepted is None
            continue
        assert accepted is not None
        assert set(guards.PROVEN) <= set(accepted) <= set(WORDS) - {"other", "other-origin"}
        assert ("unborn" in accepted) == is_own
        assert ("unreadable" in accepted) == (is_own and is_run)


def test_outside_a_repository_a_root_for_all_folders_needs_the_host_said() -> None:
    allowed = [
        (is_run, is_own, is_said)
        for is_run, is_own, is_said in itertools.product((False, True), repeat=3)
        if guards.may_act_without_repository(is_run=is_run, is_root_own=is_own, is_host_said=is_said)
    ]
    assert (False, False, False) not in allowed
    assert len(allowed) == 7


@pytest.mark.parametrize("relation", WORDS[4:])
def test_a_no_names_both_clones_and_why(relation: str) -> None:
    error = clone_identity.refusal({"relation": relation, "here": HERE, "there": THERE})
    assert (error.exit_code, error.code) == (69, "another-repository")
    for word in (
        "/laptop/mine",
        "forge.example/mine",
        "/host/theirs",
        "forge.example/theirs",
        "gpu",
        "aaaaaaaaaa",
        "bbbbbb",
    ):
        assert word in error.message
    assert error.remedy


def test_the_remedy_of_a_run_is_the_host_said() -> None:
    facts = {"relation": "other", "here": {**HERE, "is_run": True}, "there": THERE}
    assert "hemma run -H gpu -- " in clone_identity.refusal(facts).remedy


def test_what_a_stranger_says_is_quoted_in_the_remedy() -> None:
    evil = "x; touch pwned"
    facts = {
        "relation": "other",
        "here": {**HERE, "host": evil, "superproject": evil},
        "there": {**THERE, "origin": evil},
    }
    for here in (facts["here"], {**HERE, "host": evil}):
        remedy = clone_identity.refusal({**facts, "here": here}).remedy
        assert evil in remedy
        assert evil not in remedy.replace(shlex.quote(evil), "")


def test_a_refusal_of_a_broken_answer_is_still_one() -> None:
    for facts in ({}, {"here": 1, "there": [], "relation": None}, {"relation": "other", "there": {"roots": 5}}):
        assert clone_identity.refusal(facts).exit_code == 69
