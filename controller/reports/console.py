"""What people see: the two consoles, their tables, and the fixed verdict words. Everything printed here is visible text.

Results go to stdout, progress and refusals to stderr. Colour only repeats a word; NO_COLOR turns it off (rich does that).
No string is read as markup, and none reaches a terminal but through `manifests.visible`: a field of a line or a table on
one line, content of several lines line by line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

import rich.console
import rich.table
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from manifests import visible
from manifests.commands import Remedy
from manifests.errors import HemmaError, HostKeyChanged, HostKeyUnknown, NeedsPerson, UsageError

# Verdict words and their colours. No other word opens a line of this kind.
STYLES = {
    "ok": "green",
    "warn": "yellow",
    "fail": "bold red",
    "not checked": "dim",
    "refused": "bold red",
    "needs you": "bold yellow",
    "failed": "bold red",
    "do": "bold",
    "advice": "dim",
    "known": "bold",
}
_WIDTH = 9
_PIPE_WIDTH = 1000


class Console(rich.console.Console):
    """A console that obeys no string: no markup, and whatever came past the functions below is made visible at the end."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, soft_wrap=True, **keywords)

    def print(self, *objects: Any, **keywords: Any) -> None:
        """Print; a string is a field, and stays on one line."""
        super().print(*(plain(each) if isinstance(each, str) else each for each in objects), **keywords)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of `renderable`; those of text hold printable characters, line ends and tabs alone."""
        for segment in super().render(renderable, options):
            is_fit = segment.control or segment.text.isprintable() or segment.text == "\n"
            yield segment if is_fit else Segment(visible.lines(segment.text), segment.style)


class Table(rich.table.Table):
    """A table whose cells are fields: a string in it stays on one line."""

    def add_row(self, *cells: RenderableType | None, **keywords: Any) -> None:
        """Add a row; a cell is a string, made visible, or something of rich's that was."""
        super().add_row(*(plain(cell) if isinstance(cell, str) else cell for cell in cells), **keywords)


def out() -> Console:
    """The console of results."""
    # Into a file or a pipe nothing is wrapped: a command to paste stays on one line.
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def err() -> Console:
    """The console of progress, notes and refusals."""
    return Console(stderr=True)


def plain(text: str, style: str = "") -> Text:
    """A field: `text` on one line, made visible, no markup."""
    return Text(visible.one_line(text), style=style)


def block(text: str, style: str = "") -> Text:
    """Content: `text` with its own line ends and tabs, each line made visible, no markup."""
    return Text(visible.lines(text), style=style)


def printable(text: str) -> str:
    """`text` on one line, for a string that goes into something larger than a field."""
    return visible.one_line(text)


def word(verdict: str) -> Text:
    """A verdict word in its colour."""
    return Text(verdict, style=STYLES.get(verdict, ""))


def show_table(table: Table) -> None:
    """Print a table of results; no line ends in the spaces that pad its last column."""
    console = out()
    with console.capture() as captured:
        console.print(table)
    sys.stdout.write("".join(text.rstrip() + "\n" for text in captured.get().splitlines()))


def line(console: Console, verdict: str, text: str) -> None:
    """One line: a verdict word, padded, then `text`."""
    start = word(verdict)
    start.pad_right(max(1, _WIDTH - len(verdict)))
    console.print(start + plain(text))


def do(console: Console, remedy: Remedy) -> None:
    """One line to paste. pyright refuses a text that is neither literal nor made by `manifests.commands`."""
    line(console, "do", remedy)


def advice(console: Console, text: str) -> None:
    """What a host says is to be done: not ours, so not something to paste without a look."""
    line(console, "advice", f"the host says: {text}")


def verdict_of(error: HemmaError) -> str:
    """The word for an error: `refused` when Hemma declines, `needs you` when a person must decide, else `failed`."""
    if isinstance(error, NeedsPerson):
        return "needs you"
    declined = isinstance(error, (UsageError, HostKeyUnknown, HostKeyChanged)) or error.exit_code in (66, 67, 68)
    return "refused" if declined else "failed"


def show_error(error: HemmaError, *, as_json: bool = False) -> None:
    """An expected failure on stderr: what it is, what to do. With `as_json` also the error object on stdout."""
    console = err()
    line(console, verdict_of(error), error.message)
    if error.remedy:
        do(console, error.remedy)
    if error.advice:
        advice(console, error.advice)
    if as_json:
        show_json(error.as_dict())


def show_json(value: object) -> None:
    """A result for programs: indented ASCII JSON on stdout, so that any string survives."""
    sys.stdout.write(visible.json_text(value, indent=2) + "\n")


def show_line(text: str) -> None:
    """A result that scripts read: one line of visible text on stdout, never wrapped or coloured."""
    sys.stdout.write(visible.one_line(text) + "\n")


def show_content(data: bytes) -> None:
    """Content on stdout: its very bytes into a file or a pipe, such as git's; visible text, line by line, on a terminal."""
    if sys.stdout.isatty():
        data = visible.lines(data.decode("utf-8", "surrogateescape")).encode("utf-8", "backslashreplace")
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # The reader has seen enough; Python would complain again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_progress(text: str, *, width: int = 100) -> None:
    """How far something is, on the last line of stderr where a person watches; an empty text takes the line away."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{visible.one_line(text)[:width]}")
        sys.stderr.flush()
