"""Which source files a slice needs: what the entry imports, and what that imports, as far as it is the repository's own (S9-R31).

Found by reading imports, wherever in a file they stand. What is imported by a computed name is not found: the manifest
names it under `include`.
"""

from __future__ import annotations

import ast
import fnmatch
from collections.abc import Callable, Collection, Iterable, Iterator

# Gives a file of the repository, parsed. Not here: for a syntax error CPython opens the file it is told of.
Parsed = Callable[[str], ast.Module]


class SourceMissing(Exception):
    """A module that must travel is not among the tracked files, or cannot be read as Python."""


def module_file(module: str, tracked: Collection[str]) -> str | None:
    """The tracked file of a module: MODULE.py or MODULE/__init__.py; None when it is not the repository's own."""
    stem = module.replace(".", "/")
    return next((path for path in (f"{stem}.py", f"{stem}/__init__.py") if path in tracked), None)


def required(modules: Iterable[str], tracked: Collection[str], parsed: Parsed) -> list[str]:
    """Paths of every file that importing `modules` can touch, packages' __init__ files too; sorted.

    Raises SourceMissing for an entry that is not tracked, and for a file that is no Python.
    """
    found: set[str] = set()
    waiting: list[str] = []
    for module in modules:
        if module_file(module, tracked) is None:
            raise SourceMissing(f"{module} is no tracked module of the repository")
        waiting.append(module)
    seen: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        parent = module.rpartition(".")[0]
        waiting += [parent] if parent else []
        path = module_file(module, tracked)
        if path is not None:
            found.add(path)
            waiting += _imported(parsed, path, module)
    return sorted(found)


def chosen(globs: Iterable[str], present: Iterable[str]) -> dict[str, list[str]]:
    """The files of each glob, sorted; `**` crosses folders, a folder's name takes all below it."""
    names = sorted(present)
    return {each: [name for name in names if _matches(name, each)] for each in globs}


def _matches(name: str, glob: str) -> bool:
    if name == glob or name.startswith(glob.rstrip("/") + "/"):
        return True
    if "**" in glob:
        return fnmatch.fnmatchcase(name, glob.replace("**/", "*")) or fnmatch.fnmatchcase(name, glob)
    parts, wanted = name.split("/"), glob.split("/")
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


def _imported(parsed: Parsed, path: str, module: str) -> Iterator[str]:
    try:
        tree = parsed(path)
    except (SyntaxError, ValueError) as error:
        raise SourceMissing(f"{path} is not Python that can be read: {error}") from error
    package = module if path.endswith("/__init__.py") else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, package)
            yield base
            # What is imported from a package may be a module of it.
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _base(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*parts, *([node.module] if node.module else [])])
