"""The early answer to plain git commands: what it refuses in any repository, what it leaves to the guard, how a no is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes.git_refusal import GitRefused, demand_run, judge_command
from lanes.git_safety import judge
from manifests.errors import from_dict


@pytest.mark.req("S9-R08")
@pytest.mark.parametrize("git", ["git", "/usr/bin/git", "./git"])
def test_plain_git_is_judged(git: str) -> None:
    assert judge_command([git, "reset", "--hard"]) == judge(["reset", "--hard"])
    assert not judge_command([git, "push", "-f"]).allowed
    assert judge_command([git, "push"]).allowed


@pytest.mark.parametrize(
    "argv",
    [
        *([], [""], ["git"], ["git", "status"], ["cat", "git"], ["grep", "git", "reset", "--hard"]),
        *(["python", "git.py", "reset", "--hard"], ["legit", "push", "-f"], ["env"], ["bash"], ["gitk", "--all"]),
        # What only the repository can tell is told there.
        *(["git", "checkout", "main"], ["git", "reset", "a.py"], ["git", "branch", "-M", "main"]),
        *(["git", "update-ref", "refs/heads/x", "HEAD"], ["git", "-c", "alias.st=status", "st"]),
        # What starts git in its own way meets the guard where git is called.
        *(
            ["env", "A=1", "git", "push", "-f"],
            ["bash", "-c", "git reset --hard"],
            ["timeout", "9", "git", "clean", "-f"],
        ),
    ],
    ids=" ".join,
)
def test_what_words_alone_cannot_decide_is_not_refused_early(argv: list[str]) -> None:
    assert judge_command(argv).allowed
    demand_run(argv)


@pytest.mark.parametrize(
    "line",
    [
        *(
            "",
            "git status; git push",
            "ls | grep git",
            "git log > x",
            "x=`git log`",
            "cat .git/config",
            "git 'unclosed",
        ),
        *("echo 'git push --force'", 'git commit -m "git push --force"', "git log --grep='reset --hard'"),
        # Lines that a shell makes something of are not read: no reader of words wins there.
        *("cd x && git push --force", "git \\\n reset --hard", "git reset >log 2>&1 --hard"),
    ],
)
def test_a_line_is_read_only_where_a_shell_would_change_nothing(line: str) -> None:
    demand_run([], line)


@pytest.mark.req("S9-R08")
@pytest.mark.parametrize("line", ["git push --force", "git reset --hard", ' git  commit -m "two words" --amend'])
def test_a_plain_line_is_refused_early(line: str) -> None:
    with pytest.raises(GitRefused):
        demand_run([], line)


@given(st.lists(st.text(max_size=8), max_size=6))
def test_any_command_is_answered(argv: list[str]) -> None:
    assert judge_command(argv).allowed or argv[0].endswith("git")


@given(st.text(max_size=40))
def test_any_line_is_answered(line: str) -> None:
    demand_run([], line)


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


@pytest.mark.req("S9-R11")
def test_a_demand_names_the_fact_the_rule_and_the_mend() -> None:
    with pytest.raises(GitRefused) as caught:
        demand_run(["git", "reset", "--hard"])
    error = caught.value
    assert (error.exit_code, error.code) == (75, "git-refused")
    assert "`git reset --hard` throws away changes" in error.message
    assert "keep-work" in error.message
    assert "git stash push --include-untracked" in error.remedy
    demand_run(["git", "status"])
