"""Which process is which on a loopback host: brokers of a state folder, agents below an sshd, supervisors of runs."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

from remote import loopback
from remote.loopback import LoopbackHost
from tests.support import GIT_CONFIG, Cli, command_line, processes_naming, wait_until

FIRST_STAGE = "source=sys.stdin.buffer"


@contextlib.contextmanager
def private_host(folder: Path) -> Generator[LoopbackHost]:
    """A host for one test alone: it may be stopped and started, and no other test's agents are on it."""
    (folder / "home").mkdir()
    (folder / "home/.gitconfig").write_text(GIT_CONFIG)
    yield loopback.start("own", str(folder / "loopback"), "openssh", str(folder / "home"))
    loopback.stop("own", str(folder / "loopback"))


def parent_of(pid: int) -> int:
    """The parent's pid; 0 when the process is gone."""
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    return 0


def _runs_agent_code(pid: int) -> bool:
    argv = command_line(pid)
    is_python = bool(argv) and "python" in os.path.basename(argv[0])
    return is_python and len(argv) > 3 and argv[1:3] == ["-I", "-c"] and FIRST_STAGE in argv[3]


def agents(host: LoopbackHost) -> list[int]:
    """The agents that serve connections to this host now; supervisors, their children, are none."""
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        pid = int(entry.name)
        if not _runs_agent_code(pid) or _runs_agent_code(parent_of(pid)):
            continue
        above = parent_of(pid)
        while above > 1 and above != host.pid:
            above = parent_of(above)
        if above == host.pid:
            found.append(pid)
    return found


def the_agent(host: LoopbackHost) -> int:
    """The only agent below this host's sshd; waits until it is the only one."""
    return int(wait_until(lambda: (found := agents(host)) and len(found) == 1 and found, 10, "one agent")[0])


def brokers(cli: Cli) -> list[int]:
    """The brokers that work for this CLI's state folder."""
    named = processes_naming(f"HEMMA_STATE_DIR={cli.environ['HEMMA_STATE_DIR']}")
    return [pid for pid, argv in named.items() if "broker serve" in argv]


def runs_folder(cli: Cli) -> Path:
    """The folder of all runs on the host."""
    return Path(cli.environ["HEMMA_HOST_STATE_DIR"]) / "runs"


def newest_run(cli: Cli) -> Path:
    """The folder of the run that was made last (ids alone do not tell within a second)."""
    return max(runs_folder(cli).glob("*/run.json"), key=lambda path: path.stat().st_mtime_ns).parent


def status(cli: Cli, run_id: str | None = None) -> dict[str, Any]:
    """status.json of a run, by default of the newest; empty while there is none."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        folder = runs_folder(cli) / run_id if run_id else newest_run(cli)
        return cast("dict[str, Any]", json.loads((folder / "status.json").read_text()))
    return {}


def wait_for_state(cli: Cli, state: str, run_id: str | None = None) -> dict[str, Any]:
    """Wait until the run's own record says `state`; returns that record."""
    told = wait_until(lambda: (found := status(cli, run_id)).get("state") == state and found, 20, f"state {state}")
    return cast("dict[str, Any]", told)


def is_alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] not in "ZX"
    return False
