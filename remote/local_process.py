"""Processes of this machine that outlive us: start one apart, recognise it later, end it. Linux and macOS.

A pid alone names nobody, it is reused; pid and start together do (S9-R19).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

END_TIMEOUT_S = 5.0


def spawn(argv: list[str], log: Path) -> int:
    """Start `argv` in a session of its own, adopted by init so that it leaves no zombie with us; returns its pid."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        told = subprocess.run(
            ["/bin/sh", "-c", '"$@" </dev/null >&2 & echo $!', "sh", *argv],
            stdout=subprocess.PIPE,
            stderr=handle,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},
            check=True,
        )
    finally:
        os.close(handle)
    return int(told.stdout)


def started(pid: int) -> str | None:
    """When process `pid` was started, as a word that no later process of that pid can share; None if it is dead."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None if Path("/proc/self/stat").exists() else _started_by_ps(pid)
    except (OSError, IndexError):
        return None
    return None if fields[0] in "ZX" else f"{boot_id}:{fields[19]}"


def _started_by_ps(pid: int) -> str | None:
    told = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    status, _, when = told.stdout.strip().partition(" ")
    return when.strip() if when and not status.startswith("Z") else None


def descendants(ancestor: int, program: str) -> list[int]:
    """The processes below `ancestor` whose names start with `program`, through parents that do as well."""
    table = _process_table()
    found, parents = list[int](), {ancestor}
    while parents:
        children = {pid for pid, (parent, name) in table.items() if parent in parents and name.startswith(program)}
        found += children
        parents = children
    return found


def _process_table() -> dict[int, tuple[int, str]]:
    """pid -> (parent's pid, program name) of every process of this machine."""
    if not Path("/proc/self/stat").exists():
        told = subprocess.run(["ps", "-axo", "pid=,ppid=,ucomm="], capture_output=True, text=True, check=False).stdout
        rows = [line.split(None, 2) for line in told.splitlines()]
        return {int(row[0]): (int(row[1]), row[2].strip()) for row in rows if len(row) == 3}
    table: dict[int, tuple[int, str]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                head, _, tail = Path(f"/proc/{entry}/stat").read_text(errors="replace").rpartition(")")
                table[int(entry)] = (int(tail.split()[1]), head.partition("(")[2])
    return table


def end(doomed: list[tuple[int, str | None]]) -> None:
    """End these processes (pid, started): asked first, killed after a while; a pid that was reused is left alone."""
    for ask in (signal.SIGTERM, signal.SIGKILL):
        alive = [(pid, since) for pid, since in doomed if since is not None and started(pid) == since]
        for pid, _ in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, ask)
        if holds_within(lambda left=alive: all(started(pid) != since for pid, since in left), END_TIMEOUT_S):
            return


def holds_within(claim: Callable[[], bool], timeout_s: float) -> bool:
    """Poll `claim` until it holds; False when it did not within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
