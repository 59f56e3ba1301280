"""`hemma run` refuses git commands that rewrite or lose something: nothing starts, and the answer says what to do instead."""

from __future__ import annotations

import json
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
    ["git", "-C", "src", "pull", "--rebase"],
    ["git", "checkout", "--", "README.md"],
    ["/usr/bin/git", "commit", "--amend", "--no-edit"],
    ["env", "A=1", "git", "stash", "drop"],
    ["bash", "-c", "cd src; git reset --hard"],
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


@pytest.mark.parametrize("options", [[], ["--detach"], ["--pty"], ["--login"], ["--quiet"]], ids=str)
def test_no_option_gets_past_it(cli: Cli, clone: RepositoryOnHost, options: list[str]) -> None:
    assert cli("run", *options, "--", "git", "reset", "--hard").returncode == 75
    assert cli("run", *options, "--shell", "true && git reset --hard").returncode == 75
    assert (clone.path / "README.md").read_text() == "an edit\n"
    assert json.loads(cli("ps", "--all", "--json").stdout) == []


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
    assert "lanes.git_safety" in loaded("git", "status")
