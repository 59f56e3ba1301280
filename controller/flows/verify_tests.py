"""Run test files one by one, each in a process of its own under coverage: what passes so, passes in isolation (S19-R07)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence

from manifests.commands import command
from manifests.errors import UsageError

TIMEOUT_S = 600.0
# Not the project's own configuration: it may split the data over files, or leave folders out.
_RC = "[run]\nbranch = true\nrelative_files = true\nsource = .\n"

Progress = Callable[[int, int, str], None]


def run_alone(root: str, tests: Sequence[str], folder: str, progress: Progress) -> tuple[list[str], list[str]]:
    """(coverage files, JUnit files) of these test files below `root`, written into `folder`; a test that hangs has none.

    The interpreter is the project's. Raises UsageError when it has no pytest or no coverage.
    """
    python = interpreter(root)
    if subprocess.run([python, "-c", "import coverage, pytest"], capture_output=True, check=False, cwd=root).returncode:
        raise UsageError(
            f"{python} has no pytest and coverage", remedy=command("{} -m pip install pytest coverage", python)
        )
    rc = os.path.join(folder, "rc")
    with open(rc, "w", encoding="ascii") as file:
        file.write(_RC)
    data: list[str] = []
    junit: list[str] = []
    for number, test in enumerate(tests):
        progress(number, len(tests), test)
        place = os.path.join(folder, str(number))
        argv = [python, "-m", "coverage", "run", f"--rcfile={rc}", f"--data-file={place}.data", f"--context={test}"]
        argv += ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={place}.xml", "--", test]
        _run(argv, root)
        data += [f"{place}.data"] * os.path.exists(f"{place}.data")
        junit += [f"{place}.xml"] * os.path.exists(f"{place}.xml")
    progress(len(tests), len(tests), "")
    return data, junit


def _run(argv: list[str], root: str) -> None:
    # About other runs than this one: the options of the outer pytest, and coverage's own variables.
    others = ("PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST", "PYTEST_XDIST", "COV_", "COVERAGE_")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    none = subprocess.DEVNULL
    try:
        subprocess.run(
            argv, cwd=root, env=environ, timeout=TIMEOUT_S, check=False, stdin=none, stdout=none, stderr=none
        )
    except subprocess.TimeoutExpired:
        return  # no JUnit file is written then: the test counts as not passed


def interpreter(root: str) -> str:
    """The project's Python: of its .venv, of the active environment, else the one that runs us."""
    bin_folder = "Scripts" if os.name == "nt" else "bin"
    for folder in (os.path.join(root, ".venv"), os.environ.get("VIRTUAL_ENV", "")):
        path = os.path.join(folder, bin_folder, "python")
        if folder and os.access(path, os.X_OK):
            return path
    return sys.executable
