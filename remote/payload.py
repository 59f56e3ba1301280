"""The training code by value: one deterministic zip of training/, lanes/ and manifests/, under the prefix `hemma_payload`.

The prefix keeps our `training` from hiding a user's own on the host: their `training.prep:clean` imports beside ours. Only
`from x import y` of our rooms is rewritten, in place, so line numbers and tracebacks stay true (S8-R01, S8-R06, C4).
"""

from __future__ import annotations

import ast
import functools
import hashlib
import io
import os
import zipfile

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PREFIX = "hemma_payload"
ROOMS = ("training", "lanes", "manifests")
# A fixed time for every entry: the same sources give the same bytes, hence the same digest, on every machine.
_EPOCH = (1980, 1, 1, 0, 0, 0)
MAIN = f"from {PREFIX}.training.__main__ import main\nraise SystemExit(main())\n"


@functools.cache
def payload_zip() -> tuple[bytes, str]:
    """(zip bytes, sha256 hex) of the training code; equal sources, equal bytes. `python -I FILE.zip` runs it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, "__main__.py", MAIN)
        _add(archive, f"{PREFIX}/__init__.py", '"""Code that was sent by value."""\n')
        for room in ROOMS:
            for path in _sources(room):
                with open(os.path.join(_ROOT, path), encoding="utf-8") as file:
                    _add(archive, f"{PREFIX}/{path}", prefixed(file.read(), path))
    data = buffer.getvalue()
    return data, hashlib.sha256(data).hexdigest()


def prefixed(source: str, name: str = "<payload>") -> str:
    """`source` with the imports of our rooms under the prefix; nothing else moves, no line is added or lost.

    Raises ValueError for an import that cannot be prefixed in place (`import lanes`): it would find the user's.
    """
    lines = source.splitlines(keepends=True)
    for node in sorted(_imports(source, name), key=lambda each: (each.lineno, each.col_offset), reverse=True):
        line = lines[node.lineno - 1].encode("utf-8")
        at = line.index(b"from", node.col_offset) + len(b"from ")
        lines[node.lineno - 1] = (line[:at] + PREFIX.encode() + b"." + line[at:]).decode("utf-8")
    return "".join(lines)


def _imports(source: str, name: str) -> list[ast.ImportFrom]:
    found: list[ast.ImportFrom] = []
    for node in ast.walk(ast.parse(source, name)):
        if isinstance(node, ast.Import) and any(alias.name.partition(".")[0] in ROOMS for alias in node.names):
            raise ValueError(f"{name}:{node.lineno}: write `from {node.names[0].name} import ...`, it travels by value")
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").partition(".")[0] in ROOMS:
            found.append(node)
    return found


def _sources(room: str) -> list[str]:
    found: list[str] = []
    for folder, folders, names in os.walk(os.path.join(_ROOT, room)):
        folders[:] = sorted(name for name in folders if not name.startswith(("__", ".")))
        found += [os.path.relpath(os.path.join(folder, name), _ROOT) for name in names if name.endswith(".py")]
    return sorted(path.replace(os.sep, "/") for path in found)


def _add(archive: zipfile.ZipFile, name: str, text: str) -> None:
    archive.writestr(zipfile.ZipInfo(name, _EPOCH), text.encode("utf-8"), zipfile.ZIP_DEFLATED)
