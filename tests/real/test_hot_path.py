"""What a warm `hemma run` really loads, from its first import to its exit."""

from __future__ import annotations

import subprocess
import sys

from tests.support import HEAVY_MODULES, Cli


def test_a_warm_run_loads_nothing_heavy(hemma: Cli) -> None:
    assert hemma("run", "--", "true").returncode == 0
    argv = [sys.executable, "-X", "importtime", "-P", "-m", "hemma", "run", "--", "true"]
    told = subprocess.run(
        argv, cwd=hemma.folder, env=hemma.environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    lines = [line for line in told.stderr.splitlines() if line.startswith("import time:")]
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert "controller" in loaded
    assert loaded & set(HEAVY_MODULES) == set()
