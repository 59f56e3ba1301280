"""Which whole commands reach git: plain, behind programs that start others, in a shell's line; and how a no is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes.git_safety import GitRefused, demand_run, judge, judge_command
from manifests.errors import from_dict

STARTED = (
    ["git"],
    ["/usr/bin/git"],
    ["env", "GIT_PAGER=cat", "git"],
    ["/usr/bin/env", "-i", "git"],
    ["timeout", "-k", "5", "60", "git"],
    ["sudo", "-u", "me", "git"],
    ["nice", "-n", "10", "nohup", "git"],
)


@pytest.mark.req("S9-R08")
@pytest.mark.parametrize("start", STARTED, ids=" ".join)
def test_git_is_judged_however_it_is_started(start: list[str]) -> None:
    assert judge_command([*start, "reset", "--hard"]) == judge(["reset", "--hard"])
    assert not judge_command([*start, "push", "-f"]).allowed
    assert judge_command([*start, "push"]).allowed


@pytest.mark.parametrize(
    "shell", [["bash", "-c"], ["sh", "-lc"], ["/bin/bash", "--norc", "-c"], ["env", "A=1", "sh", "-c"]]
)
def test_a_line_for_a_shell_is_judged(shell: list[str]) -> None:
    assert not judge_command([*shell, "cd x && git clean -fd"]).allowed
    assert judge_command([*shell, "cd x && git status"]).allowed


@pytest.mark.parametrize(
    "argv",
    [
        *([], [""], ["git"], ["git", "status"], ["cat", "git"], ["grep", "git", "reset", "--hard"]),
        *(
            ["python", "git.py", "reset", "--hard"],
            ["legit", "push", "-f"],
            ["env"],
            ["bash"],
            ["env", "python", "x.py"],
        ),
        ["gitk", "--all"],
    ],
)
def test_what_starts_no_harmful_git_is_allowed(argv: list[str]) -> None:
    assert judge_command(argv).allowed
    demand_run(argv)


@given(st.lists(st.text(max_size=8), max_size=6))
def test_any_command_is_answered(argv: list[str]) -> None:
    assert judge_command(argv).allowed or any("git" in word for word in argv)


@pytest.mark.req("S9-R11")
def test_a_refusal_carries_the_verdict_for_agents() -> None:
    with pytest.raises(GitRefused) as caught:
        demand_run(["git", "clean", "-fdx"])
    told = caught.value.as_dict()
    assert (told["error"], told["exit_code"]) == ("git-refused", 75)
    (reason,) = told["verdict"]["reasons"]
    assert reason["rule"] == "keep-work"
    assert "git clean --dry-run" in told["verdict"]["next_steps"]
    assert from_dict(told, is_ours=True).exit_code == 75


def test_a_shell_line_in_the_commands_stead_is_judged() -> None:
    demand_run([], "git status; git push")
    with pytest.raises(GitRefused):
        demand_run([], "git status; git push --force")
