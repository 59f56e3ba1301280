"""The Python files of a repository as facts: which files there are, how imports name them, and what each says.

A scan is kept under its size and time of change in the cache folder, so that a second look reads only what changed. A
large first look uses all cores.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from controller.flows import verify_scan
from lanes import wiring_facts, wiring_scan, wiring_stubs, wiring_tree
from lanes.wiring_facts import SCAN_VERSION, Facts, from_row
from lanes.wiring_graph import Source
from manifests.files import atomic_write
from manifests.places import cache_dir
from manifests.verify import VerifySettings
from remote.agent import gitcall

# Not ours to judge, wherever git does not say so itself.
_FOREIGN = frozenset({"__pycache__", "node_modules", "site-packages", "venv", "env", "dist", "build", "htmlcov"})
_HIDDEN_AND_OURS = frozenset({".github", ".circleci", ".ci"})
_SETTLED_NS = 2_000_000_000  # a file changed this recently may change again within one tick of its clock


@dataclass(frozen=True)
class Found:
    """The files of one repository: sources by name, those whose name an earlier root has, and the roots."""

    sources: list[Source]
    hidden: list[Source]
    roots: list[str]
    files: list[str]


@dataclass(frozen=True)
class _File:
    path: str
    name: str
    is_package: bool
    role: str
    stamp: tuple[int, int]


def collect(root: str, settings: VerifySettings, package_dirs: Iterable[str] = ()) -> Found:
    """Every Python file and notebook of the repository at `root`, scanned. Files that cannot be read count as broken."""
    files = listed(root)
    roots = _roots(files, settings, package_dirs)
    wanted = [path for path in files if path.endswith((".py", ".ipynb")) and not _matches(path, settings.exclude)]
    tests = _patterns(settings.tests)
    planned = [file for path in sorted(wanted) if (file := _planned(root, path, roots, tests)) is not None]
    facts = _scanned(root, planned)
    sources: dict[str, Source] = {}
    hidden: list[Source] = []
    # A name that two roots hold is found in the first of them.
    for file in sorted(planned, key=lambda each: (_rank(each.path, roots), not each.is_package, each.path)):
        source = Source(file.name, file.path, facts[file.path], file.is_package, file.role)
        if file.name not in sources:
            sources[file.name] = source
        elif file.role == "module":
            hidden.append(source)
    return Found(list(sources.values()), hidden, roots, files)


def listed(root: str) -> list[str]:
    """Paths of the files below `root`, with `/`: what git tracks or would add, or all but foreign folders without git."""
    argv = gitcall.argv("-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if os.path.exists(os.path.join(root, ".git")):
        told = subprocess.run(argv, capture_output=True, check=False)
        if told.returncode == 0:
            names = {os.fsdecode(name) for name in told.stdout.split(b"\0") if name}
            return sorted(names)
    found: list[str] = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in _FOREIGN and (name[0] != "." or name in _HIDDEN_AND_OURS)]
        below = os.path.relpath(folder, root).replace(os.sep, "/")
        found += [name if below == "." else f"{below}/{name}" for name in names]
    return sorted(found)


def _roots(files: list[str], settings: VerifySettings, package_dirs: Iterable[str]) -> list[str]:
    """Folders that imports start from, as prefixes that end in `/`; the repository's own is the empty one, and last."""
    chosen = settings.roots or package_dirs
    prefixes = [path.strip("/") + "/" for path in chosen if path.strip("./")]
    names = set(files)
    if not prefixes and "src/__init__.py" not in names and any(path.startswith("src/") for path in files):
        prefixes = ["src/"]
    return [*dict.fromkeys(prefixes), ""]


def _rank(path: str, roots: Sequence[str]) -> int:
    return next(number for number, prefix in enumerate(roots) if path.startswith(prefix))


def _planned(root: str, path: str, roots: Sequence[str], tests: re.Pattern[str]) -> _File | None:
    try:
        stat = os.stat(os.path.join(root, path))
    except OSError:
        return None  # deleted, and not yet from git's index
    inner = path[len(roots[_rank(path, roots)]) :]
    stem = inner.rpartition(".")[0]
    is_package = stem == "__init__" or stem.endswith("/__init__")
    name = stem.removesuffix("__init__").rstrip("/").replace("/", ".") or "__init__"
    notebook = path.endswith(".ipynb")
    role = "notebook" if notebook else "test" if tests.match(path) else "module"
    # A notebook beside a module of its name is another thing.
    return _File(path, f"{name} (notebook)" if notebook else name, is_package, role, (stat.st_size, stat.st_mtime_ns))


def _patterns(globs: Iterable[str]) -> re.Pattern[str]:
    """One expression for all globs; `**/` also stands for no folder at all."""
    shapes = [glob for given in globs for glob in (given, given.removeprefix("**/"))]
    return re.compile("|".join(fnmatch.translate(glob) for glob in shapes) or "$^")


def _matches(path: str, globs: Sequence[str]) -> bool:
    return bool(globs) and bool(_patterns(globs).match(path))


# --- facts, kept or made -----------------------------------------------------------------------------------------


def _scanned(root: str, planned: list[_File]) -> dict[str, Facts]:
    place = _place(root)
    kept = _kept(place)
    facts: dict[str, Facts] = {}
    fresh: list[_File] = []
    for file in planned:
        row = kept.get(file.path)
        if row is not None and row[0] == file.name and (row[1], row[2]) == file.stamp:
            facts[file.path] = from_row(row[3])
        else:
            fresh.append(file)
    if not fresh:
        return facts
    facts.update(verify_scan.scan_all(root, [verify_scan.Job(f.path, f.name, f.is_package, f.role) for f in fresh]))
    limit = time.time_ns() - _SETTLED_NS
    rows = {file.path: [file.name, *file.stamp, facts[file.path].as_row()] for file in planned if file.stamp[1] < limit}
    atomic_write(place, json.dumps({"scanner": _scanner(), "files": rows}).encode("ascii"))
    return facts


def _place(root: str) -> str:
    digest = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:24]
    return os.path.join(cache_dir(), "verify", f"{digest}.json")


def _scanner() -> list[Any]:
    """What facts depend on besides the file: this scanner and the Python that parses."""
    files = [module.__file__ or "" for module in (wiring_facts, wiring_scan, wiring_stubs, wiring_tree)]
    return [SCAN_VERSION, list(sys.version_info[:2]), *(os.stat(file).st_mtime_ns for file in files)]


def _kept(place: str) -> dict[str, list[Any]]:
    try:
        with open(place, "rb") as file:
            value = json.loads(file.read())
        return value["files"] if value["scanner"] == _scanner() else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # a cache: what cannot be read is made again


# --- other configuration -----------------------------------------------------------------------------------------

_CONFIG_NAMES = frozenset({
    "Makefile", "makefile", "GNUmakefile", "Justfile", "justfile", "Dockerfile", "Procfile", "tox.ini", "setup.cfg",
    ".pre-commit-config.yaml", ".pre-commit-hooks.yaml", ".gitlab-ci.yml", "Taskfile.yml", "docker-compose.yml",
    "compose.yaml", "azure-pipelines.yml", ".readthedocs.yaml", "action.yml",
})  # fmt: skip
_CONFIG_FOLDERS = (".github/workflows/", ".github/actions/", ".circleci/", ".ci/", "script/", "scripts/", "bin/")
_MAX_CONFIG_BYTES = 256 * 1024


def configuration(root: str, files: Iterable[str]) -> dict[str, str]:
    """The text of the files that start programs: CI, hooks, make files, shell scripts; path -> text."""
    found: dict[str, str] = {}
    for path in files:
        name = path.rpartition("/")[2]
        in_folder = path.startswith(_CONFIG_FOLDERS) and ("." not in name or name.endswith((".yml", ".yaml")))
        if name in _CONFIG_NAMES or in_folder or name.endswith((".sh", ".bash", ".service", ".sbatch", ".slurm")):
            text = _small_text(os.path.join(root, path))
            if text is not None:
                found[path] = text
    return found


def _small_text(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            raw = file.read(_MAX_CONFIG_BYTES)
    except OSError:
        return None
    return None if b"\0" in raw else raw.decode("utf-8", "replace")
