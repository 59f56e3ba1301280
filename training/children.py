"""Work in a process of its own, watched from outside: how it ended is known also when it is killed (S9-R20).

A child is the same payload with another word: `python -I payload.zip work NAME JOB RESULT`. What it prints goes to a log
and on to us; its result is one JSON file, written by rename.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lanes.redaction import secret_values
from lanes.redaction_stream import MaskedStream

GRACE_S = 60.0
# Files that every child keeps open, see hand_down.
_handed_down: set[int] = set()
PARENT = "HEMMA_EXECUTOR_PID"
_PR_SET_PDEATHSIG = 1
TAIL_BYTES = 1 << 20
LONGEST_LINE = 1 << 20
_OOM_FILES = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")


@dataclass(frozen=True)
class ChildEnd:
    """How a child ended. `result` is what it wrote, None when it did not come so far; `tail` the end of what it printed."""

    code: int | None
    signal: int | None
    is_timed_out: bool
    oom_kills: int
    seconds: float
    result: dict[str, Any] | None
    tail: str
    log: str

    @property
    def is_ok(self) -> bool:
        """Whether it ended by itself, with success and a result."""
        return self.code == 0 and self.result is not None

    @property
    def last_line(self) -> str:
        """The last line that it printed, which says most often why it ended; of our own two-line errors the first."""
        lines = [line.strip() for line in self.tail.splitlines() if line.strip()]
        if len(lines) > 1 and lines[-1].startswith("do  ") and lines[-2].startswith("failed  "):
            return lines[-2].removeprefix("failed").strip()
        return lines[-1] if lines else "it said nothing"

    def as_dict(self) -> dict[str, Any]:
        """The end as evidence keeps it, without the log's text."""
        fields = ("code", "signal", "is_timed_out", "oom_kills", "seconds", "log")
        return {name: getattr(self, name) for name in fields}


class Stopped(Exception):
    """The run is to end: SIGTERM or SIGINT came, and the child was given time for a checkpoint."""


def run_child(
    words: list[str],
    *,
    name: str,
    folder: Path,
    cwd: Path,
    timeout_s: float,
    extra_env: Mapping[str, str] | None = None,
    on_tick: Callable[[], None] | None = None,
    is_stopping: Callable[[], bool] = lambda: False,
) -> ChildEnd:
    """Run our own program with `words` until it ends, or `timeout_s` is over: then SIGTERM, GRACE_S later SIGKILL.

    `on_tick` is called about five times a second while it runs.
    """
    log, result = folder / "logs" / f"{name}.log", folder / "logs" / f"{name}.result.json"
    log.parent.mkdir(exist_ok=True, parents=True)
    result.unlink(missing_ok=True)
    before, begun = oom_kills(), time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-I", sys.argv[0], *words, str(result)],
        cwd=cwd,
        env={**os.environ, **(extra_env or {}), "PYTHONUNBUFFERED": "1", PARENT: str(os.getpid())},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=tuple(_handed_down),
    )
    tail = _Tail(process.stdout, log, secret_values({**os.environ, **(extra_env or {})}))
    is_timed_out = _wait(process, begun + timeout_s, on_tick, is_stopping)
    _end_group(process.pid)
    tail.join()
    code = process.returncode
    return ChildEnd(
        code=code if code >= 0 else None,
        signal=-code if code < 0 else None,
        is_timed_out=is_timed_out,
        oom_kills=oom_kills() - before,
        seconds=round(time.monotonic() - begun, 3),
        result=_read(result),
        tail=tail.text(),
        log=f"logs/{log.name}",
    )


def hand_down(handle: int) -> None:
    """Let every child started from now on keep this open file: a lock on it then lasts until the last of them has ended."""
    _handed_down.add(handle)


def end_with_parent() -> None:
    """In a child: SIGTERM when the executor is gone, however it ended; a training then makes a checkpoint and ends.

    Elsewhere than on Linux nothing tells; there the lock that was handed down keeps a second job away.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
    if os.getppid() == 1 and os.environ.get(PARENT, "1") != "1":  # it was gone before we asked
        os.kill(os.getpid(), signal.SIGTERM)


def _wait(
    process: subprocess.Popen[bytes],
    deadline: float,
    on_tick: Callable[[], None] | None,
    is_stopping: Callable[[], bool],
) -> bool:
    """Wait for the end; returns whether time ran out. A child that is told to stop gets GRACE_S for its checkpoint."""
    told_at: float | None = None
    is_timed_out = False
    while process.poll() is None:
        if on_tick:
            on_tick()
        now = time.monotonic()
        if told_at is None and (now > deadline or is_stopping()):
            told_at, is_timed_out = now, now > deadline
            process.send_signal(signal.SIGTERM)
        elif told_at is not None and now > told_at + GRACE_S:
            process.kill()
        try:
            process.wait(0.2)
        except subprocess.TimeoutExpired:
            continue
    if on_tick:
        on_tick()
    return is_timed_out


def _end_group(pid: int) -> None:
    """What a child left behind (data loaders, trackers) must not hold the GPU."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


class _Tail:
    """Copies what a child prints to its log and to our stderr, secrets masked (S20-R03); keeps the end of it."""

    def __init__(self, source: IO[bytes] | None, log: Path, known: Sequence[str]) -> None:
        assert source is not None
        self._source, self._log, self._kept = source, log, bytearray()
        self._masked = MaskedStream(known, LONGEST_LINE)
        self._thread = threading.Thread(target=self._copy, daemon=True)
        self._thread.start()

    def _copy(self) -> None:
        with self._source, self._log.open("ab") as file:
            while piece := os.read(self._source.fileno(), 1 << 16):
                self._say(file, self._masked.feed(piece))
            self._say(file, self._masked.end())

    def _say(self, file: IO[bytes], clean: bytes) -> None:
        self._kept += clean
        del self._kept[: -2 * TAIL_BYTES]
        for out in (file, sys.stderr.buffer):
            with contextlib.suppress(OSError):  # a full disk, a closed stderr: the child goes on
                out.write(clean)
                out.flush()

    def join(self) -> None:
        """Wait until all is copied; not for ever, a grandchild may hold the pipe open."""
        self._thread.join(5)

    def text(self) -> str:
        """The end of what was printed."""
        return bytes(self._kept[-TAIL_BYTES:]).decode("utf-8", "replace")


def oom_kills() -> int:
    """How often the kernel killed something in our control group for memory; 0 where that cannot be read."""
    for path in _OOM_FILES:
        try:
            lines = Path(path).read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        counts = [line.split()[1] for line in lines if line.startswith("oom_kill ")]
        return int(counts[0]) if counts else 0
    return 0


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value: object = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
