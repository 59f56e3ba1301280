"""`hemma run` beside ssh, ssh with ControlMaster, and fabric: same host, same minute, taken in turn, medians.

    benchmarks/run.py [--json FILE] [--quick] [--no-start-up-files]

Needs OpenSSH's sshd; it starts one of its own, with an empty home. What the figures mean, and what did not help: benchmarks/NOTES.md.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness import table
from harness.stage import Stage
from harness.table import Row

MEGABYTE = 1 << 20
MEMORY_LIMIT_MB = 80.0
# A process may need a little more for the longer stream; what it must not do is grow with it.
FLAT = "<= 1.15"


@dataclass(frozen=True)
class Counts:
    """How often, and how much."""

    warm: int = 31
    cold: int = 5
    others: int = 5
    stream_mb: int = 512
    streams: int = 3
    short: int = 200
    short_rounds: int = 3


QUICK = Counts(warm=3, cold=1, others=1, stream_mb=16, streams=1, short=16, short_rounds=1)
WORKERS = 8


def measure(stage: Stage, counts: Counts, *, with_start_up_files: bool) -> list[Row]:
    """All rows, in the order of the table.

    What a command costs over plain ssh depends on what the host's shell reads at its start (pyenv, conda …); ours reads it
    once for all commands (S9-R21). So latency is measured with this account's own and, harder for us, with none at all.
    """
    stage.start_master()
    rows: list[Row] = []
    for is_on in (True, False)[not with_start_up_files :]:
        words = "" if is_on else ", no start-up files"
        stage.use_start_up_files(is_on=is_on)
        stage.run(stage.hemma("true"))
        rows += [*warm(stage, counts, words), *cold(stage, counts, words), *short_commands(stage, counts, words)]
    stage.use_start_up_files(is_on=False)
    return [*rows, *streams(stage, counts), *memory(stage, counts)]


def in_turn(rounds: int, *actions: Callable[[], float]) -> list[float]:
    """The median of each action over `rounds`, run A B A B …, so that a busy moment meets all of them."""
    seen: list[list[float]] = [[] for _ in actions]
    for _ in range(rounds):
        for action, figures in zip(actions, seen, strict=True):
            figures.append(action())
    return [statistics.median(figures) for figures in seen]


def timed_ms(stage: Stage, argv: list[str]) -> Callable[[], float]:
    """An action: run `argv` and give the milliseconds of the whole process."""

    def action() -> float:
        begun = time.perf_counter()
        stage.run(argv)
        return (time.perf_counter() - begun) * 1000

    return action


# --- latency -----------------------------------------------------------------------------------------------------


def warm(stage: Stage, counts: Counts, words: str) -> list[Row]:
    """`true` on a host that was used a moment ago; and what the others take that keep nothing warm."""
    ours, master = in_turn(counts.warm, timed_ms(stage, stage.hemma("true")), timed_ms(stage, stage.master("true")))
    ssh, fabric, python = in_turn(
        counts.others,
        timed_ms(stage, stage.ssh("true")),
        timed_ms(stage, stage.fabric("true")),
        timed_ms(stage, [sys.executable, "-c", "pass"]),
    )
    return [
        Row("warm `run -- true`" + words, ours, master, "ms", "<= 0.6", "ssh, ControlMaster"),
        Row("… beside ssh cold", ours, ssh, "ms", None, "ssh"),
        Row("… beside fabric", ours, fabric, "ms", None, "fabric script"),
        Row("… beside an empty Python", ours, python, "ms", None, "python -c pass"),
    ]


def cold(stage: Stage, counts: Counts, words: str) -> list[Row]:
    """The first use ever: settings resolved, broker started, agent sent."""

    def first_use() -> float:
        stage.wipe()
        return timed_ms(stage, stage.hemma("true"))()

    ours, fabric = in_turn(counts.cold, first_use, timed_ms(stage, stage.fabric("true")))
    return [Row("first use, cold" + words, ours, fabric, "ms", "<= 2", "fabric script")]


def short_commands(stage: Stage, counts: Counts, words: str) -> list[Row]:
    """Many commands, eight at a time: how many end per second."""

    def rate(argv: list[str]) -> Callable[[], float]:
        def action() -> float:
            begun = time.perf_counter()
            _many(stage, counts.short, argv)
            return counts.short / (time.perf_counter() - begun)

        return action

    rounds = counts.short_rounds
    ours, master = in_turn(rounds, rate(stage.hemma("true")), rate(stage.master("true")))
    name = f"{counts.short} short commands, {WORKERS} at a time{words}"
    return [Row(name, ours, master, "per s", ">= 2", "ssh, ControlMaster")]


def _many(stage: Stage, count: int, argv: list[str]) -> None:
    """Run `argv` `count` times, WORKERS at a time, by xargs: a lighter driver than threads of ours on few cores."""
    lines = "".join(f"{number}\n" for number in range(count))
    subprocess.run(
        ["xargs", "-P", str(WORKERS), "-I", "NUMBER", *argv],
        input=lines.encode(),
        stdout=subprocess.DEVNULL,
        cwd=stage.project,
        env=stage.environ,
        check=True,
    )


# --- throughput --------------------------------------------------------------------------------------------------


def streams(stage: Stage, counts: Counts) -> list[Row]:
    """Megabytes of stdout per second, to the same sink, both sides warm; the peer keeps its default cipher."""
    gcm = "aes128-gcm@openssh.com"
    stage.start_master(gcm)
    stage.run(stage.hemma("true"))
    noise = stage.home / "noise"
    noise.write_bytes(os.urandom(counts.stream_mb * MEGABYTE))
    zeros, random = ["head", "-c", f"{counts.stream_mb}M", "/dev/zero"], ["cat", str(noise)]
    rows: list[Row] = []
    for name, command in (("zeros", zeros), ("random bytes", random)):
        figures = in_turn(
            counts.streams,
            _streamed(stage, stage.hemma(*command), counts.stream_mb),
            _streamed(stage, stage.master(*command), counts.stream_mb),
            _streamed(stage, stage.master(*command, cipher=gcm), counts.stream_mb),
        )
        title = f"{counts.stream_mb} MB of {name}"
        rows += [
            Row(title, figures[0], figures[1], "MB/s", ">= 0.8", "ssh"),
            Row("… beside ssh -c aes128-gcm", figures[0], figures[2], "MB/s", None, "ssh -c aes128-gcm"),
        ]
    noise.unlink()
    return rows


def _streamed(stage: Stage, argv: list[str], megabytes: int) -> Callable[[], float]:
    def action() -> float:
        begun = time.perf_counter()
        size = swallow(stage, argv)
        rate = megabytes / (time.perf_counter() - begun)
        stage.forget_runs()
        if size != megabytes * MEGABYTE:
            raise SystemExit(f"{argv[0]} gave {size} bytes instead of {megabytes * MEGABYTE}")
        return rate

    return action


def swallow(stage: Stage, argv: list[str]) -> int:
    """Run `argv` with its stdout in a pipe and count what comes, without copying it; returns the bytes."""
    size = 0
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=stage.project, env=stage.environ
    ) as process:
        assert process.stdout is not None
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            while moved := os.splice(process.stdout.fileno(), null, MEGABYTE):
                size += moved
        finally:
            os.close(null)
    if process.returncode:
        raise SystemExit(f"{argv[0]} exited with {process.returncode}")
    return size


# --- memory ------------------------------------------------------------------------------------------------------


def memory(stage: Stage, counts: Counts) -> list[Row]:
    """The peak of the largest process of ours during a long stream, and each one's beside that of a short stream."""
    short = peaks_mb(stage, max(1, counts.stream_mb // 8))
    long = peaks_mb(stage, counts.stream_mb)
    rows = [Row("peak memory, largest process", max(long.values()), MEMORY_LIMIT_MB, "MB", "< 1", "limit")]
    for role in sorted(long):
        name = f"… {role}, whole stream beside an eighth"
        rows.append(Row(name, long[role], short.get(role, long[role]), "MB", FLAT, "an eighth"))
    return rows


def peaks_mb(stage: Stage, megabytes: int) -> dict[str, float]:
    """role -> peak resident memory of each process of ours while `megabytes` stream through fresh ones."""
    stage.end_broker()
    seen: dict[str, float] = {}
    done = threading.Event()

    def watch() -> None:
        # Peaks only grow, so the last look counts; a process that ends in between loses its last moments.
        while not done.wait(0.02):
            for pid, role in stage.processes().items():
                if peak := peak_mb(pid):  # 0: it ended as we looked
                    seen[role] = max(seen.get(role, 0.0), peak)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        swallow(stage, stage.hemma("head", "-c", f"{megabytes}M", "/dev/zero"))
    finally:
        done.set()
        watcher.join()
    stage.forget_runs()
    return seen


def peak_mb(pid: int) -> float:
    """VmHWM of a process; 0 when it is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def _leave(number: int, _frame: object) -> None:
    """`timeout` ends us so: the host and the broker must not stay behind."""
    sys.exit(128 + number)


def main() -> int:
    """Measure and show; returns 0 when every target holds, else 1 (--quick: always 0)."""
    parser = table.parser_for(__doc__ or "")
    parser.add_argument(
        "--no-start-up-files",
        action="store_true",
        help="leave out the rows where the host's shell reads this account's own .bashrc or .zshenv, as it does for plain "
        "ssh; they run hundreds of times for it and may write what they write at any login (pyenv renews its shims)",
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _leave)
    stage = Stage()
    try:
        rows = measure(stage, QUICK if options.quick else Counts(), with_start_up_files=not options.no_start_up_files)
    finally:
        stage.close()
    table.show("hemma run beside its peers", rows, options.json)
    return int(not options.quick and any(row.holds is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
