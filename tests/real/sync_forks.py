"""Controllers that can be killed: one process has everything loaded and forks a child for each sync it is told to do.

    python -m tests.real.sync_forks        one request as JSON on each line of stdin, one answer on each line of stdout

Each child leads a process group of its own, so that a kill takes its git commands along, as a machine does that goes down.
Not a fork of pytest itself: that has threads.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from manifests.errors import HemmaError
from tests.real.three_clones import Sync, ThreeClones

SURPRISE = 70


class Forks:
    """The test's side of it."""

    def __init__(self) -> None:
        argv = [sys.executable, "-m", "tests.real.sync_forks"]
        folder = Path(__file__).resolve().parents[2]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder, text=True)

    def start(self, folder: Path, place: str, accepted: list[str], cut: tuple[int, float] | None = None) -> int:
        """Begin a sync of the clone at `place`; with `cut` kill it that many seconds after its nth command. Returns its pid."""
        return self._ask({"folder": str(folder), "place": place, "accepted": accepted, "cut": cut})

    def wait(self, pid: int) -> int:
        """Its exit code: 0, that of the HemmaError, SURPRISE, or -9 when it was cut."""
        return self._ask({"wait": pid})

    def end(self) -> None:
        """End the process; its children have ended."""
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()

    def _ask(self, request: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def _serve() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            status = os.waitpid(request["wait"], 0)[1]
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            os._exit(_child(request))
        print(pid, flush=True)


def _child(request: dict[str, Any]) -> int:
    os.setsid()
    # What is printed here would be taken for an answer.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    if request["cut"]:
        _cut(*request["cut"])
    clones = ThreeClones(Path(request["folder"]))
    try:
        Sync(clones, request["place"])(*request["accepted"])
    except HemmaError as error:
        _note(clones, f"{error.code}: {error.message}\n")
        return error.exit_code
    except BaseException:  # noqa: BLE001 - the test shows it
        _note(clones, traceback.format_exc())
        return SURPRISE
    return 0


def _note(clones: ThreeClones, text: str) -> None:
    """What went wrong, for the test to show."""
    with open(clones.path("said"), "a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)


def _cut(command: int, delay_s: float) -> None:
    """Kill this process group that many seconds after the nth command of this process has begun."""
    begun = 0

    def watch(event: str, _: tuple[Any, ...]) -> None:
        nonlocal begun
        if event == "subprocess.Popen":
            begun += 1
            if begun == command:
                threading.Thread(target=strike, daemon=True).start()

    def strike() -> None:
        time.sleep(delay_s)
        os.killpg(0, signal.SIGKILL)

    sys.addaudithook(watch)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        _serve()
