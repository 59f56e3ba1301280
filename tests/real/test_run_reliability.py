"""Whatever is killed between the person and the command, the command's life and output do not depend on it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from remote import loopback
from remote.loopback import LoopbackHost
from tests.real.host_processes import agents, brokers, is_alive, private_host, runs_folder, the_agent, wait_for_state
from tests.support import Cli, EnvironFor, wait_until

Make = Callable[[dict[str, str]], Cli]
# Says where it is, then waits for a line for as long as it takes, so that a test can break things in between.
DIALOGUE = "echo begun; read line; echo $line; echo whole >&2; exit 9"


@pytest.fixture
def own_sshd(tmp_path: Path) -> Iterator[LoopbackHost]:
    """A host of this test's own."""
    with private_host(tmp_path) as host:
        yield host


@pytest.fixture
def own(own_sshd: LoopbackHost, hemma_with: Make, settings_env: EnvironFor, tmp_path: Path) -> Cli:
    """The CLI against `own_sshd`, with a broker and state folders of its own, warm."""
    cli = hemma_with(settings_env(own_sshd, state=tmp_path / "hemma"))
    assert cli("run", "--", "true").returncode == 0
    return cli


def begin(cli: Cli, *options: str, line: str = DIALOGUE) -> subprocess.Popen[bytes]:
    """Start a command and wait for its first words."""
    child = cli.start("run", *options, "--shell", line)
    assert child.stdout is not None
    assert child.stdout.read(6) == b"begun\n"
    return child


def say(child: subprocess.Popen[bytes], line: bytes) -> tuple[int, bytes, bytes]:
    """Send the line the command waits for; returns its exit code and what it still wrote."""
    stdout, stderr = child.communicate(line, timeout=40)
    return child.returncode, stdout, stderr


@pytest.mark.req("S9-R13")
def test_a_broker_killed_costs_one_reconnect(own: Cli) -> None:
    child = begin(own)
    (broker,) = brokers(own)
    os.kill(broker, signal.SIGKILL)
    assert say(child, b"on\n") == (9, b"on\n", b"whole\n")
    assert brokers(own) != [broker]


@pytest.mark.req("S9-R13")
def test_an_agent_killed_costs_one_reconnect(own: Cli, own_sshd: LoopbackHost) -> None:
    child = begin(own)
    os.kill(the_agent(own_sshd), signal.SIGKILL)
    assert say(child, b"on\n") == (9, b"on\n", b"whole\n")


@pytest.mark.req("S9-R13")
def test_an_agent_that_hangs_is_left_for_another(own_sshd: LoopbackHost, own: Cli) -> None:
    cli = own
    cli.environ["HEMMA_KEEPALIVE_S"] = "1"
    child = begin(cli)
    hung = agents(own_sshd)
    for pid in hung:
        os.kill(pid, signal.SIGSTOP)
    try:
        assert say(child, b"on\n") == (9, b"on\n", b"whole\n")
    finally:
        for pid in hung:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.req("S9-R13")
def test_an_sshd_stopped_and_started_costs_one_reconnect(own: Cli, own_sshd: LoopbackHost, tmp_path: Path) -> None:
    counting = "echo begun; for i in $(seq 40); do echo $i; sleep 0.05; done; read line; echo $line; exit 9"
    child = begin(own, line=counting)
    loopback.stop("own", str(tmp_path / "loopback"))
    time.sleep(0.5)
    assert child.poll() is None
    loopback.start("own", str(tmp_path / "loopback"), "openssh", str(tmp_path / "home"))
    wanted = "".join(f"{number}\n" for number in range(1, 41)).encode()
    assert say(child, b"on\n") == (9, wanted + b"on\n", b"")


@pytest.mark.req("S9-R13")
def test_a_client_that_vanishes_ends_its_command_after_the_lease(own: Cli, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    line = f"trap 'echo hup > {proof}; exit 3' HUP; echo begun; while :; do sleep 0.05; done"
    child = begin(own, "--lease", "1", line=line)
    child.kill()
    told = wait_for_state(own, "finished")
    assert (told["reason"], told["exit_code"], proof.read_text()) == ("lease-expired", 3, "hup\n")


def test_a_client_that_is_only_slow_keeps_its_lease(own: Cli) -> None:
    child = begin(own, "--lease", "1", line="echo begun; sleep 2.5; echo alive; exit 4")
    assert child.communicate(timeout=30) == (b"alive\n", b"")
    assert child.returncode == 4


def test_a_client_whose_reader_is_slow_keeps_its_lease(own: Cli) -> None:
    child = begin(own, "--lease", "1", line="echo begun; head -c 30000000 /dev/zero; exit 4")
    time.sleep(2.5)  # our end of the pipe is full, the client is blocked in its write
    assert child.poll() is None
    stdout, _ = child.communicate(timeout=30)
    assert (child.returncode, len(stdout)) == (4, 30_000_000)


@pytest.mark.req("S9-R13")
def test_a_detached_run_outlives_everything_between(own: Cli, own_sshd: LoopbackHost, tmp_path: Path) -> None:
    gate, proof = tmp_path / "gate", tmp_path / "proof"
    line = f"while ! test -e {gate}; do sleep 0.05; done; echo done | tee {proof}; exit 5"
    started = own("run", "--detach", "--shell", line)
    run_id = started.stdout.decode().strip()
    assert (started.returncode, started.stderr) == (0, b"")
    wait_for_state(own, "running", run_id)
    agent = the_agent(own_sshd)
    for pid in (agent, *brokers(own)):  # the other way round the agent may be gone before its turn
        os.kill(pid, signal.SIGKILL)
    loopback.stop("own", str(tmp_path / "loopback"))
    time.sleep(1.2)
    gate.touch()
    told = wait_for_state(own, "finished", run_id)
    assert (told["exit_code"], told["reason"], proof.read_text()) == (5, "exited", "done\n")
    assert (runs_folder(own) / run_id / "logs/stdout.log").read_bytes() == b"done\n"


def test_a_background_client_needs_nothing_but_its_pipes(own: Cli) -> None:
    done = subprocess.run(
        ["setsid", *own.argv("run", "--shell", DIALOGUE)],
        input=b"on\n",
        cwd=own.folder,
        env=own.environ,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (9, b"begun\non\n")


# --- the supervisor itself ---------------------------------------------------------------------------------------


@pytest.mark.req("S9-R19")
def test_a_run_whose_supervisor_was_killed_is_lost_and_says_so(own: Cli) -> None:
    """Never a success, and never 'running for ever'; what it had written is kept."""
    for _ in range(5):
        child = begin(own, line="echo begun; exec sleep 50")
        told = wait_for_state(own, "running")
        os.kill(told["supervisor"]["pid"], signal.SIGKILL)
        _, stderr = child.communicate(timeout=20)
        assert child.returncode == 255, stderr
        assert b"was lost" in stderr
        assert b"hemma logs" in stderr
        assert (runs_folder(own) / told["run_id"] / "logs/stdout.log").read_bytes() == b"begun\n"
        os.kill(told["pid"], signal.SIGKILL)
        wait_until(lambda pid=told["pid"]: not is_alive(pid), 10)


def test_a_run_whose_supervisor_dies_at_birth_is_no_success(own: Cli, own_sshd: LoopbackHost) -> None:
    """Killed before it could write a single status: the client must not take the silence for exit code 0."""
    agent = the_agent(own_sshd)
    codes: list[int] = []
    for _ in range(5):
        child = own.start("run", "-n", "--", "sleep", "3")
        newborn = wait_until(lambda: Path(f"/proc/{agent}/task/{agent}/children").read_text().split(), 10)
        for pid in map(int, newborn):
            os.kill(pid, signal.SIGKILL)
        child.communicate(timeout=20)
        codes.append(child.returncode)
    assert codes == [255] * 5


@pytest.mark.req("S9-R19")
def test_a_run_of_an_earlier_boot_is_lost(own: Cli) -> None:
    run_id = own("run", "--detach", "--", "sleep", "50").stdout.decode().strip()
    told = wait_for_state(own, "running", run_id)
    os.kill(told["supervisor"]["pid"], signal.SIGKILL)
    os.kill(told["pid"], signal.SIGKILL)
    path = runs_folder(own) / run_id / "status.json"
    path.write_text(path.read_text().replace(told["supervisor"]["boot_id"], "00000000-aaaa-bbbb-cccc-000000000000"))
    shown = own("ps", "--all")
    line = next(line for line in shown.stdout.decode().splitlines() if run_id in line)
    assert "lost" in line
    done = own("wait", run_id)
    assert done.returncode == 255
    assert b"restarted" in done.stdout + done.stderr
    assert own("wait", run_id, timeout_s=20).returncode != 0


@pytest.mark.req("S9-R19")
def test_a_reused_pid_does_not_keep_a_run_alive(own: Cli) -> None:
    run_id = own("run", "--detach", "--", "sleep", "50").stdout.decode().strip()
    told = wait_for_state(own, "running", run_id)
    for pid in (told["supervisor"]["pid"], told["pid"]):
        os.kill(pid, signal.SIGKILL)
    path = runs_folder(own) / run_id / "status.json"
    text = path.read_text().replace(f'"pid": {told["supervisor"]["pid"]}', f'"pid": {os.getpid()}')
    path.write_text(text)
    assert own("wait", run_id, timeout_s=20).returncode == 255
