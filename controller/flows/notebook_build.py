"""`hemma notebook build`: the notebook of a slice, generated from committed source and proven before it is written (S18-R06)."""

from __future__ import annotations

import io
import os
import zipfile

import nbformat

from controller.flows import slices
from lanes.notebook_rules import check_thin
from lanes.slice_notebook import Flavour, notebook
from manifests.errors import HemmaError
from manifests.slices import MANIFEST_FILE, SLICE_JSON, SOURCE_ZIP, parse_slice_manifest
from training.rows import bundle
from training.rows.issue import plan_of


class NotebookUnfit(HemmaError):
    """What was generated is no notebook, or not a thin one: it is not written."""

    code = "notebook-unfit"


def is_slice(path: str) -> bool:
    """Whether `path` is the folder of a slice; else it is taken for a manifest."""
    return os.path.exists(os.path.join(path, SLICE_JSON))


def from_slice(folder: str, flavour: Flavour) -> bytes:
    """The notebook of an issued slice, from its own files; for `thin` the very one in it. Raises slice-broken, NotebookUnfit."""
    index = bundle.verify(folder)
    path = os.path.join(folder, MANIFEST_FILE)
    with open(path, encoding="utf-8") as file:
        task = parse_slice_manifest(file.read(), path).task
    sources: dict[str, bytes] = {}
    if flavour == "sealed":
        with open(os.path.join(folder, SOURCE_ZIP), "rb") as file, zipfile.ZipFile(io.BytesIO(file.read())) as archive:
            sources = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    return proven(notebook(plan_of(slices.read(folder).as_dict(), task, sources), flavour), str(index["name"]))


def proven(made: bytes, name: str) -> bytes:
    """`made`, which is a valid notebook and passes `hemma notebook check`. Raises NotebookUnfit."""
    try:
        nbformat.validate(nbformat.reads(made.decode("utf-8"), as_version=4))
    except (nbformat.ValidationError, ValueError) as error:
        raise NotebookUnfit(f"{name}: {error}", remedy="hemma --debug notebook build ...") from error
    findings = check_thin(made)
    if findings:
        first = findings[0]
        fact = f"{name}: cell {first.index} line {first.line}: {first.fact} [{first.rule}]"
        raise NotebookUnfit(fact, remedy=first.mend)
    return made
