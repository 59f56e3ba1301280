"""The commands that are offered: safe, in order, and one word stays one word whatever it holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes.lane_steps import Edit, State, command_steps, first_step, revision_steps, shell_steps, steps

STATES: tuple[State, ...] = ("asked", "untracked", "added", "changed", "deleted", "removed", "conflicted", "gone")
EDITS = st.lists(
    st.builds(Edit, name=st.text(min_size=1, max_size=8), state=st.sampled_from(STATES)),
    max_size=5,
    unique_by=lambda edit: edit.name,
)
LANES = st.sampled_from(["hemma", "colab", "local"])
# `restore --staged` touches the index alone.
DISCARDS = (
    "reset",
    "checkout",
    "restore --worktree",
    "restore --source",
    "restore -- ",
    "clean",
    "rebase",
    "--force",
    "push -f",
    "stash drop",
    "stash clear",
)


@pytest.mark.req("S9-R02", "S9-R03", "S9-R05")
def test_an_edit_here_of_the_hosts_file_goes_to_the_host_and_comes_back() -> None:
    edits = [Edit("src/a.py", "changed"), Edit("src/new.py", "untracked"), Edit("src/old.py", "deleted")]
    assert steps("hemma", edits) == (
        "git add -- src/new.py",
        "git diff-index -p --binary HEAD -- src/a.py src/new.py src/old.py | hemma apply -",
        "hemma commit -m MESSAGE",
        "hemma push",
        "git stash push --include-untracked -m 'now on the host' -- src/a.py src/new.py src/old.py",
        "hemma sync",
    )


def test_what_is_only_asked_about_is_edited_where_it_belongs() -> None:
    assert steps("hemma", [Edit("a.py"), Edit("src/")])[:2] == ("hemma edit a.py", "hemma commit -m MESSAGE -- a.py")
    assert "src" not in " ".join(steps("hemma", [Edit("a.py"), Edit("src/")]))
    assert steps("local", [Edit("x.md")]) == ("git add -- x.md", "git commit -m MESSAGE -- x.md", "hemma sync")


@pytest.mark.req("S18-R01")
def test_a_colab_notebook_is_checked_before_the_host_commits_it() -> None:
    told = steps("colab", [Edit("colab/x.ipynb", "untracked")])
    assert told[:2] == ("hemma notebook check colab/x.ipynb", "hemma put --parents colab/x.ipynb")
    assert told[2:4] == ("hemma commit -m MESSAGE -- colab/x.ipynb", "hemma push")


def test_a_merge_is_finished_first() -> None:
    told = steps("hemma", [Edit("a.py", "changed"), Edit("b.py", "conflicted")])
    assert told == ("git mergetool -- b.py   (or leave the merge: git merge --abort)",)


def test_a_name_that_is_a_pattern_to_git_is_taken_as_it_is() -> None:
    assert steps("local", [Edit("*.md", "untracked")])[0] == "git --literal-pathspecs add -- '*.md'"
    assert first_step("hemma", Edit(":x", "changed")).startswith("git --literal-pathspecs diff-index")
    assert first_step("hemma", Edit("-rf", "untracked")) == "hemma put --parents -- -rf"


def test_a_revision_goes_over_as_one_patch() -> None:
    told = revision_steps("hemma", ["a", "b"], "main")
    assert told[0] == "git diff-index -p --binary main -- a b | hemma apply -"
    (ranged, *_) = revision_steps("hemma", ["a"], "v1..main")
    assert ranged.endswith("--src-prefix=a/ --dst-prefix=b/ v1..main -- a | hemma apply -")
    assert revision_steps("local", ["a"], "main") == ("hemma sync",)


def test_a_command_starts_in_its_lane() -> None:
    assert command_steps("hemma", ["python", "a b"]) == ("hemma run -- python 'a b'",)
    assert command_steps("hemma", ["hemma", "run", "--", "x"]) == ("hemma run -- x",)
    assert command_steps("local", ["git", "log"]) == ("git log",)
    assert command_steps("colab", ["x"]) == command_steps("hemma", []) == ()
    assert shell_steps("hemma", "a && b") == ("hemma run --shell 'a && b'",)


@pytest.mark.req("S9-R08")
@given(LANES, EDITS)
def test_no_command_discards_anything(lane: str, edits: list[Edit]) -> None:
    named = [Edit(f"n{number}", edit.state) for number, edit in enumerate(edits)]
    told = [*steps(lane, named), *(first_step(lane, edit) for edit in named)]  # type: ignore[arg-type]
    assert not [step for step in told if any(word in step for word in DISCARDS)]
    assert all("\n" not in step for step in told)
