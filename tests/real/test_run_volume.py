"""Much output, many commands: nothing is lost, and no process grows with what passes through it."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from remote.loopback import LoopbackHost
from tests.real.host_processes import brokers, newest_run, private_host, the_agent, wait_for_state
from tests.support import Cli, EnvironFor, wait_until

Make = Callable[[dict[str, str]], Cli]
GIB = 1 << 30
MAX_MEMORY_KB = 80 * 1024


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


def peak_kb(pid: int) -> int:
    """The most memory this process ever had resident."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) if found else 0


def test_a_gigabyte_arrives_whole_and_no_process_grows(own: Cli, own_sshd: LoopbackHost, tmp_path: Path) -> None:
    line = f"head -c {GIB} /dev/zero; read line; exit 3"
    child = own.start("run", "--shell", line)
    assert child.stdout is not None
    assert child.stdin is not None
    seen, count = memoryview(bytearray(1 << 20)), 0
    zeros = bytes(1 << 20)
    while count < GIB:
        size = child.stdout.readinto(seen)  # type: ignore[attr-defined]
        assert size, f"ended after {count} bytes"
        assert seen[:size] == zeros[:size]
        count += size
    told = wait_for_state(own, "running")
    involved = {
        "client": child.pid,
        "broker": brokers(own)[0],
        "agent": the_agent(own_sshd),
        "supervisor": told["supervisor"]["pid"],
    }
    peaks = {name: peak_kb(pid) for name, pid in involved.items()}
    child.stdin.close()
    assert (child.stdout.read(), child.wait(30), count) == (b"", 3, GIB)
    assert {name: peak for name, peak in peaks.items() if not 0 < peak < MAX_MEMORY_KB} == {}
    (newest_run(own) / "logs/stdout.log").unlink()


def test_a_reader_that_stops_holds_the_command_back(own: Cli) -> None:
    """Without end the host's disk would fill with what nobody reads: the command waits, as on any full pipe."""
    child = own.start("run", "-n", "--", "cat", "/dev/zero")
    wait_for_state(own, "running")
    spool = newest_run(own) / "logs/stdout.log"

    def stands() -> bool:
        before = spool.stat().st_size
        time.sleep(0.5)
        return 0 < before == spool.stat().st_size

    wait_until(stands, 20, "a command that waits")
    assert spool.stat().st_size < 256 << 20
    child.terminate()
    assert child.stdout is not None
    while child.stdout.read(1 << 20):
        pass
    assert child.wait(20) == 143


def test_fifty_commands_at_once_keep_their_streams_apart(hemma: Cli) -> None:
    def one(number: int) -> tuple[int, bytes, bytes]:
        data = random.Random(number).randbytes(20_000)
        line = f"cat; echo {number} >&2; exit {number}"
        done = hemma("run", "--shell", line, stdin=data, timeout_s=60)
        return done.returncode, done.stdout, done.stderr

    with ThreadPoolExecutor(50) as pool:
        ends = list(pool.map(one, range(50)))
    wanted = [(number, random.Random(number).randbytes(20_000), f"{number}\n".encode()) for number in range(50)]
    assert ends == wanted


def test_fifty_commands_at_once_from_nothing_share_one_broker(own: Cli) -> None:
    """Fifty clients that find no broker, and a host that has never seen the agent."""
    (broker,) = brokers(own)
    os.kill(broker, signal.SIGTERM)
    wait_until(lambda: not brokers(own), 10)

    def one(number: int) -> tuple[int, bytes, bytes]:
        done = own("run", "-n", "--", "echo", str(number), timeout_s=60)
        return done.returncode, done.stdout, done.stderr

    with ThreadPoolExecutor(50) as pool:
        ends = list(pool.map(one, range(50)))
    assert [end for end in ends if end[0]] == []
    assert [end[1] for end in ends] == [f"{number}\n".encode() for number in range(50)]
    assert len(brokers(own)) == 1


def test_clients_that_lose_their_broker_share_the_next(own: Cli) -> None:
    children = [own.start("run", "--shell", f"echo {n}; read line; echo $line; exit {n}") for n in range(12)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.read(1)
    (broker,) = brokers(own)
    os.kill(broker, signal.SIGKILL)
    ends = [child.communicate(b"on\n", timeout=40)[0].endswith(b"on\n") for child in children]
    assert ([child.returncode for child in children], ends) == (list(range(12)), [True] * 12)
    assert len(brokers(own)) == 1


def test_input_larger_than_memory_budgets_flows_through(own: Cli) -> None:
    size = 200 << 20
    argv = own.argv("run", "--", "wc", "-c")
    source = subprocess.Popen(["head", "-c", str(size), "/dev/zero"], stdout=subprocess.PIPE)
    client = subprocess.Popen(argv, stdin=source.stdout, cwd=own.folder, env=own.environ, stdout=subprocess.PIPE)
    assert source.stdout is not None
    assert client.stdout is not None
    source.stdout.close()
    # The peak since exec; what rusage tells holds the size of the process that forked it as well.
    peak, deadline = 0, time.monotonic() + 60
    while client.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, StopIteration, ValueError):
            peak = max(peak, peak_kb(client.pid))
        time.sleep(0.01)
    assert client.wait(1) == 0
    assert source.wait() == 0
    with client.stdout:
        assert int(client.stdout.read()) == size
    assert peak_kb(brokers(own)[0]) < MAX_MEMORY_KB
    assert 0 < peak < MAX_MEMORY_KB
