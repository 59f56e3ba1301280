"""The children that process rows, each held by a thread: tries with a growing pause, a time limit, quarantine at the end."""

from __future__ import annotations

import contextlib
import io
import json
import os
import queue
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol, Self, cast

from manifests.errors import HemmaError
from training.rows.artifacts import VARIABLE

# What varies goes in as arguments. -I: a PYTHONPATH of the session must not hide what travels with the slice.
PROGRAM = (
    "import importlib, sys; sys.path.insert(0, sys.argv[1]); "
    "sys.exit(importlib.import_module(sys.argv[2] + '.worker').main(sys.argv[3], sys.argv[4]))"
)
START_TIMEOUT_S = 600.0
MAX_PAUSE_S = 300.0
FINISH_S = 5.0
_QUEUE_ROWS = 4
# Is given the pipe with what a child prints.
Pump = Callable[[BinaryIO], None]


class Keep(Protocol):
    """Takes what a row left in its child's folder; says why it could not, empty when it could."""

    def __call__(self, folder: str, *, is_done: bool) -> str: ...


class ProcessorUnusable(HemmaError):
    """The processor cannot be loaded, so no row can be done."""

    code = "processor-unusable"


@dataclass(frozen=True)
class Task:
    """A row to do: its position in the slice, key, content, and how often it was tried before."""

    position: int
    key: str
    row: dict[str, Any]
    tries: int = 0


@dataclass(frozen=True)
class Outcome:
    """What came of one try: `state` done, failed (it is tried again) or quarantined (its tries are used up)."""

    task: Task
    state: str
    tries: int
    result: dict[str, Any] | None = None
    error: str = ""


@dataclass(frozen=True)
class Terms:
    """How children are run. `source` is put on their path; they work in `folder`; times in seconds."""

    source: str
    processor: str
    folder: str
    workers: int = 1
    attempts: int = 3
    backoff_s: float = 1.0
    row_timeout_s: float = 900.0
    environment: dict[str, str] | None = None
    # A folder on this machine's disk, in which each child has one for what it makes besides its answers.
    artifacts: str = ""


class Pool:
    """As many children as `terms.workers`, fed from one iterator of tasks."""

    def __init__(self, terms: Terms, tasks: Iterator[Task], pump: Pump, keep: Keep | None = None) -> None:
        self._keep = keep
        self._terms, self._tasks, self._pump, self._lock = terms, tasks, pump, threading.Lock()
        self._out: queue.Queue[Outcome | BaseException | None] = queue.Queue(terms.workers * _QUEUE_ROWS)
        self._stopping = threading.Event()
        self._abandoned = threading.Event()
        self._children: list[_Child] = []
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(terms.workers)]
        self.doing: dict[int, str] = {}

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()
        while any(thread.is_alive() for thread in self._threads):
            with contextlib.suppress(queue.Empty):  # a thread may be waiting for room
                self._out.get(timeout=0.05)

    def stop(self) -> None:
        """No further row is begun; those at work end."""
        self._stopping.set()

    def abandon(self) -> None:
        """End the children now; what they were doing is not done."""
        self._stopping.set()
        self._abandoned.set()
        for child in list(self._children):
            child.kill()

    def outcomes(self, tick_s: float) -> Iterator[Outcome | None]:
        """What comes of the rows, as it comes; None every `tick_s` in between. Raises ProcessorUnusable.

        Ends when every task is done, or after `stop` when those at work are.
        """
        left = len(self._threads)
        while left:
            try:
                found = self._out.get(timeout=tick_s)
            except queue.Empty:
                yield None
                continue
            if isinstance(found, BaseException):
                raise found
            if found is None:
                left -= 1
            else:
                yield found

    # --- in the threads -----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            self._all_rows()
        except BaseException as error:  # noqa: BLE001 - told in the main thread, which raises it
            self._out.put(error)
        self._out.put(None)

    def _all_rows(self) -> None:
        me, child = threading.get_ident(), None
        try:
            while (task := self._next()) is not None:
                self.doing[me] = task.key
                child = self._row(task, child)
                self.doing.pop(me, None)
        finally:
            if child is not None:
                child.finish()

    def _next(self) -> Task | None:
        if self._stopping.is_set():
            return None
        with self._lock:
            return next(self._tasks, None)

    def _row(self, task: Task, child: _Child | None) -> _Child | None:
        """Try one row until it is done, quarantined or the run is stopping; returns the child for the next one."""
        for tries in range(task.tries + 1, max(task.tries + 1, self._terms.attempts) + 1):
            if child is None or not child.is_alive:
                if child is not None:
                    child.end()
                child = self._child()
            said: dict[str, Any] = child.ask(task.row, self._terms.row_timeout_s)
            if self._keep is not None and (error := self._keep(child.artifacts, is_done="result" in said)):
                said = {"error": error}
            if self._abandoned.is_set() and "result" not in said:
                break
            state = "done" if "result" in said else "failed" if tries < self._terms.attempts else "quarantined"
            self._out.put(Outcome(task, state, tries, said.get("result"), str(said.get("error", ""))))
            if state != "failed":
                break
            if self._stopping.wait(min(self._terms.backoff_s * 2 ** (tries - 1), MAX_PAUSE_S)):
                break
        return child

    def _child(self) -> _Child:
        child = _Child(self._terms, self._pump)
        self._children.append(child)
        if self._abandoned.is_set():
            child.kill()
        said = child.hear(START_TIMEOUT_S)
        if "ready" not in said and not self._abandoned.is_set():
            fact = said.get("broken") or said.get("error")
            raise ProcessorUnusable(
                f"the processor {self._terms.processor} cannot be loaded: {fact}",
                remedy="mend it in the repository, commit, issue the slice again; or install what it imports",
            )
        return child


class _Child:
    """One process that holds the processor, and the lines to and from it."""

    def __init__(self, terms: Terms, pump: Pump) -> None:
        room = __package__ or "training.rows"
        argv = [sys.executable, "-I", "-c", PROGRAM, terms.source, room, terms.processor, terms.folder]
        self.artifacts = tempfile.mkdtemp(dir=terms.artifacts or None)
        environ = {**os.environ, **(terms.environment or {}), VARIABLE: self.artifacts}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(argv, bufsize=0, env=environ, stdin=pipe, stdout=pipe, stderr=pipe)
        pump(io.BufferedReader(cast("io.RawIOBase", self._process.stderr)))
        self._rest = b""

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, row: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """The child's answer to a row: {"result"} or {"error"}, also when it died or took too long. Never raises."""
        assert self._process.stdin is not None
        try:
            view = memoryview(json.dumps(row).encode("ascii") + b"\n")
            while view:
                view = view[self._process.stdin.write(view) :]
        except OSError:
            return {"error": self._end_words()}
        return self.hear(timeout_s)

    def hear(self, timeout_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        until = time.monotonic() + timeout_s
        pipe = self._process.stdout.fileno()
        while b"\n" not in self._rest:
            if not select.select([pipe], [], [], max(0.0, until - time.monotonic()))[0]:
                self.end()
                return {"error": f"it took longer than {timeout_s:g} s and was ended"}
            piece = os.read(pipe, 1 << 20)
            if not piece:
                return {"error": self._end_words()}
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    def finish(self) -> None:
        """End it kindly: without a further row it leaves by itself."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(FINISH_S)
        self.end()

    def kill(self) -> None:
        """End it now, from any thread: its pipes stay with the thread that reads them."""
        with contextlib.suppress(OSError):
            self._process.kill()

    def end(self) -> None:
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _end_words(self) -> str:
        code = self._process.wait()
        return f"it killed its process (signal {-code})" if code < 0 else f"it ended its process (exit code {code})"
