"""The guard before every command: each broken fact has its exit code, its sentence and its mend."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes import guards
from manifests.errors import HemmaError
from remote.agent import launch

FIT: dict[str, Any] = {
    "root": "/srv/repo",
    "root_exists": True,
    "is_repository": True,
    "toplevel": "/srv/repo",
    "is_toplevel": True,
    "cwd": "/srv/repo/sub",
    "cwd_exists": True,
    "cwd_is_inside": True,
}


def test_a_fit_place_is_not_refused() -> None:
    assert guards.judge(FIT) is None


@pytest.mark.req("S9-R21")
@pytest.mark.parametrize(
    ("broken", "exit_code", "said"),
    [
        ({"root_exists": False}, 66, "/srv/repo does not exist"),
        ({"root_exists": False, "root": None}, 66, "no repository root is set"),
        ({"is_repository": False}, 67, "not a git repository"),
        ({"is_toplevel": False, "toplevel": "/srv"}, 68, "inside the repository /srv"),
        ({"cwd_exists": False}, 68, "/srv/repo/sub does not exist"),
        ({"cwd_is_inside": False}, 68, "not inside the root"),
        # the first broken one decides
        ({"root_exists": False, "is_repository": False, "cwd_exists": False}, 66, "does not exist"),
        ({"is_repository": False, "is_toplevel": False, "cwd_is_inside": False}, 67, "not a git"),
    ],
)
def test_each_broken_fact_has_its_code_and_its_mend(broken: dict[str, Any], exit_code: int, said: str) -> None:
    refusal = guards.judge({**FIT, **broken})
    assert isinstance(refusal, HemmaError)
    assert (refusal.exit_code, said in refusal.message, bool(refusal.remedy)) == (exit_code, True, True)


@given(st.fixed_dictionaries({}, optional={name: st.booleans() for name, _ in guards.REQUIREMENTS}))
def test_what_the_agent_would_refuse_is_judged_and_what_it_would_start_is_not(facts: dict[str, bool]) -> None:
    """The agent compares facts with REQUIREMENTS, the controller explains: they must never disagree."""
    is_refused = any(facts.get(name) != needed for name, needed in guards.REQUIREMENTS)
    verdict = guards.judge({"root": "/r", "cwd": "/r", "toplevel": "/t", **facts})
    assert (verdict is not None) == is_refused


@given(st.dictionaries(st.sampled_from([*FIT, "stranger"]), st.none() | st.booleans() | st.text() | st.integers()))
def test_no_facts_however_odd_make_the_guard_fail(facts: dict[str, Any]) -> None:
    verdict = guards.judge(facts)
    assert verdict is None or verdict.exit_code in (66, 67, 68)


@pytest.mark.req("S9-R21")
@pytest.mark.parametrize(
    ("root", "cwd", "exit_code"),
    [
        ("repo", None, None),
        ("repo", "sub", None),
        ("repo", "./sub/../sub", None),
        ("repo", "..", 68),
        ("repo", "none", 68),
        ("repo", "out", 68),
        ("repo", "/", 68),
        ("link", None, None),
        ("repo/sub", None, 68),
        ("plain", None, 67),
        ("none", None, 66),
        ("repo/README", None, 66),
        (None, None, 66),
    ],
)
def test_facts_of_real_folders_are_judged_as_meant(
    tmp_path: Path, root: str | None, cwd: str | None, exit_code: int | None
) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path / "repo")], check=True)
    (tmp_path / "repo/sub").mkdir()
    (tmp_path / "repo/README").touch()
    (tmp_path / "repo/out").symlink_to("/")
    (tmp_path / "repo-beside").mkdir()
    (tmp_path / "plain").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "repo")
    facts = launch.guard_facts(os.fspath(tmp_path / root) if root else None, cwd)
    verdict = guards.judge(facts)
    assert (verdict.exit_code if verdict else None) == exit_code


def test_a_folder_whose_name_begins_like_the_root_is_not_inside_it(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path / "repo")], check=True)
    (tmp_path / "repo-beside").mkdir()
    facts = launch.guard_facts(str(tmp_path / "repo"), "../repo-beside")
    assert (facts["cwd_exists"], facts["cwd_is_inside"]) == (True, False)


def test_verdicts_of_lanes_are_plain_data() -> None:
    from lanes.run_state import RunState

    assert dataclasses.is_dataclass(RunState)
