"""Hosts as they are: banners, no python or an old one, disks that are full at the start or become so midway."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from remote import loopback
from remote.local_process import end, started
from remote.loopback import LoopbackHost
from tests.real.host_processes import is_alive, newest_run, runs_folder, wait_for_state
from tests.support import Cli, EnvironFor, wait_until

Make = Callable[[dict[str, str]], Cli]


# --- the way in --------------------------------------------------------------------------------------------------


@pytest.fixture
def banner_host(tmp_path: Path) -> Iterator[LoopbackHost]:
    """A host whose sshd greets with a banner, whose shell prints before and after everything, in binary too."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".bashrc").write_text("echo 'Welcome to gpu'; printf '\\0\\377hemma\\001'; seq 5000; echo 'be nice' >&2\n")
    host = loopback.start("noisy", str(tmp_path / "loopback"), "openssh", str(home))
    (tmp_path / "banner").write_text("Authorised use only.\n\x1b[31mREAD HEMMA READY\x1b[0m\n" * 30)
    config = Path(host.folder) / "sshd_config"
    # The running server is replaced by one with the same config and a banner; loopback finds it by its record no more.
    end([(host.pid, started(host.pid))])
    config.write_text(config.read_text() + f'Banner "{tmp_path / "banner"}"\nPrintMotd yes\n')
    sshd = loopback._sshd() or ""
    server = subprocess.Popen([sshd, "-D", "-f", str(config), "-E", str(tmp_path / "log")])
    wait_until(lambda: "listening on" in (tmp_path / "log").read_text() if (tmp_path / "log").exists() else "", 10)
    yield host
    server.terminate()
    server.wait()


def test_banners_and_noisy_shells_are_no_part_of_the_output(
    banner_host: LoopbackHost, hemma_with: Make, settings_env: EnvironFor, tmp_path: Path
) -> None:
    cli = hemma_with(settings_env(banner_host, state=tmp_path / "hemma"))
    done = cli("run", "--shell", "printf '\\0out'; printf err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"\0out", b"err")


def test_a_missing_python_is_255_with_its_mend(hemma_with: Make, settings_env: EnvironFor, tmp_path: Path) -> None:
    cli = hemma_with(settings_env(state=tmp_path / "hemma", HEMMA_PYTHON="/nonexistent/python3"))
    for _ in range(8):  # the host may end the channel before or after our greeting: the answer is the same
        done = cli("run", "--", "true", timeout_s=20)
        assert (done.returncode, done.stdout) == (255, b"")
        assert b"/nonexistent/python3" in done.stderr
        assert b"3.9" in done.stderr
        assert b"[tool.hemma]" in done.stderr


def pythons(*versions: str) -> list[str]:
    """Interpreters of these versions that start: on PATH, or installed beside the one that runs this."""
    beside = Path(os.path.realpath(sys.base_prefix)).parent
    found: list[str] = []
    for version in versions:
        found += map(str, beside.glob(f"{version}.*/bin/python3"))
        found += filter(None, [shutil.which(f"python{version}")])
    asks = [[path, "-c", f"import sys; sys.exit(not sys.version.startswith({path_version(path)!r}))"] for path in found]
    return [ask[0] for ask in asks if subprocess.run(ask, capture_output=True, check=False).returncode == 0]


def path_version(path: str) -> str:
    """The `3.N` that stands in an interpreter's path."""
    return re.findall(r"3\.\d+", path)[-1]


@pytest.fixture(params=["fake", "real"])
def old_python(request: pytest.FixtureRequest, tmp_path: Path, sshd: LoopbackHost) -> str:
    """A python3 older than 3.9: a real one where there is one, and one that claims to be."""
    if request.param == "real" and (real := pythons("3.8", "3.7", "3.6")):
        return real[0]
    wrapper = tmp_path / "python3"
    claim = "import sys; sys.version_info = (3, 8, 18, 'final', 0); sys.version = '3.8.18 (main)'"
    # The agent's start is `python -I -c CODE`; isolated, so that no file of a site could make the claim.
    wrapper.write_text(f'#!/bin/sh\ntest "$1 $2" = "-I -c" && exec "{sshd.python}" -I -c "{claim}; $3"\n')
    wrapper.chmod(0o755)
    return str(wrapper)


def test_an_old_python_is_255_and_named(
    old_python: str, hemma_with: Make, settings_env: EnvironFor, tmp_path: Path
) -> None:
    cli = hemma_with(settings_env(state=tmp_path / "hemma", HEMMA_PYTHON=old_python))
    done = cli("run", "--", "true", timeout_s=20)
    assert (done.returncode, done.stdout) == (255, b"")
    assert b"needs 3.9 or newer" in done.stderr
    assert b"is 3." in done.stderr
    assert b"do " in done.stderr


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.12", "3.13"])
def test_every_python_since_3_9_carries_the_agent(
    version: str, hemma_with: Make, settings_env: EnvironFor, tmp_path: Path
) -> None:
    found = pythons(version)
    if not found:
        pytest.skip(f"no python{version} on this machine; tests/test_house.py checks the agent's syntax for 3.9")
    cli = hemma_with(settings_env(state=tmp_path / "hemma", HEMMA_PYTHON=found[0]))
    done = cli("run", "--shell", "cat; echo err >&2; exit 3", stdin=b"\0in\xff")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"\0in\xff", b"err\n")
    assert cli("run", "--pty", "--timeout", "20", "--", "tty").returncode == 0


# --- disks -------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """`small_disk(size="3m", inodes=200)`: a file system of that size, as root mounts one."""
    mounted: list[Path] = []

    def mount(size: str = "3m", inodes: int = 200) -> Path:
        folder = tmp_path / "disk"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},nr_inodes={inodes},mode=700", "tmpfs", str(folder)]
        told = subprocess.run(command, capture_output=True, check=False)
        if told.returncode and not os.environ.get("CI"):
            pytest.skip("only root can mount a small disk here")
        assert told.returncode == 0, told.stderr
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        for options in ([], ["-l"]):
            if subprocess.run(["umount", *options, str(folder)], capture_output=True, check=False).returncode == 0:
                break


def on_disk(make: Make, settings_env: EnvironFor, tmp_path: Path, disk: Path) -> Cli:
    return make(settings_env(state=tmp_path / "hemma", HEMMA_HOST_STATE_DIR=str(disk / "state")))


def fill(disk: Path, leave_bytes: int) -> Path:
    """Fill the disk up to so many bytes; returns the file that does, for its removal."""
    room = os.statvfs(disk)
    filler = disk / "filler"
    with filler.open("wb") as file, contextlib.suppress(OSError):
        file.write(b"x" * max(0, room.f_bavail * room.f_frsize - leave_bytes))
    return filler


def test_a_full_disk_at_the_start_is_255_and_nothing_is_left(
    small_disk: Callable[..., Path], hemma_with: Make, settings_env: EnvironFor, tmp_path: Path
) -> None:
    disk, proof = small_disk(), tmp_path / "proof"
    cli = on_disk(hemma_with, settings_env, tmp_path, disk)
    assert cli("run", "--", "true").returncode == 0
    before = set(runs_folder(cli).iterdir())
    filler = fill(disk, 0)
    done = cli("run", "--", "touch", str(proof))
    assert (done.returncode, done.stdout, proof.exists()) == (255, b"", False)
    assert b"no room" in done.stderr
    assert b"do " in done.stderr
    assert set(runs_folder(cli).iterdir()) == before
    filler.unlink()
    assert cli("run", "--", "echo", "again").stdout == b"again\n"


@pytest.mark.parametrize("left", [0, 3, 4, 5, 6, 7])
def test_a_disk_out_of_inodes_starts_whole_or_not_at_all(
    small_disk: Callable[..., Path], hemma_with: Make, settings_env: EnvironFor, tmp_path: Path, left: int
) -> None:
    """Wherever the last inode goes (run.json, a spool, the socket, the status): 255 and no command, or all of it."""
    disk = small_disk(inodes=60)
    proof = tmp_path / "proof"
    cli = on_disk(hemma_with, settings_env, tmp_path, disk)
    assert cli("run", "--", "true").returncode == 0
    wait_until(lambda: not list(runs_folder(cli).glob("*/control.sock")), 5)
    for number in range(os.statvfs(disk).f_ffree - left):
        (disk / str(number)).touch()
    child = cli.start("run", "-n", "--", "touch", str(proof))
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(2)
    for number in range(10):  # one that has to write down its end waits for room
        (disk / str(number)).unlink()
    _, stderr = child.communicate(timeout=20)
    assert (child.returncode, proof.exists()) in ((255, False), (0, True)), stderr


@pytest.mark.req("S9-R20")
# What fits into the pipe (and what was read from it) lets the command end before there is room; more makes it wait.
@pytest.mark.parametrize("extra", [300_000, 900_000, 3_000_000])
def test_a_disk_that_fills_midway_holds_the_command_and_loses_nothing(
    small_disk: Callable[..., Path], hemma_with: Make, settings_env: EnvironFor, tmp_path: Path, extra: int
) -> None:
    disk, room = small_disk("6m"), 2_000_000
    cli = on_disk(hemma_with, settings_env, tmp_path, disk)
    line = f"echo begun >&2; read go; head -c {room + extra} /dev/zero | tr '\\0' x; exit 7"
    child = cli.start("run", "--shell", line)
    assert child.stderr is not None
    assert child.stdin is not None
    assert child.stderr.read(6) == b"begun\n"
    filler = fill(disk, room)
    child.stdin.write(b"go\n")
    wait_until(lambda: os.statvfs(disk).f_bavail == 0, 20, "a full disk")
    if extra < 1_000_000:
        pid = wait_for_state(cli, "running")["pid"]
        wait_until(lambda: not is_alive(pid), 20, "the command's end")
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(1.5)
        pytest.fail(f"the client left with {child.returncode} while output was held back")
    filler.unlink()
    stdout, _ = child.communicate(timeout=30)
    assert (child.returncode, len(stdout), set(stdout)) == (7, room + extra, {ord("x")})
    assert wait_for_state(cli, "finished")["stdout_bytes"] == room + extra


def test_a_command_on_a_full_disk_can_still_be_ended(
    small_disk: Callable[..., Path], hemma_with: Make, settings_env: EnvironFor, tmp_path: Path
) -> None:
    disk = small_disk("4m")
    cli = on_disk(hemma_with, settings_env, tmp_path, disk)
    child = cli.start("run", "-n", "--", "cat", "/dev/zero")
    drained = subprocess.Popen(["cat"], stdin=child.stdout, stdout=subprocess.DEVNULL)
    wait_until(lambda: os.statvfs(disk).f_bavail == 0, 20, "a full disk")
    child.send_signal(signal.SIGINT)
    pid = int(wait_for_state(cli, "running")["pid"])
    wait_until(lambda: not is_alive(pid), 10, "the command's end")
    (newest_run(cli) / "logs/stdout.log").write_bytes(b"")  # someone makes room the hard way
    assert child.wait(20) == 130
    assert drained.wait(20) == 0
