"""The stage of a benchmark: one loopback sshd, one clone on it, and our command and its peers aimed at the same host.

Everything lies in a temporary folder that `Stage.close` removes; no home, no ~/.ssh and no agent of the user's is used,
except that `use_start_up_files` sources this account's own shell start-up files.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

from remote import local_process, loopback

COMMAND_TIMEOUT_S = 120.0

# What a person writes who uses fabric: one connection, one command. It trusts any host key, as fabric does by default.
FABRIC_SCRIPT = """\
import sys
from fabric import Config, Connection

with Connection(sys.argv[1], config=Config(runtime_ssh_path=sys.argv[2])) as connection:
    result = connection.run(sys.argv[3], hide=True, in_stream=False)
sys.exit(result.exited)
"""


class Stage:
    """A running host and everything to reach it with. `home` is the host's home, `environ` the controller's environment."""

    def __init__(self) -> None:
        # Not $TMPDIR: the master's socket lies in it, and a socket's name has 107 bytes at most.
        self.folder = Path(tempfile.mkdtemp(prefix=f"hemma-bench-{os.getpid()}-", dir="/tmp"))
        self.home = self.folder / "host-home"
        self.project = self.folder / "project"
        self.fabric_script = self.folder / "with_fabric.py"
        for folder in (self.home, self.project, self.folder / "controller-home"):
            folder.mkdir(mode=0o700)
        self.host = loopback.start("bench", state_dir=str(self.folder), backend="openssh", home=str(self.home))
        self.environ = self._environ()
        self._write_files()

    def close(self) -> None:
        """End the broker, the master and the host; remove the folder."""
        self.end_broker()
        self.end_master()
        loopback.stop("bench", state_dir=str(self.folder))
        shutil.rmtree(self.folder, ignore_errors=True)

    def use_start_up_files(self, *, is_on: bool) -> None:
        """Let the host's shell read this account's own start-up files, as plain `ssh` does on a real host; or none at all."""
        own = os.path.expanduser("~")
        for name in (".bashrc", ".zshenv"):
            path = self.home / name
            path.unlink(missing_ok=True)
            if is_on and os.path.isfile(os.path.join(own, name)):
                path.write_text(f"HOME='{own}'; . ~/{name}; HOME='{self.home}'\n", encoding="utf-8")

    # -- command lines ---------------------------------------------------------------------------------------------

    def hemma(self, *command: str) -> list[str]:
        """Our command line, with the console script as installed."""
        return [str(Path(sys.executable).with_name("hemma")), "run", "--", *command]

    def ssh(self, *command: str, cipher: str | None = None) -> list[str]:
        """OpenSSH, a connection of its own, its default cipher or the one named."""
        chosen = ["-c", cipher] if cipher else []
        return ["ssh", "-F", self.host.ssh_config, *chosen, self.host.alias, *command]

    def master(self, *command: str, cipher: str | None = None) -> list[str]:
        """OpenSSH through a running ControlMaster (one for each cipher); see `start_master`."""
        return [*self.ssh()[:3], "-S", self._socket(cipher), self.host.alias, *command]

    def fabric(self, command: str) -> list[str]:
        """A fresh process with a fabric script."""
        return [sys.executable, str(self.fabric_script), self.host.alias, self.host.ssh_config, command]

    # -- running ---------------------------------------------------------------------------------------------------

    def run(self, argv: list[str]) -> None:
        """Run a command line to its end in the project's folder. Raises CalledProcessError unless it exits 0."""
        null = subprocess.DEVNULL
        with subprocess.Popen(argv, stdin=null, stdout=null, cwd=self.project, env=self.environ) as process:
            wait_for(process)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, argv)

    def start_master(self, cipher: str | None = None) -> None:
        """Start a ControlMaster that stays until `end_master`."""
        options = ["-M", "-N", "-f", "-S", self._socket(cipher), "-o", "ControlPersist=yes"]
        self.run([*self.ssh(cipher=cipher)[:-1], *options, self.host.alias])

    def end_master(self) -> None:
        """End every ControlMaster that was started here."""
        for path in self.folder.glob("master-*"):
            argv = [*self.ssh()[:3], "-S", str(path), "-O", "exit", self.host.alias]
            subprocess.run(argv, capture_output=True, check=False, timeout=10)

    # -- our own processes and files -------------------------------------------------------------------------------

    def end_broker(self) -> None:
        """End every broker of this stage, and with it the agents; returns when all are gone.

        There are two when a source file of ours was edited meanwhile: each version starts a broker of its own.
        """
        ours = self.processes()
        for pid in (pid for pid, role in ours.items() if role == "broker"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        local_process.holds_within(lambda: not any(map(local_process.started, ours)), 10)

    def wipe(self) -> None:
        """Everything as on the first day: no broker, no settings snapshot, no agent in the host's cache, no runs."""
        self.end_broker()
        for folder in ("state/broker", "cache", "host-home/.cache", "host-home/.local"):
            shutil.rmtree(self.folder / folder, ignore_errors=True)

    def forget_runs(self) -> None:
        """Remove the runs that are on the host: the spools of large outputs fill a disk."""
        shutil.rmtree(self.home / ".local/state/hemma/runs", ignore_errors=True)

    def processes(self) -> dict[int, str]:
        """pid -> role (client, broker, agent, supervisor) of every process of ours that runs for this stage."""
        found = list(self._ours())
        agents = {pid for pid, role, _ in found if role == "agent"}
        # A supervisor is a fork of the agent, so it looks the same but for its parent.
        return {pid: "supervisor" if parent in agents else role for pid, role, parent in found}

    # -- private ---------------------------------------------------------------------------------------------------

    def _ours(self) -> Iterator[tuple[int, str, int]]:
        mark = os.fsencode(self.folder)
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                role = _role(words)
                if role and mark in (entry / "environ").read_bytes():
                    stat = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                    yield int(entry.name), role, int(stat[1])

    def _socket(self, cipher: str | None) -> str:
        return str(self.folder / f"master-{(cipher or 'default').partition('@')[0]}")

    def _environ(self) -> dict[str, str]:
        # PYTHON*: PYTHONDONTWRITEBYTECODE, for one, makes every start compile what an installed program has compiled.
        unwanted = ("HEMMA_", "SSH_", "XDG_", "PYTHON", "COVERAGE_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
        places = {f"HEMMA_{name.upper()}_DIR": str(self.folder / name) for name in ("config", "state", "cache")}
        return {**kept, **places, "HOME": str(self.folder / "controller-home")}

    def _write_files(self) -> None:
        """Settings where a user has them (user config and pyproject.toml), a clone on the host, and the fabric script."""
        config = self.folder / "config"
        config.mkdir(mode=0o700)
        (config / "config.toml").write_text(
            textwrap.dedent(f"""\
                [hosts.bench]
                ssh = "{self.host.alias}"
                ssh_config = "{self.host.ssh_config}"
                python = "{self.host.python}"
            """),
            encoding="utf-8",
        )
        (self.project / "pyproject.toml").write_text(
            '[tool.hemma]\nhost = "bench"\nroot = "~/repo"\n', encoding="utf-8"
        )
        self.fabric_script.write_text(FABRIC_SCRIPT, encoding="utf-8")
        identity = ["-c", "user.name=Bench", "-c", "user.email=bench@example.invalid"]
        for argv in (
            ["init", "-q", "-b", "main", "repo"],
            [*identity, "-C", "repo", "commit", "-q", "--allow-empty", "-m", "Begin"],
        ):
            subprocess.run(["git", *argv], cwd=self.home, env=self.environ, check=True, timeout=20)
        trusted = [self.hemma()[0], "trust", "--yes"]
        subprocess.run(trusted, cwd=self.project, env=self.environ, check=True, capture_output=True, timeout=60)


def wait_for(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a process, and kill it at the ceiling.

    `Popen.wait(timeout)` sleeps 0.5, 1, 2, 4 … ms between its looks: it would round every figure up to 7.5, 15.5, 31.5.
    """
    handle = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        if not poll.poll(COMMAND_TIMEOUT_S * 1000):
            process.kill()
    finally:
        os.close(handle)
    process.wait()


def _role(words: list[bytes]) -> str | None:
    """The role of a process of ours by its command line, or None."""
    line = b" ".join(words)
    if b"exec(source.read(" in line and b"sh -c" not in line:
        return "agent"
    if b"broker serve" in line:
        return "broker"
    return "client" if any(word.endswith(b"/bin/hemma") for word in words[:2]) else None
