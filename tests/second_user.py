"""Another user of this machine, for tests of what is ours alone: real processes under another user id. Needs root."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

USER_ID = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as a second user")

# The interpreter, and the folder a program works in, may lie where only root may go: the id is changed after the start.
BECOME = f"import os; os.setgroups([]); os.setgid({USER_ID}); os.setuid({USER_ID})\n"


@contextmanager
def running(program: str, *arguments: str, folder: Path | None = None) -> Generator[subprocess.Popen[bytes]]:
    """A Python program that says `BECOME` where it changes the user, on pipes; ended with the block."""
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", program.replace("BECOME", BECOME), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=folder or "/",
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def output_of(program: str, *arguments: str, folder: Path | None = None) -> bytes:
    """What such a program printed until its own end."""
    with running(program, *arguments, folder=folder) as child:
        return child.communicate(timeout=30)[0]


def give(*paths: Path) -> None:
    """Make the other user the owner of these files or folders."""
    for path in paths:
        os.lchown(path, USER_ID, USER_ID)


Listening = Callable[[], bytes]

_LISTEN = """
import os, socket, sys
FIRST
server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
server.bind(sys.argv[1])
SECOND
server.listen(8)
os.write(1, b'ready')
server.settimeout(60)
while True:
    client = server.accept()[0]
    client.settimeout(1)
    try:
        seen = client.recv(65536)
        os.write(1, seen)
        client.sendall(bytes.fromhex(sys.argv[2]))
    except OSError:
        pass
    client.close()
"""


@contextmanager
def listener(path: str, answer: bytes, *, makes_folder: bool, folder: Path | None = None) -> Generator[Listening]:
    """The other user listens on a socket and answers whoever says something; called, it tells what it has heard in all.

    With `makes_folder` the other user makes the socket's folder as well; else it stands in one of ours.
    """
    make = "os.umask(0)\nos.mkdir(os.path.dirname(sys.argv[1]))\n" if makes_folder else ""
    first, second = ("BECOME\n" + make, "") if makes_folder else ("", "BECOME")
    program = _LISTEN.replace("FIRST", first).replace("SECOND", second)
    with running(program, path, answer.hex(), folder=folder) as child:
        assert child.stdout is not None
        assert child.stdout.read(5) == b"ready"

        def heard() -> bytes:
            child.kill()
            return child.communicate()[0]

        yield heard
