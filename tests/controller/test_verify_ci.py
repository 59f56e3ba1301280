"""`hemma init --ci`: the workflow and the hook, put in without touching what is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from controller.cli.app import main
from controller.flows import verify_ci
from manifests.errors import UsageError

EXISTING = """\
# our hooks
default_stages: [pre-commit]
repos:
# first the fast ones
{0}- repo: https://example.invalid/hooks  # pinned
{0}  rev: v1
{0}  hooks:
{0}    - id: one
exclude: ^docs/
"""


@pytest.mark.req("S19-R05")
@pytest.mark.parametrize("indent", ["", "  ", "    "])
def test_the_hook_goes_before_the_others_and_every_other_line_stays(indent: str) -> None:
    text = EXISTING.format(indent)
    new = verify_ci.with_hooks(text, "x.yaml")
    before, after = yaml.safe_load(text), yaml.safe_load(new)
    assert after["repos"][0]["hooks"][0]["entry"] == "hemma verify --since HEAD"
    assert (after["repos"][1:], after["exclude"]) == (before["repos"], before["exclude"])
    lines = new.splitlines()
    assert [line for line in text.splitlines() if line not in lines] == []
    assert verify_ci.with_hooks(new, "x.yaml") == new


@pytest.mark.parametrize("text", ["repos: [{repo: local, hooks: []}]\n", "exclude: x\n", "repos: []\n", "- a list\n"])
def test_a_form_that_cannot_be_extended_is_refused_with_what_to_paste(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        verify_ci.with_hooks(text, "x.yaml")
    assert "hemma verify" in refused.value.remedy


def test_broken_yaml_is_refused() -> None:
    with pytest.raises(UsageError, match="no YAML"):
        verify_ci.with_hooks("repos: [", "x.yaml")


def test_both_files_are_written_once_and_are_what_the_tools_read(tmp_path: Path) -> None:
    assert len(verify_ci.write(str(tmp_path))) == 2
    assert verify_ci.write(str(tmp_path)) == []
    workflow = yaml.safe_load((tmp_path / verify_ci.WORKFLOW_PATH).read_text())
    steps = workflow["jobs"]["verify"]["steps"]
    assert steps[-1]["run"] == "hemma verify --format github"
    assert workflow[True] == {"push": {"branches": ["main", "master"]}, "pull_request": None}  # YAML 1.1 reads `on` so
    hook = yaml.safe_load((tmp_path / verify_ci.HOOK_PATH).read_text())["repos"][0]["hooks"][0]
    assert hook["pass_filenames"] is False


EVERY = (verify_ci.VERIFY, verify_ci.MEMORY, verify_ci.RUNBOOKS)


@pytest.mark.req("S19-R05", "S2-R08", "S17-R16")
def test_what_a_repository_has_of_its_own_is_checked_too_and_may_come_later(tmp_path: Path) -> None:
    assert len(verify_ci.write(str(tmp_path))) == 2
    before = {name: (tmp_path / name).read_text() for name in (verify_ci.WORKFLOW_PATH, verify_ci.HOOK_PATH)}
    assert verify_ci.write(str(tmp_path), EVERY) == [
        f"{name} hemma memory check and hemma runbook check" for name in (verify_ci.WORKFLOW_PATH, verify_ci.HOOK_PATH)
    ]
    assert verify_ci.write(str(tmp_path), EVERY) == []
    for name, text in before.items():
        now = (tmp_path / name).read_text().splitlines()
        assert [line for line in text.splitlines() if line not in now] == []
    steps = yaml.safe_load((tmp_path / verify_ci.WORKFLOW_PATH).read_text())["jobs"]["verify"]["steps"]
    assert [step["run"] for step in steps[-3:]] == ["hemma verify --format github", *EVERY[1:]]
    repos = yaml.safe_load((tmp_path / verify_ci.HOOK_PATH).read_text())["repos"]
    hooks = {hook["entry"]: hook for repo in repos for hook in repo["hooks"]}
    assert set(hooks) == {"hemma verify --since HEAD", "hemma memory check --staged", "hemma runbook check"}
    # pre-commit names no file that a commit deletes: whatever it holds, the memory is looked at.
    assert hooks["hemma memory check --staged"]["always_run"] is True
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    assert [change.rpartition(" ")[2] for change in verify_ci.write(str(fresh), EVERY)] == ["created", "created"]


def test_a_workflow_of_ones_own_stays_as_it_is() -> None:
    assert verify_ci.with_steps("jobs: {}\n", EVERY) == "jobs: {}\n"


@pytest.mark.req("S19-R05")
def test_the_verb_writes_them_once_and_says_what_is_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.chdir(tmp_path)
    assert main(["memory", "init"]) == 0
    assert main(["init", "--ci"]) == 0
    assert "next: pre-commit install" in capsys.readouterr().out
    assert verify_ci.MEMORY in (tmp_path / verify_ci.WORKFLOW_PATH).read_text()
    assert verify_ci.RUNBOOKS not in (tmp_path / verify_ci.HOOK_PATH).read_text()
    assert main(["init", "--ci"]) == 0
    said = capsys.readouterr().out
    assert ("nothing to change" in said, "next:" in said) == (True, False)
    assert not (tmp_path / "pyproject.toml").exists()


@pytest.mark.req("S19-R05")
def test_the_hooks_command_refuses_a_commit_that_wires_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pre-commit would start is started by git itself: which tool calls it changes nothing."""

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", "-C", str(tmp_path), *words], capture_output=True, text=True, check=False)

    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HEMMA_CACHE_DIR", str(tmp_path.parent / "cache"))
    git("init", "-q")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "a"\n[project.scripts]\na = "app:main"\n')
    (tmp_path / "app.py").write_text("def main():\n    return 1\n")
    verify_ci.write(str(tmp_path))
    (hook,) = yaml.safe_load((tmp_path / verify_ci.HOOK_PATH).read_text())["repos"][0]["hooks"]
    path = tmp_path / ".git/hooks/pre-commit"
    path.write_text(f"#!/bin/sh\nexec {hook['entry']} >&2\n")
    path.chmod(0o755)
    git("add", "-A")
    assert git("commit", "-q", "-m", "begin").returncode == 0  # the first one has no HEAD to be compared with
    (tmp_path / "idle.py").write_text("def idle():\n    return 2\n")
    git("add", "-A")
    refused = git("commit", "-q", "-m", "idle")
    assert (refused.returncode, "NOT WIRED  idle" in refused.stderr) == (1, True)
    (tmp_path / "app.py").write_text("from idle import idle\n\n\ndef main():\n    return idle()\n")
    git("add", "-A")
    assert git("commit", "-q", "-m", "wired").returncode == 0
