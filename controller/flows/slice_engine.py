"""The row engine by value: the few files of ours that a slice carries, under the payload's prefix (S9-R30, S18-R06)."""

from __future__ import annotations

import ast
import base64
import functools
import os
from typing import Any

from lanes.slice_sources import required
from remote.payload import PREFIX, ROOMS, prefixed

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ENTRY = "training.rows.__main__"
# These are loaded by name in the children.
_BY_NAME = ("training.rows.worker",)
MAIN = f"from {PREFIX}.training.rows.__main__ import main\n\nraise SystemExit(main())\n"


@functools.cache
def engine_files() -> dict[str, str]:
    """path -> text of the engine as it travels, its door `__main__.py` first; equal sources, equal texts."""
    tracked = frozenset(_present())
    paths = required([ENTRY, *_BY_NAME], tracked, lambda path: ast.parse(_read(path), path))
    made = {f"{PREFIX}/{path}": prefixed(_read(path), path) for path in paths}
    return {"__main__.py": MAIN, f"{PREFIX}/__init__.py": '"""Code that was sent by value."""\n', **made}


def as_request() -> dict[str, Any]:
    """The engine as part of a request to the host."""
    return {path: base64.b64encode(text.encode("utf-8")).decode("ascii") for path, text in engine_files().items()}


def _present() -> list[str]:
    found: list[str] = []
    for room in ROOMS:
        for folder, folders, names in os.walk(os.path.join(_ROOT, room)):
            folders[:] = [name for name in folders if not name.startswith(("__", "."))]
            found += [os.path.relpath(os.path.join(folder, name), _ROOT) for name in names if name.endswith(".py")]
    return [path.replace(os.sep, "/") for path in found]


def _read(path: str) -> str:
    with open(os.path.join(_ROOT, path), encoding="utf-8") as file:
        return file.read()
