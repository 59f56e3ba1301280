"""Leak checks: a test in this folder that leaves a process, a thread or a zombie behind fails, and is told which."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import LEAK_TIMEOUT_S, command_line, processes_naming


def _children() -> set[int]:
    """Pids of our direct children, zombies included."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


def _leaks(folder: str, children: set[int], threads: set[threading.Thread]) -> list[str]:
    named = [f"process {pid}: {argv}" for pid, argv in processes_naming(folder).items()]
    born = [f"child {pid}: {' '.join(command_line(pid)) or 'a zombie'}" for pid in _children() - children]
    running = [f"thread {thread.name}" for thread in set(threading.enumerate()) - threads if thread.is_alive()]
    return named + born + running


@pytest.fixture(autouse=True)
def leaves_nothing_running(tmp_path: Path) -> Iterator[None]:
    """No process that names the test's folder, no new child or thread is left; leftovers are killed and reported."""
    children, threads = _children(), set(threading.enumerate())
    yield
    deadline = time.monotonic() + LEAK_TIMEOUT_S
    while (leaks := _leaks(str(tmp_path), children, threads)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in processes_naming(str(tmp_path)):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    assert not leaks, "the test left behind: " + "; ".join(leaks)
