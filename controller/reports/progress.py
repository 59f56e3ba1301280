"""One line at the bottom of a terminal that says what a slow thing does now, and goes when it is done."""

from __future__ import annotations

import shutil
import sys

from controller.reports import console


class ProgressLine:
    """Progress on stderr, on a terminal only; `is_quiet` shows none. Each text replaces the one before."""

    def __init__(self, *, is_quiet: bool = False) -> None:
        self._is_shown = not is_quiet and sys.stderr.isatty()
        self._is_open = False

    def show(self, text: str) -> None:
        """Put this text in the line, cut to the terminal's width."""
        if self._is_shown:
            room = shutil.get_terminal_size().columns - 1
            sys.stderr.write("\r" + console.printable(text)[:room] + "\x1b[K")
            sys.stderr.flush()
            self._is_open = True

    def clear(self) -> None:
        """Take the line away; what is printed next stands in its place."""
        if self._is_open:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._is_open = False
