"""How far something is, on one line of a terminal."""

from __future__ import annotations

from controller.reports import console


class Progress:
    """What git tells of its way with origin, on one line of a terminal; nowhere when `is_quiet`."""

    def __init__(self, *, is_quiet: bool) -> None:
        self._is_quiet = is_quiet
        self._is_open = False

    def show(self, text: str) -> None:
        """Show this in place of what was shown before."""
        if not self._is_quiet:
            self._is_open = True
            console.show_progress(text)

    def clear(self) -> None:
        """Take the line away, before anything else is printed."""
        if self._is_open:
            self._is_open = False
            console.show_progress("")
