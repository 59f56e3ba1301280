"""Fixtures of every test: a home of its own, a real host to talk to, the real CLI, and hostile inputs.

No test reads or writes the home of the person who runs it; no test leaves a process behind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from remote import loopback
from remote.loopback import LoopbackHost
from tests.support import (
    GIT_CONFIG,
    HOSTILE_ARGUMENTS,
    LEAK_TIMEOUT_S,
    WEIRD_NAMES,
    Cli,
    EnvironFor,
    RepositoryOnHost,
    end_brokers,
    make_repository,
    processes_naming,
)

REPOSITORY = Path(__file__).resolve().parent.parent
REAL_HOME = Path(os.path.expanduser("~")).resolve()
# What a user's shell may hold and no test may depend on.
SCRUBBED_PREFIXES = ("HEMMA_", "SSH_", "GIT_", "XDG_", "PYTHON")
SCRUBBED = (
    "COVERAGE_FILE",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "LS_COLORS",
    "COLUMNS",
    "NO_COLOR",
    "FORCE_COLOR",
)
BROKER_IDLE_S = 20

slow = [HealthCheck.too_slow]
settings.register_profile("dev", max_examples=50, deadline=None, suppress_health_check=slow)
settings.register_profile("ci", max_examples=200, deadline=None, derandomize=True, suppress_health_check=slow)
settings.register_profile("night", max_examples=5000, deadline=None, suppress_health_check=slow)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


# --- a home of its own -------------------------------------------------------------------------------------------


def _own_environ(home: Path) -> dict[str, str]:
    """The environment of this process, less what is personal, with every folder below `home`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(SCRUBBED_PREFIXES) and name not in SCRUBBED and name.lower() not in SCRUBBED
    }
    folders = {
        "HOME": home,
        "XDG_CONFIG_HOME": home / ".config",
        "XDG_STATE_HOME": home / ".local/state",
        "XDG_CACHE_HOME": home / ".cache",
        "XDG_DATA_HOME": home / ".local/share",
        "HEMMA_CONFIG_DIR": home / "hemma-config",
        "HEMMA_STATE_DIR": home / "hemma-state",
        "HEMMA_CACHE_DIR": home / "hemma-cache",
    }
    fixed = {
        "HEMMA_BROKER_IDLE_S": str(BROKER_IDLE_S),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        # .pyc files of the code under test would otherwise race between workers.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return {**kept, **{name: str(folder) for name, folder in folders.items()}, **fixed}


@pytest.fixture(scope="session", autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The HOME of this worker: empty but for a git identity. The real one must be as it was at the end."""
    home = tmp_path_factory.mktemp("home")
    (home / ".gitconfig").write_text(GIT_CONFIG)
    before = dict(os.environ)
    seen = _real_home_facts()
    environ = _own_environ(home)
    os.environ.clear()
    os.environ.update(environ)
    try:
        yield home
    finally:
        os.environ.clear()
        os.environ.update(before)
    changed = {name for name, facts in _real_home_facts().items() if seen.get(name) != facts}
    assert not changed, f"a test wrote into the real home: {sorted(changed)}"


@pytest.fixture(autouse=True)
def same_environ_after() -> Iterator[None]:
    """Put the environment and the working directory back as they were before the test."""
    before, folder = dict(os.environ), os.getcwd()
    yield
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(before)


def _real_home_facts() -> dict[str, object]:
    """What of the real home a child process could have changed: whether our folders exist, and ~/.ssh file by file."""
    ours = [".config/hemma", ".local/state/hemma", ".cache/hemma", ".gitconfig"]
    facts: dict[str, object] = {name: (REAL_HOME / name).exists() for name in ours}
    for path in (REAL_HOME / ".ssh").glob("*"):
        with contextlib.suppress(OSError):
            facts[f".ssh/{path.name}"] = (path.stat().st_size, path.stat().st_mtime_ns)
    return facts


def _may_be_written(path: str) -> bool:
    """Whether a test may open `path` for writing: anything outside the real home, the checkout, and interpreters' caches."""
    allowed = (str(REPOSITORY), os.path.realpath(sys.prefix), os.path.realpath(sys.base_prefix), _temporary_folder)
    return not path.startswith(str(REAL_HOME) + os.sep) or path.startswith(allowed) or "__pycache__" in path


def _refuse_real_home(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "open" or not isinstance(arguments[0], str | bytes) or not arguments[2]:
        return
    if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) == 0:
        return
    path = os.path.abspath(os.fsdecode(arguments[0]))
    if not _may_be_written(path):
        raise PermissionError(f"a test opened {path} for writing; tests stay out of the real home")


_temporary_folder = os.path.realpath(os.environ.get("TMPDIR", "/tmp"))
# Root's home in some containers is "/", where the rule would mean nothing.
if os.sep != str(REAL_HOME):
    sys.addaudithook(_refuse_real_home)


def pytest_configure() -> None:
    """What nohup or a background job ignores, no program that a test starts may ignore: Ctrl-C, a closed terminal."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """With --cov, say which test file runs a line: what `hemma verify --tested` needs to say TESTED (S19-R07)."""
    measuring = sys.modules.get("coverage") and sys.modules["coverage"].Coverage.current()
    file = item.location[0]
    if measuring and _context != [file]:
        _context[:] = [file]
        measuring.switch_context(file)


_context: list[str] = []

# --- a host and the CLI ------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def quiet_at_the_end(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """At the end of the session nothing that lives in this worker's folders still runs (brokers, agents, commands)."""
    yield
    folder = str(tmp_path_factory.getbasetemp())
    deadline = time.monotonic() + LEAK_TIMEOUT_S
    while (leaks := _not_ours(processes_naming(folder))) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in leaks:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    assert not leaks, f"the session left behind: {sorted(leaks.values())}"


def _not_ours(processes: dict[int, str]) -> dict[int, str]:
    """Less the helpers of multiprocessing, which end with the process that runs the tests and not before."""
    return {pid: argv for pid, argv in processes.items() if "from multiprocessing." not in argv}


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory, own_home: Path, quiet_at_the_end: None) -> Iterator[LoopbackHost]:
    """A real OpenSSH server of this worker's own, on a free port, whose commands see an empty home."""
    folder = tmp_path_factory.mktemp("sshd")
    home = tmp_path_factory.mktemp("host-home")
    (home / ".gitconfig").write_text(GIT_CONFIG)
    host = loopback.start("tests", state_dir=str(folder), backend="openssh", home=str(home))
    yield host
    loopback.stop("tests", state_dir=str(folder))


@pytest.fixture(scope="session")
def repo_on_host(tmp_path_factory: pytest.TempPathFactory, own_home: Path) -> RepositoryOnHost:
    """One clone for all tests of this worker that leave it as it is; `make_repository` makes another."""
    return make_repository(tmp_path_factory.mktemp("on-host"))


@pytest.fixture(scope="session")
def settings_env(
    sshd: LoopbackHost, repo_on_host: RepositoryOnHost, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EnvironFor]:
    """`settings_env(host=sshd, *, root, ssh_config, state, **more)`: a whole environment for the CLI in a subprocess.

    `state` is a folder for everything Hemma keeps, on both sides; tests that kill brokers or agents pass a fresh one.
    Brokers started below any of these folders are ended with the session.
    """
    shared = tmp_path_factory.mktemp("hemma")
    folders = [shared]

    def environ_for(
        host: LoopbackHost = sshd,
        *,
        root: str | os.PathLike[str] | None = repo_on_host.path,
        ssh_config: str | None = None,
        state: Path = shared,
        **more: str,
    ) -> dict[str, str]:
        folders.append(state)
        environ = {
            **os.environ,
            "HEMMA_HOST": host.alias,
            "HEMMA_SSH_CONFIG": ssh_config or host.ssh_config,
            "HEMMA_PYTHON": host.python,
            "HEMMA_CONFIG_DIR": str(state / "config"),
            "HEMMA_STATE_DIR": str(state / "state"),
            "HEMMA_CACHE_DIR": str(state / "cache"),
            "HEMMA_HOST_STATE_DIR": str(state / "on-host"),
        }
        return {**environ, **({"HEMMA_ROOT": os.fspath(root)} if root is not None else {}), **more}

    yield environ_for
    for folder in folders:
        end_brokers(folder / "state")


@pytest.fixture
def hemma_with(tmp_path: Path) -> Iterator[Callable[[dict[str, str]], Cli]]:
    """`hemma_with(settings_env(...))`: the CLI with another environment than the shared one."""
    made: list[Cli] = []

    def make(environ: dict[str, str]) -> Cli:
        made.append(Cli(environ, tmp_path))
        return made[-1]

    yield make
    for cli in made:
        cli.end()
        state = Path(cli.environ["HEMMA_STATE_DIR"])
        if tmp_path in state.parents:
            end_brokers(state)


@pytest.fixture
def hemma(hemma_with: Callable[[dict[str, str]], Cli], settings_env: EnvironFor) -> Cli:
    """The CLI against this worker's host and clone, started in an empty folder; the broker is shared."""
    return hemma_with(settings_env())


# --- hostile inputs ----------------------------------------------------------------------------------------------


@pytest.fixture(params=list(HOSTILE_ARGUMENTS.values()), ids=list(HOSTILE_ARGUMENTS))
def hostile_argv(request: pytest.FixtureRequest) -> list[str]:
    """An argv (without program) that any careless quoting, splitting or decoding would change."""
    return ["before", request.param, "after"]


@pytest.fixture(params=list(WEIRD_NAMES.values()), ids=list(WEIRD_NAMES))
def weird_path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An existing empty folder whose name breaks careless code."""
    folder = tmp_path / request.param
    folder.mkdir()
    return folder


# --- marks --------------------------------------------------------------------------------------------


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything below tests/real is marked `real` (needs sshd, git, several processes)."""
    real = Path(__file__).with_name("real")
    for item in items:
        if real in item.path.parents:
            item.add_marker(pytest.mark.real)
