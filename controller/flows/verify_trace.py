"""What coverage and JUnit files say, as lines per file: which code real runs executed, and which tests ran and passed.

The tests' data needs to say which test ran a line. `hemma verify --run-tests` makes it, one test file at a time, which proves
that each passes by itself; data of a run of all tests (`dynamic_context = test_function`, or pytest-cov's
`--cov-context=test`) is read as well.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from lanes.wiring import Trace
from manifests.commands import command
from manifests.errors import UsageError

if TYPE_CHECKING:
    from coverage import CoverageData


_PART = re.compile(r"::|\|")


class Tests:
    """The test files below `root`, as contexts and JUnit files name them."""

    def __init__(self, root: str, paths: Iterable[str]) -> None:
        self.root = root
        self.by_stem: dict[str, list[str]] = {}
        for path in paths:
            self.by_stem.setdefault(os.path.basename(path).removesuffix(".py"), []).append(path)

    def find(self, context: str) -> str | None:
        """The path of the test file that a coverage context or a JUnit class name speaks of; None for any other."""
        head = _PART.split(context, maxsplit=1)[0]
        if head.endswith(".py"):
            path = _relative(self.root, head)
            return path if os.path.isfile(os.path.join(self.root, path)) else None
        parts = head.split(".")
        # tests.lanes.test_x.TestThing.test_one: the longest front that is a file.
        for end in range(len(parts), 0, -1):
            path = "/".join(parts[:end]) + ".py"
            if parts[0] and os.path.isfile(os.path.join(self.root, path)):
                return path
        # Without a package around it pytest imports the file by its own name alone.
        alone = [path for part in parts for path in self.by_stem.get(part, ())]
        return alone[0] if len(alone) == 1 else None


def read(tests: Tests, active: Sequence[str], tested: Sequence[str], junit: Sequence[str]) -> Trace:
    """The trace that these files hold, paths relative to the root. Raises UsageError for one that cannot be read."""
    root = tests.root
    if tested and not junit:
        raise UsageError(
            "coverage of tests says what ran, not what passed",
            remedy="hemma verify --tests-coverage FILE --junit FILE (pytest --junitxml FILE)",
        )
    ran: dict[str, set[int]] = {}
    by_test: dict[str, dict[str, set[int]]] = {}
    for path in active:
        data = _data(path)
        for name in data.measured_files():
            ran.setdefault(_relative(root, name), set()).update(data.lines(name) or ())
    for path in tested:
        _add_contexts(tests, _data(path), by_test)
    return Trace(
        active={name: frozenset(lines) for name, lines in ran.items()} if active else None,
        tested={name: {test: frozenset(lines) for test, lines in tests.items()} for name, tests in by_test.items()}
        if tested
        else None,
        passed=_passed(tests, junit) if junit else None,
    )


def _data(path: str) -> CoverageData:
    try:
        from coverage import CoverageData
        from coverage.exceptions import CoverageException
    except ImportError as error:
        raise UsageError("reading coverage data needs the package coverage", remedy="pip install coverage") from error
    if not os.path.isfile(path):
        raise UsageError(f"there is no coverage data in {path}", remedy="coverage run …; coverage combine")
    data = CoverageData(basename=path)
    try:
        data.read()
    except CoverageException as error:
        raise UsageError(
            f"{path} holds no coverage data: {error}", remedy=command("coverage report --data-file {}", path)
        ) from error
    return data


def _relative(root: str, name: str) -> str:
    path = os.path.relpath(os.path.realpath(name), os.path.realpath(root)) if os.path.isabs(name) else name
    return path.replace(os.sep, "/")


def _add_contexts(tests: Tests, data: CoverageData, found: dict[str, dict[str, set[int]]]) -> None:
    names = {context: test for context in data.measured_contexts() if context and (test := tests.find(context))}
    names[""] = ""  # what runs when the test files are read
    for name in data.measured_files():
        path = _relative(tests.root, name)
        for line, contexts in data.contexts_by_lineno(name).items():
            for context in contexts:
                test = names.get(context)
                if test is not None:
                    found.setdefault(path, {}).setdefault(test, set()).add(line)


def _passed(tests: Tests, junit: Iterable[str]) -> dict[str, bool]:
    """Test file -> whether at least one of its tests passed and none failed. Skipped ones prove nothing."""
    good: set[str] = set()
    bad: set[str] = set()
    for path in junit:
        for case in _cases(path):
            test = tests.find(case.get("file") or "") or tests.find(case.get("classname") or "")
            if test is None:
                continue
            if case.find("failure") is not None or case.find("error") is not None:
                bad.add(test)
            elif case.find("skipped") is None:
                good.add(test)
    return {test: test not in bad for test in good | bad}


def _cases(path: str) -> list[ET.Element]:
    try:
        with open(path, "rb") as file:
            raw = file.read()
        if b"<!DOCTYPE" in raw or b"<!ENTITY" in raw:
            raise ValueError("it holds a DTD, which JUnit files never do")
        return list(ET.fromstring(raw).iter("testcase"))  # noqa: S314 - entities were refused above
    except (OSError, ValueError, ET.ParseError) as error:
        raise UsageError(f"{path} is no JUnit file: {error}", remedy="pytest --junitxml FILE") from error
