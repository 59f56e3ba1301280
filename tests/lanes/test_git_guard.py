"""What becomes of a call whose repository can be asked: it runs, something is saved first, or it is refused."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes import git_harms as harms
from lanes.git_guard import Act, Taken, decide, doubts, judge_early
from lanes.git_harms import Doubt
from lanes.git_safety import judge
from tests.lanes.test_git_safety import REFUSED, WORDS

pytestmark = pytest.mark.req("S9-R08")

# The call, the question that decides it, and what becomes of it when the answer is that nothing is harmed.
OPEN = (
    ("checkout main", Doubt(harms.FILE, ("main",)), Act.SAVE),
    ("checkout a.py", Doubt(harms.FILE, ("a.py",)), Act.SAVE),
    ("reset a.py", Doubt(harms.MOVES, ("a.py",)), Act.SAVE),
    ("reset --soft HEAD~1", Doubt(harms.MOVES, ("HEAD~1",)), Act.SAVE),
    ("branch -M main", Doubt(harms.REF, ("refs/heads/main", harms.UNLESS_CURRENT)), Act.SAVE),
    ("branch -M old new", Doubt(harms.REF, ("refs/heads/new", harms.UNLESS_CURRENT)), Act.SAVE),
    ("branch -f topic HEAD~1", Doubt(harms.REF, ("refs/heads/topic", harms.UNLESS_CURRENT)), Act.SAVE),
    ("checkout -B topic", Doubt(harms.REF, ("refs/heads/topic",)), Act.SAVE),
    ("switch -C topic main", Doubt(harms.REF, ("refs/heads/topic",)), Act.SAVE),
    ("worktree add -B topic ../x", Doubt(harms.REF, ("refs/heads/topic",)), Act.SAVE),
    ("tag -f v1", Doubt(harms.REF, ("refs/tags/v1",)), Act.SAVE),
    ("update-ref refs/heads/main HEAD~1 HEAD", Doubt(harms.BACK, ("refs/heads/main", "HEAD~1")), Act.SAVE),
)


@pytest.mark.parametrize(("call", "doubt", "act"), OPEN, ids=[case[0] for case in OPEN])
def test_what_words_leave_open_the_repository_decides(call: str, doubt: Doubt, act: Act) -> None:
    argv = shlex.split(call)
    assert doubts(argv) == (doubt,)
    assert decide(argv, {doubt: True}).act is Act.REFUSE
    assert decide(argv, {}).act is Act.REFUSE, "an answer that is missing is no yes"
    assert decide(argv, {doubt: False}).act is act
    assert not judge(argv).allowed
    assert judge_early(argv).allowed


@pytest.mark.parametrize(
    "call",
    [
        *(
            "branch -D -r origin/topic",
            "branch -f -d topic",
            "branch -M -d x",
            "branch -D",
            "tag -d -f v1",
            "checkout -f -B topic",
        ),
        *(
            "switch -f -C topic",
            "restore --pathspec-from-file=x a.py",
            "reset --hard a.py",
            "push -f",
            "worktree add -f x main",
            "branch -f",
        ),
        *(
            "checkout -B --force",
            "clean -fd",
            "commit --amend",
            "pull --rebase origin main:main",
            "update-ref -d refs/heads/x",
            "update-ref HEAD",
        ),
    ],
)
def test_no_answer_makes_these_good(call: str) -> None:
    argv = shlex.split(call)
    assert doubts(argv) == ()
    assert decide(argv, dict.fromkeys((case[1] for case in OPEN), False)).act is Act.REFUSE
    assert not judge_early(argv).allowed


@pytest.mark.parametrize(
    ("call", "act"),
    [
        *(
            (call, Act.RUN)
            for call in ("", "status", "-C x log -1", "add -A", "commit -m x", "push", "fetch -p", "gc", "--version")
        ),
        *(
            (call, Act.RUN)
            for call in ("branch", "branch -a", "branch new", "branch new HEAD~1", "tag v1", "tag -l", "stash list")
        ),
        *(
            (call, Act.RUN)
            for call in ("config a.b c", "config alias.z 'reset --hard'", "remote add x y", "worktree list", "init")
        ),
        *(
            (call, Act.RUN)
            for call in ("fetch https://h/x main", "symbolic-ref HEAD", "update-index --refresh", "clean --help")
        ),
        *(
            (call, Act.SAVE)
            for call in ("switch x", "switch -", "merge x", "pull", "stash", "stash pop", "reset", "read-tree HEAD")
        ),
        *(
            (call, Act.SAVE)
            for call in ("diff --output=b.py", "log --out b.py", "archive -o x HEAD", "rm a.py", "mv a b", "apply x")
        ),
        *(
            (call, Act.SAVE)
            for call in ("branch -d x", "branch -m a b", "tag -a -m x v1", "cherry-pick x", "revert x", "am x")
        ),
        *(
            (call, Act.SAVE)
            for call in ("checkout -p", "checkout --ours a.py", "update-ref --stdin", "fetch o a:b", "lfs pull")
        ),
        *(
            (call, Act.SAVE)
            for call in ("worktree add x", "notes add -m x", "submodule update", "bisect run make", "frobnicate")
        ),
    ],
)
def test_each_call_runs_or_is_saved_first(call: str, act: Act) -> None:
    assert decide(shlex.split(call), {}).act is act


@pytest.mark.parametrize(
    ("call", "taken"),
    [
        ("switch other", Taken(words=("other",))),
        ("switch -", Taken(words=("-", "@{-1}"))),
        ("stash -a", Taken(is_all=True)),
        ("stash push --all", Taken(is_all=True)),
        ("diff --output=b.py", Taken(words=("b.py",))),
        ("diff --output b.py", Taken(words=("b.py",))),
        ("archive -ob.tar HEAD", Taken(words=("HEAD", "b.tar"))),
        ("cherry-pick a..b", Taken(words=("a..b", "a", "b"))),
        ("merge -s ours x", Taken(words=("x", "ours", "@{upstream}", "FETCH_HEAD"))),
    ],
)
def test_what_may_be_taken_with_it_is_named(call: str, taken: Taken) -> None:
    assert decide(shlex.split(call), {}).taken == taken


@given(st.lists(st.text() | st.sampled_from(WORDS)))
def test_any_call_gets_a_decision(argv: list[str]) -> None:
    for harmful in (True, False):
        decision = decide(argv, dict.fromkeys(doubts(argv), harmful))
        assert (decision.act is Act.REFUSE) == (not decision.verdict.allowed)
        assert bool(decision.verdict.reasons) == bool(decision.verdict.next_steps)
    assert decide(argv, {}).act is not Act.REFUSE or not judge(argv).allowed


@pytest.mark.parametrize("command", [command for _, command in REFUSED])
def test_what_is_refused_early_is_refused_in_every_repository(command: str) -> None:
    argv = shlex.split(command)
    if not judge_early(argv).allowed:
        assert decide(argv, dict.fromkeys(doubts(argv), False)).act is Act.REFUSE


@pytest.mark.parametrize(
    ("call", "doubt"),
    [
        ("branch -D topic other", Doubt(harms.LAST, ("refs/heads/topic", "refs/heads/other"))),
        ("tag -d v1", Doubt(harms.LAST, ("refs/tags/v1",))),
        ("checkout -- a.py", Doubt(harms.DIRTY, ("a.py",))),
        ("checkout HEAD~1 -- a.py", Doubt(harms.DIRTY, ("HEAD~1", "a.py"))),
        ("restore -SW .", Doubt(harms.DIRTY, (".",))),
        ("restore -s HEAD~1 a.py", Doubt(harms.DIRTY, ("a.py",))),
        ("stash drop", Doubt(harms.THERE, ("refs/stash",))),
        ("stash drop 1", Doubt(harms.THERE, ("1",))),
        ("pull --rebase", Doubt(harms.AHEAD)),
        ("pull -r origin main", Doubt(harms.AHEAD, ("origin", "main"))),
    ],
)
def test_what_may_have_nothing_to_lose_is_asked_of_the_repository(call: str, doubt: Doubt) -> None:
    argv = shlex.split(call)
    assert doubts(argv) == (doubt,)
    assert decide(argv, {doubt: True}).act is Act.REFUSE
    assert decide(argv, {doubt: False}).act is Act.SAVE
    assert judge_early(argv).allowed
    assert not judge(argv).allowed
