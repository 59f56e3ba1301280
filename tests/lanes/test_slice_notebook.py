"""The generated notebook: valid, thin, the same every time; and nobody can write into a sealed cell unseen."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes.notebook_rules import check_thin
from lanes.slice_notebook import FLAVOURS, Flavour, NotebookPlan, instructions, notebook, readme
from lanes.slice_sealed import is_sealed, sealed_cell

PLAN = NotebookPlan(
    name="words",
    digest="a" * 64,
    project="my project",
    rows=5,
    task='Count "words".\nAll of them.',
    gpu="required",
    packages={"all": ("a==1.0",), "gpu": ("b==2.0",), "cpu": ("c==3.0",)},
    secrets=("HF_TOKEN", "MY_KEY"),
    sources={"prep/a.py": 'x = """\n!ls\n%%bash\n"""\n', "__main__.py": "def f(): return [1 for x in y if x]\n"},
)


def cells(flavour: Flavour, plan: NotebookPlan = PLAN) -> list[dict[str, Any]]:
    """The cells of the plan's notebook."""
    return json.loads(notebook(plan, flavour))["cells"]


@pytest.mark.req("S18-R01", "S18-R05", "S18-R08")
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_it_is_valid_thin_and_written_as_nbformat_writes(flavour: Flavour) -> None:
    made = notebook(PLAN, flavour)
    read = nbformat.reads(made.decode(), as_version=4)
    nbformat.validate(read)
    assert nbformat.writes(read) + "\n" == made.decode()
    assert check_thin(made) == []
    assert notebook(PLAN, flavour) == made
    headings = ["".join(each["source"]) for each in cells(flavour) if each["cell_type"] == "markdown"]
    assert [each[:5] for each in headings[1:]] == ["## 1.", "## 2.", "## 3.", "## 4.", "## 5."]
    ids = [each["id"] for each in cells(flavour)]
    assert len(set(ids)) == len(ids)


@pytest.mark.req("C1", "C5", "S18-R06")
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_run_clones_nothing_and_fetches_source_from_nowhere(flavour: Flavour) -> None:
    code = "\n".join("".join(cell["source"]) for cell in cells(flavour) if cell["cell_type"] == "code")
    assert [word for word in ("git ", "clone", "http", "wget", "curl", "git+") if word in code] == []
    # What is installed comes from the manifest's pins and from nothing else.
    installed = [line for line in code.splitlines() if "pip install" in line]
    assert len(installed) == len(PLAN.packages)
    assert all(f'"{pin}"' in code for pins in PLAN.packages.values() for pin in pins)


@pytest.mark.req("S18-R13")
@pytest.mark.parametrize("secrets", [(), ("HF_TOKEN",)])
def test_the_page_says_what_needs_a_hand(secrets: tuple[str, ...]) -> None:
    page = instructions(replace(PLAN, gpu="required", secrets=secrets))
    for hand in (
        "Put the folder",
        "choose a GPU",
        "Run all",
        "allow access to your Drive",
        "tell whoever sent you this",
    ):
        assert hand in page
    assert ("Click the key symbol and add `HF_TOKEN`" in page) == bool(secrets)
    assert ("No key or password is needed" in page) != bool(secrets)


@pytest.mark.req("S18-R16")
def test_the_project_is_named_once() -> None:
    code = ["".join(each["source"]) for each in cells("thin") if each["cell_type"] == "code"]
    assert sum(text.count("my project") for text in code) == 1


@pytest.mark.req("S18-R10", "S18-R11", "S18-R15")
@pytest.mark.parametrize("gpu", ["required", "optional", "none"])
def test_six_steps_stand_in_the_first_cell_and_on_the_page(gpu: str) -> None:
    plan = NotebookPlan("words", "a" * 64, "hemma", 5, gpu=gpu)
    first = "".join(cells("thin", plan)[0]["source"])
    steps = [line for line in first.splitlines() if line[:2] in {f"{number}." for number in range(1, 10)}]
    assert [line[:2] for line in steps] == ["1.", "2.", "3.", "4.", "5.", "6."]
    assert first in readme(plan)
    assert "six minutes" in first


@pytest.mark.req("S18-R06")
@given(st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=40), max_size=3), st.text(max_size=8))
def test_a_sealed_cell_is_one_whatever_is_in_it(files: dict[str, str], folder: str) -> None:
    clean = {name: text.encode("utf-8", "replace").decode() for name, text in files.items()}
    assert is_sealed(sealed_cell(folder, clean))


@pytest.mark.req("S18-R01", "S18-R06")
@given(st.data())
def test_a_changed_sealed_cell_is_none(data: st.DataObject) -> None:
    cell = sealed_cell("x", dict(PLAN.sources))
    at = data.draw(st.integers(0, len(cell) - 1))
    put = data.draw(st.text(min_size=1, max_size=3))
    changed = cell[:at] + put + cell[at + data.draw(st.integers(0, 2)) :]
    assert changed == cell or not is_sealed(changed)


def test_logic_behind_a_sealed_cell_is_found() -> None:
    cell = sealed_cell("x", dict(PLAN.sources))
    made = json.loads(notebook(PLAN, "sealed"))
    for each in made["cells"]:
        if each["id"] == "hemma-source":
            each["source"] = cell + "\nrows = [row for row in rows if row]"
    assert [each.rule for each in check_thin(json.dumps(made).encode())] != []
