"""Scan Python files, many of them on all cores: children that load the scanner and nothing else of this program."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import warnings
from typing import Any, NamedTuple, cast

from lanes import wiring_scan
from lanes.notebook_code import take_apart
from lanes.wiring_facts import Facts, from_row
from manifests.errors import HemmaError

_MANY = 400
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_CHILD = "import sys; sys.path.insert(0, sys.argv[1]); from controller.flows.verify_scan import child; child()"


class Job(NamedTuple):
    """One file to scan: its path from the root, the name that imports give it, and what it is for."""

    path: str
    name: str
    is_package: bool
    role: str


def scan_all(root: str, jobs: list[Job]) -> dict[str, Facts]:
    """Path -> facts. Raises HemmaError when a child ends early (out of memory)."""
    cores = os.cpu_count() or 1
    if len(jobs) < _MANY or cores < 2:
        return {job.path: scan_one(root, job) for job in jobs}
    argv = [sys.executable, "-P", "-c", _CHILD, _ROOT]
    # Files of one folder are alike in size; every core gets some of each.
    shares = [jobs[start::cores] for start in range(cores)]
    children = [
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONUTF8": "1"})
        for _share in shares[1:]
    ]
    for child, share in zip(children, shares[1:], strict=True):
        assert child.stdin is not None
        child.stdin.write(json.dumps([root, share]).encode("ascii"))
        child.stdin.close()
    found = {job.path: scan_one(root, job) for job in shares[0]}
    for child in children:
        assert child.stdout is not None
        with child.stdout as told:
            raw = told.read()
        if child.wait() != 0:
            raise HemmaError("a process that read Python files ended early", remedy="hemma verify, once more")
        found.update((path, from_row(row)) for path, row in json.loads(raw))
    return found


def child() -> None:
    """What a child does: jobs from stdin, facts to stdout, both JSON."""
    import gc

    gc.disable()
    root, jobs = json.loads(sys.stdin.buffer.read())
    rows = [(job[0], scan_one(root, Job(*job)).as_row()) for job in jobs]
    sys.stdout.buffer.write(json.dumps(rows).encode("ascii"))


def scan_one(root: str, job: Job) -> Facts:
    """The facts of one file; one that cannot be read is `broken`."""
    try:
        with open(os.path.join(root, job.path), "rb") as opened:
            raw = opened.read()
        if job.role == "notebook":
            return facts_of(_notebook_code(raw), job.name)
        return facts_of(_decoded(raw), job.name, is_package=job.is_package)
    except (OSError, ValueError, RecursionError) as error:
        return Facts(broken=str(error))


def facts_of(text: str, name: str, *, is_package: bool = False) -> Facts:
    """The facts of the module `name` whose source is `text`; `broken` where Python cannot read it."""
    try:
        tree = _tree(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        said = str(getattr(error, "msg", "") or error) or "nested too deep to be read"
        return Facts(broken=said, broken_line=getattr(error, "lineno", None) or 0)
    return wiring_scan.scan(tree, text, name, is_package=is_package)


def _tree(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an invalid escape in somebody's string is no fault of wiring
        return ast.parse(text)


_CODING = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)", re.MULTILINE)


def _decoded(raw: bytes) -> str:
    """The text as Python would read it: UTF-8, or what the first two lines say (PEP 263). Raises ValueError."""
    said = _CODING.search(b"\n".join(raw[:400].splitlines()[:2]))
    try:
        return raw.decode(said.group(1).decode("ascii") if said else "utf-8-sig")
    except LookupError as error:
        raise ValueError(str(error)) from error


def _notebook_code(raw: bytes) -> str:
    """The Python of all code cells that parse, one after the other; commands of IPython are left out."""
    notebook: object = json.loads(raw)
    cells = cast("dict[str, Any]", notebook).get("cells") if isinstance(notebook, dict) else None
    texts: list[str] = []
    for cell in cast("list[Any]", cells) if isinstance(cells, list) else []:
        if isinstance(cell, dict) and cast("dict[str, Any]", cell).get("cell_type") == "code":
            source = cast("dict[str, Any]", cell).get("source", "")
            lines = cast("list[object]", source) if isinstance(source, list) else [source]
            text = take_apart("".join(str(line) for line in lines)).python
            # Half a thought in one cell says nothing about the others.
            if not facts_of(text, "cell").broken:
                texts.append(text)
    return "\n".join(texts)
