"""`hemma run` and git that rewrites or loses something: plain words are refused before anything starts, the rest where it is called."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import Cli, EnvironFor, RepositoryOnHost, make_repository

pytestmark = pytest.mark.req("S9-R08")
REFUSED = (
    ["git", "reset", "--hard"],
    ["git", "push", "--force"],
    ["git", "push", "origin", "+main"],
    ["git", "clean", "-fdx"],
    ["git", "rebase", "main"],
    ["git", "-C", "src", "pull", "--rebase=interactive"],
    ["/usr/bin/git", "commit", "--amend", "--no-edit"],
)
# What starts git in its own way goes to the host, and is refused there with the same words.
REFUSED_THERE = (
    ["env", "A=1", "git", "commit", "--amend", "--no-edit"],
    ["git", "checkout", "--", "README.md"],
    ["bash", "-c", "cd .; git reset --hard"],
    ["timeout", "20", "git", "checkout", "README.md"],
    ["python3", "-c", "import subprocess, sys; sys.exit(subprocess.call(['git', 'clean', '-fdx']))"],
)


@pytest.fixture
def clone(tmp_path: Path) -> RepositoryOnHost:
    """A clone on the host with an edit that nobody committed."""
    (tmp_path / "on-host").mkdir()
    made = make_repository(tmp_path / "on-host")
    (made.path / "README.md").write_text("an edit\n")
    return made


@pytest.fixture
def cli(
    hemma_with: Callable[[dict[str, str]], Cli], settings_env: EnvironFor, clone: RepositoryOnHost, tmp_path: Path
) -> Cli:
    """The CLI for that clone."""
    return hemma_with(settings_env(root=clone.path, state=tmp_path / "hemma"))


@pytest.mark.parametrize("argv", REFUSED, ids=" ".join)
def test_a_harmful_git_command_is_refused_with_the_safe_one(cli: Cli, argv: list[str]) -> None:
    # No host is needed to say no.
    done = cli("run", "--", *argv, env={"HEMMA_SSH_CONFIG": "/nonexistent"})
    assert done.returncode == 75, done.stderr
    first, second = done.stderr.decode().splitlines()
    assert first.startswith("refused  `git ")
    assert "(rule: " in first
    assert second.startswith(("do       git ", "do       hemma "))
    assert done.stdout == b""


@pytest.mark.parametrize("argv", REFUSED_THERE, ids=" ".join)
def test_the_same_where_git_is_called(cli: Cli, clone: RepositoryOnHost, argv: list[str]) -> None:
    done = cli("run", "--", *argv)
    assert (done.returncode, done.stdout) == (75, b""), done.stderr
    first, second = done.stderr.decode().splitlines()
    assert first.startswith("refused  `git ")
    assert "(rule: " in first
    assert second.startswith("do       git ")
    assert (clone.path / "README.md").read_text() == "an edit\n"


@pytest.mark.parametrize("options", [[], ["--detach"], ["--pty"], ["--login"], ["--quiet"]], ids=str)
def test_no_option_gets_past_it(cli: Cli, clone: RepositoryOnHost, options: list[str]) -> None:
    assert cli("run", *options, "--", "git", "reset", "--hard").returncode == 75
    assert json.loads(cli("ps", "--all", "--json").stdout) == []
    done = cli("run", *options, "--shell", "true && git reset --hard")
    if "--detach" in options:
        assert cli("wait", "last").returncode == 75
    else:
        assert done.returncode == 75
    assert (clone.path / "README.md").read_text() == "an edit\n"


def test_only_a_person_at_a_terminal_goes_without_the_guard(cli: Cli, clone: RepositoryOnHost) -> None:
    done = cli("run", "--no-guard", "--", "git", "reset", "--hard")
    assert (done.returncode, (clone.path / "README.md").read_text()) == (75, "an edit\n")
    assert b"a person at a terminal" in done.stderr
    command = shlex.join(
        [os.fsdecode(word) for word in cli.argv("run", "--no-guard", "--", "git", "reset", "--hard", "-q")]
    )
    # script(1) is a terminal that no person sits at: what says yes here is the test.
    typed = ["script", "-qec", command, "/dev/null"]
    told = subprocess.run(
        typed, cwd=cli.folder, env=cli.environ, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60
    )
    assert (told.returncode, (clone.path / "README.md").read_text()) == (0, "# A project\n")
    assert b"git is not guarded in this run" in told.stdout
    (record,) = Path(cli.environ["HEMMA_HOST_STATE_DIR"]).glob("runs/*/run.json")
    assert json.loads(record.read_text())["git_guard"] is False


@pytest.mark.req("S9-R11")
def test_agents_get_the_verdict(cli: Cli) -> None:
    done = cli("run", "--json", "--", "git", "reset", "--hard")
    told = json.loads(done.stdout)
    assert (done.returncode, told["exit_code"], told["error"]) == (75, 75, "git-refused")
    verdict = told["verdict"]
    assert (verdict["allowed"], verdict["reasons"][0]["rule"]) == (False, "keep-work")
    assert "git stash push --include-untracked" in verdict["next_steps"]


def test_the_commands_it_names_run(cli: Cli, clone: RepositoryOnHost) -> None:
    told = json.loads(cli("run", "--json", "--", "git", "reset", "--hard").stdout)
    (step,) = [step for step in told["verdict"]["next_steps"] if "<" not in step]
    assert cli("run", "--", *step.split()).returncode == 0
    assert clone.git("show", "stash@{0}:README.md") == "an edit"


def test_daily_git_commands_run(cli: Cli, clone: RepositoryOnHost) -> None:
    assert cli("run", "--", "git", "status", "--short").stdout == b" M README.md\n"
    line = "git add -A && git commit -qm 'Say it' && git push -q && git switch -qc topic && git pull --no-rebase origin main"
    assert cli("run", "--shell", line).returncode == 0
    assert clone.git("rev-parse", "origin/main") == clone.git("rev-parse", "HEAD")
    assert cli("run", "--", "sh", "-c", 'echo "$1"', "sh", "a legit word").stdout == b"a legit word\n"


def test_the_judge_is_loaded_only_when_git_is_named(cli: Cli) -> None:
    assert cli("run", "--", "true").returncode == 0

    def loaded(*argv: str) -> str:
        command = [sys.executable, "-X", "importtime", "-P", "-m", "hemma", "run", "--", *argv]
        told = subprocess.run(command, cwd=cli.folder, env=cli.environ, capture_output=True, text=True, check=False)
        return told.stderr

    assert "lanes.git_" not in loaded("true")
    assert "lanes.git_refusal" in loaded("git", "status")
