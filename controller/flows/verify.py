"""`hemma verify`: read a repository, judge its wiring, and say it in the form that was asked for (S19-R01 to S19-R09)."""

from __future__ import annotations

import dataclasses
import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic import ValidationError

from controller.flows import toml_edit, verify_headers, verify_sources, verify_tests, verify_trace
from lanes.wiring import Given, Trace, judge, own_tests
from lanes.wiring_entries import aliases, entry_points
from lanes.wiring_graph import Program, Source
from manifests.commands import command
from manifests.errors import UsageError
from manifests.model import faults, near_misses
from manifests.verify import VerifyReport, VerifySettings
from remote.agent import gitcall

SECTION = ("tool", "hemma", "verify")


@dataclass(frozen=True)
class Request:
    """What to verify. `active`: coverage data of real runs; `tested`: of the tests, with `junit` for who passed.

    `run_tests`, when given, runs the tests of the modules in question one file at a time, and is told how far it is.
    """

    folder: str
    since: str | None = None
    active: tuple[str, ...] = ()
    tested: tuple[str, ...] = ()
    junit: tuple[str, ...] = ()
    run_tests: verify_tests.Progress | None = None


def root_of(folder: str) -> str:
    """The nearest folder at or above `folder` with a pyproject.toml, else with a .git, else `folder` itself."""
    start = os.path.abspath(folder)
    for mark in ("pyproject.toml", ".git"):
        here = start
        while True:
            if os.path.exists(os.path.join(here, mark)):
                return here
            if os.path.dirname(here) == here:
                break
            here = os.path.dirname(here)
    return start


def verify(request: Request) -> VerifyReport:
    """The report for the repository around `request.folder`; see `look`."""
    return look(request).report


@dataclass(frozen=True)
class Looked:
    """The report, and the program it is about."""

    report: VerifyReport
    program: Program


def look(request: Request) -> Looked:
    """The report for the repository around `request.folder`. Raises UsageError for a broken pyproject.toml or option.

    A folder that is not there is refused: a slip in a CI file would say that all is well. Nothing of the repository is imported or run, nothing in it is written.
    """
    if not os.path.isdir(request.folder):
        raise UsageError(f"{request.folder} is no folder", remedy="hemma verify .")
    root = root_of(request.folder)
    pyproject = _pyproject(root)
    settings = settings_of(pyproject, os.path.join(root, "pyproject.toml"))
    # Facts are many small objects without circles: the collector would walk them all again and again.
    collecting = gc.isenabled()
    gc.disable()
    try:
        found = verify_sources.collect(root, settings, _package_dirs(pyproject))
        program = Program(found.sources, aliases(settings))
        texts = verify_sources.configuration(root, found.files)
        entries, missing = entry_points(program, pyproject, texts, settings)
        only = changed(root, request.since) if request.since is not None else None
        given = Given(
            program=program,
            entries=entries,
            settings=settings,
            hidden=found.hidden,
            taken=_taken(pyproject),
            trace=_trace(root, program, request, only),
            missing=missing,
            only=only,
            headers=verify_headers.read(root, settings, pyproject, _asked(program, only), request.since),
            read=verify_headers.read_whole(root, settings, _asked(program, only)),
        )
        return Looked(judge(given, os.path.basename(root), request.since or ""), program)
    finally:
        if collecting:
            gc.enable()


def _asked(program: Program, only: frozenset[str] | None) -> list[Source]:
    return [source for source in program.modules.values() if only is None or source.path in only]


def _trace(root: str, program: Program, request: Request, only: frozenset[str] | None) -> Trace:
    """What is known of runs; with `run_tests` the tests of the modules in question are run for it first."""
    paths = [source.path for source in program.modules.values() if source.role == "test"]
    tests = verify_trace.Tests(root, paths)
    if request.run_tests is None:
        return verify_trace.read(tests, request.active, request.tested, request.junit)
    own = own_tests(program)
    chosen = {t for source in program.modules.values() if only is None or source.path in only for t in own(source.name)}
    with tempfile.TemporaryDirectory(prefix="hemma-verify-") as folder:
        data, junit = verify_tests.run_alone(root, sorted(chosen), folder, request.run_tests)
        trace = verify_trace.read(tests, request.active, [*request.tested, *data], [*request.junit, *junit])
    # Nothing ran because nothing has a test: that is known too.
    return dataclasses.replace(trace, tested=trace.tested or {}, passed=trace.passed or {})


def settings_of(pyproject: Mapping[str, Any], name: str) -> VerifySettings:
    """What [tool.hemma.verify] says. Raises UsageError naming file, key and rule."""
    section = toml_edit.value_at(pyproject, SECTION) or {}
    where = f"{name} [tool.hemma.verify]"
    try:
        settings = VerifySettings.model_validate(section)
    except ValidationError as error:
        wrong = "; ".join(f"`{key or 'it'}` {rule[:1].lower()}{rule[1:]}" for key, rule in faults(error))
        raise UsageError(f"{where}: {wrong}", remedy=command("mend it in {}; hemma verify --help", name)) from error
    slips = [f"`{key}` is unknown; did you mean `{meant}`?" for key, meant in near_misses(settings)]
    if slips:
        raise UsageError(f"{where}: {'; '.join(slips)}", remedy=command("mend it in {}; hemma verify --help", name))
    return settings


def changed(root: str, revision: str) -> frozenset[str]:
    """Paths below `root` that differ from `revision`, and files that git does not know yet. Raises UsageError."""
    # --relative: the project may lie in a folder of its repository.
    diff = _git(root, "diff", "--name-only", "-z", "--relative", "--end-of-options", revision, "--")
    if diff is None and revision == "HEAD":
        # Before the first commit all is new: a hook must let it be made.
        diff = _git(root, "ls-files", "-z", "--cached")
    if diff is None:
        raise UsageError(
            f"git knows no revision {revision!r} to compare with", remedy="hemma verify --since origin/main"
        )
    new = _git(root, "ls-files", "-z", "--others", "--exclude-standard") or b""
    return frozenset(os.fsdecode(name) for name in (diff + new).split(b"\0") if name)


def _git(root: str, *arguments: str) -> bytes | None:
    told = subprocess.run(gitcall.argv("-C", root, *arguments), capture_output=True, check=False)
    return told.stdout if told.returncode == 0 else None


def _pyproject(root: str) -> dict[str, Any]:
    path = os.path.join(root, "pyproject.toml")
    try:
        with open(path, encoding="utf-8") as file:
            return toml_edit.parsed(file.read(), path)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", remedy=command("ls -l {}", path)) from error


def _package_dirs(pyproject: Mapping[str, Any]) -> list[str]:
    """Where build back ends are told that the packages lie."""
    given = [
        toml_edit.value_at(pyproject, ("tool", "pdm", "build", "package-dir")),
        (toml_edit.value_at(pyproject, ("tool", "setuptools", "package-dir")) or {}).get(""),
        *(toml_edit.value_at(pyproject, ("tool", "setuptools", "packages", "find", "where")) or []),
    ]
    return [path for path in given if isinstance(path, str)]


def _taken(pyproject: Mapping[str, Any]) -> dict[str, str]:
    """Import names that are somebody else's: the standard library's, and those of the declared dependencies."""
    declared = toml_edit.value_at(pyproject, ("project", "dependencies"))
    names = [text for text in cast("list[object]", declared or []) if isinstance(text, str)]
    own = str(toml_edit.value_at(pyproject, ("project", "name")) or "").lower().replace("-", "_")
    taken = {_import_name(text): f"the dependency {text}" for text in names}
    taken.pop(own, None)
    return {**taken, **{name: f"`{name}` of the standard library" for name in sys.stdlib_module_names}}


def _import_name(requirement: str) -> str:
    name = requirement.strip()
    for index, character in enumerate(name):
        if not (character.isalnum() or character in "-_."):
            name = name[:index]
            break
    return name.lower().replace("-", "_")
