"""The fast path of a run's git: it takes only what the judge would let run as it is, and it changes nothing of a call."""

from __future__ import annotations

import os
import random
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lanes import git_guard
from remote.agent import git_ask, git_shim
from tests.real.git_lines import LOSING, MORE

CASES = Path(__file__).resolve().parents[1] / "cases"
pytestmark = pytest.mark.req("S9-R08")


def calls() -> list[str]:
    """Command lines of git from every case file, less the word git."""
    found = [*LOSING, *MORE]
    for path in sorted((CASES / "git_safety").glob("*.yaml")):
        told = yaml.safe_load(path.read_text())
        found += [call for calls in told.get("refused", {}).values() for call in calls]
        found += [call for name in ("allowed", "ours", "not_ours") for call in told.get(name, [])]
    for each in yaml.safe_load((CASES / "git_daily/lines.yaml").read_text()).values():
        found += [line[4:] for line in each if line.startswith("git ") and not set(line) & set("|&;<>$\n")]
    return list(dict.fromkeys(found))


@pytest.fixture
def shim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a run whose real git says STRAIGHT and its words, and whose judge says ASKED and them."""
    for name, said in (("git", "STRAIGHT"), ("judge", "ASKED")):
        (tmp_path / "bin").mkdir(exist_ok=True)
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/sh\nprintf \'%s\\0\' {said} "$0" "$@"\n')
        program.chmod(0o755)
    environ = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "HOME": str(tmp_path)}
    (tmp_path / "a run").mkdir()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin/judge"))
    assert git_shim.install(str(tmp_path / "a run"), environ) == str(tmp_path / "a run/hemma-git")
    return environ


def said(environ: dict[str, str], argv: list[str], **more: str) -> list[str]:
    """What came of `git *argv`: the word, the program, its words."""
    done = subprocess.run(["git", *argv], env={**environ, **more}, stdout=subprocess.PIPE, check=True)
    return [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]]


def test_the_fast_path_takes_only_what_the_judge_lets_run_as_it_is(shim: dict[str, str]) -> None:
    """250 calls of some 1,000 by a fixed choice; HEMMA_FULL=1: all of them."""
    chosen = calls() if os.environ.get("HEMMA_FULL") == "1" else random.Random(10).sample(calls(), 250)
    line = "".join(f"git {shlex.join(shlex.split(call))}; printf '\\001'; " for call in chosen)
    done = subprocess.run(["sh"], input=os.fsencode(line), env=shim, stdout=subprocess.PIPE, check=True)
    told = done.stdout.split(b"\1")
    straight = [call for call, words in zip(chosen, told[:-1], strict=True) if words.startswith(b"STRAIGHT")]
    decided = {call: git_guard.decide(shlex.split(call), {}).act for call in straight}
    assert {call for call, act in decided.items() if act is not git_guard.Act.RUN} == set()
    assert len(straight) > 40


@pytest.mark.parametrize(
    "call",
    [
        *(
            "",
            "status",
            "status -sb",
            "-C src status",
            "--no-pager log -5",
            "-c core.quotePath=false diff",
            "rev-parse HEAD",
            "add -A",
        ),
        *(
            "log --oneline --only-matching",
            "show HEAD",
            "diff --stat",
            "commit -m 'say --amend'",
            "commit -qam x",
            "stash list",
        ),
        *(
            "branch",
            "branch -vv",
            "remote -v",
            "fetch",
            "fetch -p origin",
            "push",
            "push -u origin main",
            "config --get a.b",
        ),
        *("--version", "tag -l", "worktree list", "config --local --get a.b", "cat-file --batch", "ls-files -o"),
    ],
)
def test_what_everybody_types_all_day_is_not_asked_about(shim: dict[str, str], call: str) -> None:
    argv = shlex.split(call)
    assert said(shim, argv) == ["STRAIGHT", str(Path(shim["PATH"].split(":")[1]) / "git"), *argv]


def test_words_arrive_as_they_are(shim: dict[str, str], hostile_argv: list[str]) -> None:
    assert said(shim, ["log", *hostile_argv])[2:] == ["log", *hostile_argv]
    asked = said(shim, ["reset", *hostile_argv])
    assert (asked[0], asked[asked.index("reset") :]) == ("ASKED", ["reset", *hostile_argv])


def test_the_environment_of_git_is_the_callers(shim: dict[str, str]) -> None:
    real = Path(shim["PATH"].split(":")[1]) / "git"
    real.write_text("#!/bin/sh\nenv\n")
    mine = {"p": "1", "d": "2", "verb": "3", "skip": "4", "w": "5"}
    done = subprocess.run(["git", "status"], env={**shim, **mine}, stdout=subprocess.PIPE, text=True, check=True)
    pairs = [line.partition("=") for line in done.stdout.splitlines()]
    told = {name: value for name, _, value in pairs if name not in ("_", "PWD", "OLDPWD", "SHLVL")}
    assert told == {**shim, **mine}


def test_it_finds_the_next_git_wherever_path_has_it_and_says_when_there_is_none(
    shim: dict[str, str], tmp_path: Path
) -> None:
    other = tmp_path / "conda"
    other.mkdir()
    (other / "git").write_text("#!/bin/sh\necho conda\n")
    (other / "git").chmod(0o755)
    guard, rest = shim["PATH"].split(":", 1)
    for path in (f"{guard}:{other}:{rest}", f"{guard}:{guard}:{other}", f"{guard}::{other}:"):
        done = subprocess.run(
            [f"{guard}/git", "status"], env={"PATH": path}, capture_output=True, text=True, check=True
        )
        assert done.stdout == "conda\n", path
    (tmp_path / "bin/git").unlink()  # the one that was there when the run began
    done = subprocess.run([f"{guard}/git", "--version"], env=shim, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("git version")
    done = subprocess.run([f"{guard}/git", "status"], env={"PATH": guard}, capture_output=True, text=True, check=False)
    assert (done.returncode, "not found" in done.stderr) == (127, True)


def test_a_folder_that_path_cannot_hold_gets_no_guard(tmp_path: Path) -> None:
    environ = {"PATH": "/usr/bin:/bin"}
    (tmp_path / "a:b").mkdir()
    assert git_shim.install(str(tmp_path / "a:b"), environ) is None
    assert environ == {"PATH": "/usr/bin:/bin"}


def test_our_own_calls_skip_it() -> None:
    assert git_shim.without("/x/runs/r/hemma-git:/usr/bin:/y/hemma-git:/bin") == "/usr/bin:/bin"


def test_questions_come_through_as_they_are(hostile_argv: list[str]) -> None:
    assert git_ask.unpacked(git_ask.packed(["a", "", *hostile_argv, ""])) == ["a", "", *hostile_argv, ""]
