"""What tests share besides fixtures: the real CLI as an object, a clone with its origin, waiting, looking for processes."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

LEAK_TIMEOUT_S = 10.0

# None of these on the way of `hemma run`: they cost more time than all the rest of it.
HEAVY_MODULES = (
    "asyncssh", "click", "cryptography", "fabric", "git", "googleapiclient", "paramiko", "platformdirs", "pydantic", "rich",
    "tomlkit", "tomllib", "torch", "typer",
)  # fmt: skip

# A fixture's type: `settings_env(host, *, root, ssh_config, state, **more)` -> the environment for the CLI.
EnvironFor = Callable[..., dict[str, str]]


GIT_CONFIG = """\
[user]
    name = A Test
    email = test@example.invalid
[init]
    defaultBranch = main
[commit]
    gpgSign = false
[advice]
    detachedHead = false
"""


@dataclass(frozen=True)
class RepositoryOnHost:
    """A clone on the host with one commit, and its bare origin; on a loopback host both are local folders too."""

    path: Path
    origin: Path

    def git(self, *arguments: str) -> str:
        """Run git in the clone; returns its stdout, stripped."""
        return subprocess.run(
            ["git", "-C", str(self.path), *arguments], check=True, capture_output=True, text=True
        ).stdout.strip()


def make_repository(folder: Path) -> RepositoryOnHost:
    """Make `folder`/origin.git and `folder`/repo, a clone of it with one pushed commit on main."""
    made = RepositoryOnHost(folder / "repo", folder / "origin.git")
    for argv in (["init", "--bare", str(made.origin)], ["clone", "-q", str(made.origin), str(made.path)]):
        subprocess.run(["git", *argv], check=True, capture_output=True)
    (made.path / "README.md").write_text("# A project\n")
    made.git("add", "--all")
    made.git("commit", "-q", "-m", "Begin")
    made.git("push", "-q", "-u", "origin", "main")
    return made


@dataclass
class Cli:
    """The real `hemma`, as a subprocess, as a user would start it."""

    environ: dict[str, str]
    folder: Path
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def argv(self, *arguments: str | bytes | os.PathLike[str]) -> list[str | bytes | os.PathLike[str]]:
        """The whole command line for these arguments of `hemma`."""
        script = Path(sys.executable).with_name("hemma")
        return [*([script] if script.exists() else [sys.executable, "-P", "-m", "hemma"]), *arguments]

    def __call__(
        self,
        *arguments: str | bytes | os.PathLike[str],
        stdin: bytes | None = None,
        cwd: str | os.PathLike[str] | None = None,
        env: dict[str, str] | None = None,
        timeout_s: float = 60,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run `hemma *arguments` to its end; `env` is laid over the default one. Output is bytes."""
        return subprocess.run(
            self.argv(*arguments),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            cwd=cwd or self.folder,
            env={**self.environ, **(env or {})},
            timeout=timeout_s,
            check=False,
        )

    def start(
        self,
        *arguments: str | bytes | os.PathLike[str],
        cwd: str | os.PathLike[str] | None = None,
        env: dict[str, str] | None = None,
        **streams: Any,
    ) -> subprocess.Popen[bytes]:
        """Start `hemma *arguments` on pipes and return at once; killed when the test ends, if it still runs."""
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        environ = {**self.environ, **(env or {})}
        keywords: dict[str, Any] = {**pipes, "bufsize": 0, **streams}
        argv = self.argv(*arguments)
        started: subprocess.Popen[Any] = subprocess.Popen(argv, cwd=cwd or self.folder, env=environ, **keywords)
        self.started.append(started)
        return started

    def end(self) -> None:
        """Kill what `start` left running, close its pipes."""
        for child in self.started:
            if child.poll() is None:
                child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout, child.stderr):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()


def end_brokers(state_dir: Path) -> list[int]:
    """End every broker that works for `state_dir`; returns their pids."""
    # A broker is known by its environment: its socket may lie elsewhere when the name would be too long.
    wanted = processes_naming(f"HEMMA_STATE_DIR={state_dir}")
    brokers = [pid for pid, argv in wanted.items() if "broker serve" in argv]
    for pid in brokers:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGTERM)
    return brokers


def command_line(pid: int) -> list[str]:
    """The argv of a process of this machine; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def processes_naming(text: str) -> dict[int, str]:
    """pid -> command line of every process but ours whose command line or environment holds `text`."""
    found: dict[int, str] = {}
    wanted = os.fsencode(text)
    for entry in Path("/proc").glob("[0-9]*"):
        pid = int(entry.name)
        with contextlib.suppress(OSError):
            facts = (entry / "cmdline").read_bytes() + b"\0" + (entry / "environ").read_bytes()
            if wanted in facts and pid not in (os.getpid(), os.getppid()):
                found[pid] = " ".join(command_line(pid))
    return found


def wait_until(claim: Callable[[], Any], timeout_s: float = LEAK_TIMEOUT_S, what: str = "the condition") -> Any:
    """Poll `claim` until it is true and return its value; fails the test at the ceiling. Never sleep for luck."""
    deadline = time.monotonic() + timeout_s
    for delay in itertools.chain([0.001, 0.002, 0.005, 0.01], itertools.repeat(0.02)):
        answer = claim()
        if answer:
            return answer
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not hold within {timeout_s:g} s")
        time.sleep(delay)
    return None


HOSTILE_ARGUMENTS = {
    "empty": "",
    "space": " ",
    "words": "two  words",
    "double-quote": 'say "hi"',
    "single-quote": "it's",
    "variable": "$HOME ${HOME} $(id) `id`",
    "glob": "* ? [a-z] {a,b} ~",
    "newline": "first\nsecond\n",
    "carriage-return": "a\r\nb",
    "tab": "a\tb",
    "semicolon": "; touch pwned; #",
    "operators": "a | b && c > d < e & f",
    "backslash": "\\ \\\\ \\n \\",
    "unicode": "Grüße, 世界 🦌 e\u0301",
    "not-utf8": os.fsdecode(b"\xff\xfe caf\xe9"),
    "control": "\x01\x1b[31m\x7f",
    "dash": "-",
    "double-dash": "--",
    "option": "--help",
    "short-option": "-x",
    "pdm-arguments": "{args}",
    "percent": "%s %h %%",
    "bang": "!! !$",
    "equals": "NAME=value",
    "long": "x" * 100_000,
}


WEIRD_NAMES = {
    "space": "a b",
    "quotes": 'it\'s "quoted"',
    "dollar": "$HOME;id",
    "newline": "two\nlines",
    "unicode": "mapp-åäö-世界",
    "dash": "-rf",
    "glob": "*[a]?",
    "backslash": "back\\slash",
    "percent": "100%h",
}
