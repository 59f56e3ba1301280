"""The modules of a repository as its code has them: name, path, imports, public names, when git last saw them change."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from manifests.memory import StructureModule


def modules_of(root: Path) -> list[dict[str, Any]]:
    """Every tracked Python file of the clone at `root`, by name (S2-R14). One that cannot be parsed is there, and says so."""
    changed = _changed_at(root)
    return [_module(root, path, changed.get(path, "")) for path in _tracked(root)]


def _tracked(root: Path) -> list[str]:
    told = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-z", "--", "*.py"], capture_output=True, check=True
    ).stdout
    names = [name.decode("utf-8", "replace") for name in told.split(b"\0") if name]
    return sorted(name for name in names if (root / name).is_file())


def _changed_at(root: Path) -> dict[str, str]:
    """path -> time of the newest commit that touched it, from one walk over history."""
    told = subprocess.run(
        ["git", "-C", str(root), "log", "--format=%x01%cI", "--name-only", "-z", "--", "*.py"],
        capture_output=True,
        check=False,
    ).stdout.decode("utf-8", "replace")
    found: dict[str, str] = {}
    for block in told.split("\x01")[1:]:
        when, _, names = block.partition("\0")
        for name in names.split("\0"):
            if name.strip():
                found.setdefault(name.strip("\n"), when.strip())
    return found


def _module(root: Path, path: str, changed: str) -> dict[str, Any]:
    name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    try:
        tree = ast.parse((root / path).read_bytes())
    except (SyntaxError, ValueError) as error:
        return {**_fields(name, path, [], [], changed), "notes": f"cannot be parsed: {error}"}
    package = name if path.endswith("/__init__.py") else name.rpartition(".")[0]
    return _fields(name, path, sorted(set(_imports(tree, package))), list(_public(tree)), changed)


def _fields(name: str, path: str, uses: list[str], public: list[str], changed: str) -> dict[str, Any]:
    made = StructureModule(name=name, path=path, dependencies=uses, public_api=public, last_modified=changed)
    return made.as_dict()


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            yield ".".join([*base, *([node.module] if node.module else [])])


def _public(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield f"{node.name}({ast.unparse(node.args)})"
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name
