"""A terminal on the host for interactive programs (`--pty`): its own session, size and controlling terminal."""

import fcntl
import os
import struct
import subprocess
import termios


def spawn(argv, environment, cwd, size):
    # type: (list[bytes], dict[bytes, bytes], bytes, dict[str, object]) -> tuple[subprocess.Popen[bytes], int]
    """Start a command on a new terminal; returns (process, the terminal's master side). Raises OSError."""
    master, slave = os.openpty()
    resize(master, int(str(size["rows"])), int(str(size["columns"])))

    def take_terminal():
        # type: () -> None
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


def resize(terminal, rows, columns):
    # type: (int, int, int) -> None
    """Set the terminal's size in characters; its programs get SIGWINCH."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
