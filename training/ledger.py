"""The two ledgers on this host, money and GPU time: one append-only file for all runs of a repository (S8-R15, C22).

Entries are appended under a lock and synced before the attempt starts; what is left follows from replaying them.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any, Protocol

from lanes.budget import MICROS, SECONDS_PER_HOUR, Amount, Entry, may_reserve, replay
from lanes.budget import settle as settled
from training.events import read as read_events


class _Course(Protocol):
    job: dict[str, Any]
    root: Path

    @property
    def state_folder(self) -> Path: ...


class Ledger:
    """The ledger file at `path`, with the caps of one request: its own attempts are held against its own caps."""

    def __init__(self, path: Path, request: str, cap: Amount) -> None:
        self.path, self.request, self.cap = path, request, cap

    @classmethod
    def of(cls, course: _Course) -> Ledger:
        """The ledger beside the run folders; one request is a name in a repository, over all of its runs."""
        spec = course.job["resources"]
        cap = Amount(round(spec["max_cost"] * MICROS), round(spec["max_gpu_hours"] * SECONDS_PER_HOUR))
        return cls(course.state_folder / "ledger.jsonl", f"{course.root}:{course.job['name']}", cap)

    def reserve(self, attempt: str, amount: Amount | None) -> str | None:
        """Reserve for an attempt; returns why not, or None when it is reserved and on disk."""
        with self._locked() as entries:
            verdict = may_reserve(entries, attempt, amount, self.cap)
            if not verdict.allowed or amount is None:
                return "; ".join(f"{reason.rule}: {reason.fact}" for reason in verdict.reasons)
            self._append(Entry("reserve", attempt, amount))
        return None

    def refusal(self, attempt: str, amount: Amount | None) -> str | None:
        """Why this could not be reserved now; None when it could. Nothing is written."""
        with self._locked() as entries:
            verdict = may_reserve(entries, attempt, amount, self.cap)
        return None if verdict.allowed else "; ".join(f"{reason.rule}: {reason.fact}" for reason in verdict.reasons)

    def settle(self, attempt: str, amount: Amount) -> None:
        """Enter what an attempt really took."""
        with self._locked() as entries:
            found = settled(entries, attempt, amount, self.cap)
            if isinstance(found, Entry):
                self._append(found)

    def settle_lost(self, runs: Path, here: str) -> list[str]:
        """Settle what runs of this request reserved that are gone without a word (killed, a reboot); returns their attempts.

        For the one run of the request that holds the lock, called `here`: no other can be alive. What was reserved is for
        the whole time limit; taken is the share of it that passed until the run's last sign of life.
        """
        with self._locked() as entries:
            lost = sorted(each for each in replay(entries, self.cap).open if not each.startswith(f"{here}/"))
            for attempt in lost:
                amount = next(each.amount for each in entries if each.attempt == attempt and each.kind == "reserve")
                run, _, name = attempt.partition("/")
                share = _share_used(runs / run / "training", name)
                used = Amount(round(amount.money_micros * share), round(amount.gpu_seconds * share))
                self._append(Entry("settle", attempt, used))
        return lost

    def committed(self) -> Amount:
        """What all attempts of this request took or still hold reserved."""
        with self._locked() as entries:
            return replay(entries, self.cap).committed

    def spent(self) -> dict[str, float]:
        """What all attempts of this request took: money, and GPU hours."""
        with self._locked() as entries:
            amount = replay(entries, self.cap).spent
        return {"money": amount.money_micros / MICROS, "gpu_hours": amount.gpu_seconds / SECONDS_PER_HOUR}

    @contextlib.contextmanager
    def _locked(self) -> Generator[list[Entry]]:
        handle = os.open(f"{self.path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield self._entries()
        finally:
            os.close(handle)

    def _entries(self) -> list[Entry]:
        found: list[Entry] = []
        try:
            lines = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return found
        for line in lines:
            with contextlib.suppress(
                ValueError, KeyError, TypeError
            ):  # a line torn by a power cut was never acknowledged
                said = json.loads(line)
                if said["request"] == self.request:
                    found.append(
                        Entry(said["kind"], said["attempt"], Amount(said["money_micros"], said["gpu_seconds"]))
                    )
        return found

    def _append(self, entry: Entry) -> None:
        said = {
            "request": self.request,
            "kind": entry.kind,
            "attempt": entry.attempt,
            "money_micros": entry.amount.money_micros,
            "gpu_seconds": entry.amount.gpu_seconds,
        }
        handle = os.open(self.path, os.O_CREAT | os.O_APPEND | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(handle).st_size
            start = b"" if size == 0 or os.pread(handle, 1, size - 1) == b"\n" else b"\n"
            os.write(handle, start + json.dumps(said).encode() + b"\n")
            os.fsync(handle)
        finally:
            os.close(handle)


def _share_used(folder: Path, attempt: str) -> float:
    """The share of its time limit that an attempt of a run had taken when the run was last heard of; all, if unknown."""
    try:
        reserved = [each for each in read_events(folder / "events.jsonl") if each["kind"] == "reserve"]
        begun = [each for each in reserved if each["data"]["attempt"] == attempt][-1]
        limit = float(begun["data"]["timeout_s"])
        heard = max(path.stat().st_mtime for path in folder.iterdir() if path.is_file())
        return min(1.0, max(0.0, (heard - dt.datetime.fromisoformat(begun["at"]).timestamp()) / limit))
    except (OSError, ValueError, KeyError, IndexError, TypeError, ZeroDivisionError):
        return 1.0
