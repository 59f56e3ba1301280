"""The notebook of a slice, generated: five sections, cells that may run again and again, nothing written by hand (S18-R05).

`thin` calls the engine that lies in the slice; `sealed` carries it in one generated cell. Pure: the same slice gives the
same bytes. The JSON is written as nbformat writes it, so that opening and saving it elsewhere makes no difference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lanes.slice_sealed import sealed_cell

Flavour = Literal["thin", "sealed"]
FLAVOURS: tuple[Flavour, ...] = ("thin", "sealed")
ENGINE = "hemma_payload.training.rows"


@dataclass(frozen=True)
class NotebookPlan:
    """What a notebook is made from. `sources` (path -> text) are what a sealed one carries; `digest` is the slice's."""

    name: str
    digest: str
    project: str
    rows: int
    task: str = ""
    gpu: str = "optional"
    packages: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    secrets: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def folder(self) -> str:
        """The name of the slice's folder, and of its run's."""
        return f"{self.name}-{self.digest[:12]}"


def notebook(plan: NotebookPlan, flavour: Flavour) -> bytes:
    """The notebook as a file (nbformat 4.5). Passes `hemma notebook check`; runs on Colab, Kaggle and plain Jupyter."""
    source = _sealed_source(plan) if flavour == "sealed" else _thin_source(plan)
    pairs: list[tuple[str, str, str]] = [
        ("markdown", "how-to", instructions(plan)),
        ("markdown", "mount-title", "## 1. Mount and recovery"),
        ("code", "mount", _mount(plan)),
        ("markdown", "packages-title", "## 2. Dependencies"),
        ("code", "packages", _packages(plan)),
        ("markdown", "source-title", "## 3. Source, by value"),
        *source,
        ("markdown", "pipeline-title", "## 4. Pipeline"),
        ("code", "pipeline", _pipeline()),
        ("markdown", "checks-title", "## 5. Tests and benchmarks"),
        ("code", "checks", _checks()),
    ]
    cells = [_cell(kind, f"hemma-{name}", text) for kind, name, text in pairs]
    metadata: dict[str, Any] = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        **({"accelerator": "GPU"} if plan.gpu == "required" else {}),
    }
    made = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return (json.dumps(made, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode("utf-8")


def instructions(plan: NotebookPlan) -> str:
    """The six steps of whoever runs it, who need not know how to program (S18-R10, S18-R11, S18-R15)."""
    gpu = {
        "required": "*Runtime > Change runtime type*: choose a GPU. Without one it stops and says so.",
        "optional": "*Runtime > Change runtime type*: a GPU is faster; it runs without one too.",
        "none": "Nothing to choose: no GPU is needed.",
    }[plan.gpu]
    keys = ", ".join(f"`{name}`" for name in plan.secrets)
    secrets = f"Click the key symbol and add {keys}, notebook access on." if keys else "No key or password is needed."
    task = f"{plan.task}\n\n" if plan.task else ""
    return f"""\
# {plan.name}: {plan.rows} rows

{task}Your hands are needed for about six minutes; then it works by itself.

1. Put the folder `{plan.folder}` on your Drive at `{plan.project}/slices/`, and open `notebook.ipynb` in it with Colab.
2. {gpu}
3. {secrets}
4. *Runtime > Run all*. When Google asks, allow access to your Drive.
5. Wait; the last line of section 4 says how many rows are done. If the page closes or the session ends, nothing is
   lost: open the notebook again and *Run all*. It goes on where it was.
6. When it says `finished`, tell whoever sent you this. The results are in `{plan.project}/runs/{plan.folder}/`; leave
   that folder as it is.

On Kaggle, add the slice's folder as a dataset; in Jupyter, start it with `HEMMA_DRIVE` set to the folder that holds
`{plan.project}/`. A free session ends after some hours: step 5 is then all there is to do."""


def readme(plan: NotebookPlan) -> str:
    """The same page as a file beside the notebook, with what each file is."""
    return f"""\
{instructions(plan)}

## What is in this folder

| file | what it is |
| --- | --- |
| `notebook.ipynb` | what you open |
| `rows.jsonl` | the rows, one a line |
| `files/` | further data the rows need, if any |
| `source.pyz` | the program, as it was committed |
| `manifest.yaml` | what was asked for |
| `slice.json` | every file with its size and sha256: it proves that nothing was changed |

Nothing here is edited by hand. Slice `{plan.digest}`.
"""


def _cell(kind: str, name: str, text: str) -> dict[str, Any]:
    cell: dict[str, Any] = {"cell_type": kind, "id": name, "metadata": {}, "source": text.splitlines(keepends=True)}
    return {**cell, "execution_count": None, "outputs": []} if kind == "code" else cell


def _mount(plan: NotebookPlan) -> str:
    folder = json.dumps(plan.folder)
    return f"""\
import os
import sys
from pathlib import Path

PROJECT = {json.dumps(plan.project)}
HOME = Path(os.environ.get("HEMMA_DRIVE", "."))
if "HEMMA_DRIVE" not in os.environ:
    try:
        from google.colab import drive

        drive.mount("/content/drive")
        HOME = Path("/content/drive/MyDrive")
    except ImportError:
        HOME = Path("/kaggle/working") if Path("/kaggle/working").is_dir() else HOME
ROOT = HOME.resolve() / PROJECT
DATASET = Path("/kaggle/input") / {json.dumps(_slug(plan.folder))}
SLICE = DATASET if DATASET.is_dir() else ROOT / "slices" / {folder}
RUN = ROOT / "runs" / {folder}
assert (SLICE / "slice.json").exists(), f"the slice is not there; put its folder at {{SLICE}}"
print("going on with" if (RUN / "status.json").exists() else "a new run in", RUN)"""


def _slug(name: str) -> str:
    """A name as Kaggle writes it in a path."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _packages(plan: NotebookPlan) -> str:
    lines = ['GPU = os.path.exists("/dev/nvidia0")', 'print("GPU:", GPU)']
    if plan.gpu == "required":
        lines.append('assert GPU, "this work needs a GPU: Runtime > Change runtime type, choose one, Run all"')
    lines += _install(plan.packages.get("all", ()), "")
    for guard, name in (("if GPU:", "gpu"), ("if not GPU:", "cpu")):
        pins = plan.packages.get(name, ())
        lines += [guard, *_install(pins, "    ")] if pins else []
    for name in plan.secrets:
        lines += _secret(name)
    return "\n".join(lines)


def _install(pins: tuple[str, ...], indent: str) -> list[str]:
    if not pins:
        return []
    words = " ".join(f'"{pin}"' for pin in pins)
    return [
        f"{indent}!{{sys.executable}} -m pip install --quiet {words}",
        f'{indent}assert _exit_code == 0, "the packages could not be installed: Run all again"',
    ]


def _secret(name: str) -> list[str]:
    quoted = json.dumps(name)
    return [
        "try:",
        "    from google.colab import userdata",
        "",
        f"    os.environ[{quoted}] = userdata.get({quoted})",
        "except Exception:",
        f'    print("{name} is not among the secrets of Colab; the environment must hold it")',
        f'assert {quoted} in os.environ, "add {name} to the secrets (the key symbol), or set it in the environment"',
    ]


def _thin_source(plan: NotebookPlan) -> list[tuple[str, str, str]]:
    first = 'SOURCE = SLICE / "source.pyz"'
    return [("code", "source", "\n".join([first, *_verified(plan)]))]


def _sealed_source(plan: NotebookPlan) -> list[tuple[str, str, str]]:
    return [
        ("code", "source", sealed_cell(f"{plan.folder}-source", plan.sources)),
        ("code", "verify", "\n".join(_verified(plan))),
    ]


def _verified(plan: NotebookPlan) -> list[str]:
    return [
        'os.environ["PYTHONPATH"] = str(SOURCE)',
        f'!{{sys.executable}} -m {ENGINE} verify "{{SLICE}}" --digest {plan.digest}',
        'assert _exit_code == 0, "this is not the slice that was issued: copy its folder again, whole"',
    ]


def _pipeline() -> str:
    return f"""\
!{{sys.executable}} -m {ENGINE} run "{{SLICE}}" --run "{{RUN}}"
assert _exit_code in (0, 3, 4), "it could not go on; the lines above say why. Run all tries again"
!{{sys.executable}} -m {ENGINE} status "{{RUN}}\""""


def _checks() -> str:
    return f"""\
!{{sys.executable}} -m {ENGINE} check "{{SLICE}}" --run "{{RUN}}"
BENCH_ROWS = 0
if BENCH_ROWS:
    !{{sys.executable}} -m {ENGINE} bench "{{SLICE}}" --rows {{BENCH_ROWS}}"""
