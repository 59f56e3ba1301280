"""An adapter that was made on Colab comes home: out of Drive to the host, there checked against its base and registered."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from controller.cli import colab
from manifests.adapters import Registry
from tests.drive_support import run_files
from tests.support import RepositoryOnHost
from tests.training.test_integrate_on_host import MANIFEST, clone, invoke

__all__ = ["clone"]  # a fixture
RUN = "tiny-0123456789ab"


@pytest.fixture
def drive(clone: RepositoryOnHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of a Drive, with a finished run in it whose artefact is the adapter; the host has none."""
    place = tmp_path / "drive"
    run = place / "runs" / RUN
    for path, content in run_files(RUN, state="finished", exit_code=0).items():
        (run / path).parent.mkdir(parents=True, exist_ok=True)
        (run / path).write_bytes(content)
    shutil.move(clone.path / "models/tiny/run-1", run / "artifacts/adapter")
    monkeypatch.setenv("HEMMA_DRIVE_PLACE", f"folder:{place}")
    return place


def collect(*words: str) -> Any:
    """`hemma colab collect`, as the command line has it."""
    app = typer.Typer()
    colab.register(app)
    return CliRunner().invoke(app, ["colab", "collect", *words])


@pytest.mark.req("S14-R11", "S14-R13", "S9-R24")
def test_what_colab_made_is_collected_and_integrated_on_the_host(clone: RepositoryOnHost, drive: Path) -> None:
    got = collect(RUN)
    assert got.exit_code == 0, got.output
    adapter = f"results/colab/{RUN}/artifacts/adapter"
    done = invoke(adapter, "--manifest", MANIFEST)
    assert done.exception is None, done.exception
    (entry,) = Registry.read(str(clone.path / "adapters/registry.json")).entries
    weights = "adapter_model.safetensors"
    assert (clone.path / entry.path / weights).read_bytes() == (
        drive / "runs" / RUN / "artifacts/adapter" / weights
    ).read_bytes()
