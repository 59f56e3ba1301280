"""An origin behind an ssh that is slow, or that says nothing: a real program in ssh's place, a real git behind it."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import time

from tests.real.three_clones import ThreeClones
from tests.support import processes_naming, wait_until

# argv: how slow, seconds, where each that begins leaves its pid; then what git says to ssh, whose last word is the command.
_PROGRAM = """
import os, signal, subprocess, sys, time
how, seconds, marks = sys.argv[1], float(sys.argv[2]), sys.argv[3]
signal.signal(signal.SIGINT, signal.SIG_DFL)
if how == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(os.path.join(marks, str(os.getpid())), "w").close()
if how in ("silent", "stubborn"):
    # What it started holds the pipes as well, as a proxy of ssh's does.
    subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(300)", marks]).wait()
git = subprocess.Popen(["sh", "-c", sys.argv[-1]], stdout=subprocess.PIPE)
pieces = 8
first = True
while True:
    data = os.read(git.stdout.fileno(), 65536)
    if not data:
        break
    size = -(-len(data) // pieces) if first else len(data)
    for at in range(0, len(data), size):
        if first:
            time.sleep(seconds / pieces)
        os.write(1, data[at : at + size])
    first = False
sys.exit(git.wait())
"""


class SlowOrigin:
    """Makes clones reach their origin by a slow ssh; knows which of its programs still run."""

    def __init__(self, clones: ThreeClones) -> None:
        self.clones = clones
        self.folder = clones.folder / "slow"
        self.folder.mkdir()
        (self.folder / "program.py").write_text(_PROGRAM, encoding="utf-8")

    def put_before(self, place: str, how: str, seconds: float = 0.0) -> None:
        """`how`: slow (its first answer takes `seconds`, piece by piece), silent, or stubborn (silent, deaf to SIGTERM)."""
        marks = self.folder / place
        marks.mkdir(exist_ok=True)
        program = self.folder / f"{place}-ssh"
        words = [sys.executable, "-S", str(self.folder / "program.py"), how, str(seconds), str(marks)]
        program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
        self.clones.git(place, "config", "core.sshCommand", str(program))
        self.clones.git(place, "config", "ssh.variant", "ssh")
        self.clones.git(place, "remote", "set-url", "origin", f"ssh://origin.invalid{self.clones.path('origin')}")

    def begun(self, place: str) -> int:
        """How many began to talk to origin for a clone."""
        return len(os.listdir(self.folder / place))

    def wait_for(self, *places: str) -> None:
        """Until these clones talk to origin."""
        wait_until(lambda: all(map(self.begun, places)), 30, "talk with origin")

    def left(self) -> list[str]:
        """Processes of ours that still run, waited for a moment: command lines."""
        deadline = time.monotonic() + 10
        while (found := processes_naming(str(self.folder))) and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, 9)
        return list(found.values())
