"""What the guard of git costs a call, beside the real git: a straight one, one that is refused, one that is saved first.

    benchmarks/git_guard.py [--json FILE] [--quick]

The guard is the one a host gets, from the agent's zip, in a run that waits. Both gits are called in turn; medians.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import table
from harness.table import Row

from remote import delivery

START = """
import json, os, sys, time
sys.path.insert(0, sys.argv[1])
from hemma_agent import launch, store
request = json.loads(sys.argv[2])
folder, control, _ = launch.start(request, dict(os.environ))
while (store.read(folder, "status.json") or {}).get("state") != "running":
    time.sleep(0.01)
print(json.dumps({"folder": folder, "pid": store.read(folder, "status.json")["pid"]}))
"""


@dataclass(frozen=True)
class Size:
    """How many files the clone has, and how often a call is timed."""

    files: int = 1000
    straight: int = 300
    judged: int = 20


QUICK = Size(files=20, straight=3, judged=2)


@dataclass(frozen=True)
class Room:
    """A clone, and the two ways to call git in it."""

    clone: Path
    plain: dict[str, str]
    guarded: dict[str, str]
    runs: Path

    def call(self, *argv: str, guarded: bool, code: int = 0) -> float:
        """Milliseconds that one call took."""
        environ = self.guarded if guarded else self.plain
        program = shutil.which("git", path=environ["PATH"])
        assert program
        start = time.perf_counter()
        done = subprocess.run([program, *argv], cwd=self.clone, env=environ, capture_output=True, check=False)
        taken = (time.perf_counter() - start) * 1000
        assert done.returncode == code, done.stderr
        return taken


@contextlib.contextmanager
def room(size: Size) -> Generator[Room]:
    """A clone of `size.files` files in a folder of its own, and a run in it that waits."""
    with tempfile.TemporaryDirectory(prefix="hemma-bench-") as name:
        folder = Path(name)
        clone = folder / "clone"
        clone.mkdir()
        plain = {"PATH": os.environ["PATH"], "HOME": name, "GIT_CONFIG_NOSYSTEM": "1"}
        for number in range(size.files):
            (clone / f"file-{number}.py").write_text(f"{number}\n" * 30)
        git = ["git", "-c", "user.name=B", "-c", "user.email=b@example.org"]
        for argv in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "one"], ["branch", "other"]):
            subprocess.run([*git, *argv], cwd=clone, env=plain, check=True)
        agent = folder / "agent.zip"
        agent.write_bytes(delivery.agent_zip()[0])
        request = {"run_id": "bench", "state_dir": str(folder / "state"), "root": str(clone), "require": []}
        request |= {"argv": ["sleep", "1000"], "env": {}, "lease_s": None}
        argv = [sys.executable, "-I", "-c", START, str(agent), json.dumps(request)]
        started = json.loads(subprocess.run(argv, env=plain, capture_output=True, check=True).stdout)
        try:
            guarded = {**plain, "PATH": f"{started['folder']}/hemma-git:{plain['PATH']}"}
            yield Room(clone, plain, guarded, folder / "state/runs")
        finally:
            os.kill(started["pid"], signal.SIGTERM)
            time.sleep(0.5)  # the run's end writes into the folder that goes now


def rows(size: Size) -> Iterator[Row]:
    """The figures, as they come."""
    with room(size) as here:
        for argv in (["rev-parse", "HEAD"], ["status", "--short"]):
            both = [(here.call(*argv, guarded=True), here.call(*argv, guarded=False)) for _ in range(size.straight)]
            ours, plain = (statistics.median(times) for times in zip(*both, strict=True))
            yield Row(f"`git {argv[0]}`, straight", ours, plain, "ms", "<= 1.6", "git")
            yield Row("… what it adds", ours - plain, 1.0, "ms", "<= 1", "allowed")
        refused = [here.call("reset", "--hard", guarded=True, code=75) for _ in range(size.judged)]
        yield Row("`git reset --hard`, refused", statistics.median(refused), None, "ms")
        switches: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(size.judged):
            for guarded in (True, False):
                switches[guarded] += [here.call("switch", "-q", name, guarded=guarded) for name in ("other", "main")]
        ours, plain = (statistics.median(switches[guarded]) for guarded in (True, False))
        yield Row(f"`git switch`, {size.files:,} files, nothing new to save", ours, plain, "ms", None, "git")
        for number in range(size.judged):
            (here.clone / "file-1.py").write_text(f"edit {number}\n")
            (here.clone / f"new-{number}.py").write_text(f"new {number}\n")
            switches[True].append(here.call("switch", "-q", "-c", f"topic-{number}", guarded=True))
        yield Row(
            "… with an edit and a new file to save",
            statistics.median(switches[True][-size.judged :]),
            plain,
            "ms",
            None,
            "git",
        )


def main() -> int:
    """Measure and show; returns 0 when every target holds, else 1 (--quick: always 0)."""
    options = table.parser_for(__doc__ or "").parse_args()
    found = list(rows(QUICK if options.quick else Size()))
    table.show("guard of git", found, options.json)
    return int(not options.quick and any(row.holds is False for row in found))


if __name__ == "__main__":
    sys.exit(main())
