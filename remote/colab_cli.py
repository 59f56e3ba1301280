"""Google's `colab` program, run as a program of its own, like git: its Python need not be ours."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from manifests.commands import command
from manifests.errors import HemmaError

POLL_S = 0.2


@dataclass(frozen=True)
class Told:
    """How the program ended (None: it was ended at its time limit), and what it wrote, both streams together."""

    code: int | None
    text: str


class ColabProgram:
    """The program at $HEMMA_COLAB, else `colab` on PATH. Raises HemmaError `colab-cli-missing` when there is none."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        wanted = environ.get("HEMMA_COLAB") or "colab"
        found = shutil.which(wanted, path=environ.get("PATH"))
        if found is None:
            raise HemmaError(
                f"Google's Colab program `{wanted}` is not installed",
                remedy="uv tool install google-colab-cli   (needs Python 3.12 or newer)",
                code="colab-cli-missing",
            )
        self._program = found
        self._environ = dict(environ)

    def run(
        self, arguments: Sequence[str], *, log: str, timeout_s: float, meanwhile: Callable[[], bool] | None = None
    ) -> Told:
        """Run it to its end, its output appended to the file `log`; `meanwhile` is called again and again until it says True.

        At the time limit, when `meanwhile` says True, or when anything is raised here, the program and its children end.
        """
        with open(log, "a+b") as output:
            start = output.tell()
            process = self._started(arguments, output)
            try:
                self._wait(process, time.monotonic() + timeout_s, meanwhile)
            finally:
                code = _ended(process)
            output.seek(start)
            return Told(code, output.read().decode("utf-8", "replace"))

    def step(self, arguments: Sequence[str], *, log: str, timeout_s: float, what: str, tries: int = 1) -> str:
        """Run one step that has to succeed; what it wrote. Raises HemmaError `colab-run-failed`: `what`, and what it said."""
        told = self.run(arguments, log=log, timeout_s=timeout_s)
        for number in range(tries - 1):
            if told.code == 0:
                break
            time.sleep(min(2.0, 0.1 * 4**number))
            told = self.run(arguments, log=log, timeout_s=timeout_s)
        if told.code == 0:
            return told.text
        why = f"no answer in {timeout_s:.0f} s" if told.code is None else told.text.strip().rpartition("\n")[2]
        raise HemmaError(f"{what}: {why}", remedy=command("less {}", log), code="colab-run-failed")

    def _started(self, arguments: Sequence[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
        # A session of its own: it asks for Drive's consent on /dev/tty, which would wait for a key behind our log; and a
        # second Ctrl-C of an impatient person must not reach the `stop` that gives the machine back.
        return subprocess.Popen(
            [self._program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=self._environ,
            start_new_session=True,
        )

    def _wait(self, process: subprocess.Popen[bytes], deadline: float, meanwhile: Callable[[], bool] | None) -> None:
        while process.poll() is None and time.monotonic() < deadline:
            if meanwhile and meanwhile():
                return
            time.sleep(POLL_S)


def _ended(process: subprocess.Popen[bytes]) -> int | None:
    """The exit code; None when it had to be ended. Its keep-alive daemon is in a session of its own and stays."""
    if process.poll() is not None:
        return process.returncode
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
            break
    return None


def is_alive(pid: int, start: str) -> bool:
    """Whether the process that `mark_of_process` described still runs."""
    return mark_of_process(pid) == start


def mark_of_process(pid: int) -> str:
    """What tells this process from a later one with the same pid; empty when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        pass
    told = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return told.stdout.strip() if os.name == "posix" else ""
