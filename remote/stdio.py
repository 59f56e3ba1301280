"""This process's own files while a run's bytes pass through them: waiting, reading, writing, without changing a byte.

Standard library only: the `hemma run` path.
"""

from __future__ import annotations

import os
import select
import socket
import sys

from manifests.visible import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Write: TypeAlias = Callable[[memoryview], None]
    # A file number; on Windows, where only sockets can be waited for, a socket.
    Source: TypeAlias = int | socket.socket

_CHUNK = 1 << 16


def stdin_source() -> Source:
    """Our stdin as something `wait_for` can wait for."""
    return 0 if hasattr(select, "poll") else pumped(0)


def pumped(file: int) -> socket.socket:
    """A socket that yields the bytes of `file`, moved there by a thread of this process; it ends when the file ends."""
    import threading

    ours, theirs = socket.socketpair()

    def move() -> None:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.setmode(file, os.O_BINARY)
        with theirs:
            while data := os.read(file, _CHUNK):
                theirs.sendall(data)

    threading.Thread(target=move, daemon=True, name="hemma-stdin").start()
    return ours


def read_from(source: Source) -> bytes | None:
    """What `source` has now: empty at its end, None when there is nothing after all."""
    try:
        return os.read(source, _CHUNK) if isinstance(source, int) else source.recv(_CHUNK)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def wait_for(sock: socket.socket, stdin: Source | None, timeout_s: float) -> tuple[bool, bool]:
    """Wait until the socket or our stdin has something to read; says which."""
    if not hasattr(select, "poll"):
        ready = select.select([sock] if stdin is None else [sock, stdin], [], [], timeout_s)[0]
        return sock in ready, stdin in ready
    number = stdin.fileno() if isinstance(stdin, socket.socket) else stdin
    poll = select.poll()  # not select: a file number may be high
    poll.register(sock, select.POLLIN)
    if number is not None:
        poll.register(number, select.POLLIN)
    found = {file for file, _ in poll.poll(timeout_s * 1000)}
    return sock.fileno() in found, number in found


def write_to(file: int) -> Write:
    """A writer that puts everything into an open file, however small the pieces it takes."""

    def write(piece: memoryview) -> None:
        while len(piece):
            try:
                piece = piece[os.write(file, piece) :]
            except BlockingIOError:  # somebody made our stdout non-blocking: wait for it like anybody else
                select.select([], [file], [], 1.0)

    return write


def stderr_notice(message: str) -> None:
    """Print a word of our own, only where a person watches: a pipe or file gets the command's own bytes and no more."""
    if sys.stderr.isatty():
        sys.stderr.write(f"hemma: {one_line(message)}\r\n")
        sys.stderr.flush()


def say(verdict: str, text: str) -> None:
    """One line on stderr: a verdict word, padded, then `text`, made visible. The path without rich has this alone."""
    sys.stderr.write(f"{verdict:<8} {one_line(text)}\n")
