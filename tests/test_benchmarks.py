"""The benchmarks keep their promise to README and CI: the agreed JSON, honest verdicts. Never a timed test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness import table
from benchmarks.harness.table import Row
from tests.support import processes_naming

ROOT = Path(__file__).resolve().parent.parent
KEYS = ["name", "ours", "peer", "unit", "ratio", "target", "holds", "peer_name"]


def figures(name: str, folder: Path, *options: str) -> list[dict[str, Any]]:
    """The JSON that `benchmarks/NAME.py` writes."""
    file = folder / f"{name}.json"
    told = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), "--json", str(file), *options],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    return json.loads(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("ours", "peer", "target", "holds"),
    [
        (6.0, 10.0, "<= 0.6", True),
        (6.1, 10.0, "<= 0.6", False),
        (8.0, 10.0, ">= 0.8", True),
        (10.0, 10.0, "< 1", False),
        (10.0, 10.0, None, None),
        (10.0, None, None, None),
    ],
)
def test_a_row_is_judged_by_the_ratio_and_its_target(
    ours: float, peer: float | None, target: str | None, holds: bool | None
) -> None:
    row = Row("a name", ours, peer, "ms", target)
    assert row.holds is holds
    assert list(row.as_dict()) == KEYS


def test_the_table_shows_every_row_and_the_conditions(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = [
        Row("fast", 1, 2, "ms", "<= 0.6", "peer"),
        Row("slow", 3, 2, "ms", "<= 0.6", "peer"),
        Row("alone", 5, None, ""),
    ]
    table.show("Figures", rows, str(tmp_path / "rows.json"), conditions="on a quiet day")
    shown = capsys.readouterr().out
    assert [name for name in ("fast", "slow", "alone", "yes", "NO", "on a quiet day") if name not in shown] == []
    assert json.loads((tmp_path / "rows.json").read_text()) == [row.as_dict() for row in rows]


def test_sizes_are_counted_from_what_is_sent(tmp_path: Path) -> None:
    rows = figures("size", tmp_path)
    assert all(list(row) == KEYS for row in rows)
    agent = rows[0]
    assert 1000 < agent["ours"] < agent["peer"]


@pytest.mark.real
@pytest.mark.skipif(sys.platform != "linux", reason="the harness reads /proc")
def test_a_sync_with_nothing_to_do_asks_the_host_twice_at_most(tmp_path: Path) -> None:
    rows = {row["name"]: row for row in figures("sync", tmp_path, "--quick")}
    assert all(list(row) == KEYS for row in rows.values())
    trips = rows["`sync`, nothing to do: round trips to the host"]
    assert (trips["ours"] <= trips["peer"] == 2, trips["holds"]) == (True, True)
    assert rows["`status`, 300 files, 100 commits"]["target"] == "<= 0.5"


@pytest.mark.real
@pytest.mark.skipif(sys.platform != "linux", reason="the harness reads /proc")
def test_a_quick_run_measures_every_target_and_leaves_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    argv = [sys.executable, str(ROOT / "benchmarks/run.py"), "--quick", "--no-start-up-files", "--json", str(file)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        told, _ = process.communicate(timeout=100)
    assert process.returncode == 0, told.decode(errors="replace")
    rows = json.loads(file.read_text(encoding="utf-8"))
    assert all(list(row) == KEYS for row in rows)
    assert {row["target"] for row in rows} >= {"<= 0.6", "<= 2", ">= 2", ">= 0.8", "< 1"}
    assert all(isinstance(row["holds"], bool) for row in rows if row["target"])
    mark = f"hemma-bench-{process.pid}-"
    assert not list(Path("/tmp").glob(mark + "*"))
    assert processes_naming(mark) == {}


@pytest.mark.real
def test_verify_is_measured_beside_the_graph_of_a_library(tmp_path: Path) -> None:
    rows = figures("verify", tmp_path, "--quick")
    assert all(list(row) == KEYS for row in rows)
    assert {row["peer_name"] for row in rows} == {"grimp's graph", "grimp's graph, cached", "allowed"}
    assert [row["target"] for row in rows if row["target"]] == ["<= 1.5", "<= 1.5", "<= 1", "<= 1"]


@pytest.mark.real
def test_memory_is_measured_and_nothing_is_lost_on_the_way(tmp_path: Path) -> None:
    rows = figures("memory", tmp_path, "--quick")
    assert all(list(row) == KEYS for row in rows)
    counts = [row for row in rows if row["peer_name"] == "none allowed"]
    assert counts
    assert [row["name"] for row in counts if not row["holds"]] == []
