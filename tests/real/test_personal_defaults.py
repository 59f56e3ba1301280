"""What was answered once is taken by later commands on a real host: `hemma train` and `hemma prune` (S17-R12)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from manifests.train import EXAMPLE
from tests.support import Cli, EnvironFor, make_repository

MANIFEST = "manifests/runs/tiny-text.yaml"
pytestmark = pytest.mark.req("S17-R12")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The host's clone with a request that says nothing of a GPU; its python ends at once."""
    (tmp_path / "there").mkdir()
    made = make_repository(tmp_path / "there").path
    said: dict[str, Any] = {**yaml.safe_load(EXAMPLE), "python": "tools/python", "resources": {"timeout": "30m"}}
    for name, text in ((MANIFEST, yaml.safe_dump(said)), ("tools/python", "#!/bin/sh\nexit 0\n")):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text)
    (made / "tools/python").chmod(0o755)
    return made


@pytest.fixture
def cli(root: Path, hemma_with: Callable[[dict[str, str]], Cli], settings_env: EnvironFor, tmp_path: Path) -> Cli:
    """The CLI, standing in a folder with [tool.hemma], with a memory of its own."""
    made = hemma_with(settings_env(root=root, state=tmp_path / "hemma"))
    made.folder = tmp_path / "there/repo"
    return made


def requests_on_host(cli: Cli) -> list[dict[str, Any]]:
    """Every training request that the host was sent."""
    places = Path(cli.environ["HEMMA_HOST_STATE_DIR"]).rglob("*.json")
    found = [json.loads(path.read_text()) for path in places if path.is_file()]
    return [each for each in found if "resources" in each]


def test_a_request_that_says_nothing_of_a_gpu_takes_the_usual_plan(cli: Cli) -> None:
    host = cli.environ["HEMMA_HOST"]
    assert cli("train", MANIFEST, "--detach").returncode == 0  # without a memory nothing is asked of a GPU
    answers = ("--host", host, "--root", "~/x", "--gpu", "required 2h", "--tracker", "me/runs")
    assert cli("init", *answers).returncode == 0
    refused = cli("train", MANIFEST, "--detach")
    assert refused.returncode == 75
    assert b"up to 2.0 GPU hours" in refused.stderr
    assert b"from your personal memory: resources.gpu = required, resources.max_gpu_hours = 2.0" in refused.stderr
    assert cli("train", MANIFEST, "--detach", "--yes").returncode == 0
    before, after = sorted(requests_on_host(cli), key=lambda each: each["resources"]["max_gpu_hours"], reverse=True)
    assert (before["resources"]["gpu"], before["resources"]["max_gpu_hours"]) == ("optional", 24.0)
    assert (after["resources"]["gpu"], after["resources"]["max_gpu_hours"]) == ("required", 2.0)
    assert after["arguments"]["trackio_space_id"] == "me/runs"
    assert "trackio_space_id" not in before["arguments"]
    said = cli("train", MANIFEST, "--detach", "--yes", "--json")
    assert json.loads(said.stdout)["run_id"]
    assert b"personal memory" not in said.stderr


def test_prune_keeps_what_the_disk_budget_allows(cli: Cli) -> None:
    big = ("run", "--shell", "head -c 3000000 /dev/zero")
    assert cli(*big).returncode == 0
    assert json.loads(cli("prune", "--dry-run", "--json").stdout)["removed"] == []
    assert cli("init", "--host", cli.environ["HEMMA_HOST"], "--root", "~/x", "--disk-gb", "0.001").returncode == 0
    assert len(json.loads(cli("prune", "--dry-run", "--json").stdout)["removed"]) == 1
    # What is said stands over what is usual.
    assert json.loads(cli("prune", "--dry-run", "--json", "--size-gb", "1").stdout)["removed"] == []
    rows = json.loads(cli("doctor", "--json").stdout)["rows"]
    (room,) = [row for row in rows if row["name"] == "room"]
    assert (room["level"], room["mend"]) == ("warn", "hemma prune --dry-run")
