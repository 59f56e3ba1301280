"""A session's claim on a run: one works on it at a time, and what it is (machine, versions) stands in its status."""

from __future__ import annotations

import os
import platform
import socket
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

from manifests.errors import HemmaError
from training.rows import bundle, heart
from training.rows.files import Files

# A heartbeat this many times its period old belongs to a session that is gone.
MISSED_BEATS = 3
SLACK_S = 2.0


class Busy(HemmaError):
    """Another session works on this run."""

    exit_code = 75
    code = "run-busy"


def first_status(run_id: str, index: bundle.Index, source: str) -> heart.Status:
    """The status of a session that begins (see manifests/slices.py, RowStatus)."""
    return {
        "schema_version": 1,
        "kind": "rows",
        "run_id": run_id,
        "slice": index["name"],
        "slice_digest": index["digest"],
        "state": "starting",
        "reason": "",
        "step": "reading the spool",
        "last_error": None,
        "versions": versions(index, source),
        "attempt": 1,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "session": os.urandom(8).hex(),
        "started_at": heart.now(),
        "heartbeat_s": float(index["run"]["heartbeat"]),
        "ended_at": None,
        "exit_code": None,
    }


def versions(index: bundle.Index, source: str) -> dict[str, str]:
    """What may change a result: Python, the machine's kind, the source's digest, the pinned packages as installed, the GPU."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    if os.path.isfile(source):
        found["source"] = bundle.file_sha256(source)[:16]
    packages: dict[str, Any] = index.get("packages", {})
    for pin in [pin for pins in packages.values() for pin in pins]:
        name = pin.partition("==")[0].partition("[")[0]
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    gpu = gpu_name()
    return {**found, **({"gpu": gpu} if gpu else {})}


def gpu_name() -> str:
    """The first NVIDIA GPU of this machine as its driver names it; empty without one."""
    root = "/proc/driver/nvidia/gpus"
    try:
        first = min(os.listdir(root))
        with open(os.path.join(root, first, "information"), encoding="utf-8") as file:
            lines = [line.partition(":")[2].strip() for line in file if line.startswith("Model:")]
    except (OSError, ValueError):
        return ""
    return lines[0] if lines else ""


def claim(files: Files, index: bundle.Index, *, is_takeover: bool, say: Callable[[str], None]) -> int:
    """Which session on this run we are, from 1. Raises Busy while another one lives, HemmaError for the run of another slice.

    A session that cannot be asked (another machine) is given until its heartbeat is too old; if it moves, it lives. Two
    that start in the same second on two machines are not kept apart: their rows are still in the results once.
    """
    before = heart.read(files)
    if before is None or before.get("kind") != "rows":
        return 1
    if before.get("slice_digest") != index["digest"]:
        raise HemmaError(
            f"this run's directory belongs to slice {str(before.get('slice_digest'))[:12]}, not {index['digest'][:12]}",
            remedy="choose another run directory, or run that slice",
            code="other-slice",
        )
    if before.get("state") in {"starting", "running"} and not is_takeover and not _is_gone(before):
        _wait_for_silence(files, before, say)
    return int(before.get("attempt", 0)) + 1


def _is_gone(status: heart.Status) -> bool:
    """Whether the session that wrote this is known to be over: here its process is asked."""
    if status.get("host") != socket.gethostname():
        return False
    pid = int(status.get("pid", 0))
    if pid <= 0 or pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[:1] == [b"Z"]
    except OSError:
        return False


def _wait_for_silence(files: Files, before: heart.Status, say: Callable[[str], None]) -> None:
    limit_s = MISSED_BEATS * float(before.get("heartbeat_s", 10.0)) + SLACK_S
    place = f"{before.get('host')} (process {before.get('pid')})"
    if before.get("host") != socket.gethostname():
        say(f"a session on {place} may still work on this run; waiting up to {limit_s:.0f} s for its heartbeat")
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            time.sleep(min(1.0, limit_s / 10))
            seen = heart.read(files)
            if seen is None or seen.get("heartbeat_at") == before.get("heartbeat_at"):
                continue
            if seen.get("state") not in {"starting", "running"}:
                return
            break
        else:
            return
    raise Busy(
        f"another session works on this run: {place}",
        remedy="wait for it, end it, or add --takeover when you know that it is gone",
    )
