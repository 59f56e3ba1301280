"""A terminal on the host for interactive programs (`--pty`): its own session, size and controlling terminal."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import termios


def spawn(
    argv: list[bytes], environment: dict[bytes, bytes], cwd: bytes, size: dict[str, object]
) -> tuple[subprocess.Popen[bytes], int]:
    """Start a command on a new terminal; returns (process, the terminal's master side). Raises OSError."""
    master, slave = os.openpty()
    resize(master, int(str(size["rows"])), int(str(size["columns"])))

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    try:
        process = subprocess.Popen(
            argv, env=environment, cwd=cwd, stdin=slave, stdout=slave, stderr=slave, preexec_fn=take_terminal
        )
    except OSError:
        os.close(master)
        raise
    finally:
        os.close(slave)
    return process, master


def resize(terminal: int, rows: int, columns: int) -> None:
    """Set the terminal's size in characters; its programs get SIGWINCH."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
