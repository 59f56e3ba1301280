"""The one generated source cell of a sealed notebook: each file with its sha256, checked before it is written (S18-R06, C1).

A cell is sealed when it is, byte for byte, what is generated from the files in it, each with the digest beside it and all
of them with the digest in the second line: no line of it can be changed by hand. That the files are those of the slice is
proven when it runs: the engine compares them with the slice's own source.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping
from typing import cast

FIRST = "# Generated from committed source; do not edit: change the source and build the notebook again."
_LAST = """\
import hashlib
from pathlib import Path

SOURCE = Path.cwd() / FOLDER
for name, (digest, text) in FILES.items():
    data = text.encode("utf-8")
    if hashlib.sha256(data).hexdigest() != digest:
        raise SystemExit(f"{name} was changed: build the notebook again")
    path = SOURCE / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_bytes() != data:
        path.write_bytes(data)
print(len(FILES), "source files, each with the digest it was committed with:", SOURCE)"""


def sealed_cell(folder: str, files: Mapping[str, str]) -> str:
    """The cell that puts `files` (path -> text) below `folder` of the working directory; running it again changes nothing."""
    whole = _sha256(json.dumps([folder, sorted(files.items())]))
    lines = [FIRST, f"# sha256 of all of it: {whole}", f"FOLDER = {folder!a}", "FILES = {"]
    for name in sorted(files):
        text = files[name]
        lines.append(f"    {name!a}: ({_sha256(text)!a},")
        lines += [f"        {line!a}" for line in text.splitlines(keepends=True) or [""]]
        lines.append("    ),")
    return "\n".join([*lines, "}", _LAST])


def is_sealed(source: str) -> bool:
    """Whether a cell is a sealed one, proven from what stands in it. Never raises."""
    if not source.startswith(FIRST):
        return False
    try:
        found = _contents(source)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return False
    if found is None:
        return False
    folder, files = found
    texts = {name: text for name, (_, text) in files.items()}
    return all(_sha256(text) == digest for digest, text in files.values()) and sealed_cell(folder, texts) == source


def sealed_files(source: str) -> dict[str, str] | None:
    """path -> sha256 of each file in a sealed cell; None for a cell that is none (S18-R07)."""
    found = _contents(source) if is_sealed(source) else None
    return None if found is None else {name: digest for name, (digest, _) in found[1].items()}


def _contents(source: str) -> tuple[str, dict[str, tuple[str, str]]] | None:
    # One interactive statement: see lanes/notebook_rules.py on why a module is not parsed.
    block = "\n ".join(["if True:", *source.split("\n"), "pass\n"])
    body = cast("ast.If", ast.parse(block, mode="single").body[0]).body
    values: dict[str, object] = {}
    for node in body[:2]:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            values[node.targets[0].id] = ast.literal_eval(node.value)
    folder, files = values.get("FOLDER"), values.get("FILES")
    if not isinstance(folder, str) or not isinstance(files, dict):
        return None
    pairs = cast("dict[object, object]", files)
    made: dict[str, tuple[str, str]] = {}
    for name, pair in pairs.items():
        match name, pair:
            case str(), (str(digest), str(text)):
                made[name] = (digest, text)
            case _:
                return None
    return folder, made


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
