"""Whatever a host says: no success that is none, no traceback, no hang, no memory without bound."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import make_repository

REPOSITORY = Path(__file__).resolve().parents[2]
SEED = 10
COUNT = 10_000 if os.environ.get("HEMMA_FULL") == "1" else 400


@pytest.mark.timeout(1800)
def test_no_change_of_a_real_conversation_deceives_or_breaks_a_client(tmp_path: Path, own_home: Path) -> None:
    make_repository(tmp_path)
    argv = [sys.executable, "-m", "tests.remote.fuzzing_host", str(SEED), str(COUNT), str(tmp_path)]
    told = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=1700)
    assert told.returncode == 0, told.stderr[-3000:]
    result = json.loads(told.stdout.splitlines()[-1])
    assert result["untouched"] == [], "the conversations themselves end well"
    assert result["found"] == []
    assert result["well"] > 0
    assert result["peak_mb"] < 100
