"""Every path, command, manifest and change has a lane, a first rule that says so, and a safe side."""

from __future__ import annotations

import dataclasses
import fnmatch
import random
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lanes.classification import (
    MOST_FIELDS,
    OWNERS,
    Decision,
    Facts,
    classify_change,
    classify_command,
    classify_manifest,
    classify_path,
    classify_shell,
)
from lanes.rules import DEFAULT_RULES, PATH_KINDS, Rule, rules_from

CASES = Path(__file__).resolve().parents[1] / "cases" / "classification"
KNOWN_KEYS = {
    *("path", "command", "shell", "manifest", "change", "rules", "facts"),
    *("lane", "rule", "known", "why", "whole", "parts"),
}


def cases() -> list[Any]:
    """Every case of every file in the folder: add a file, no code."""
    found: list[Any] = []
    for file in sorted(CASES.glob("*.yaml")):
        for number, case in enumerate(yaml.safe_load(file.read_text(encoding="utf-8")), 1):
            found.append(pytest.param(case, id=f"{file.stem}-{number}"))
    return found


def answer(case: dict[str, Any]) -> Decision:
    rules = rules_from(case.get("rules", {}))
    if "path" in case:
        return classify_path(case["path"], rules, Facts(**case.get("facts", {})))
    if "command" in case:
        return classify_command(case["command"], rules)
    if "shell" in case:
        return classify_shell(case["shell"], rules)
    return classify_manifest(case["manifest"], rules)


@pytest.mark.req("S9-R01")
@pytest.mark.parametrize("case", cases())
def test_a_case_of_the_folder_holds(case: dict[str, Any]) -> None:
    assert set(case) <= KNOWN_KEYS
    if "change" in case:
        change = classify_change(case["change"], rules_from(case.get("rules", {})))
        parts = [[group.lane, *(each.subject for each in group.decisions)] for group in change.groups]
        assert (change.lane, parts) == (case["whole"], case["parts"])
        return
    decision = answer(case)
    assert (decision.lane, decision.rule, decision.known) == (case["lane"], case["rule"], case.get("known", True))


# --- for every input ----------------------------------------------------------------------------------------------

# Letters that mean something to paths and globs, and any others: surrogates stand for bytes outside UTF-8.
LETTERS = st.one_of(st.sampled_from("/.*?[]!#\\ \n\r\0\udcffaé\N{DEER}"), st.characters())
NAMES = st.sampled_from(
    [
        *(
            "docs",
            "src",
            "data",
            "colab",
            "..",
            ".",
            "",
            "README.md",
            "x.py",
            "x.ipynb",
            "pyproject.toml",
            "a\nb",
            "x.md",
        ),
        *("requirements.txt", "notes.md", "planning", "model.pt"),
    ]
)
PATHS = st.one_of(st.text(LETTERS, max_size=40), st.lists(NAMES, max_size=5).map("/".join))
GLOBS = st.sampled_from(["**", "docs/**", "*.py", "src/", "*", "!*.md", "x.*", "/data", "**/colab/**", "a?b", "[a-z]*"])
PATH_RULES = st.lists(
    st.builds(
        Rule,
        name=st.uuids().map(str),
        lane=st.sampled_from(["hemma", "colab", "local"]),
        kind=st.sampled_from(PATH_KINDS),
        patterns=st.lists(GLOBS, min_size=1, max_size=3).map(tuple),
        why=st.just("because"),
    ),
    max_size=6,
).map(tuple)
FACTS = st.builds(Facts, notebook_lane=st.none() | st.sampled_from(["hemma", "colab", "local", "mars", ""]))


@given(PATHS, PATH_RULES, FACTS)
def test_every_path_is_classified_the_same_way_each_time(path: str, rules: tuple[Rule, ...], facts: Facts) -> None:
    for ruled in (rules, DEFAULT_RULES, rules + DEFAULT_RULES):
        decision = classify_path(path, ruled, facts)
        assert decision == classify_path(path, ruled, facts)
        assert decision.subject == path
        assert (decision.owner, decision.commits) == OWNERS[decision.lane]
        assert decision.why


@given(PATHS, PATH_RULES)
def test_the_first_matching_rule_wins(path: str, rules: tuple[Rule, ...]) -> None:
    alone = [classify_path(path, (rule,)) for rule in rules]
    first = next((decision for decision in alone if decision.known), None)
    together = classify_path(path, rules)
    assert together == first if first else not together.known


@given(PATHS, PATH_RULES)
def test_unknown_is_the_hosts_and_says_so(path: str, rules: tuple[Rule, ...]) -> None:
    decision = classify_path(path, rules)
    assert decision.known == (decision.rule != "unknown")
    if not decision.known:
        assert (decision.lane, decision.owner, decision.commits) == ("hemma", "host", "host")
        assert "to be safe" in decision.why


@given(PATHS, PATH_RULES)
def test_a_rule_that_cannot_match_changes_nothing(path: str, rules: tuple[Rule, ...]) -> None:
    stranger = Rule("stranger", "colab", "path", ("no/such/place/at/all",), "")
    command = Rule("command", "colab", "command", ("*",), "")
    assert classify_path(path, (stranger, command, *rules)) == classify_path(path, rules)


@given(st.lists(PATHS, max_size=8), st.randoms())
def test_the_order_of_paths_is_irrelevant_and_each_is_in_one_part(paths: list[str], chance: random.Random) -> None:
    change = classify_change(paths, DEFAULT_RULES)
    shuffled = [*paths, *paths[:2]]
    chance.shuffle(shuffled)
    assert classify_change(shuffled, DEFAULT_RULES) == change
    assert sorted(each.subject for each in change.decisions) == sorted(set(paths))
    assert all(each.lane == group.lane for group in change.groups for each in group.decisions)
    assert [classify_path(each.subject, DEFAULT_RULES) for each in change.decisions] == list(change.decisions)


@pytest.mark.req("S9-R05")
@given(st.lists(PATHS, max_size=8))
def test_the_hosts_part_comes_first_and_documents_last(paths: list[str]) -> None:
    lanes = [group.lane for group in classify_change(paths, DEFAULT_RULES).groups]
    assert lanes == [lane for lane in ("hemma", "colab", "local") if lane in lanes]


@pytest.mark.req("S9-R02", "S9-R04")
@given(st.lists(NAMES, max_size=4).map("/".join))
def test_nothing_that_runs_is_local_outside_docs(folder: str) -> None:
    decision = classify_path(f"src/{folder}/train.py".replace("..", "up"), DEFAULT_RULES)
    assert decision.owner == "host"


WORDS = st.one_of(
    st.sampled_from(
        ["git", "log", "python", "hemma", "run", "env", "A=1", "--", "-x", "", "mkdocs", "/bin/sh", "&&", "`"]
    ),
    st.text(LETTERS, max_size=8),
)


@given(st.lists(WORDS, max_size=6))
def test_every_command_is_classified(argv: list[str]) -> None:
    decision = classify_command(argv, DEFAULT_RULES)
    assert decision == classify_command(argv, DEFAULT_RULES)
    assert decision.known or decision.lane == "hemma"


@given(st.lists(WORDS, max_size=6).map(" ".join) | st.text(LETTERS))
def test_every_shell_line_is_classified(text: str) -> None:
    decision = classify_shell(text, DEFAULT_RULES)
    assert decision.known or decision.lane == "hemma"


@given(st.lists(WORDS.filter(lambda word: "\n" not in word and "`" not in word), min_size=1, max_size=5))
def test_a_quoted_command_and_its_argv_have_one_lane(argv: list[str]) -> None:
    if any("$(" in word for word in argv):
        return
    as_words, as_line = classify_command(argv, DEFAULT_RULES), classify_shell(shlex.join(argv), DEFAULT_RULES)
    # An operator that is quoted is a word to the shell; here it makes the line unclear, which is the safe side.
    assert as_line.lane in (as_words.lane, "hemma")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(st.dictionaries(st.sampled_from(["lane", "command", "argv", "shell", "stage"]) | st.text(max_size=4), VALUES))
def test_every_manifest_is_classified(fields: dict[str, object]) -> None:
    decision = classify_manifest(fields, DEFAULT_RULES)
    assert decision.known or decision.lane == "hemma"
    if fields.get("lane") in ("hemma", "colab", "local"):
        assert decision.lane == fields["lane"]


def test_a_manifest_that_unfolds_without_end_is_answered() -> None:
    knot: dict[str, object] = {"lane": "colab"}
    knot |= dict.fromkeys("abcdefghij", knot)
    assert classify_manifest(knot, DEFAULT_RULES).lane == "colab"
    assert MOST_FIELDS < 10**6


# --- the built-in rules themselves --------------------------------------------------------------------------------


def test_rule_names_are_unique_and_every_rule_says_why() -> None:
    names = [rule.name for rule in DEFAULT_RULES]
    assert len(set(names)) == len(names)
    assert "unknown" not in names
    assert all(rule.why and rule.patterns for rule in DEFAULT_RULES)


def test_every_builtin_pattern_is_one_that_a_person_could_write() -> None:
    table: list[Any] = [
        {"name": rule.name, "lane": rule.lane, rule.kind: list(rule.patterns)} for rule in DEFAULT_RULES
    ]
    written = rules_from(table)[: len(DEFAULT_RULES)]
    assert [(rule.name, rule.lane, rule.kind, rule.patterns) for rule in written] == [
        (rule.name, rule.lane, rule.kind, rule.patterns) for rule in DEFAULT_RULES
    ]


def test_no_builtin_rule_is_hidden_by_those_before_it() -> None:
    """Each path rule decides about something: a sample made of its own first pattern or a later one."""
    for rule in DEFAULT_RULES:
        if rule.kind not in PATH_KINDS or rule.mark:
            continue
        samples = [_sample(pattern) for pattern in rule.patterns if not pattern.startswith("!")]
        assert any(classify_path(each, DEFAULT_RULES).rule == rule.name for each in samples), rule.name


def _sample(pattern: str) -> str:
    name = pattern.replace("**/", "").replace("/**", "/x.ipynb" if "colab" in pattern else "/x").replace("*", "x")
    return f"{name}x" if name.endswith("/") else name


def test_a_command_pattern_is_matched_word_by_word() -> None:
    rules = (Rule("r", "local", "command", ("tool-? 'two words'",), "why"),)
    assert classify_command(["tool-a", "two words", "more"], rules).known
    assert not classify_command(["tool-a", "two", "words"], rules).known
    assert not classify_command(["tool-a"], rules).known
    assert fnmatch.fnmatchcase("tool-a", "tool-?")


def test_a_decision_is_plain_data() -> None:
    decision = classify_path("docs/x.md", DEFAULT_RULES)
    assert decision.as_dict() == dataclasses.asdict(decision)
    assert set(decision.as_dict()) == {"subject", "lane", "owner", "commits", "rule", "why", "known"}
