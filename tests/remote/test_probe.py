"""The probe: facts of this very machine, parsers on recorded output, and nothing that raises."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any, cast

import pytest

from lanes.doctor import Trip, diagnose
from remote.agent import probe

# In the form that nvidia-smi documents for csv,noheader,nounits; a GPU without a memory figure says [N/A].
SMI = "NVIDIA H200, 143771, 570.86.15\nNVIDIA GB10, [N/A], 580.95.05\n"


def git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True, capture_output=True)


def facts_of(root: str | None, state: str) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(json.dumps(probe.probe(root, state, time.time()))))


def test_this_machine_is_described_and_judged(tmp_path: Path) -> None:
    root = tmp_path / "repo"
    git("init", "-q", "-b", "main", str(root))
    (root / "new file").touch()
    facts = facts_of(str(root), str(tmp_path / "state"))
    assert not [name for name, fact in facts.items() if isinstance(fact, dict) and "error" in fact]
    assert facts["repository"]["branch"] == "main"
    assert facts["repository"]["dirty"] == {"count": 1, "first": ["new file"]}
    assert facts["host"]["boot_id"]
    assert facts["root_disk"]["free_bytes"] > 0
    findings = diagnose(Trip("here", "here", probe=facts, sent_s=time.time() - 60, received_s=time.time()))
    assert [finding.name for finding in findings if finding.level == "warn"] == ["repository clean"]


def test_only_looking_leaves_nothing_behind(tmp_path: Path) -> None:
    git("init", "-q", str(tmp_path / "repo"))
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    facts_of(str(tmp_path / "repo"), str(tmp_path / "state" / "deep"))
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", ["absent", "plain", "below", "none"])
def test_what_is_wrong_with_a_root_is_told_apart(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "repo"
    if kind != "absent":
        (root / "sub").mkdir(parents=True)
    if kind == "below":
        git("init", "-q", str(root))
        root /= "sub"
    found = facts_of(None if kind == "none" else str(root), str(tmp_path))["repository"]
    if kind == "none":
        assert found is None
    else:
        assert (found["exists"], found["is_git"], found["is_toplevel"]) == (kind != "absent", kind == "below", False)


def test_a_folder_that_cannot_be_written_is_said_so() -> None:
    facts = probe.writable_facts("/proc/nowhere")
    assert facts["writable"] is False
    assert facts["reason"]


def test_gpus_are_read_from_what_nvidia_smi_prints() -> None:
    assert probe.parse_gpus(SMI) == [
        {"name": "NVIDIA H200", "memory_mib": 143771, "driver": "570.86.15"},
        {"name": "NVIDIA GB10", "memory_mib": None, "driver": "580.95.05"},
    ]
    assert probe.parse_gpus("No devices were found\n") == []


def test_a_broken_driver_is_a_fact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch' >&2\nexit 18\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    gpus = facts_of(None, str(tmp_path))["gpus"]
    assert "exit code 18" in gpus["error"]
    assert "version mismatch" in gpus["error"]


def test_a_hanging_program_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nexec sleep 60\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(probe, "SLOW_S", 0.2)
    assert "no answer" in facts_of(None, str(tmp_path))["gpus"]["error"]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], False),
        (["#KillUserProcesses=yes\n"], False),
        (["[Login]\nKillUserProcesses=yes\n"], True),
        (["KillUserProcesses = true\n", "KillUserProcesses=no\n"], False),
    ],
)
def test_logind_configuration_is_read_as_systemd_does(texts: list[str], expected: bool) -> None:
    assert probe.kill_user_processes_in(texts) is expected
