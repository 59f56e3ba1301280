"""The exit code of `hemma run`: the command's own, or the one that says what kept it from running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from manifests import run as run_file
from manifests import status as status_file
from tests.support import Cli, EnvironFor, RepositoryOnHost, wait_until

Make = Callable[[dict[str, str]], Cli]


@pytest.mark.parametrize("code", [0, 1, 2, 42, 66, 124, 126, 127, 130, 255])
def test_the_commands_own_code_comes_back(hemma: Cli, code: int) -> None:
    done = hemma("run", "--shell", f"exit {code}")
    assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")


@pytest.mark.req("S9-R20")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGINT", "SIGHUP", "SIGPIPE", "SIGSEGV", "SIGUSR1"])
def test_a_death_by_signal_is_128_and_its_number(hemma: Cli, name: str) -> None:
    number = getattr(signal, name)
    done = hemma("run", "--json", "--", "sh", "-c", f"kill -{number} $$")
    told = json.loads(done.stdout)
    assert (done.returncode, told["signal"], told["reason"]) == (128 + number, number, "signalled")


def test_a_command_inherits_no_ignored_signal(hemma: Cli) -> None:
    done = hemma("run", "--", "grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status")
    assert {line.split()[1] for line in done.stdout.splitlines()} == {b"0" * 16}


@pytest.mark.parametrize("form", [["--", "no-such-command-here"], ["--", "./no-such-file"], ["--", ""]])
def test_a_command_that_is_not_there_is_127(hemma: Cli, form: list[str]) -> None:
    done = hemma("run", *form)
    assert (done.returncode, done.stdout) == (127, b"")
    assert b"not found" in done.stderr


def test_a_command_that_cannot_be_executed_is_126(hemma: Cli) -> None:
    done = hemma("run", "--", "./README.md")
    assert done.returncode == 126
    assert b"README.md" in done.stderr
    assert hemma("run", "--", "/").returncode == 126


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--"],
        ["--no-such-option", "--", "true"],
        ["--shell", "true", "--", "true"],
        ["--timeout", "soon", "--", "true"],
        ["--timeout", "-1", "--", "true"],
        ["--timeout"],
        ["--env", "=x", "--", "true"],
        ["--json=yes", "--", "true"],
    ],
)
def test_a_request_that_cannot_be_read_is_2(hemma: Cli, arguments: list[str]) -> None:
    done = hemma("run", *arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"refused" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.req("S9-R21")
def test_a_missing_root_is_66(hemma: Cli, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    done = hemma("run", "--", "touch", str(proof), env={"HEMMA_ROOT": str(tmp_path / "none")})
    assert (done.returncode, proof.exists()) == (66, False)
    assert b"do " in done.stderr


@pytest.mark.req("S9-R21")
def test_a_root_that_is_no_repository_is_67(hemma: Cli, tmp_path: Path) -> None:
    assert hemma("run", "--", "true", env={"HEMMA_ROOT": str(tmp_path)}).returncode == 67


@pytest.mark.req("S9-R21")
def test_a_root_below_its_repository_is_68(hemma: Cli, repo_on_host: RepositoryOnHost) -> None:
    below = repo_on_host.path / "below"
    below.mkdir(exist_ok=True)
    done = hemma("run", "--", "true", env={"HEMMA_ROOT": str(below)})
    assert done.returncode == 68
    assert os.fsencode(repo_on_host.path) in done.stderr


@pytest.mark.req("S9-R21")
@pytest.mark.parametrize("cwd", ["..", "/", "no-such-folder", "README.md", "way-out/etc"])
def test_a_working_directory_outside_the_root_is_68(hemma: Cli, repo_on_host: RepositoryOnHost, cwd: str) -> None:
    link = repo_on_host.path / "way-out"
    if not link.is_symlink():
        link.symlink_to("/")
    assert hemma("run", "--cwd", cwd, "--", "true").returncode == 68


def test_a_root_with_a_weird_name_works(hemma: Cli, weird_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(weird_path)], check=True)
    done = hemma("run", "--", "pwd", env={"HEMMA_ROOT": str(weird_path)})
    if "\n" in weird_path.name:  # settings are one line of text each
        assert (done.returncode, done.stdout) == (2, b"")
    else:
        assert (done.returncode, done.stdout) == (0, os.fsencode(weird_path) + b"\n")


def test_a_tilde_in_the_root_is_the_hosts_home(hemma_with: Make, settings_env: EnvironFor, sshd: object) -> None:
    home = Path(str(sshd.home))  # type: ignore[attr-defined]
    subprocess.run(["git", "init", "-q", str(home / "work tree")], check=True)
    done = hemma_with(settings_env(root="~/work tree"))("run", "--", "pwd")
    assert (done.returncode, done.stdout) == (0, os.fsencode(home / "work tree") + b"\n")


# --- time --------------------------------------------------------------------------------------------------------


@pytest.mark.req("S9-R22")
def test_a_command_past_its_time_is_124(hemma: Cli) -> None:
    before = time.monotonic()
    done = hemma("run", "--timeout", "0.5s", "--", "sh", "-c", "echo begun; exec sleep 60")
    assert (done.returncode, done.stdout) == (124, b"begun\n")
    assert time.monotonic() - before < 10


@pytest.mark.req("S9-R22")
def test_a_command_past_its_time_may_end_in_order(hemma: Cli) -> None:
    line = "trap 'echo saved; exit 0' TERM; echo begun; while :; do sleep 0.05; done"
    done = hemma("run", "--timeout", "0.5", "--shell", line)
    assert (done.returncode, done.stdout) == (124, b"begun\nsaved\n")


@pytest.mark.req("S9-R22")
def test_children_of_a_timed_out_command_go_with_it(hemma: Cli) -> None:
    done = hemma("run", "--timeout", "0.5", "--shell", "sleep 61.5 & echo $!; wait")
    assert done.returncode == 124
    wait_until(lambda: not Path(f"/proc/{int(done.stdout)}").exists(), 10, "the child's end")


# --- what is recorded --------------------------------------------------------------------------------------------


@pytest.mark.req("S9-R20")
@pytest.mark.parametrize(
    "arguments",
    [
        ["--", "sh", "-c", "exit 3"],
        ["--shell", "kill -9 $$"],
        ["--timeout", "0.2", "--", "sleep", "20"],
        ["--", "no-such-command-here"],
        ["-e", "NAME=a value", "--pty", "--", "true"],
    ],
)
def test_every_end_is_recorded_as_the_models_say(hemma: Cli, arguments: list[str]) -> None:
    done = hemma("run", "--json", *arguments)
    told = json.loads(done.stdout)
    folder = Path(hemma.environ["HEMMA_HOST_STATE_DIR"]) / "runs" / told["run_id"]
    record = run_file.RunRecord.read(str(folder / "run.json"))
    status = status_file.read_status(str(folder / "status.json"))
    assert record.run_id == told["run_id"]
    assert record.commit is not None
    assert record.branch == "main"
    assert isinstance(status, status_file.Finished)
    assert (status.exit_code, status.reason) == (done.returncode, told["reason"])
    assert status.stdout_bytes == (folder / "logs/stdout.log").stat().st_size
