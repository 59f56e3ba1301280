"""The judge of git commands: every case file under tests/cases/git_safety, and what must hold for any command line."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lanes.git_safety import judge, ours

CASES = Path(__file__).resolve().parents[1] / "cases/git_safety"
FILES: dict[str, dict[str, Any]] = {
    path.stem: yaml.safe_load(path.read_text()) for path in sorted(CASES.glob("*.yaml"))
}
REFUSED = [
    (rule, command)
    for each in FILES.values()
    for rule, commands in each.get("refused", {}).items()
    for command in commands
]
ALLOWED = [command for each in FILES.values() for command in each.get("allowed", [])]
OURS = [command for each in FILES.values() for command in each.get("ours", [])]
NOT_OURS = [command for each in FILES.values() for command in each.get("not_ours", [])]

HARMLESS_GLOBALS = (
    *(["-p"], ["-P"], ["--paginate"], ["--no-pager"], ["--no-optional-locks"], ["--no-replace-objects"], ["--bare"]),
    *(["--literal-pathspecs"], ["-C", "elsewhere"], ["-C", "--force"], ["-c", "core.quotePath=false"], ["-c", "a.b"]),
    *(["--git-dir", "x"], ["--git-dir=x"], ["--work-tree=push -f"], ["--namespace", "reset"], ["--icase-pathspecs"]),
)
# Words that mean something to git, for command lines that no case file holds.
WORDS = sorted(
    {word for _, command in REFUSED for word in shlex.split(command)} | {w for c in ALLOWED for w in c.split()}
)


@pytest.mark.req("S9-R08")
@pytest.mark.parametrize(("rule", "command"), REFUSED, ids=[command for _, command in REFUSED])
def test_what_can_lose_something_is_refused_with_its_rule_and_a_way_on(rule: str, command: str) -> None:
    verdict = judge(shlex.split(command))
    assert not verdict.allowed
    assert rule in {reason.rule for reason in verdict.reasons}
    assert all(reason.fact.startswith("`git ") for reason in verdict.reasons)
    assert verdict.next_steps
    assert not ours(shlex.split(command)).allowed


@pytest.mark.parametrize("command", ALLOWED)
def test_what_loses_nothing_is_allowed(command: str) -> None:
    verdict = judge(shlex.split(command))
    assert (verdict.allowed, verdict.reasons, verdict.next_steps) == (True, (), ())


@pytest.mark.parametrize("command", OURS)
def test_the_calls_that_hemma_makes_are_its_own(command: str) -> None:
    assert ours(shlex.split(command)).allowed


@pytest.mark.parametrize("command", NOT_OURS)
def test_what_people_may_do_hemma_may_not_all(command: str) -> None:
    verdict = ours(shlex.split(command))
    assert judge(shlex.split(command)).allowed
    assert [reason.rule for reason in verdict.reasons] == ["own-calls"]


@pytest.mark.req("S9-R08")
@pytest.mark.parametrize("command", [command for _, command in REFUSED])
def test_a_refused_command_stays_refused_under_every_abbreviation(command: str) -> None:
    argv = shlex.split(command)
    for at, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if not name.startswith("--") or len(name) < 4 or judge([*argv[:at], *argv[at + 1 :]]).allowed is False:
            continue  # not this word makes it a refused one
        for end in range(3, len(name)):
            short = name[:end]
            if short == "--prune" or at == 0:  # another option of its own; a global one, which git never abbreviates
                continue
            assert not judge([*argv[:at], short + equals + value, *argv[at + 1 :]]).allowed, (short, command)


@given(st.lists(st.text() | st.sampled_from(WORDS)))
def test_any_command_line_gets_an_answer(argv: list[str]) -> None:
    verdict = judge(argv)
    assert verdict.allowed == (not verdict.reasons)
    assert bool(verdict.next_steps) == bool(verdict.reasons)
    assert all(reason.fact.isprintable() for reason in verdict.reasons)
    assert verdict == judge(argv)
    assert not ours(argv).allowed or verdict.allowed


@given(
    st.sampled_from([command for _, command in REFUSED] + ALLOWED),
    st.lists(st.sampled_from(HARMLESS_GLOBALS), min_size=1, max_size=4),
)
def test_harmless_global_options_change_no_verdict(command: str, options: list[list[str]]) -> None:
    argv = shlex.split(command)
    before = judge(argv)
    after = judge([word for option in options for word in option] + argv)
    assert after == before


@given(st.sampled_from(REFUSED), st.lists(st.sampled_from(WORDS), max_size=3))
def test_more_paths_make_no_refused_command_a_good_one(case: tuple[str, str], paths: list[str]) -> None:
    argv = shlex.split(case[1])
    if "--" not in argv and argv[0] not in ("reset", "update-ref", "rebase", "checkout"):
        assert not judge([*argv, "--", *paths]).allowed


def test_hostile_words_are_shown_on_one_line_and_not_endlessly() -> None:
    for word in ("a\nb\x1b[31m", "x" * 10_000, "\udcff", "it's"):
        verdict = judge(["checkout", word])
        assert not verdict.allowed
        assert all(reason.fact.isprintable() and len(reason.fact) < 200 for reason in verdict.reasons)


def test_the_plain_form_for_a_branch_is_a_command_to_paste() -> None:
    assert judge(["checkout", "it's mine"]).next_steps[0] == """git switch 'it'"'"'s mine'"""
