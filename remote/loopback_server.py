"""The loopback host's SSH server on asyncssh, for machines without sshd. Run as a script, in a process of its own.

    python -I loopback_server.py settings.json     {"folder", "address", "port", "environ"}

Like sshd: a session runs the user's shell with `-c`, on pipes or on a pty; its end does not signal a command without a
pty; output is passed on byte by byte until every writer has closed it. Imports nothing of ours, so that `-I` works.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import pwd
import signal
import struct
import sys
import termios
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncssh

log = logging.getLogger("loopback")

CHUNK_BYTES = 65536
# One thread reads each pty; asyncio's own pool would stop at six on a small machine.
PTY_THREADS = 128


class LoopbackServer(asyncssh.SSHServer):
    """Lets the one key in and allows forwarding (ProxyJump), as a stock sshd does."""

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        """Allow a direct-tcpip channel."""
        del dest_host, dest_port, orig_host, orig_port
        return True


class Session:
    """One command of one SSH session, with its pumps."""

    def __init__(self, process: asyncssh.SSHServerProcess[bytes], environ: dict[str, str]) -> None:
        self.ssh = process
        self.account = pwd.getpwuid(os.geteuid())
        self.environ = environ
        self.child: Process | None = None
        self.terminal: int | None = None

    async def serve(self) -> None:
        """Run the command to its end and report its exit code or signal to the client."""
        try:
            await (self._serve_pty() if self.ssh.term_type else self._serve_pipes())
            if self.child is not None:
                self._report(await self.child.wait())
        except (OSError, asyncssh.Error) as problem:
            log.info("session ended early: %r", problem)
            if self.terminal is not None:
                self._signal(signal.SIGHUP)
            self.ssh.close()
        finally:
            if self.terminal is not None:
                os.close(self.terminal)

    def _argv(self) -> list[str]:
        shell = self.account.pw_shell or "/bin/sh"
        return [shell, "-c", self.ssh.command] if self.ssh.command is not None else [shell]

    def _session_environ(self) -> dict[str, str]:
        account = self.account
        asked = {name: value for name, value in self.ssh.env.items() if name == "LANG" or name.startswith("LC_")}
        own = {"USER": account.pw_name, "LOGNAME": account.pw_name, "HOME": account.pw_dir, "SHELL": account.pw_shell}
        peer, local = (self.ssh.get_extra_info(key) or ("", 0) for key in ("peername", "sockname"))
        # bash reads .bashrc for a command only when it sees that it was started by sshd.
        told = {
            "SSH_CLIENT": f"{peer[0]} {peer[1]} {local[1]}",
            "SSH_CONNECTION": f"{peer[0]} {peer[1]} {local[0]} {local[1]}",
        }
        term = {"TERM": self.ssh.term_type} if self.ssh.term_type else {}
        return {**asked, **own, **told, **term, **self.environ}

    async def _spawn(self, **streams: Any) -> Process:
        home = self.account.pw_dir if os.path.isdir(self.account.pw_dir) else "/"
        self.child = await asyncio.create_subprocess_exec(
            *self._argv(), env=self._session_environ(), cwd=home, start_new_session=True, **streams
        )
        return self.child

    async def _serve_pipes(self) -> None:
        child = await self._spawn(stdin=PIPE, stdout=PIPE, stderr=PIPE, limit=CHUNK_BYTES)
        stdin, stdout, stderr = child.stdin, child.stdout, child.stderr
        if stdin is None or stdout is None or stderr is None:
            raise OSError("pipes were asked for")
        feeding = asyncio.create_task(self._feed(stdin))
        try:
            await asyncio.gather(self._drain(stdout, self.ssh.stdout), self._drain(stderr, self.ssh.stderr))
        finally:
            feeding.cancel()
            stdin.close()

    async def _feed(self, stdin: asyncio.StreamWriter) -> None:
        async for chunk in self._input():
            try:
                stdin.write(chunk)
                await stdin.drain()
            except OSError:
                return  # the command closed its stdin; the client may go on sending
        stdin.close()

    async def _input(self) -> AsyncIterator[bytes]:
        """What the client types, until its EOF; signals and window sizes are acted on in between."""
        while True:
            try:
                chunk = await self.ssh.stdin.read(CHUNK_BYTES)
            except asyncssh.TerminalSizeChanged as change:
                self._resize(change.width, change.height)
            except asyncssh.SignalReceived as received:
                self._signal(getattr(signal, "SIG" + received.signal, signal.SIGTERM))
            except asyncssh.BreakReceived:
                continue
            else:
                if not chunk:
                    return
                yield chunk

    async def _drain(self, source: asyncio.StreamReader, sink: asyncssh.SSHWriter[bytes]) -> None:
        while chunk := await source.read(CHUNK_BYTES):
            sink.write(chunk)
            await sink.drain()

    async def _serve_pty(self) -> None:
        self.terminal, command_side = os.openpty()
        width, height, *_ = self.ssh.term_size
        self._resize(width, height)
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), command_side)
        try:
            await self._spawn(**streams, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        finally:
            os.close(command_side)
        feeding = asyncio.create_task(self._feed_terminal(self.terminal))
        try:
            while chunk := await asyncio.to_thread(_read_terminal, self.terminal):
                self.ssh.stdout.write(chunk)
                await self.ssh.stdout.drain()
        finally:
            feeding.cancel()

    async def _feed_terminal(self, terminal: int) -> None:
        with contextlib.suppress(asyncssh.Error):
            async for chunk in self._input():
                await asyncio.to_thread(_write_all, terminal, chunk)
        # An EOF closes no terminal; the end of the channel does.
        await self.ssh.wait_closed()
        self._signal(signal.SIGHUP)

    def _resize(self, width: int, height: int) -> None:
        if self.terminal is not None:
            fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def _signal(self, number: int) -> None:
        if self.child is not None and self.child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.child.pid, number)

    def _report(self, code: int) -> None:
        if code >= 0:
            self.ssh.exit(code)
        else:
            self.ssh.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))


def _read_terminal(terminal: int) -> bytes:
    try:
        return os.read(terminal, CHUNK_BYTES)
    except OSError:  # Linux says EIO once the last writer of the other side is gone
        return b""


def _write_all(terminal: int, chunk: bytes) -> None:
    while chunk:
        chunk = chunk[os.write(terminal, chunk) :]


async def _run(settings: dict[str, Any]) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(PTY_THREADS))
    folder = Path(settings["folder"])

    async def serve(process: asyncssh.SSHServerProcess[bytes]) -> None:
        await Session(process, settings["environ"]).serve()

    server = await asyncssh.listen(
        settings["address"],
        settings["port"],
        server_factory=LoopbackServer,
        server_host_keys=[str(folder / "host_key")],
        authorized_client_keys=str(folder / "authorized_keys"),
        process_factory=serve,
        sftp_factory=True,
        encoding=None,
        line_editor=False,
        x11_forwarding=False,
        agent_forwarding=False,
        backlog=500,
    )
    log.info("Server listening on %s port %d.", settings["address"], server.get_port())
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()
    # Sessions are cut, not closed politely: the same end that a killed sshd gives them.
    os._exit(0)


def main(argv: list[str]) -> int:
    """Serve until SIGTERM; the log goes to stderr. Returns the exit code."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s")
    settings = json.loads(Path(argv[1]).read_text(encoding="utf-8"))
    asyncio.run(_run(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
