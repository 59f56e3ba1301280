"""Notebooks as hypothesis draws them: any 4.x, with what Jupyter, Colab and people put into them, and broken ones."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
LINES = st.sampled_from(
    ["a = 1", "b = 2", "!hemma ps", "# Train", "def f(): pass", "", "  x", "\ufeffå\u2028", "\ud800", "c\r"]
)
SOURCES = st.lists(LINES, max_size=5).map("\n".join) | st.text(max_size=20)
TAGS = st.lists(
    st.sampled_from(["parameters", "hide-input", "remove-cell", "skip-execution", "mine"]), max_size=3, unique=True
)

CELL_METADATA = st.fixed_dictionaries(
    {},
    optional={
        "tags": TAGS,
        "colab": JSON,
        "id": st.text(max_size=5),
        "executionInfo": JSON,
        "collapsed": st.booleans(),
        "jupyter": st.fixed_dictionaries({}, optional={"source_hidden": st.booleans()}),
        "cellView": st.just("form"),
        "slideshow": st.just({"slide_type": "slide"}),
        "mine": JSON,
    },
)
NOTEBOOK_METADATA = st.fixed_dictionaries(
    {},
    optional={
        "kernelspec": st.fixed_dictionaries(
            {"name": st.sampled_from(["python3", "ir"]), "display_name": st.text(max_size=5)},
            optional={"language": st.just("python")},
        ),
        "language_info": st.fixed_dictionaries({"name": st.just("python")}, optional={"version": st.just("3.11.7")}),
        "colab": st.fixed_dictionaries({}, optional={"provenance": JSON, "gpuType": st.just("T4")}),
        "accelerator": st.just("GPU"),
        "widgets": st.dictionaries(st.just("application/vnd.jupyter.widget-state+json"), st.just({"state": {}})),
        "title": st.text(max_size=5),
        "mine": JSON,
    },
)


@st.composite
def outputs(draw: st.DrawFn) -> dict[str, Any]:
    """One output of a code cell."""
    kind = draw(st.sampled_from(["stream", "execute_result", "display_data", "error"]))
    if kind == "stream":
        return {
            "output_type": kind,
            "name": draw(st.sampled_from(["stdout", "stderr"])),
            "text": draw(as_written(SOURCES)),
        }
    if kind == "error":
        return {"output_type": kind, "ename": "E", "evalue": draw(st.text(max_size=4)), "traceback": ["a", "b"]}
    data = {
        "text/plain": draw(as_written(SOURCES)),
        **draw(st.dictionaries(st.just("application/json"), JSON, max_size=1)),
    }
    made: dict[str, Any] = {"output_type": kind, "data": data, "metadata": {}}
    return {**made, "execution_count": draw(st.none() | st.integers(0, 9))} if kind == "execute_result" else made


def as_written(text: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """Text as files hold it: in one piece, in lines, or cut anywhere."""
    return text | text.map(lambda t: t.splitlines(keepends=True)) | text.map(lambda t: [t[:2], t[2:]])


@st.composite
def cells(draw: st.DrawFn, minor: int) -> dict[str, Any]:
    """One cell of format 4.`minor`, without its id."""
    kind = draw(st.sampled_from(["code", "markdown", "raw"]))
    made: dict[str, Any] = {"cell_type": kind, "metadata": draw(CELL_METADATA), "source": draw(as_written(SOURCES))}
    if kind == "code":
        made["outputs"] = draw(st.lists(outputs(), max_size=2))
        made["execution_count"] = draw(st.none() | st.integers(0, 99))
    elif minor >= 1 and draw(st.booleans()):
        made["attachments"] = draw(st.dictionaries(st.just("a.png"), st.just({"image/png": "iVBORw0="}), max_size=1))
    return made


@st.composite
def notebooks(draw: st.DrawFn, max_cells: int = 6) -> dict[str, Any]:
    """A notebook of any 4.x that nbformat would call valid."""
    minor = draw(st.integers(0, 5))
    made = [draw(cells(minor)) for _ in range(draw(st.integers(0, max_cells)))]
    if minor >= 5:
        ids = draw(
            st.lists(
                st.from_regex(r"[a-zA-Z0-9_-]{1,12}", fullmatch=True),
                min_size=len(made),
                max_size=len(made),
                unique=True,
            )
        )
        for cell, cell_id in zip(made, ids, strict=True):
            cell["id"] = cell_id
    return {"cells": made, "metadata": draw(NOTEBOOK_METADATA), "nbformat": 4, "nbformat_minor": minor}


@st.composite
def drifted(draw: st.DrawFn, notebook: dict[str, Any]) -> dict[str, Any]:
    """The same notebook after tools had it: other ids, counts, outputs, version, titles and Colab keys; laid out anew."""
    made = json.loads(json.dumps(notebook))
    made["nbformat_minor"] = draw(st.integers(0, 5))
    made["metadata"]["colab"] = {**made["metadata"].get("colab", {}), "provenance": draw(JSON)}
    made["metadata"]["widgets"] = draw(JSON)
    made["metadata"]["vscode"] = draw(JSON)
    if "kernelspec" in made["metadata"]:
        made["metadata"]["kernelspec"]["display_name"] = draw(st.text(max_size=5))
    for number, cell in enumerate(made["cells"]):
        cell["metadata"]["executionInfo"] = draw(JSON)
        cell.pop("id", None)
        if made["nbformat_minor"] >= 5:
            cell["id"] = f"new-{number}"
        if cell["cell_type"] == "code":
            cell["outputs"] = draw(st.lists(outputs(), max_size=1))
            cell["execution_count"] = draw(st.none() | st.integers(0, 99))
    return made


def written(notebook: object) -> st.SearchStrategy[bytes]:
    """The same JSON in any layout."""
    return st.builds(
        lambda indent, is_sorted, is_ascii, end: (
            json.dumps(notebook, indent=indent, sort_keys=is_sorted, ensure_ascii=is_ascii).encode(
                "utf-8", "backslashreplace"
            )
            + end
        ),
        st.sampled_from([None, 1, 4, "\t"]),
        st.booleans(),
        st.booleans(),
        st.sampled_from([b"", b"\n", b"\r\n "]),
    )


BROKEN = {
    "empty": b"",
    "blank": b" \n",
    "no-json": b"# a script\nprint(1)\n",
    "cut": b'{"cells": [{"cell_type": "code", "sou',
    "markers": b'{\n "cells": [\n<<<<<<< HEAD\n  {}\n=======\n>>>>>>> x\n ],\n "nbformat": 4\n}\n',
    "not-utf8": b'{"cells": [], "metadata": {"t": "\xff"}, "nbformat": 4, "nbformat_minor": 5}',
    "utf-16": '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'.encode("utf-16"),
    "list": b"[1, 2]",
    "null": b"null",
    "nbformat-3": b'{"worksheets": [], "metadata": {}, "nbformat": 3, "nbformat_minor": 0}',
    "nbformat-true": b'{"cells": [], "metadata": {}, "nbformat": true, "nbformat_minor": 0}',
    "no-minor": b'{"cells": [], "metadata": {}, "nbformat": 4}',
    "no-cells": b'{"metadata": {}, "nbformat": 4, "nbformat_minor": 5}',
    "cell-is-text": b'{"cells": ["x"], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}',
    "cell-without-type": b'{"cells": [{"source": ""}], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}',
    "source-is-number": b'{"cells": [{"cell_type": "code", "source": 7}], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}',
    "source-of-numbers": b'{"cells": [{"cell_type": "raw", "source": ["a", 1]}], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}',
    "outputs-are-text": b'{"cells": [{"cell_type": "code", "source": "", "outputs": ["x"]}], "nbformat": 4, "nbformat_minor": 4}',
    "id-is-number": b'{"cells": [{"cell_type": "raw", "source": "", "id": 1}], "nbformat": 4, "nbformat_minor": 5}',
    "metadata-is-null": b'{"cells": [], "metadata": null, "nbformat": 4, "nbformat_minor": 5}',
    "attachments-are-list": b'{"cells": [{"cell_type": "raw", "source": "", "attachments": []}], "nbformat": 4, "nbformat_minor": 4}',
    "key-twice": b'{"cells": [], "metadata": {"a": 1, "a": 2}, "nbformat": 4, "nbformat_minor": 5}',
    "too-deep": b'{"cells": [], "metadata": '
    + b'{"a":' * 200
    + b"1"
    + b"}" * 200
    + b', "nbformat": 4, "nbformat_minor": 5}',
    "far-too-deep": b"[" * 200_000,
    "huge-number": b'{"cells": [], "metadata": {"n": ' + b"9" * 10_000 + b'}, "nbformat": 4, "nbformat_minor": 5}',
}
