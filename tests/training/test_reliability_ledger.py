"""Many submits near the cap: neither ledger, money or GPU time, ever holds more than it may, and replaying it says the same (S8-R15)."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lanes.budget import Amount, Entry, replay
from tests.training.conftest import IS_FULL
from training.ledger import Ledger

SUBMITS = 100
ROUNDS = 20 if IS_FULL else 2
WRITERS = 4
CAP = Amount(money_micros=30_000_000, gpu_seconds=20 * 3600)
pytestmark = [pytest.mark.req("S8-R15"), pytest.mark.timeout(300)]
CODE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from lanes.budget import Amount
from training.ledger import Ledger
place, cap, submits = Path(sys.argv[2]), Amount(*json.loads(sys.argv[3])), json.loads(sys.argv[4])
ledger = Ledger(place, "root:tiny", cap)
print("ready", flush=True)
sys.stdin.readline()
for name, money, seconds, share in submits:
    if ledger.reserve(name, Amount(money, seconds)) is None and share is not None:
        ledger.settle(name, Amount(int(money * share), int(seconds * share)))
"""


def submits(seed: int) -> list[tuple[str, int, int, float | None]]:
    """Attempts of which about a third fits: (name, money, GPU seconds, share that was used or None for one that goes on)."""
    chance = random.Random(seed)
    return [
        (
            f"run-{number}/full_job-1",
            chance.randrange(2_000_000),
            chance.randrange(3600),
            chance.choice((None, 0.1, 1.0)),
        )
        for number in range(SUBMITS)
    ]


def writer(path: Path, work: list[Any]) -> subprocess.Popen[str]:
    """A process that makes these submits when it is told to."""
    root, cap = str(Path(__file__).parents[2]), json.dumps([CAP.money_micros, CAP.gpu_seconds])
    return subprocess.Popen(
        [sys.executable, "-c", CODE, root, str(path), cap, json.dumps(work)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> int:
    """Its exit code, its pipes closed."""
    with process:
        return process.wait(60)


def together(processes: list[subprocess.Popen[str]]) -> None:
    """Let them go at once."""
    for each in processes:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in processes:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.close()


def entries(path: Path) -> list[Entry]:
    """What the file holds; a line that a kill cut is left out, as the ledger does."""
    found: list[Entry] = []
    for line in path.read_bytes().split(b"\n"):
        try:
            said = json.loads(line)
        except ValueError:
            continue
        found.append(Entry(said["kind"], said["attempt"], Amount(said["money_micros"], said["gpu_seconds"])))
    return found


def never_above_the_cap(every: list[Entry]) -> None:
    """At no place of the list is more committed than may be, counted here and by the replay."""
    held: dict[str, Amount] = {}
    for number, entry in enumerate(every):
        held[entry.attempt] = entry.amount
        money, seconds = sum(a.money_micros for a in held.values()), sum(a.gpu_seconds for a in held.values())
        assert money <= CAP.money_micros
        assert seconds <= CAP.gpu_seconds
        assert replay(every[: number + 1], CAP).committed == Amount(money, seconds)
    assert not replay(every, CAP).void


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_submits_from_many_processes_never_pass_either_cap(tmp_path: Path, seed: int) -> None:
    path, work = tmp_path / "ledger.jsonl", submits(seed)
    processes = [writer(path, work[number::WRITERS]) for number in range(WRITERS)]
    together(processes)
    assert [ended(each) for each in processes] == [0] * WRITERS
    every = entries(path)
    never_above_the_cap(every)
    granted = {each.attempt for each in every if each.kind == "reserve"}
    # It was tight, and what was refused would not have fitted at the end either.
    assert 5 < len(granted) < SUBMITS
    last = replay(every, CAP)
    spent = Ledger(path, "root:tiny", CAP).spent()
    assert round(spent["money"] * 1e6) == last.spent.money_micros
    one = Ledger(path, "root:tiny", CAP)
    for name, money, seconds, _ in work:
        if name not in granted and not (last.committed + Amount(money, seconds)).fits(CAP):
            refused = one.reserve(name, Amount(money, seconds))
            assert refused is not None
            assert "cap" in refused
    assert entries(path) == every


def test_same_submits_in_the_same_order_are_granted_alike(tmp_path: Path) -> None:
    files: list[bytes] = []
    for name in ("one", "two"):
        path = tmp_path / name
        for attempt, money, seconds, share in submits(7):
            ledger = Ledger(path, "root:tiny", CAP)
            if ledger.reserve(attempt, Amount(money, seconds)) is None and share is not None:
                ledger.settle(attempt, Amount(int(money * share), int(seconds * share)))
        files.append(path.read_bytes())
    assert files[0] == files[1]


def test_killed_writers_leave_a_ledger_that_holds(tmp_path: Path) -> None:
    path, chance = tmp_path / "ledger.jsonl", random.Random(1)
    for number in range(40 if IS_FULL else 4):
        work = [(f"{number}-{name}", *rest) for name, *rest in submits(number)]
        process = writer(path, work)
        together([process])
        time.sleep(chance.uniform(0.0, 0.05))
        process.send_signal(signal.SIGKILL)
        ended(process)
        if chance.random() < 0.5 and path.exists():  # a power cut takes the end of a line as well
            os.truncate(path, max(0, path.stat().st_size - chance.randrange(60)))
        never_above_the_cap(entries(path) if path.exists() else [])
    assert Ledger(path, "root:tiny", CAP).reserve("last", Amount(0, 0)) is None
    assert entries(path)[-1].attempt == "last"


def test_what_a_lost_run_reserved_is_settled_by_the_time_it_lived(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    ledger = Ledger(tmp_path / "ledger.jsonl", "root:tiny", CAP)
    for name in ("lived", "unknown", "here"):
        assert ledger.reserve(f"{name}/full_job-1", Amount(1_000_000, 3600)) is None
    folder = runs / "lived/training"
    folder.mkdir(parents=True)
    begun = "2026-01-01T00:00:00.000+00:00"
    line = {"seq": 0, "kind": "reserve", "at": begun, "data": {"attempt": "full_job-1", "timeout_s": 3600}}
    (folder / "events.jsonl").write_text(json.dumps(line) + "\n")
    quarter = 1767225600 + 900
    for path in folder.iterdir():
        os.utime(path, (quarter, quarter))
    assert ledger.settle_lost(runs, "here") == ["lived/full_job-1", "unknown/full_job-1"]
    # A quarter of the first; of the second nothing is known, so all of it.
    assert ledger.spent() == {"money": 1.25, "gpu_hours": 1.25}
    assert replay(entries(ledger.path), CAP).open == {"here/full_job-1"}
    assert ledger.settle_lost(runs, "here") == []


def test_requests_of_other_names_share_the_file_and_nothing_else(tmp_path: Path) -> None:
    first, second = (Ledger(tmp_path / "ledger.jsonl", name, Amount(10, 10)) for name in ("a", "b"))
    assert first.reserve("x", Amount(10, 10)) is None
    assert second.reserve("x", Amount(10, 10)) is None
    assert first.reserve("y", Amount(1, 0)) is not None
