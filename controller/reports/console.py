"""What people see: the two consoles, the fixed verdict words, and how text from elsewhere is made safe to print.

Results go to stdout, progress and refusals to stderr. Colour only repeats a word; NO_COLOR turns it off (rich does that).
"""

from __future__ import annotations

import json
import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

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
    "known": "bold",
}
_WIDTH = 9
_PIPE_WIDTH = 1000


def out() -> Console:
    """The console of results."""
    # Into a file or a pipe nothing is wrapped: a command to paste stays on one line.
    return Console(highlight=False, soft_wrap=True, emoji=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def err() -> Console:
    """The console of progress, notes and refusals."""
    return Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def printable(text: str) -> str:
    """`text` on one line as any terminal may get it: control characters and bytes outside UTF-8 as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text)


def plain(text: str, style: str = "") -> Text:
    """`text` as it is, no markup, each line made printable."""
    return Text("\n".join(printable(part) for part in text.split("\n")), style=style)


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
    console.print(start + Text(printable(text)))


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
        line(console, "do", error.remedy)
    if as_json:
        show_json(error.as_dict())


def show_json(value: object) -> None:
    """A result for programs: indented ASCII JSON on stdout, so that any string survives."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
