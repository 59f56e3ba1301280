"""The doctor: every fact that is wrong has a finding of its own, with its mend."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes.doctor import AFTER, CONNECTING, GIB, Problem, Trip, diagnose, is_fit, skew_s, summary

DISK = {"path": "/srv", "free_bytes": 100 * GIB, "total_bytes": 200 * GIB, "free_inodes": 10**6, "total_inodes": 10**7}
FIT: dict[str, Any] = {
    "host": {"hostname": "gpu-1", "user": "ada"},
    "python": {"version": "3.11.7", "path": "/usr/bin/python3"},
    "git": {"path": "/usr/bin/git", "version": "git version 2.39.5"},
    "bash": {"path": "/bin/bash", "version": "GNU bash 5.2"},
    "root_disk": DISK,
    "state_disk": DISK,
    "home": {"path": "/home/me", "writable": True, "reason": None},
    "state": {"path": "/home/me/.local/state/hemma", "writable": True, "reason": None},
    "gpus": {
        "tool": "/usr/bin/nvidia-smi",
        "gpus": [{"name": "NVIDIA H200", "memory_mib": 143771, "driver": "570.1"}] * 2,
    },
    "logind": {"systemd": True, "kill_user_processes": False, "linger": False, "user": "ada"},
    "repository": {
        "path": "/srv/repo",
        "exists": True,
        "is_git": True,
        "toplevel": "/srv/repo",
        "is_toplevel": True,
        "head": "919a8ab461d89c0d",
        "branch": "main",
        "detached": False,
        "dirty": {"count": 0, "first": []},
    },
    "clock": {"host_time_s": 1000.5, "client_time_s": 1000.0},
}


def trip(changes: dict[str, Any]) -> Trip:
    facts = copy.deepcopy(FIT)
    for dotted, value in changes.items():
        *path, key = dotted.split(".")
        here = facts
        for part in path:
            here = here[part]
        here[key] = value
    return Trip("gpu", "ada@gpu-1:22", probe=facts, sent_s=1000.0, received_s=1001.0)


def test_a_fit_host_has_nothing_but_ok() -> None:
    findings = diagnose(trip({}))
    assert {finding.level for finding in findings} == {"ok"}
    assert [finding.name for finding in findings] == [*CONNECTING, *AFTER]
    assert is_fit(findings)
    assert summary(findings) == "14 ok"
    assert "2 x NVIDIA H200 (140 GiB, driver 570.1)" in next(f.fact for f in findings if f.name == "gpu and driver")


@pytest.mark.parametrize(
    ("changes", "name", "level", "fact", "mend"),
    [
        ({"python.version": "3.8.18"}, "python", "fail", "3.9 or newer", "--python"),
        ({"python.version": "3.9.0"}, "python", "ok", "3.9.0", ""),
        ({"git.path": None}, "git", "fail", "not installed", "apt-get install git"),
        ({"bash.path": None}, "bash", "fail", "not installed", "apt-get install bash"),
        ({"root_disk.free_bytes": 10 * GIB - 1}, "disk space", "warn", "/srv", "du -xh"),
        ({"state_disk.free_bytes": GIB - 1}, "disk space", "fail", "1.0 GiB", "du -xh"),
        ({"state_disk.free_bytes": 10 * GIB}, "disk space", "ok", "10.0 GiB", ""),
        ({"root_disk.free_inodes": 50_000}, "inodes", "warn", "50,000", "du -x --inodes"),
        ({"root_disk.free_inodes": 0}, "inodes", "fail", "0 free", "du -x --inodes"),
        ({"root_disk.free_inodes": None, "state_disk.free_inodes": None}, "inodes", "ok", "no fixed number", ""),
        ({"gpus": {"tool": None, "gpus": []}}, "gpu and driver", "ok", "none found", ""),
        ({"gpus": {"tool": "/usr/bin/nvidia-smi", "gpus": []}}, "gpu and driver", "warn", "no GPU", "nvidia-smi -L"),
        ({"gpus": {"error": "nvidia-smi failed"}}, "gpu and driver", "fail", "nvidia-smi failed", "nvidia-smi"),
        ({"clock.host_time_s": 1003.1}, "clock", "warn", "2.1 s ahead", "timedatectl"),
        ({"clock.host_time_s": 930.0}, "clock", "fail", "70.0 s behind", "timedatectl"),
        ({"repository": None}, "repository", "warn", "no root", "hemma init"),
        ({"repository.exists": False}, "repository", "fail", "exit 66", "git clone"),
        ({"repository.is_git": False}, "repository", "fail", "exit 67", "hemma init --force"),
        (
            {"repository.is_toplevel": False, "repository.toplevel": "/my repo"},
            "repository",
            "fail",
            "exit 68",
            "'/my repo'",
        ),
        ({"repository.detached": True}, "repository", "warn", "detached", "git switch"),
        (
            {"repository.dirty": {"count": 9, "first": ["a", "b", "c", "d"]}},
            "repository clean",
            "warn",
            "a, b, c and 6 more",
            "git status",
        ),
        ({"repository.dirty": {"error": "dubious ownership"}}, "repository clean", "warn", "dubious ownership", ""),
        (
            {"home": {"path": "/h", "writable": False, "reason": "Read-only file system"}},
            "home writable",
            "fail",
            "Read-only",
            "ls -ld /h",
        ),
        ({"logind.kill_user_processes": True}, "kill user processes", "fail", "ends runs", "enable-linger ada"),
        ({"logind.kill_user_processes": True, "logind.linger": True}, "kill user processes", "ok", "outlive", ""),
    ],
)
def test_each_fact_is_judged_and_mended(changes: dict[str, Any], name: str, level: str, fact: str, mend: str) -> None:
    findings = diagnose(trip(changes))
    finding = next(finding for finding in findings if finding.name == name)
    assert finding.level == level
    assert fact in finding.fact
    assert mend in finding.mend
    assert is_fit(findings) == (level != "fail")


@pytest.mark.parametrize(
    ("code", "failed", "passed"),
    [
        ("unreachable", "ssh alias", []),
        ("host-key-unknown", "host key", ["ssh alias"]),
        ("host-key-changed", "host key", ["ssh alias"]),
        ("authentication-refused", "login", ["ssh alias", "host key"]),
        ("agent-unavailable", "python", ["ssh alias", "host key", "login"]),
        ("host-disk-full", "disk space", ["ssh alias", "host key", "login"]),
    ],
)
def test_an_error_on_the_way_is_the_finding_of_its_step(code: str, failed: str, passed: list[str]) -> None:
    findings = diagnose(Trip("gpu", "gpu", problem=Problem(code, "what happened", "what to do")))
    by_name = {finding.name: finding for finding in findings}
    assert (by_name[failed].level, by_name[failed].fact, by_name[failed].mend) == (
        "fail",
        "what happened",
        "what to do",
    )
    assert [name for name, finding in by_name.items() if finding.level == "ok"] == passed
    assert {finding.level for finding in findings if finding.name not in (*passed, failed)} == {"not checked"}
    assert not is_fit(findings)


@given(absent=st.sets(st.sampled_from(sorted(FIT))), failed=st.sets(st.sampled_from(sorted(FIT))))
def test_a_fact_that_could_not_be_had_never_stops_the_others(absent: set[str], failed: set[str]) -> None:
    facts = {name: {"error": "no"} if name in failed else fact for name, fact in FIT.items() if name not in absent}
    findings = diagnose(Trip("gpu", "gpu", probe=facts, sent_s=1000.0, received_s=1001.0))
    assert [finding.name for finding in findings] == [*CONNECTING, *AFTER]


@given(st.floats(0, 1e9), st.floats(0, 100), st.floats(-1e5, 1e5))
def test_skew_is_never_claimed_larger_than_it_is(sent_s: float, took_s: float, ahead_s: float) -> None:
    skew = skew_s(sent_s + took_s / 2 + ahead_s, sent_s, sent_s + took_s)
    assert abs(skew) <= abs(ahead_s) + 1e-6
    assert skew * ahead_s >= -1e-6
