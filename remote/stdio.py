"""This process's own files while a run's bytes pass through them: waiting, reading, writing, without changing a byte.

Standard library only: the `hemma run` path.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import sys

from manifests.commands import Remedy
from manifests.errors import HemmaError
from manifests.visible import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
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


class Output:
    """Puts everything into an open file, however small the pieces it takes; `fault` is why it no longer could.

    A reader that has gone is no fault: nobody misses those bytes (`| head`).
    """

    __slots__ = ("fault", "file")

    def __init__(self, file: int) -> None:
        self.file = file
        self.fault: OSError | None = None

    def __call__(self, piece: memoryview) -> None:
        """Write all of it. Raises OSError."""
        try:
            while len(piece):
                try:
                    piece = piece[os.write(self.file, piece) :]
                except BlockingIOError:  # somebody made our stdout non-blocking: wait for it like anybody else
                    select.select([], [self.file], [], 1.0)
        except OSError as error:
            if not reader_is_gone(error):
                self.fault = error
            raise


def write_to(file: int) -> Output:
    """A writer into an open file."""
    return Output(file)


def reader_is_gone(error: OSError) -> bool:
    """Whether a write failed because nobody reads any more, on a pipe or a socket."""
    return error.errno in (errno.EPIPE, errno.ECONNRESET, errno.ESHUTDOWN)


def demand_written(outputs: Iterable[Output], remedy: Remedy) -> None:
    """See that all that came was written. Raises HemmaError (output-lost)."""
    for output in outputs:
        if output.fault is not None:
            raise output_lost({1: "stdout", 2: "stderr"}.get(output.file, "a file"), output.fault, remedy)


def output_lost(name: str, fault: OSError, remedy: Remedy = "") -> HemmaError:
    """The error for output that could not be written: a full disk, a terminal that is gone."""
    return HemmaError(f"{name} cannot be written: {fault.strerror}", remedy=remedy, code="output-lost")


def print_line(text: str) -> None:
    """Print a line of a result on stdout, at once. Raises HemmaError (output-lost), not for a reader that is gone."""
    try:
        sys.stdout.write(one_line(text) + "\n")
        sys.stdout.flush()
    except OSError as fault:
        abandon_stdout()
        if not reader_is_gone(fault):
            raise output_lost("stdout", fault) from None


def abandon_stdout() -> None:
    """From now on what is printed goes nowhere, so that Python's own end has nothing to say of it."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def stderr_notice(message: str) -> None:
    """Print a word of our own, only where a person watches: a pipe or file gets the command's own bytes and no more."""
    if sys.stderr.isatty():
        sys.stderr.write(f"hemma: {one_line(message)}\r\n")
        sys.stderr.flush()


def say(verdict: str, text: str) -> None:
    """One line on stderr: a verdict word, padded, then `text`, made visible. The path without rich has this alone."""
    try:
        sys.stderr.write(f"{verdict:<8} {one_line(text)}\n")
    except OSError:
        pass  # nobody can be told; the exit code tells the rest
