"""The embedded host: a real SSH server, private, found again, gone when stopped; the same with both servers."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from manifests.errors import UsageError
from remote import loopback
from remote.loopback import Backend, LoopbackHost
from tests.support import processes_naming, wait_until


@pytest.fixture(params=["openssh", "asyncssh"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LoopbackHost]:
    backend: Backend = request.param
    (tmp_path / "home").mkdir()
    yield loopback.start("one", str(tmp_path / "state dir"), backend, str(tmp_path / "home"))
    loopback.stop("one", str(tmp_path / "state dir"))


def ssh(host: LoopbackHost, command: str, *options: str, **keywords: Any) -> subprocess.CompletedProcess[bytes]:
    argv = ["ssh", "-F", host.ssh_config, *options, host.alias, command]
    return subprocess.run(argv, capture_output=True, timeout=30, check=False, **keywords)


def state_dir(host: LoopbackHost) -> str:
    return str(Path(host.folder).parents[1])


def test_streams_are_apart_and_the_exit_code_is_the_commands_own(host: LoopbackHost) -> None:
    told = ssh(host, "echo out; echo err >&2; exit 7")
    assert (told.stdout, told.stderr, told.returncode) == (b"out\n", b"err\n", 7)


def test_a_megabyte_of_any_bytes_passes_both_ways(host: LoopbackHost) -> None:
    data = os.urandom(1_000_000) + bytes(range(256))
    assert ssh(host, "cat", input=data).stdout == data


def test_a_terminal_is_given_when_asked_for(host: LoopbackHost) -> None:
    told = ssh(host, "test -t 0 && test -t 1 && echo yes; exit 3", "-tt")
    assert (told.stdout, told.returncode) == (b"yes\r\n", 3)


def test_commands_see_the_home_they_were_given(host: LoopbackHost) -> None:
    assert ssh(host, 'echo "$HOME"').stdout.decode().strip() == host.home


def test_many_sessions_at_once_get_their_own_output(host: LoopbackHost) -> None:
    argv = ["ssh", "-F", host.ssh_config, host.alias]
    running = [subprocess.Popen([*argv, f"echo {n}; cat"], stdin=-1, stdout=-1, stderr=-2) for n in range(20)]
    assert [child.communicate(timeout=30)[0] for child in running] == [b"%d\n" % n for n in range(20)]


def test_start_on_a_running_host_returns_it(host: LoopbackHost) -> None:
    assert loopback.start("one", state_dir(host)) == host
    assert loopback.find("one", state_dir(host)) == host


def test_keys_and_files_are_the_users_alone(host: LoopbackHost) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in Path(host.folder).iterdir()}
    # server.pid is sshd's own: it holds a number and nothing else.
    assert {name for name, mode in modes.items() if mode & 0o077} <= {"server.pid"}
    assert stat.S_IMODE(Path(host.folder).stat().st_mode) == 0o700


def test_stop_cuts_sessions_and_a_restart_is_the_same_host(host: LoopbackHost) -> None:
    argv = ["ssh", "-F", host.ssh_config, host.alias, "echo up; cat"]
    with subprocess.Popen(argv, stdin=-1, stdout=-1, stderr=-1) as session:
        assert session.stdout is not None
        assert session.stdout.readline() == b"up\n"
        assert loopback.stop("one", state_dir(host))
        assert session.wait(10) == 255
    assert loopback.find("one", state_dir(host)) is None
    assert not loopback.stop("one", state_dir(host))
    again = loopback.start("one", state_dir(host), host.backend, host.home)
    assert (again.port, again.pid != host.pid) == (host.port, True)
    assert ssh(again, "echo back").stdout == b"back\n"


def test_leftovers_of_a_killed_host_do_not_hinder_the_next_start(host: LoopbackHost) -> None:
    os.kill(host.pid, 9)
    wait_until(lambda: loopback.find("one", state_dir(host)) is None)
    again = loopback.start("one", state_dir(host), host.backend, host.home)
    assert ssh(again, "echo back").stdout == b"back\n"


def test_a_reused_pid_is_not_taken_for_the_host(host: LoopbackHost) -> None:
    record = Path(host.folder) / "server.json"
    record.write_text(record.read_text().replace(f'"pid": {host.pid}', f'"pid": {os.getpid()}'))
    assert loopback.find("one", state_dir(host)) is None
    os.kill(host.pid, 15)
    wait_until(lambda: str(host.folder) not in " ".join(processes_naming(host.folder).values()))


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "a b", "x" * 65])
def test_a_name_that_is_no_file_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        loopback.start(name, str(tmp_path))
