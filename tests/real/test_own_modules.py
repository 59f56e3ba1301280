"""Files of the folder that one stands in are never imported in place of Python's or ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# What the thin path, the whole CLI and their libraries import.
NAMES = (
    "__future__", "types", "random", "json", "signal", "socket", "zlib", "typing", "dataclasses", "enum", "re", "tomllib",
    "contextlib", "functools", "collections", "subprocess", "controller", "remote", "lanes", "manifests", "pydantic", "typer",
)  # fmt: skip
VERBS = (["run", "--", "true"], ["config"])


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder with a module of each name, which leaves a file when it is imported."""
    for name in (*NAMES, "importlib"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'a').write({name!r} + ' ')\n")
    return tmp_path


def imported(folder: Path, argv: list[str]) -> str:
    """The names that were imported from there by this command line."""
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(folder / "home"), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run(
        argv, cwd=folder, env=environ, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
    )
    return (folder / "imported").read_text() if (folder / "imported").exists() else ""


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
def test_a_module_of_the_folder_is_not_imported(hostile: Path, verb: list[str]) -> None:
    assert imported(hostile, [str(Path(sys.executable).with_name("hemma")), *verb]) == ""
    assert imported(hostile, [sys.executable, "-P", "-m", "hemma", *verb]) == ""
    # For -m Python itself imports a few modules before any line of ours; those need -P.
    told = subprocess.run(
        [sys.executable, "-c", "import runpy, sys; print(*sys.modules)"], capture_output=True, check=True
    )
    for name in set(told.stdout.decode().split()) & {*NAMES, "importlib"}:
        (hostile / f"{name}.py").unlink()
    assert imported(hostile, [sys.executable, "-m", "hemma", *verb]) == ""
