"""The pages about lanes say what the code says: exit codes, rules, hooks; and no page names a git command that we refuse."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from controller.cli.lane import EXIT_CODES
from lanes.git_refusal import judge_command
from lanes.merging import ACCEPTABLE
from tests.docs.test_pages import PAGES, REPOSITORY, code_of, name_of
from tests.docs.test_readme import section, table, words

LANES = section("Lanes, and git that only merges")
DECIDE = (REPOSITORY / "runbooks/lanes/when-a-person-must-decide.md").read_text("utf-8")


def first_words(page: str) -> list[str]:
    """What stands in backticks in the first column of every table of a page."""
    return [word for row in table(page) for word in re.findall(r"`([^`]+)`", row[0])]


@pytest.mark.req("S9-R01")
def test_every_lane_has_its_exit_code() -> None:
    told = {row[0]: row[-1] for row in table(LANES) if len(row) == 5}
    assert {lane: told.get(f"`{lane}`") for lane in ("hemma", "colab", "local")} == {
        lane: str(EXIT_CODES[lane]) for lane in ("hemma", "colab", "local")
    }
    assert told["several of them"] == str(EXIT_CODES["mixed"])


@pytest.mark.req("S9-R09", "S9-R10", "S9-R12")
def test_every_rule_that_can_be_accepted_is_explained() -> None:
    assert set(ACCEPTABLE) <= set(first_words(LANES))
    assert set(ACCEPTABLE) <= set(first_words(DECIDE))


def test_every_rule_that_a_sync_stops_at_is_in_the_runbook() -> None:
    source = (REPOSITORY / "lanes/merging.py").read_text("utf-8")
    rules = set(re.findall(r'_Question\("([a-z-]+)"', source))
    assert len(rules) > 5
    assert rules <= set(first_words(DECIDE))


def test_every_hook_is_explained() -> None:
    assert {"pre-rebase", "pre-push", "pre-commit"} <= set(first_words(LANES))


@pytest.mark.req("S9-R08")
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_tells_to_do_what_is_refused(page: Path) -> None:
    text = page.read_text("utf-8")
    # A first column names what somebody wanted; a line with an exit code shows a refusal.
    named = {word for row in table(text) for word in words(row[0])}
    lines = [line for line in code_of(text) if line.startswith(("git ", "hemma ")) and "exit code" not in line]
    calls = [(line, call) for line in lines if line not in named for call in re.split(r"[;|&()]+", line)]
    assert [line for line, call in calls if not judge_command(call.split()).allowed] == []
