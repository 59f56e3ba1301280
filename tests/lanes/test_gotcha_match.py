"""A known symptom finds its entry, quickly, and no expression of a stranger can hold it up."""

from __future__ import annotations

import re
import statistics
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lanes.gotcha_match import MOST_TEXT, _compiled, matching, why_unsafe
from lanes.runbook_rules import read_entries
from manifests.runbooks import Gotcha

ROOT = Path(__file__).resolve().parents[2]
LINES: dict[str, str] = yaml.safe_load((ROOT / "tests/cases/gotchas/lines.yaml").read_text("utf-8"))


def entry(name: str, *matches: str, codes: tuple[str, ...] = ()) -> Gotcha:
    """An entry with these expressions."""
    said: dict[str, Any] = {"symptom": "s", "cause": "c", "fix": "f", "verified": "2026-11", "basis": "reproduced"}
    return Gotcha(id=name, sources=("https://example.org/x",), matches=matches, codes=codes, **said)


def shipped() -> list[Gotcha]:
    """The entries that come with Hemma."""
    files = [read_entries("gotchas/x.yaml", path.read_text("utf-8"))[0] for path in (ROOT / "runbooks").rglob("*.yaml")]
    return [each for file in files if file.model for each in file.model.gotchas]


ENTRIES = shipped()


@pytest.mark.req("S17-R04")
def test_every_shipped_entry_with_expressions_has_a_line_of_its_own() -> None:
    assert {each.id for each in ENTRIES if each.matches} == LINES.keys()


@pytest.mark.parametrize("name", LINES)
def test_a_line_as_programs_print_it_finds_its_entry(name: str) -> None:
    assert name in [match.entry.id for match in matching(f"step 1\n{LINES[name]}\nbye", ENTRIES)]


def test_plain_lines_find_nothing() -> None:
    lines = (
        "{'loss': 0.41, 'grad_norm': 1.2}",
        "100%|####| 10/10 [00:10<00:00]",
        "Saving model checkpoint to out/checkpoint-5",
    )
    assert matching("\n".join(lines), ENTRIES) == ()


def test_text_and_code_go_before_text_and_text_before_code() -> None:
    both, text, code = entry("both", "lost it", codes=("x",)), entry("text", "lost it"), entry("code", codes=("x",))
    found = matching("it has lost it", [code, text, both], "x")
    assert [(match.entry.id, match.is_text) for match in found] == [("both", True), ("text", True), ("code", False)]


def test_an_entry_with_expressions_does_not_come_by_its_code_alone() -> None:
    assert matching("nothing", [entry("one", "lost it", codes=("x",))], "x") == ()


@pytest.mark.parametrize("pattern", sorted({pattern for each in ENTRIES for pattern in each.matches}))
def test_no_shipped_expression_takes_long_on_a_text_made_to_hurt_it(pattern: str) -> None:
    start = re.split(r"[.\\[(]", pattern)[0]
    for text in ("a" * MOST_TEXT, "1" * MOST_TEXT, (start + " ") * 2000, start + "a" * MOST_TEXT, " " * MOST_TEXT):
        began = time.perf_counter()
        matching(text, [entry("one", pattern)])
        assert time.perf_counter() - began < 0.5


def test_the_worst_expression_that_is_let_through_still_ends() -> None:
    began = time.perf_counter()
    for pattern in ("a*b", r"a{0,100}a{0,100}b", r"[\s\S]{0,9999}b"):
        assert why_unsafe("x" + pattern) == ""
        assert matching("xa" * (MOST_TEXT // 2), [entry("one", "x" + pattern)]) == ()
    assert time.perf_counter() - began < 10


def test_only_the_end_of_a_long_text_counts() -> None:
    assert matching("lost it" + "." * MOST_TEXT, [entry("one", "lost it")]) == ()
    assert matching("." * MOST_TEXT + "lost it", [entry("one", "lost it")])


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+b",
        "(a|a)*b",
        "(.*)*x",
        r"(\w+\s?)*$",
        ".*a.*b",
        r"\S+\S+x",
        r"\d{1,20}\d{1,20}\d{1,20}\d{1,20}x",
        "a{1,}a{2,}b",
        "(",
        "x*",
        "",
        "a" * 300,
        "(?:a{2,}){3,}",
    ],
)
def test_a_dangerous_expression_is_named_and_never_run(pattern: str) -> None:
    assert why_unsafe(pattern)
    began = time.perf_counter()
    assert matching("a" * MOST_TEXT, [entry("bad", pattern)]) == ()
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize("pattern", sorted({pattern for each in ENTRIES for pattern in each.matches}))
@settings(max_examples=10)
@given(data=st.data())
def test_the_quick_look_loses_no_match(pattern: str, data: st.DataObject) -> None:
    text = data.draw(
        st.from_regex(re.compile(pattern, re.IGNORECASE | re.ASCII)), label="a text that the expression fits"
    )
    assume(re.search(pattern, text, re.IGNORECASE) and len(text) <= MOST_TEXT)
    needle, _ = _compiled(pattern)
    assert needle in text.lower()
    assert matching(text, [entry("one", pattern)])


WORDS = st.lists(
    st.sampled_from(
        [
            "ab+c",
            "x?y",
            "z*",
            r"\d+",
            ".*",
            "lost it",
            "[ab]c",
            r"\.",
            "(no)",
            "a|b",
            "q{2}",
            ".{0,3}q",
            r"\d{1,2}i",
            "[ab]{2}",
        ]
    ),
    min_size=1,
    max_size=4,
)


@given(WORDS.map("".join), st.text(st.sampled_from(list("abcxyz. lostinq1")), max_size=40))
def test_the_quick_look_never_changes_the_answer(pattern: str, text: str) -> None:
    if why_unsafe(pattern):
        return
    assert bool(matching(text, [entry("one", pattern)])) == bool(re.search(pattern, text, re.IGNORECASE))


def test_a_hundred_entries_take_less_than_five_milliseconds() -> None:
    hundred = (ENTRIES * 2)[:100]
    text = "loss 0.3, 12 it/s, some words of a log that say little\n" * 300 + LINES["memory-in-fragments"]
    matching(text, hundred)
    taken: list[float] = []
    for _ in range(30):
        began = time.perf_counter()
        matching(text, hundred, "cuda-oom")
        taken.append(time.perf_counter() - began)
    assert statistics.median(taken) <= 0.005
