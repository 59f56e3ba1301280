"""The generated notebook, executed for real: in a Python that has nothing installed, on a folder in place of a Drive."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipykernel
import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from controller.flows.notebook_build import from_slice
from lanes.slice_notebook import notebook
from tests.rows.slices import a_row, a_slice, results
from tests.support import processes_naming, wait_until
from training.rows.issue import plan_of

pytestmark = pytest.mark.real
ROWS = 40


@pytest.fixture(scope="module")
def clean_python(tmp_path_factory: pytest.TempPathFactory, own_home: Path) -> Path:
    """A Python without any package, and a Jupyter kernel in it called `clean`; the folder is for JUPYTER_PATH.

    Only the kernel itself borrows ipykernel from here: what it starts does not see it.
    """
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    python = str(folder / "venv/bin/python")
    site = str(Path(ipykernel.__file__).parents[1])
    code = f"import sys; sys.path.append({site!r}); from ipykernel.kernelapp import launch_new_instance as go; go()"
    spec = {"argv": [python, "-c", code, "-f", "{connection_file}"], "display_name": "clean", "language": "python"}
    place = folder / "kernels/clean/kernel.json"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps(spec))
    found = subprocess.run([python, "-c", "import pydantic"], capture_output=True, check=False)
    assert found.returncode == 1
    return folder


@pytest.fixture
def drive(tmp_path: Path) -> tuple[Path, Path]:
    """(a folder in place of the Drive with the slice where the instructions put it, the slice as it was issued)."""
    rows = [a_row(number, sleep_s=0.04) for number in range(ROWS)]
    issued = a_slice(tmp_path / "host", rows, project="our-project")
    place = tmp_path / "My Drive"
    shutil.copytree(issued, place / "our-project/slices" / issued.name)
    return place, issued


def execute(
    text: bytes, folder: Path, environ: dict[str, str], on_start: Callable[..., None] | None = None
) -> list[str]:
    """Execute a notebook as *Run all* does, in `folder`; returns what each cell printed."""
    os.environ.update(environ)
    made = nbformat.reads(text.decode(), as_version=4)
    client = NotebookClient(
        made, kernel_name="clean", timeout=60, resources={"metadata": {"path": str(folder)}}, on_cell_start=on_start
    )
    try:
        client.execute()
    finally:
        with contextlib.suppress(Exception):
            client.km.shutdown_kernel(now=True) if client.km is not None else None
    cells: list[Any] = made.cells
    return ["".join(each.get("text", "") for each in cell.get("outputs", ())) for cell in cells]


@pytest.mark.req("S18-R02", "S18-R05", "S18-R09", "S9-R36", "S9-R34")
def test_run_all_killed_and_run_all_again_does_each_row_once(
    drive: tuple[Path, Path], clean_python: Path, tmp_path: Path
) -> None:
    place, issued = drive
    run, calls, folder = place / "our-project/runs" / issued.name, tmp_path / "calls", tmp_path / "content"
    folder.mkdir()
    environ = {"JUPYTER_PATH": str(clean_python), "HEMMA_DRIVE": str(place), "CALLS": str(calls)}

    def kill_everything() -> None:
        # As when the machine is taken away: the kernel and the engine are gone in one moment.
        wait_until(lambda: list(run.glob("spool/*")) and calls.read_text().count("\n") > 8, 30, what="some rows")
        for pid in [*processes_naming(str(run)), *processes_naming(str(clean_python))]:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def on_start(cell: Any, cell_index: int) -> None:
        if cell["id"] == "hemma-pipeline":
            threading.Thread(target=kill_everything, daemon=True).start()

    with pytest.raises((DeadKernelError, RuntimeError)):
        execute(from_slice(str(issued), "thin"), folder, environ, on_start)
    before = len(calls.read_text().splitlines())
    assert 0 < before < ROWS
    said = execute(from_slice(str(issued), "sealed"), folder, environ)
    assert any("going on with" in text for text in said)
    assert any(f"finished: {ROWS} of {ROWS} rows done" in text for text in said), said
    assert any('"missing": 0' in text and '"faults": []' in text for text in said)
    assert [int(each["key"]) for each in results(run)] == list(range(ROWS))
    total = len(calls.read_text().splitlines())
    assert total < before + ROWS  # it went on, and did not begin anew
    again = execute((issued / "notebook.ipynb").read_bytes(), folder, environ)
    assert any(f"{ROWS} of {ROWS} rows are done, 0 to do" in text for text in again)
    assert len(calls.read_text().splitlines()) == total


@pytest.mark.req("S9-R30")
def test_a_slice_that_was_cut_on_its_way_stops_run_all_in_words(
    drive: tuple[Path, Path], clean_python: Path, tmp_path: Path
) -> None:
    place, issued = drive
    rows = place / "our-project/slices" / issued.name / "rows.jsonl"
    content = rows.read_bytes()
    rows.chmod(0o644)
    rows.write_bytes(content[:-5])
    environ = {"JUPYTER_PATH": str(clean_python), "HEMMA_DRIVE": str(place)}
    with pytest.raises(CellExecutionError, match="copy its folder again, whole"):
        execute((issued / "notebook.ipynb").read_bytes(), tmp_path, environ)
    assert not (place / "our-project/runs").exists()


@pytest.mark.req("S18-R06")
def test_a_sealed_notebook_with_other_source_than_the_slice_stops(
    drive: tuple[Path, Path], clean_python: Path, tmp_path: Path
) -> None:
    place, issued = drive
    with zipfile.ZipFile(issued / "source.pyz") as archive:
        sources = {name: archive.read(name).decode() for name in archive.namelist()}
    sources["prep/words.py"] += "# a line more\n"
    index = json.loads((issued / "slice.json").read_text())
    plan = plan_of(index, "", {name: text.encode() for name, text in sources.items()})
    environ = {"JUPYTER_PATH": str(clean_python), "HEMMA_DRIVE": str(place)}
    with pytest.raises(CellExecutionError, match="not the slice that was issued"):
        execute(notebook(plan, "sealed"), tmp_path, environ)
