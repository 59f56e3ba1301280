"""Our terminal while a remote program uses it (`--pty`): raw mode, size, and always back to what it was."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager

from remote.session import Session


def size() -> dict[str, object]:
    """Rows, columns and type of our terminal; 24x80 where there is none."""
    for file in (0, 1, 2):
        try:
            columns, rows = os.get_terminal_size(file)
        except OSError:
            continue
        if rows and columns:
            return {"rows": rows, "columns": columns, "term": os.environ.get("TERM", "xterm")}
    return {"rows": 24, "columns": 80, "term": os.environ.get("TERM", "dumb")}


@contextmanager
def raw(session: Session) -> Generator[None]:
    """Within this, every key goes to the remote program and a change of the window's size follows."""
    import termios
    import tty

    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(0)

    def on_resize(*_: object) -> None:
        now = size()
        session.resize(int(str(now["rows"])), int(str(now["columns"])))

    previous = signal.signal(signal.SIGWINCH, on_resize)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
        signal.signal(signal.SIGWINCH, previous)
