"""Files that released versions wrote still load, and loading one and writing it again loses nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from manifests.files import read_json
from manifests.run import RunRecord
from manifests.status import Finished, Running, Starting, read_status

SAMPLES = Path(__file__).resolve().parents[1] / "old_versions"
STATES: list[tuple[str, type[Any]]] = [("starting", Starting), ("running", Running), ("finished", Finished)]


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("run.v*.json")), ids=lambda path: path.name)
def test_every_old_run_record_loads_and_comes_back_whole(path: Path) -> None:
    assert RunRecord.read(str(path)).as_dict() == read_json(str(path))


@pytest.mark.parametrize(("state", "kind"), STATES)
@pytest.mark.req("S9-R20")
def test_every_old_status_loads_as_its_state(state: str, kind: type[Any]) -> None:
    samples = sorted(SAMPLES.glob(f"status-{state}.v*.json"))
    assert samples
    for path in samples:
        status = read_status(str(path))
        assert type(status) is kind
        assert status.as_dict() == read_json(str(path))


def test_each_state_has_only_what_it_can_have() -> None:
    running = read_status(str(SAMPLES / "status-running.v1.json"))
    assert not hasattr(running, "exit_code")
    assert isinstance(running, Running)
    assert running.supervisor.start_ticks == 123456
