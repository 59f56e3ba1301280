"""`hemma init --ci`: the workflow and the hook, put in without touching what is there."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

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
    new = verify_ci.with_hook(text, "x.yaml")
    before, after = yaml.safe_load(text), yaml.safe_load(new)
    assert after["repos"][0]["hooks"][0]["entry"] == "hemma verify --since HEAD"
    assert (after["repos"][1:], after["exclude"]) == (before["repos"], before["exclude"])
    lines = new.splitlines()
    assert [line for line in text.splitlines() if line not in lines] == []
    assert verify_ci.with_hook(new, "x.yaml") == new


@pytest.mark.parametrize("text", ["repos: [{repo: local, hooks: []}]\n", "exclude: x\n", "repos: []\n", "- a list\n"])
def test_a_form_that_cannot_be_extended_is_refused_with_what_to_paste(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        verify_ci.with_hook(text, "x.yaml")
    assert "hemma verify" in refused.value.remedy


def test_broken_yaml_is_refused() -> None:
    with pytest.raises(UsageError, match="no YAML"):
        verify_ci.with_hook("repos: [", "x.yaml")


def test_both_files_are_written_once_and_are_what_the_tools_read(tmp_path: Path) -> None:
    assert len(verify_ci.write(str(tmp_path))) == 2
    assert verify_ci.write(str(tmp_path)) == []
    workflow = yaml.safe_load((tmp_path / verify_ci.WORKFLOW_PATH).read_text())
    steps = workflow["jobs"]["verify"]["steps"]
    assert steps[-1]["run"] == "hemma verify --format github"
    assert workflow[True] == {"push": {"branches": ["main", "master"]}, "pull_request": None}  # YAML 1.1 reads `on` so
    hook = yaml.safe_load((tmp_path / verify_ci.HOOK_PATH).read_text())["repos"][0]["hooks"][0]
    assert hook["pass_filenames"] is False
