"""`hemma run --pty` is a terminal at both ends, and Ctrl-C means there what it means here."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support import Cli, wait_until

DEADLINE_S = 20.0


@dataclass
class Terminal:
    """A program on a terminal of its own, as a person's shell would start it."""

    child: subprocess.Popen[bytes]
    master: int
    before: list[Any]
    seen: bytes = b""

    def type(self, keys: bytes) -> None:
        """Press these keys."""
        os.write(self.master, keys)

    def expect(self, pattern: bytes) -> re.Match[bytes]:
        """Read until `pattern` shows; what stands before it is forgotten."""
        deadline = time.monotonic() + DEADLINE_S
        while (found := re.search(pattern, self.seen)) is None:
            assert time.monotonic() < deadline, f"{pattern!r} never came, but {self.seen!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                self.seen += self._read()
        self.seen = self.seen[found.end() :]
        return found

    def resize(self, rows: int, columns: int) -> None:
        """Change the window's size, as its frame being dragged does (the kernel signals the foreground group)."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait(self) -> int:
        """The exit code; what it still prints is kept in `seen`."""

        def ended() -> bool:
            while select.select([self.master], [], [], 0)[0]:
                data = self._read()
                self.seen += data
                if not data:
                    break
            return self.child.poll() is not None

        wait_until(ended, DEADLINE_S, "the end of the program")
        return self.child.wait()

    def _read(self) -> bytes:
        with contextlib.suppress(OSError):  # EIO: nobody holds the other end any more
            return os.read(self.master, 65536)
        return b""


Start = Callable[..., Terminal]


@contextlib.contextmanager
def terminals(cli: Cli, columns: int) -> Generator[Start]:
    """A function that starts this CLI on a terminal of 30 rows; at the end what it started is ended."""
    opened: list[int] = []

    def start(*arguments: str, **more: Any) -> Terminal:
        master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))

        def own_terminal() -> None:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        before = termios.tcgetattr(slave)
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), slave)
        environ = {"TERM": "xterm-256color", **more.pop("env", {})}
        child = cli.start(*arguments, **streams, preexec_fn=own_terminal, env=environ, **more)
        os.close(slave)
        opened.append(master)
        return Terminal(child, master, before)

    yield start
    cli.end()
    for master in opened:
        os.close(master)


@pytest.fixture
def on_terminal(hemma: Cli) -> Iterator[Start]:
    """`on_terminal("run", …)`: hemma on a terminal of 30 rows and 100 columns."""
    with terminals(hemma, 100) as start:
        yield start


def test_a_program_on_a_pty_sees_a_terminal_of_our_size_and_kind(on_terminal: Start) -> None:
    line = "test -t 0 && test -t 1 && test -t 2 && echo all-tty; stty size; echo $TERM; tty; exit 3"
    terminal = on_terminal("run", "--pty", "--shell", line)
    terminal.expect(rb"all-tty\r\n30 100\r\nxterm-256color\r\n/dev/pts/\d+\r\n")
    assert terminal.wait() == 3


def test_without_a_pty_a_program_sees_none(hemma: Cli) -> None:
    assert hemma("run", "--shell", "test -t 0 || test -t 1 || test -t 2 || echo none").stdout == b"none\n"


def test_a_pty_without_a_terminal_of_ours_works_in_a_pipe(hemma: Cli) -> None:
    done = hemma("run", "--pty", "--", "sh", "-c", "tty >/dev/null && stty size")
    assert (done.returncode, done.stdout) == (0, b"24 80\r\n")


def test_input_that_ends_ends_the_program_on_a_pty(hemma: Cli) -> None:
    done = hemma("run", "--pty", "--shell", "stty -echo; cat", stdin=b"one\ntwo\n", timeout_s=20)
    assert done.returncode == 0
    assert b"one\r\ntwo\r\n" in done.stdout


def test_resizing_the_window_reaches_the_program(on_terminal: Start) -> None:
    # No shell's trap: bash forgets a signal that comes while it handles one.
    program = (
        "import os, signal, time\n"
        "def told(*_):\n    size = os.get_terminal_size()\n    os.write(1, b'%d %d\\n' % (size.lines, size.columns))\n"
        "signal.signal(signal.SIGWINCH, told)\nos.write(1, b'ready')\n"
        "signal.signal(signal.SIGINT, signal.SIG_DFL)\nwhile True:\n    time.sleep(0.05)\n"
    )
    terminal = on_terminal("run", "--pty", "--", sys.executable, "-c", program)
    terminal.expect(rb"ready")
    terminal.resize(41, 133)
    terminal.expect(rb"41 133")
    terminal.resize(12, 20)
    terminal.expect(rb"12 20")
    terminal.type(b"\x03")
    assert terminal.wait() == 130


def test_every_key_goes_to_the_program_and_comes_back_once(on_terminal: Start) -> None:
    terminal = on_terminal("run", "--pty", "--", "bash", "--norc", "--noprofile", "-i")
    terminal.expect(rb"[#$] ")
    terminal.type(b"echo $((6 * 7))\r")
    terminal.expect(rb"echo \$\(\(6 \* 7\)\)\r\n")  # the remote terminal's echo, and ours does not add another
    terminal.expect(rb"\n?42\r\n")
    terminal.type(b"sh -c 'echo be''gun; exec sleep 100'\r")
    terminal.expect(rb"begun\r\n")  # only then is it in the foreground; before, Ctrl-C would be the shell's
    terminal.type(b"\x03")  # the shell lives on: the byte went to its foreground job, not to us
    terminal.expect(rb"[#$] ")
    terminal.type(b"exit 7\r")
    assert terminal.wait() == 7


def test_the_terminal_is_as_it_was_afterwards(on_terminal: Start) -> None:
    terminal = on_terminal("run", "--pty", "--shell", "echo ready; read line")
    terminal.expect(rb"ready")
    during = termios.tcgetattr(terminal.master)
    terminal.type(b"\r")
    assert terminal.wait() == 0
    assert during != terminal.before
    assert termios.tcgetattr(terminal.master) == terminal.before


def test_a_reader_that_leaves_ends_a_program_on_a_pty(hemma: Cli) -> None:
    child = hemma.start("run", "--pty", "--", "yes")
    assert child.stdout is not None
    assert child.stdout.read(3) == b"y\r\n"
    child.stdout.close()
    assert child.wait(20) in (128 + signal.SIGHUP, 128 + signal.SIGPIPE)


# --- Ctrl-C ------------------------------------------------------------------------------------------------------

STUBBORN = """
trap 'echo got INT' INT
trap 'echo got TERM' TERM
sh -c 'trap "echo child got INT" INT; trap "" TERM; echo child ready; while :; do sleep 0.05; done' &
echo ready
while :; do wait; done
"""


def test_one_ctrl_c_is_sigint(on_terminal: Start) -> None:
    terminal = on_terminal("run", "--", "sh", "-c", "echo ready; exec sleep 100")
    terminal.expect(rb"ready")
    terminal.type(b"\x03")
    assert terminal.wait() == 130
    assert b"Traceback" not in terminal.seen


def test_ctrl_c_once_twice_three_times(on_terminal: Start) -> None:
    terminal = on_terminal("run", "--", "bash", "--norc", "-c", STUBBORN)
    terminal.expect(rb"child ready")
    terminal.type(b"\x03")
    terminal.expect(rb"got INT")
    terminal.type(b"\x03")
    terminal.expect(rb"got TERM")
    terminal.type(b"\x03")
    assert terminal.wait() == 137


def test_a_command_may_handle_sigint_and_choose_its_code(hemma: Cli) -> None:
    child = hemma.start("run", "--shell", "trap 'echo saved; exit 5' INT; echo ready; while :; do sleep 0.05; done")
    assert child.stdout is not None
    assert child.stdout.read(6) == b"ready\n"
    child.send_signal(signal.SIGINT)
    assert child.stdout.read() == b"saved\n"
    assert child.wait(DEADLINE_S) == 5


def test_sigint_reaches_the_whole_process_group(hemma: Cli) -> None:
    line = (
        "trap 'code=4' INT; sh -c 'trap \"echo child; exit\" INT; echo ready; while :; do sleep 0.05; done'; exit $code"
    )
    child = hemma.start("run", "--shell", line)
    assert child.stdout is not None
    assert child.stdout.read(6) == b"ready\n"
    child.send_signal(signal.SIGINT)
    assert child.stdout.read() == b"child\n"
    assert child.wait(DEADLINE_S) == 4


@pytest.mark.parametrize("name", ["SIGTERM", "SIGQUIT"])
def test_a_signal_to_us_is_a_signal_to_the_command(hemma: Cli, name: str) -> None:
    number = getattr(signal, name)
    child = hemma.start("run", "--", "sh", "-c", "ulimit -c 0; echo ready; exec sleep 100")
    assert child.stdout is not None
    assert child.stdout.read(6) == b"ready\n"
    child.send_signal(number)
    assert child.wait(DEADLINE_S) == 128 + number
