"""How the demo tells its story: a command as one would type it, what it said, and whether that holds."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
STATE = REPOSITORY / ".state/demo"
LAPTOP_CLONE = STATE / "laptop/hemma"
ORIGIN = STATE / "on-the-host/origin.git"
HOST_CLONE = STATE / "on-the-host/hemma"
DRIVE = STATE / "drive/hemma"
COMMAND_TIMEOUT_S = 60

BOLD, DIM, OFF = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")

# The person's own git settings (signing, hooks, aliases) have no part in a demo.
GIT_ENVIRON = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A Demo",
    "GIT_AUTHOR_EMAIL": "demo@example.invalid",
    "GIT_COMMITTER_NAME": "A Demo",
    "GIT_COMMITTER_EMAIL": "demo@example.invalid",
}


class StepFailed(Exception):
    """A command did not do what the demo says it does."""


def environ() -> dict[str, str]:
    """The environment of every command here: Hemma's folders below .state/demo, no setting from outside."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HEMMA_", "GIT_", "PYTHON"))}
    folders = {f"HEMMA_{name.upper()}_DIR": str(STATE / "hemma" / name) for name in ("config", "state", "cache")}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    # script/trace measures the agent as well: the host's own Python has nothing that could.
    agent = {"HEMMA_PYTHON": kept["DEMO_PYTHON"]} if "DEMO_PYTHON" in kept else {}
    return {
        **kept,
        **agent,
        **folders,
        **GIT_ENVIRON,
        "PATH": path,
        "HEMMA_BROKER_IDLE_S": "60",
        "HEMMA_DRIVE_PLACE": f"folder:{DRIVE}",
    }


_steps = 0


def step(title: str) -> None:
    """Begin the next step of the story."""
    global _steps  # noqa: PLW0603 - a script counts its steps
    _steps += 1
    print(f"\n{BOLD}{_steps}. {title}{OFF}", flush=True)


def show_command(argv: list[str], stdin: bytes | None = None) -> None:
    """Print the command as one would type it."""
    before = f"printf {shlex.quote(stdin.decode().encode('unicode_escape').decode())} | " if stdin else ""
    print(f"   $ {before}{shlex.join(argv)}".replace(str(STATE), ".state/demo"), flush=True)


def show_output(text: str) -> None:
    """Print what a command said, set off from the story."""
    for line in text.splitlines():
        print(f"   {DIM}|{OFF} {line}".replace(str(STATE), ".state/demo"), flush=True)


def run(
    *argv: str,
    cwd: Path = LAPTOP_CLONE,
    stdin: bytes | None = None,
    expect: int = 0,
    quiet: bool = False,
    timeout_s: float = COMMAND_TIMEOUT_S,
) -> str:
    """Show and run a command, show what it says; returns its stdout. Raises StepFailed for another exit code."""
    if not quiet:
        show_command(list(argv), stdin)
    done = subprocess.run(
        argv,
        cwd=cwd,
        env=environ(),
        input=stdin or b"",
        capture_output=True,
        check=False,
        timeout=timeout_s,
    )
    out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    if not quiet or done.returncode != expect:
        show_output(out + err)
    if not quiet and expect:
        print(f"   {DIM}(exit code {done.returncode}){OFF}")
    if done.returncode != expect:
        raise StepFailed(f"`{shlex.join(argv)}` ended with {done.returncode}, not {expect}")
    return out


def check(holds: bool, claim: str) -> None:
    """State what was just shown; raises StepFailed when it is not so."""
    if not holds:
        raise StepFailed(f"this should hold and does not: {claim}")
    print(f"   ok  {claim}", flush=True)
