"""A connection that is cut, reset or stalls costs nothing: every byte arrives once, the exit code is the command's.

Each batch runs ten commands at once through a proxy that breaks their shared connection at points chosen by a fixed seed;
ten batches make the hundred runs. What a command prints is random too (NULs, invalid UTF-8), and known from its seed.
"""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from remote.loopback import LoopbackHost
from tests.real.chaos_proxy import ChaosProxy
from tests.real.host_processes import runs_folder
from tests.support import Cli, EnvironFor, wait_until

Make = Callable[[dict[str, str]], Cli]
RUNS_A_BATCH = 10
KEEPALIVE_S = 1.0

# What both sides can compute: pieces for stdout and stderr from a seed, and an exit code.
PIECES = """
import os, random, sys, time
def pieces(seed):
    r = random.Random(seed)
    for _ in range(r.randrange(30, 60)):
        data = r.randbytes(r.choice((1, 10, 3000, 40000))) + bytes((0, 255, 10, 13, 128))
        yield r.choice((1, 1, 2)), data, r.random() < 0.3, r.random() * 0.06
def code(seed):
    return random.Random(seed + 1).randrange(0, 126)
"""
EMIT = (
    PIECES
    + """
seed = int(sys.argv[1])
for stream, data, pauses, pause_s in pieces(seed):
    while data:
        data = data[os.write(stream, data):]
    if pauses:
        time.sleep(pause_s)
sys.exit(code(seed))
"""
)


def expected(seed: int) -> tuple[int, bytes, bytes]:
    """(exit code, stdout, stderr) of the uncut run."""
    scope: dict[str, Callable[..., object]] = {}
    exec(PIECES, scope)
    pieces = list(scope["pieces"](seed))  # type: ignore[call-overload]
    streams = [b"".join(data for stream, data, *_ in pieces if stream == number) for number in (1, 2)]
    return scope["code"](seed), streams[0], streams[1]  # type: ignore[return-value]


@pytest.fixture
def proxy(sshd: LoopbackHost) -> Iterator[ChaosProxy]:
    with ChaosProxy(sshd.port) as proxy:
        yield proxy


@pytest.fixture
def through(proxy: ChaosProxy, hemma_with: Make, settings_env: EnvironFor, sshd: LoopbackHost, tmp_path: Path) -> Cli:
    """The CLI whose connection goes through the proxy, warm, with short patience."""
    environ = settings_env(
        ssh_config=proxy.ssh_config_for(sshd),
        state=tmp_path / "hemma",
        HEMMA_KEEPALIVE_S=str(KEEPALIVE_S),
        HEMMA_CONNECT_TIMEOUT_S="2",
    )
    cli = hemma_with(environ)
    assert cli("run", "--", "true").returncode == 0
    return cli


def emit(cli: Cli, seed: int) -> tuple[int, bytes, bytes]:
    done = cli("run", "-n", "--", cli.environ["HEMMA_PYTHON"], "-c", EMIT, str(seed), timeout_s=50)
    return done.returncode, done.stdout, done.stderr


def drop(proxy: ChaosProxy, chance: random.Random) -> None:
    """A reset after so many more bytes: within a frame's head, its offset or its data."""
    cuts = proxy.cuts
    proxy.drop_after(chance.choice((1, 7, 9, 13, chance.randrange(1, 300_000))))
    deadline = time.monotonic() + 0.5
    while proxy.cuts == cuts and time.monotonic() < deadline:
        time.sleep(0.005)


def reset(proxy: ChaosProxy, chance: random.Random) -> None:
    """A reset at some time, in both directions."""
    time.sleep(chance.random() * 0.3)
    proxy.cut()


def stall(proxy: ChaosProxy, chance: random.Random) -> None:
    """Nothing moves for a while, shorter or longer than the keepalive."""
    time.sleep(chance.random() * 0.2)
    proxy.stall()
    time.sleep(chance.choice((0.1, KEEPALIVE_S * 2.5)))
    proxy.resume()


def refuse(proxy: ChaosProxy, chance: random.Random) -> None:
    """A host that is gone for a moment: cut, and nobody listens."""
    time.sleep(chance.random() * 0.2)
    proxy.refuse()
    proxy.cut()
    time.sleep(chance.random() * 0.4)
    proxy.accept()


FAULTS = {"drop": drop, "reset": reset, "stall": stall, "refuse": refuse}


@pytest.mark.req("S9-R13")
@pytest.mark.parametrize(
    ("kind", "seed"),
    [(kind, seed) for kind in ("drop", "reset", "stall") for seed in (1, 2, 3)] + [("refuse", 1)],
)
def test_cut_connections_repeat_and_lose_no_byte(through: Cli, proxy: ChaosProxy, kind: str, seed: int) -> None:
    chance = random.Random(f"{kind} {seed}")
    seeds = [chance.randrange(1 << 30) for _ in range(RUNS_A_BATCH)]
    wanted = [expected(seed) for seed in seeds]
    faults, before = 0, len(list(runs_folder(through).iterdir()))
    with ThreadPoolExecutor(RUNS_A_BATCH) as pool:
        runs = [pool.submit(emit, through, seed) for seed in seeds]
        if kind == "refuse":  # a host that refuses a first contact is simply not there
            wait_until(lambda: len(list(runs_folder(through).iterdir())) == before + RUNS_A_BATCH)
        while faults < 4 and not all(run.done() for run in runs):
            FAULTS[kind](proxy, chance)
            faults += 1
        for number, run in enumerate(runs):
            code, stdout, stderr = run.result(60)
            assert (code, len(stdout), len(stderr)) == (wanted[number][0], *map(len, wanted[number][1:])), stderr[-300:]
            assert (stdout, stderr) == wanted[number][1:]
    assert faults
    assert proxy.cuts or kind == "stall"


# --- input -------------------------------------------------------------------------------------------------------


@pytest.mark.req("S9-R13")
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_input_arrives_whole_across_cuts(through: Cli, proxy: ChaosProxy, seed: int) -> None:
    chance = random.Random(seed)
    data = chance.randbytes(3_000_000)
    child = through.start("run", "--", "cat")
    with ThreadPoolExecutor(2) as pool:
        reading = pool.submit(read_all, child)
        writing = pool.submit(write_slowly, child, data)
        for _ in range(3):
            time.sleep(0.1 + chance.random() * 0.3)
            proxy.cut()
        writing.result(40)
        echoed = reading.result(40)
    assert child.wait(20) == 0
    assert len(echoed) == len(data)
    assert echoed == data


def read_all(child: subprocess.Popen[bytes]) -> bytes:
    assert child.stdout is not None
    pieces: list[bytes] = []
    while piece := child.stdout.read(1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


def write_slowly(child: subprocess.Popen[bytes], data: bytes) -> None:
    assert child.stdin is not None
    for start in range(0, len(data), 100_000):
        view = memoryview(data)[start : start + 100_000]
        while len(view):
            view = view[child.stdin.write(view) or 0 :]
        time.sleep(0.02)
    child.stdin.close()


@pytest.mark.parametrize("data", [b"", b"all of it\n", b"x" * 400_000], ids=["empty", "line", "long"])
def test_input_sent_before_the_host_answered_is_not_lost(through: Cli, proxy: ChaosProxy, data: bytes) -> None:
    """The connection is warm but dead: the request and its input go into a void, and have to go again."""
    proxy.stall()
    child = through.start("run", "--", "wc", "-c")
    assert child.stdin is not None
    child.stdin.write(data)
    child.stdin.close()
    time.sleep(0.3)
    proxy.cut()
    proxy.resume()
    assert child.stdout is not None
    assert child.stdout.read().strip() == b"%d" % len(data)
    assert child.wait(20) == 0


# --- what a command may not notice -------------------------------------------------------------------------------


@pytest.mark.req("S9-R18")
def test_a_request_that_is_sent_again_starts_no_second_process(through: Cli, proxy: ChaosProxy, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    for number in range(6):
        proxy.drop_after(1 + 40 * number)  # within the reply, or the first output
        done = through("run", "--", "sh", "-c", f"echo started >> '{proof}'; echo done")
        assert (done.returncode, done.stdout) == (0, b"done\n")
    assert proof.read_text() == "started\n" * 6


def test_a_reader_that_leaves_during_an_outage_still_ends_the_command(through: Cli, proxy: ChaosProxy) -> None:
    child = through.start("run", "-n", "--", "yes")
    assert child.stdout is not None
    child.stdout.read(2)
    proxy.stall()
    child.stdout.close()
    time.sleep(0.2)
    proxy.cut()
    proxy.resume()
    assert child.wait(30) == 141


def test_ctrl_c_during_an_outage_reaches_the_command(through: Cli, proxy: ChaosProxy) -> None:
    child = through.start("run", "-n", "--", "sh", "-c", "echo ready; exec sleep 100")
    assert child.stdout is not None
    assert child.stdout.read(6) == b"ready\n"
    proxy.refuse()
    proxy.cut()
    time.sleep(0.3)
    child.send_signal(signal.SIGINT)
    time.sleep(0.1)
    proxy.accept()
    assert child.wait(20) == 130


def test_a_person_can_always_leave_while_the_host_is_gone(through: Cli, proxy: ChaosProxy) -> None:
    child = through.start("run", "-n", "--lease", "1", "--", "sh", "-c", "echo ready; exec sleep 100")
    assert child.stdout is not None
    assert child.stdout.read(6) == b"ready\n"
    proxy.refuse()
    proxy.cut()
    for _ in range(3):
        time.sleep(0.3)
        child.send_signal(signal.SIGINT)
    assert child.wait(10) == 255
    assert child.stderr is not None
    assert b"hemma attach" in child.stderr.read()


def test_a_host_that_is_not_there_is_255_at_once(
    proxy: ChaosProxy, sshd: LoopbackHost, hemma_with: Make, settings_env: EnvironFor, tmp_path: Path
) -> None:
    proxy.refuse()
    cli = hemma_with(settings_env(ssh_config=proxy.ssh_config_for(sshd), state=tmp_path / "hemma"))
    before = time.monotonic()
    done = cli("run", "--", "true")
    assert (done.returncode, done.stdout) == (255, b"")
    assert b"refused the connection" in done.stderr
    assert b"do " in done.stderr
    assert time.monotonic() - before < 10
