"""The first cells of a generated notebook, where it may run: on Colab, on Kaggle, in plain Jupyter, and where Hemma says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lanes.slice_notebook import NotebookPlan, notebook

PLAN = NotebookPlan("words", "a" * 64, "our-project", 5, gpu="none", secrets=("A_TOKEN",))
TOLD = "\nimport json\nprint(json.dumps([str(SLICE), str(RUN), os.environ['A_TOKEN']]))\n"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine's disk, with a slice wherever a notebook may look for one."""
    for place in (
        "content/drive/MyDrive/our-project/slices", "jupyter/our-project/slices", "hemma/our-project/slices",
    ):  # fmt: skip
        folder = tmp_path / place / PLAN.folder
        folder.mkdir(parents=True)
        (folder / "slice.json").touch()
    return tmp_path


def colab(machine: Path) -> None:
    """Colab's own package, as far as the cells call it: mounting says where, a secret that is not shared is an error."""
    package = machine / "colab/google/colab"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "drive.py").write_text("def mount(path):\n    print('Mounted at', path)\n")
    (package / "userdata.py").write_text("def get(name):\n    return {'A_TOKEN': 'from the secret store'}[name]\n")


def kaggle(machine: Path) -> None:
    """A Kaggle machine with the slice as a dataset."""
    dataset = machine / "kaggle/input" / PLAN.folder.lower()
    dataset.mkdir(parents=True)
    (dataset / "slice.json").touch()
    (machine / "kaggle/working").mkdir()


def run_cells(machine: Path, **environ: str) -> tuple[int, str, list[str]]:
    """The mount cell and the one of packages and secrets, run on `machine`: exit code, all it said, [slice, run, token]."""
    cells = {cell["id"]: "".join(cell["source"]) for cell in json.loads(notebook(PLAN, "thin"))["cells"]}
    code = cells["hemma-mount"] + "\n" + cells["hemma-packages"] + TOLD
    for root in ("/content/drive", "/kaggle"):
        code = code.replace(root, f"{machine}{root}")
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(machine / "colab"), **environ}
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=machine / "jupyter", env=env, capture_output=True, text=True, check=False
    )
    facts = json.loads(told.stdout.splitlines()[-1]) if told.returncode == 0 else []
    return told.returncode, told.stdout + told.stderr, [each.replace(str(machine), "") for each in facts]


@pytest.mark.req("S18-R05", "S18-R08", "S18-R16")
def test_on_colab_it_mounts_the_drive_and_takes_secrets_from_the_store(machine: Path) -> None:
    colab(machine)
    code, said, facts = run_cells(machine)
    home = "/content/drive/MyDrive/our-project"
    assert (code, facts) == (
        0, [f"{home}/slices/{PLAN.folder}", f"{home}/runs/{PLAN.folder}", "from the secret store"],
    ), said  # fmt: skip
    assert "Mounted at" in said


def test_where_hemma_says_where_the_slice_is_nothing_is_mounted(machine: Path) -> None:
    colab(machine)
    code, said, facts = run_cells(machine, HEMMA_DRIVE=str(machine / "hemma"))
    assert (code, facts[0]) == (0, f"/hemma/our-project/slices/{PLAN.folder}"), said
    assert "Mounted" not in said


def test_on_kaggle_the_dataset_is_read_and_the_run_lies_where_one_may_write(machine: Path) -> None:
    kaggle(machine)
    code, said, facts = run_cells(machine, A_TOKEN="of the environment")
    assert (code, facts) == (
        0,
        [
            f"/kaggle/input/{PLAN.folder.lower()}", f"/kaggle/working/our-project/runs/{PLAN.folder}", "of the environment",
        ],
    ), said  # fmt: skip


@pytest.mark.req("S18-R08")
def test_in_jupyter_a_secret_comes_from_the_environment_or_is_asked_for_in_words(machine: Path) -> None:
    code, said, facts = run_cells(machine, A_TOKEN="of the environment")
    assert (code, facts[0], facts[2]) == (0, f"/jupyter/our-project/slices/{PLAN.folder}", "of the environment"), said
    code, said, _ = run_cells(machine)
    assert code == 1
    assert "add A_TOKEN to the secrets" in said


def test_without_the_slice_it_says_where_to_put_it(machine: Path) -> None:
    (machine / "jupyter/our-project/slices" / PLAN.folder / "slice.json").unlink()
    code, said, _ = run_cells(machine, A_TOKEN="x")
    assert code == 1
    assert f"put its folder at {machine}/jupyter/our-project/slices/{PLAN.folder}" in said
