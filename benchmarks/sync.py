"""`hemma status` and `hemma sync` on a large repository, beside the commands that a person would type into ssh.

    benchmarks/sync.py [--json FILE] [--quick]

The peer does what status does: git's state here, and three `ssh host git …` calls for the state there, a connection for each
or all through a ControlMaster. Needs OpenSSH's sshd; what the figures mean: benchmarks/NOTES.md.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import table
from harness.stage import Stage, wait_for
from harness.table import Row

from controller.flows import lane
from controller.flows import sync as flow
from lanes.merging import SyncPlan
from remote.host import Host
from remote.repository import HostRepository, LocalRepository

STATUS = ("status", "--porcelain=v2", "--branch", "--show-stash", "--untracked-files=all")
AGAINST_ORIGIN = ("rev-list", "--left-right", "--count", "HEAD...refs/remotes/origin/main")
CHANGED = ("diff", "--name-only", "HEAD...refs/remotes/origin/main")


@dataclass(frozen=True)
class Size:
    """How large the repository is, and how often each side is asked."""

    files: int = 50_000
    commits: int = 20_000
    rounds: int = 9


QUICK = Size(files=300, commits=100, rounds=1)


def history(size: Size) -> Iterator[bytes]:
    """The repository for `git fast-import`: all files in the first commit, then one file changed in each."""
    names = [b"src/part%03d/module%05d.py" % (number // 100, number) for number in range(size.files)]
    yield b"blob\nmark :1\ndata 10\nSTEPS = 1\n\n"
    for number in range(size.commits):
        yield b"commit refs/heads/main\ncommitter Bench <bench@example.invalid> %d +0000\n" % (1_700_000_000 + number)
        yield b"data 5\nwork\n\n"
        if not number:
            yield b"".join(b"M 100644 :1 %s\n" % name for name in names)
        else:
            text = b"STEPS = %d\n" % number
            yield b"M 100644 inline %s\ndata %d\n%s\n" % (names[number * 37 % size.files], len(text), text)
        yield b"\n"


@dataclass(frozen=True)
class Clones:
    """The stage's host with its clone, and the local one."""

    stage: Stage
    host: Path
    local: Path

    @property
    def environ(self) -> dict[str, str]:
        """The environment of everything that is measured."""
        return {**self.stage.environ, "HEMMA_HOST": "bench", "HEMMA_ROOT": str(self.host)}

    def run(self, argv: list[str]) -> None:
        """Run a command line in the local clone to its end. Raises CalledProcessError unless it exits 0."""
        null = subprocess.DEVNULL
        with subprocess.Popen(argv, stdin=null, stdout=null, cwd=self.local, env=self.environ) as process:
            wait_for(process)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, argv)


def lay_out(stage: Stage, size: Size) -> Clones:
    """An origin with that history, and its two clones; each has one uncommitted change."""
    origin, host, local = (stage.folder / name for name in ("origin.git", "host-clone", "local-clone"))
    git = ["git", "-c", "gc.auto=0"]
    subprocess.run([*git, "init", "-q", "--bare", "-b", "main", str(origin)], check=True, env=stage.environ, timeout=60)
    with subprocess.Popen(
        [*git, "-C", str(origin), "fast-import", "--quiet"], stdin=subprocess.PIPE, env=stage.environ
    ) as process:
        assert process.stdin is not None
        process.stdin.writelines(history(size))
    for clone in (host, local):
        subprocess.run([*git, "clone", "-q", str(origin), str(clone)], check=True, env=stage.environ, timeout=300)
        (clone / "notes.txt").write_text("x\n", encoding="utf-8")
    return Clones(stage, host, local)


# --- status --------------------------------------------------------------------------------------------------------------


def status(clones: Clones, size: Size) -> list[Row]:
    """The whole of `hemma status` beside the same by hand, both taken in turn, medians."""
    stage = clones.stage
    stage.start_master()
    ours = [stage.hemma()[0], "status"]
    clones.run(ours)
    figures = in_turn(
        size.rounds,
        lambda: clones.run(ours),
        lambda: by_hand(clones, stage.ssh),
        lambda: by_hand(clones, stage.master),
        lambda: clones.run(["git", *STATUS]),
    )
    name = f"`status`, {size.files:,} files, {size.commits:,} commits"
    return [
        Row(name, figures[0], figures[1], "ms", "<= 0.5", "three ssh calls"),
        Row("… beside ControlMaster", figures[0], figures[2], "ms", None, "three calls, ControlMaster"),
        Row("… beside one `git status` here", figures[0], figures[3], "ms", None, "git status"),
    ]


def by_hand(clones: Clones, ssh: Callable[..., list[str]]) -> None:
    """What a person types to know as much: three questions here, the same three on the host."""
    for question in (STATUS, AGAINST_ORIGIN, CHANGED):
        clones.run(["git", *question])
        clones.run(ssh("git", "-C", str(clones.host), *question))


def in_turn(rounds: int, *actions: Callable[[], None]) -> list[float]:
    """The median milliseconds of each action over `rounds`, run A B C A B C …, so that a busy moment meets all of them."""
    seen: list[list[float]] = [[] for _ in actions]
    for _ in range(rounds):
        for action, figures in zip(actions, seen, strict=True):
            begun = time.perf_counter()
            action()
            figures.append((time.perf_counter() - begun) * 1000)
    return [statistics.median(figures) for figures in seen]


# --- sync ----------------------------------------------------------------------------------------------------------------


class CountingHost(Host):
    """The host as `hemma sync` asks it, counting each request and its reply."""

    trips = 0

    def request(self, verb: str, *, timeout_s: float = 60.0, **fields: Any) -> dict[str, Any]:
        """One frame there, one reply back."""
        self.trips += 1
        return super().request(verb, timeout_s=timeout_s, **fields)


def sync(clones: Clones, size: Size) -> list[Row]:
    """A sync with nothing to do: how often the host is asked, and how long it takes."""
    os.environ.update(clones.environ)
    os.chdir(clones.local)  # the host's clone is compared with the one that we stand in
    spec = {
        "ssh": clones.stage.host.alias,
        "ssh_config": clones.stage.host.ssh_config,
        "python": clones.stage.host.python,
        "root": str(clones.host),
    }
    repository = HostRepository(spec)
    repository.host = host = CountingHost(spec)
    local = LocalRepository(str(clones.local))
    seen = flow.look(local, repository)
    plan = flow.plan(lane.ground(str(clones.local), os.environ), seen)
    if not isinstance(plan, SyncPlan) or plan.steps:
        raise SystemExit(f"there should be nothing to do, but: {plan}")
    flow.carry_out(seen, plan, print)
    (took,) = in_turn(size.rounds, lambda: clones.run([clones.stage.hemma()[0], "sync"]))
    return [
        Row("`sync`, nothing to do: round trips to the host", host.trips, 2, "", "<= 1", "allowed"),
        Row("`sync`, nothing to do", took, None, "ms"),
    ]


def _leave(number: int, _frame: object) -> None:
    """`timeout` ends us so: the host and the broker must not stay behind."""
    sys.exit(128 + number)


def main() -> int:
    """Measure and show; returns 0 when every target holds, else 1 (--quick: always 0)."""
    options = table.parser_for(__doc__ or "").parse_args()
    size = QUICK if options.quick else Size()
    signal.signal(signal.SIGTERM, _leave)
    stage = Stage()
    try:
        clones = lay_out(stage, size)
        rows = [*status(clones, size), *sync(clones, size)]
    finally:
        stage.close()
    table.show("hemma status and sync", rows, options.json)
    return int(not options.quick and any(row.holds is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
