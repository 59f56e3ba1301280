"""A process is known by pid, start and boot: nobody who took its number is taken for it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from remote.agent import identity
from tests.support import wait_until


@pytest.mark.req("S9-R19")
def test_a_living_process_is_alive_and_itself() -> None:
    me = identity.of(os.getpid())
    assert identity.is_alive(me)
    assert me["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest.mark.req("S9-R19")
@pytest.mark.parametrize(
    "change", [{"start_ticks": 1}, {"boot_id": "another"}, {"pid": 2**22 + 1}, {"pid": "1"}, {"start_ticks": None}]
)
def test_another_start_boot_or_pid_is_another_process(change: dict[str, object]) -> None:
    assert not identity.is_alive({**identity.of(os.getpid()), **change})


@pytest.mark.parametrize("nonsense", [None, {}, [], "pid", 1, {"pid": os.getpid()}])
def test_nonsense_is_not_alive(nonsense: object) -> None:
    assert not identity.is_alive(nonsense)


@pytest.mark.req("S9-R19")
def test_a_dead_process_is_dead_also_as_a_zombie() -> None:
    child = subprocess.Popen(["sleep", "60"])
    known = identity.of(child.pid)
    assert identity.is_alive(known)
    child.kill()
    wait_until(lambda: not identity.is_alive(known), 5)
    assert identity.start_ticks(child.pid) is None  # not yet reaped
    child.wait()
    assert identity.start_ticks(child.pid) is None


@pytest.mark.parametrize("name", ["(sd-pam) x) S 1", "a b", ")", "((("])
def test_a_name_full_of_brackets_hides_nothing(tmp_path: Path, name: str) -> None:
    """/proc/<pid>/stat holds the program's name, unescaped."""
    program = tmp_path / name
    program.symlink_to(os.path.realpath("/bin/sleep"))
    child = subprocess.Popen([program, "60"])
    try:
        wait_until(lambda: name[:15] in Path(f"/proc/{child.pid}/comm").read_text(), 5)
        known = identity.of(child.pid)
        assert isinstance(known["start_ticks"], int)
        uptime_ticks = float(Path("/proc/uptime").read_text().split()[0]) * os.sysconf("SC_CLK_TCK")
        assert uptime_ticks - 3000 < known["start_ticks"] <= uptime_ticks + 1
    finally:
        child.kill()
        child.wait()


def test_two_processes_one_after_the_other_differ() -> None:
    first = identity.of(os.getpid())["start_ticks"]
    time.sleep(0.02)
    told = subprocess.run(
        [sys.executable, "-c", "print(open('/proc/self/stat').read().rpartition(')')[2].split()[19])"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(told.stdout) > int(str(first))


def test_the_first_environment_is_that_of_the_shell_above_only_below_sshd() -> None:
    assert identity.own_environment() == dict(os.environ) or "SSH_CONNECTION" in os.environ
