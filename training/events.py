"""The run's own logs: events.jsonl and alerts.jsonl are the truth, metrics.jsonl the series (S12-R13, S12-R14, S21-R05).

A record that `append` returned is on the disk: it survives SIGKILL and power loss, exactly once, under its number. Each
names its predecessor by digest (lanes/event_chain.py). Several processes may append to one log; each line is written
under a lock. A line that was cut by a crash is moved to `<log>.torn` before the next one is written, never dropped.
A full disk does not silence the log: `<folder>/.reserve` is given up for the last words.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import fcntl
import json
import math
import os
import threading
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lanes.event_chain import chained
from training.errors import NoRoom

RESERVE_BYTES = 256 << 10
RESERVE_NAME = ".reserve"
_BLOCK = 64 << 10
_PENDING_LINES = 20_000
# Made once: json.dumps with settings of its own makes an encoder per call, and this is called every step.
_ENCODE = json.JSONEncoder(separators=(",", ":"), default=str).encode


class ChainedLog:
    """An append-only log of chained records. `torn_bytes` counts what the last repair moved aside."""

    def __init__(self, path: Path) -> None:
        """Open (or make) the log at `path`, mode 0600, and mend its end if a crash cut it."""
        self.path = path
        self.torn_bytes = 0
        self._guard = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        self._handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if is_new:
            _sync_folder(path.parent)
        self._end = -1
        self._previous: dict[str, Any] | None = None
        with self._locked():
            pass

    def add(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Append `record` with its number, time and chain fields; on the disk when this returns.

        Raises NoRoom when the disk is full even without the reserve; the log then ends as it did before.
        """
        with self._locked():
            whole = chained(self._previous, {"at": _now(), **record})
            line = json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass") + b"\n"
            self._write(line)
            self._end += len(line)
            self._previous = whole
        return whole

    @property
    def count(self) -> int:
        """How many records there are."""
        return 0 if self._previous is None else int(self._previous["seq"]) + 1

    def read(self, since: int = 0) -> list[dict[str, Any]]:
        """Records with `seq` >= `since`, in order."""
        return read(self.path, since)

    def close(self) -> None:
        """Give the file back. Nothing is pending: every record was synced."""
        with self._guard:
            if self._handle >= 0:
                os.close(self._handle)
                self._handle = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @contextlib.contextmanager
    def _locked(self) -> Generator[None]:
        # One thread, then one process at a time; another process may have written since: its last record is ours now.
        with self._guard:
            fcntl.flock(self._handle, fcntl.LOCK_EX)
            try:
                if os.fstat(self._handle).st_size != self._end:
                    self._catch_up()
                yield
            finally:
                fcntl.flock(self._handle, fcntl.LOCK_UN)

    def _catch_up(self) -> None:
        size = os.fstat(self._handle).st_size
        end, last = size, None
        while end and last is None:
            line, start = _line_before(self._handle, end)
            last = _record(line)
            end = end if last is not None else start
        if end < size:
            self._move_aside(end, size)
        self._end, self._previous = end, last

    def _move_aside(self, start: int, end: int) -> None:
        torn = os.pread(self._handle, end - start, start)
        with open(self.path.with_name(self.path.name + ".torn"), "ab") as file:
            file.write(torn + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.ftruncate(self._handle, start)
        os.fsync(self._handle)
        self.torn_bytes += end - start

    def _write(self, line: bytes) -> None:
        for may_use_reserve in (True, False):
            try:
                _write_whole(self._handle, line)
                os.fsync(self._handle)
                return
            except OSError as error:
                os.ftruncate(self._handle, self._end)
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                if not (may_use_reserve and _give_up_reserve(self.path.parent)):
                    folder = self.path.parent
                    raise NoRoom(
                        f"a record of {self.path.name}",
                        str(folder),
                        needed_bytes=len(line),
                        free_bytes=free_bytes(folder),
                    ) from error


class EventLog(ChainedLog):
    """events.jsonl: records are manifests.evidence.EventRecord (kind, data)."""

    def append(self, kind: str, data: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Append an event of this kind; on the disk when this returns."""
        return self.add({"kind": kind, "data": dict(data or {})})


class AlertLog(ChainedLog):
    """alerts.jsonl: level, title, step, text with the numbers in it, the numbers as fields, the action (S12-R03, S12-R04)."""

    def append(self, alert: Mapping[str, Any]) -> dict[str, Any]:
        """Append an alert (lanes.alert_rules.Alert as a dict); on the disk when this returns.

        Its `seq` is the cursor that readers carry (S12-R07).
        """
        # JSON has no NaN: what is no number is null, the text says which word it was.
        plain = {
            name: None if isinstance(each, float) and not math.isfinite(each) else each for name, each in alert.items()
        }
        numbers = {name: plain[name] for name in ("value", "threshold") if name in plain}
        return self.add({"numbers": numbers, **plain})


class MetricsLog:
    """metrics.jsonl: one row per log of the trainer, flushed to the system at once, not synced (the checkpoint syncs it).

    A full disk loses no row while the process lives: rows wait in memory and are written when there is room.
    """

    def __init__(self, path: Path) -> None:
        """Open (or make) the series; a row that a crash cut is dropped from its end: the trainer logs that step again."""
        self.path = path
        self._waiting: list[bytes] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.end = os.fstat(self._handle).st_size
        if self.end and os.pread(self._handle, 1, self.end - 1) != b"\n":
            self.end = _line_before(self._handle, self.end)[1]
            os.ftruncate(self._handle, self.end)

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row. Never raises for a full disk."""
        self._waiting.append(_as_line(row))
        del self._waiting[:-_PENDING_LINES]
        lines = b"".join(self._waiting)
        try:
            _write_whole(self._handle, lines)
        except OSError:
            os.ftruncate(self._handle, self.end)
            return
        self.end += len(lines)
        self._waiting.clear()

    def supersede_after(self, step: int) -> int:
        """Move rows of steps after `step` to metrics.superseded.jsonl: a resumed run writes them anew. Returns how many."""
        rows = read_metrics(self.path)
        kept = [row for row in rows if is_before(row, step)]
        if len(kept) == len(rows):
            return 0
        dropped = [row for row in rows if not is_before(row, step)]
        with open(self.path.with_name("metrics.superseded.jsonl"), "a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in dropped)
            file.flush()
            os.fsync(file.fileno())
        os.close(self._handle)
        replacement = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        replacement.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        replacement.replace(self.path)
        self._handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        self.end = os.fstat(self._handle).st_size
        return len(dropped)

    def sync(self) -> None:
        """Make what was written durable; a full disk waits for the next time."""
        with contextlib.suppress(OSError):
            os.fsync(self._handle)

    def close(self) -> None:
        """Give the file back."""
        if self._handle >= 0:
            self.sync()
            os.close(self._handle)
            self._handle = -1


def read(path: Path, since: int = 0) -> list[dict[str, Any]]:
    """Records with `seq` >= `since`, in order; the next cursor is the last `seq` + 1. A line still being written is left out."""
    return [record for record in _lines(path) if record.get("seq", -1) >= since]


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl, in order; a line still being written is left out."""
    return list(_lines(path))


def is_before(row: Mapping[str, Any], step: int) -> bool:
    """Whether a row of the series stands when a training goes on from the checkpoint of `step`.

    The trainer's closing row does not, though it has that step: whoever goes on from the last checkpoint closes again.
    """
    return _step_of(row) <= step and "train_runtime" not in row


def keep_reserve(folder: Path) -> None:
    """Put aside the bytes that let a full disk still be told. Never raises: without room there is no reserve."""
    path = folder / RESERVE_NAME
    with contextlib.suppress(OSError):
        if not path.exists() or path.stat().st_size < RESERVE_BYTES:
            with open(path, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)


def free_bytes(folder: Path) -> int:
    """Bytes that this user can still write on the disk of `folder`."""
    facts = os.statvfs(folder)
    return facts.f_bavail * facts.f_frsize


def _give_up_reserve(folder: Path) -> bool:
    try:
        (folder / RESERVE_NAME).unlink()
    except OSError:
        return False
    return True


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with open(path, "rb") as file:
            for line in file:
                record = _record(line)
                if record is not None:
                    yield record
    except FileNotFoundError:
        return


def _record(line: bytes) -> dict[str, Any] | None:
    """The record of a whole line, or None for one that a crash cut."""
    if not line.endswith(b"\n"):
        return None
    try:
        value: object = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None  # pyright: ignore[reportUnknownVariableType]


def _line_before(handle: int, end: int) -> tuple[bytes, int]:
    """(the last line that ends at `end`, where it starts)."""
    start, tail = end, b""
    while start > 0:
        begin = max(0, start - _BLOCK)
        tail = os.pread(handle, start - begin, begin) + tail
        start = begin
        cut = tail.rfind(b"\n", 0, len(tail) - 1)
        if cut >= 0:
            return tail[cut + 1 :], start + cut + 1
    return tail, 0


def _write_whole(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _as_line(row: Mapping[str, Any]) -> bytes:
    return _ENCODE(row).encode() + b"\n"


def _step_of(row: Mapping[str, Any]) -> int:
    step = row.get("step", 0)
    return step if isinstance(step, int) else 0


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
