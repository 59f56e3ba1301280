"""The project's memory at 10,000 entries: what an append costs, what 20 writers at once and 200 kill -9 leave of it.

    benchmarks/memory.py [--json FILE] [--quick]

An entry counts as acknowledged once `append` has returned. After every kill the log is read by a plain JSON reader; at
the end each acknowledged entry must be there, once. Chance has a fixed seed; when a signal lands is the machine's.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import table
from harness.table import Row

from controller.flows import memory as flow
from controller.flows.memory_check import check
from lanes import memory as decide
from manifests.memory import ARCHIVE, LOG

HEMMA = str(Path(sys.executable).with_name("hemma"))
GIT = ["git", "-c", "user.name=B", "-c", "user.email=b@example.org", "-c", "init.defaultBranch=main"]
SEED = 20261121


@dataclass(frozen=True)
class Size:
    """How many of each, and how often a time is taken."""

    entries: int = 10_000
    commits: int = 100
    writers: int = 20
    each: int = 10
    kills: int = 200
    moves: int = 50
    rounds: int = 7


QUICK = Size(entries=300, commits=5, writers=3, each=2, kills=5, moves=3, rounds=1)


def entry(number: int, day: str) -> dict[str, Any]:
    """An entry of usual length: about 400 bytes."""
    said = flow.entry_of(f"task {number}", "what was done, in a sentence or two " * 2, status="success")
    return {**said, "date": day, "files_touched": ["app/some/module.py", "tests/test_module.py"], "notes": "why " * 40}


def planted(folder: Path, count: int, *, old: int = 0) -> flow.Memory:
    """A memory with `count` entries; the first `old` of them are of a year ago."""
    memory = flow.Memory(str(folder), ".claude")
    (folder / ".claude").mkdir(parents=True)
    today = flow.today()
    days = [(today - dt.timedelta(days=365 if number < old else 1)).isoformat() for number in range(count)]
    memory.write(LOG, decide.appended(decide.EMPTY, [entry(number, day) for number, day in enumerate(days)]))
    return memory


def median_ms(rounds: int, action: Callable[[], object]) -> float:
    """The median time of an action, in ms."""
    times: list[float] = []
    for _ in range(rounds):
        start = time.perf_counter()
        action()
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


def read_plainly(memory: flow.Memory) -> list[dict[str, Any]]:
    """Archive and log, read by nobody's code of ours. Raises ValueError for a file that is no JSON."""
    found: list[dict[str, Any]] = []
    for name in (ARCHIVE, LOG):
        path = Path(memory.path(name))
        found += json.loads(path.read_text("utf-8"))["entries"] if path.exists() else []
    return found


# --- time -----------------------------------------------------------------------------------------------------------


def times(folder: Path, size: Size) -> list[Row]:
    """What each verb costs on the full log."""
    memory, few = planted(folder / "full", size.entries), planted(folder / "few", 10)
    today = flow.today().isoformat()
    n = f"{size.entries:,} entries"
    append, short = (median_ms(size.rounds, lambda at=at: flow.append(at, [entry(-1, today)])) for at in (memory, few))
    rows = [Row(f"append, {n}", append, short, "ms", None, "10 entries")]
    if len(read_plainly(memory)) != size.entries + size.rounds:
        raise SystemExit("the appended entries are not there")
    for each in (memory, few):
        subprocess.run([*GIT, "init", "-q", each.root], check=True)

    def cold(place: flow.Memory) -> float:
        words = [HEMMA, "memory", "log", "asked", "done"]
        return median_ms(size.rounds, lambda: subprocess.run(words, cwd=place.root, check=True, capture_output=True))

    rows.append(Row(f"`hemma memory log`, {n}", cold(memory), cold(few), "ms", "<= 1.5", "the same, 10 entries"))
    rows.append(
        Row(
            f"search, {n}",
            median_ms(size.rounds, lambda: flow.found(memory, ["TASK", "299"])),
            500,
            "ms",
            "<= 1",
            "allowed",
        )
    )
    return rows


def moves(folder: Path, size: Size) -> Row:
    """The archive move of nearly all entries at once."""
    took: list[float] = []
    for number in range(min(3, size.rounds)):
        memory = planted(folder / f"old{number}", size.entries, old=size.entries - 100)
        before = read_plainly(memory)
        took.append(median_ms(1, lambda memory=memory: flow.archive(memory)))
        if read_plainly(memory) != before:
            raise SystemExit("archive and log do not say what the log said")
    return Row(f"archive move, {size.entries - 100:,} entries", statistics.median(took), 1000, "ms", "<= 1", "allowed")


def history(folder: Path, size: Size) -> Row:
    """`check` over a history in which the log grew to its full size, a commit at a time."""
    memory = planted(folder, 0)
    git = [*GIT, "-C", str(folder)]
    subprocess.run([*git, "init", "-q"], check=True)
    text, each = memory.text(LOG, ""), size.entries // size.commits
    for commit in range(size.commits):
        text = decide.appended(text, [entry(commit * each + n, "2026-11-01") for n in range(each)])
        memory.write(LOG, text)
        subprocess.run([*git, "add", "-A"], check=True)
        subprocess.run([*git, "commit", "-q", "-m", str(commit)], check=True)
    took = median_ms(min(3, size.rounds), lambda: check(memory))
    name = f"check, {size.entries:,} entries over {size.commits} commits"
    return Row(name, took, 10_000, "ms", "<= 1", "allowed")


# --- writers --------------------------------------------------------------------------------------------------------


def writer(memory: flow.Memory, name: str, count: int) -> tuple[int, int]:
    """A child that appends `count` entries and says each one's name once it is there: (process, what to read)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    try:
        for number in range(count):
            said = entry(0, flow.today().isoformat())
            flow.append(memory, [{**said, "requested": f"{name}-{number}"}])
            os.write(writing, f"{name}-{number}\n".encode())
    finally:
        os._exit(0)


def heard(reading: int) -> list[str]:
    """Every name that was said, to the end."""
    with open(reading, encoding="utf-8") as file:
        return file.read().split()


@dataclass
class Tally:
    """What was acknowledged, and what became of it."""

    said: list[str]
    unreadable: int = 0
    half_done: int = 0

    def rows(self, memory: flow.Memory, name: str) -> list[Row]:
        """Counts, each of which must be none."""
        there = Counter(str(each["requested"]) for each in read_plainly(memory))
        lost = sum(not there[each] for each in self.said)
        twice = sum(count > 1 for each, count in there.items() if not each.startswith("task"))
        left = sum(path.name.endswith(".tmp") for path in Path(memory.path(LOG)).parent.iterdir())
        counted = (("lost", lost), ("twice", twice), ("times unreadable", self.unreadable), ("files left over", left))
        rows = [Row(f"{name}: {len(self.said):,} entries acknowledged", len(self.said), None, "")]
        return rows + [Row(f"{name}: {what}", number, 1, "", "< 1", "none allowed") for what, number in counted]


def at_once(folder: Path, size: Size) -> list[Row]:
    """Writers side by side on the full log."""
    memory = planted(folder, size.entries)
    children = [writer(memory, f"w{number}", size.each) for number in range(size.writers)]
    tally, alive = Tally([]), {child for child, _ in children}
    while alive:
        alive -= {child for child in alive if os.waitpid(child, os.WNOHANG)[0]}
        _look(memory, tally)
    tally.said = [name for _, reading in children for name in heard(reading)]
    if len(tally.said) != size.writers * size.each:
        raise SystemExit(f"the writers ended early: {len(tally.said)} entries")
    return tally.rows(memory, f"{size.writers} writers")


def killed(folder: Path, size: Size) -> list[Row]:
    """Writers that are killed at a chance moment within two writes after their first, on the full log."""
    memory, chance, tally = planted(folder, size.entries), random.Random(SEED), Tally([])
    two_writes_s = _two_writes_s(memory)
    for number in range(size.kills):
        child, reading = writer(memory, f"k{number}", 1000)
        first = os.read(reading, 4096).decode()
        time.sleep(chance.uniform(0, two_writes_s))
        _end(child)
        tally.said += (first + " ".join(heard(reading))).split()
        _look(memory, tally)
    flow.append(memory, [entry(-1, flow.today().isoformat())])
    name = f"{size.kills} kill -9"
    return [Row(f"{name}: met a file half written", tally.half_done, None, ""), *tally.rows(memory, name)]


def _two_writes_s(memory: flow.Memory) -> float:
    """How long a child needs for two entries."""
    child, reading = writer(memory, "warm", 3)
    os.read(reading, 5)
    start = time.perf_counter()
    heard(reading)
    os.waitpid(child, 0)
    return time.perf_counter() - start


def killed_while_moving(folder: Path, size: Size) -> list[Row]:
    """The archive move, killed at a chance moment: archive and log must still say the same entries, in order."""
    chance, differ, begun, between = random.Random(SEED), 0, 0, 0
    took_s = min(_move_s(folder / f"whole{number}") for number in range(3))
    for number in range(size.moves):
        memory = planted(folder / str(number), 3000, old=2900)
        before = read_plainly(memory)
        child = mover(memory)
        time.sleep(chance.uniform(0, 1.1 * took_s))
        _end(child)
        is_moved = len(decide.parse(memory.text(LOG, "")).entries) == 100
        begun += not is_moved
        between += not is_moved and os.path.exists(memory.path(ARCHIVE))
        flow.archive(memory)
        differ += read_plainly(memory) != before
    name = f"{size.moves} kill -9 of an archive move"
    return [
        Row(f"{name}: before its end", begun, None, ""),
        Row(f"{name}: between its two files", between, None, ""),
        Row(f"{name}: entries changed, lost or twice", differ, 1, "", "< 1", "none allowed"),
    ]


def _move_s(folder: Path) -> float:
    """How long a child needs for the move."""
    memory = planted(folder, 3000, old=2900)
    start = time.perf_counter()
    os.waitpid(mover(memory), 0)
    return time.perf_counter() - start


def mover(memory: flow.Memory) -> int:
    """A child that moves what is old to the archive."""
    child = os.fork()
    if not child:
        try:
            flow.archive(memory)
        finally:
            os._exit(0)
    return child


def _end(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _look(memory: flow.Memory, tally: Tally) -> None:
    try:
        read_plainly(memory)
    except ValueError:
        tally.unreadable += 1
    tally.half_done += any(path.name.endswith(".tmp") for path in Path(memory.path(LOG)).parent.iterdir())


def main() -> int:
    """Measure and show; returns 0 when every target holds, else 1 (--quick: always 0)."""
    options = table.parser_for(__doc__ or "").parse_args()
    size = QUICK if options.quick else Size()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {"HEMMA_CONFIG_DIR": str(folder / "config"), "HEMMA_CACHE_DIR": str(folder / "cache")}
        rows = [*times(folder / "times", size), moves(folder / "moves", size), history(folder / "history", size)]
        rows += at_once(folder / "writers", size)
        rows += killed(folder / "killed", size)
        rows += killed_while_moving(folder / "moving", size)
    table.show("hemma memory", rows, options.json)
    return int(not options.quick and any(row.holds is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
