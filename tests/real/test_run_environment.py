"""What a command on the host inherits, and what nobody can see of it: shell start-up files, PATH, secrets, permissions."""

from __future__ import annotations

import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from remote import loopback
from remote.loopback import LoopbackHost
from tests.real.host_processes import the_agent
from tests.support import GIT_CONFIG, Cli, EnvironFor, processes_naming, wait_until

Make = Callable[[dict[str, str]], Cli]
SECRET = "a-secret-of-nobody-4711"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The HOME of every command on `own_host`."""
    folder = tmp_path / "host home"
    folder.mkdir()
    (folder / ".gitconfig").write_text(GIT_CONFIG)
    return folder


@pytest.fixture
def own_host(tmp_path: Path, home: Path) -> Iterator[LoopbackHost]:
    """A host of this test's own, whose home may be filled before the first connection."""
    yield loopback.start("own", str(tmp_path / "loopback"), "openssh", str(home))
    loopback.stop("own", str(tmp_path / "loopback"))


@pytest.fixture
def own_hemma(hemma_with: Make, settings_env: EnvironFor, own_host: LoopbackHost, tmp_path: Path) -> Cli:
    """The CLI against `own_host`, with a broker and state folders of its own."""
    return hemma_with(settings_env(own_host, state=tmp_path / "hemma"))


# --- start-up files ----------------------------------------------------------------------------------------------

NOISY = "echo NOISE-out; echo NOISE-err >&2; printf '\\0hemma'; export FROM_BASHRC=1; alias ls='echo alias'\n"


@pytest.mark.req("S9-R21")
def test_a_bashrc_that_prints_and_exports_changes_nothing(own_hemma: Cli, home: Path) -> None:
    for name in (".bashrc", ".bash_profile", ".profile", ".bash_login"):
        (home / name).write_text(NOISY + "cd /\n")
    done = own_hemma("run", "--shell", "echo ${FROM_BASHRC-unset}; pwd; type -t ls")
    root = own_hemma.environ["HEMMA_ROOT"]
    assert (done.returncode, done.stderr, done.stdout.decode()) == (0, b"", f"unset\n{root}\nfile\n")
    assert own_hemma("run", "--", "printenv", "FROM_BASHRC").returncode == 1


@pytest.mark.req("S9-R21")
def test_login_takes_the_users_start_up_files(own_hemma: Cli, home: Path) -> None:
    (home / ".bash_profile").write_text("export FROM_PROFILE='a  b'\n")
    assert own_hemma("run", "--login", "--", "printenv", "FROM_PROFILE").stdout == b"a  b\n"
    assert own_hemma("run", "--login", "--shell", 'echo "$FROM_PROFILE"; exit 3').returncode == 3
    assert own_hemma("run", "--", "printenv", "FROM_PROFILE").returncode == 1
    assert own_hemma("run", "--", "printenv", "FROM_PROFILE", env={"HEMMA_LOGIN": "1"}).stdout == b"a  b\n"


def test_a_login_shell_keeps_argv_as_it_is(own_hemma: Cli, home: Path, hostile_argv: list[str]) -> None:
    done = own_hemma("run", "--login", "--", "printf", "%s\\0", *hostile_argv)
    assert [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]] == hostile_argv


@pytest.mark.req("S9-R21")
@pytest.mark.parametrize("name", ["BASH_ENV", "ENV"])
def test_hooks_that_make_bash_read_a_file_are_ignored(own_hemma: Cli, home: Path, name: str) -> None:
    hook = home / "hook"
    hook.write_text("echo HOOK\n")
    (home / ".bashrc").write_text(f"export {name}='{hook}'\n")
    done = own_hemma("run", "--shell", "echo own; bash -c 'echo child'; sh -c 'echo sh'")
    assert done.stdout == b"own\nchild\nsh\n"


@pytest.mark.req("S9-R21")
def test_exported_functions_of_the_shell_do_not_reach_the_command(own_hemma: Cli, home: Path) -> None:
    (home / ".bashrc").write_text("ls() { echo function; }; export -f ls\n")
    assert own_hemma("run", "--shell", "type -t ls").stdout == b"file\n"


def test_the_users_own_programs_come_first_on_path(own_hemma: Cli, home: Path) -> None:
    folder = home / ".local" / "bin"
    folder.mkdir(parents=True)
    (folder / "git").write_text("#!/bin/sh\necho my own git\n")
    (folder / "git").chmod(0o755)
    assert own_hemma("run", "--", "git", "--version").stdout == b"my own git\n"
    assert own_hemma("run", "--shell", "git --version").stdout == b"my own git\n"
    paths = own_hemma("run", "--shell", 'echo "$PATH"').stdout.decode().strip().split(":")
    # Before it comes only the guard of git, which becomes the next git on PATH: theirs.
    assert [paths[0].rpartition("/")[2], paths[1]] == ["hemma-git", str(folder)]
    assert paths.count(str(folder)) == 1


def test_a_command_knows_its_run(hemma: Cli) -> None:
    done = hemma("run", "--shell", 'cat "$HEMMA_RUN_DIR/run.json"; test "${HEMMA_RUN_DIR##*/}" = "$HEMMA_RUN_ID"')
    assert done.returncode == 0
    assert b'"run_id"' in done.stdout


def test_settings_of_the_repository_set_its_environment(hemma: Cli, tmp_path: Path) -> None:
    text = '[tool.hemma]\nenv = { FROM_PROJECT = "a b", BOTH = "project" }\n'
    (tmp_path / "pyproject.toml").write_text(text)
    assert hemma("trust", "--yes").returncode == 0
    done = hemma("run", "-e", "BOTH=option", "--shell", 'echo "$FROM_PROJECT, $BOTH"')
    assert done.stdout == b"a b, option\n"


# --- secrets and permissions -------------------------------------------------------------------------------------


@pytest.mark.req("S20-R01")
def test_nothing_of_a_command_shows_anywhere_before_it_starts(own_hemma: Cli, own_host: LoopbackHost) -> None:
    assert own_hemma("run", "--", "true").returncode == 0
    agent = the_agent(own_host)
    os.kill(agent, signal.SIGSTOP)
    try:
        argv = ["-e", "THE_VALUE", "--", "sh", "-c", f"echo {SECRET} $THE_VALUE"]
        child = own_hemma.start("run", *argv, env={"THE_VALUE": SECRET})
        seen: dict[int, str] = {}
        until = time.monotonic() + 0.7
        while time.monotonic() < until:
            seen |= {pid: argv for pid, argv in processes_naming(SECRET).items() if pid != child.pid}
        assert child.poll() is None, "the command was not held back"
    finally:
        os.kill(agent, signal.SIGCONT)
    assert child.stdout is not None
    assert child.stdout.read().decode() == f"{SECRET} {SECRET}\n"
    assert seen == {}


@pytest.mark.req("S20-R01")
def test_a_secret_is_kept_by_no_process_and_no_file_afterwards(own_hemma: Cli, tmp_path: Path) -> None:
    done = own_hemma("run", "-e", "THE_VALUE", "--", "sh", "-c", "test -n $THE_VALUE", env={"THE_VALUE": SECRET})
    assert done.returncode == 0
    # The broker that this very command started is warm now, and the agent, with what they were given at birth.
    assert processes_naming(SECRET) == {}
    kept = [path for path in (tmp_path / "hemma").rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert kept == []
    (record,) = (tmp_path / "hemma/on-host/runs").glob("*/run.json")
    assert b"THE_VALUE" in record.read_bytes()


@pytest.mark.req("S20-R01")
def test_state_folders_are_0700_and_files_0600_on_both_sides(own_hemma: Cli, tmp_path: Path, home: Path) -> None:
    old = os.umask(0)
    try:
        child = own_hemma.start("run", "--", "sh", "-c", "echo ready; cat")
        assert child.stdout is not None
        assert child.stdout.read(6) == b"ready\n"
    finally:
        os.umask(old)
    assert child.stdin is not None
    open_to_others: list[str] = []
    top = tmp_path / "hemma"
    for path in top.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_IMODE(mode) & 0o077:
            open_to_others.append(f"{path.relative_to(tmp_path)} {stat.filemode(mode)}")
    assert list(top.glob("on-host/agent/*.zip")), "the agent follows the state folder"
    assert not (home / ".cache").exists()
    child.stdin.close()
    assert child.wait(20) == 0
    assert "\n".join(open_to_others) == ""


def test_run_folders_are_unreadable_for_other_users(own_hemma: Cli, tmp_path: Path) -> None:
    assert own_hemma("run", "--", "echo", "mine").returncode == 0
    runs = tmp_path / "hemma/on-host/runs"
    (folder,) = runs.iterdir()
    wait_until(lambda: not (folder / "control.sock").exists(), 5, "the supervisor's end")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [runs, folder, *folder.rglob("*")]}
    wanted = {name: 0o600 if "." in name else 0o700 for name in modes}
    assert modes == wanted | {folder.name: 0o700}
