"""A code cell taken apart: the Python of it, and the commands that IPython would give to a shell or a magic."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

CommandKind = Literal["shell", "magic", "cell-magic"]

# Magics whose text is Python, and those whose text is shell.
_PYTHON_CELLS = {"time", "timeit", "capture", "prun", "python", "python3", "pypy"}
_SHELL_CELLS = {"bash", "sh", "system", "sx", "!"}
_PYTHON_LINES = {"time", "timeit", "prun"}
_SHELL_LINES = {"sx", "system", "sc"}

_ASSIGNED = re.compile(r"^(\s*)([\w.,\s\[\]'\"]+?)\s*=\s*([!%])(.*)$", re.DOTALL)
_HELP = re.compile(r"^\s*(?:\?{1,2}[\w.*%]+|[\w.*%]+\?{1,2})\s*;?\s*$")
_PIECE = re.compile(
    r"""(?P<comment>\#.*)|(?P<triple>\"\"\"|''')|"(?:\\.|[^"\\])*"?|'(?:\\.|[^'\\])*'?|(?P<bracket>[()\[\]{}])"""
)


@dataclass(frozen=True)
class Command:
    """One command: `text` without its `!` or `%`; `line` counts from 1 in the cell; a variable may take its output."""

    line: int
    kind: CommandKind
    text: str
    is_captured: bool = False


@dataclass(frozen=True)
class CellCode:
    """`python` has the cell's own line numbers; where a command stood there is `pass`."""

    python: str
    commands: tuple[Command, ...]


def take_apart(source: str) -> CellCode:
    """The Python and the commands of a cell's source. Never raises; what is neither stays Python, and will not parse."""
    lines = source.split("\n")
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    head = lines[first].strip()
    if not head.startswith("%%"):
        return _of_lines(lines)
    name, _, rest = head[2:].strip().partition(" ")
    below = [""] * (first + 1) + lines[first + 1 :]
    if name in _PYTHON_CELLS:
        return _of_lines(below)
    if name in _SHELL_CELLS:
        commands = [*([Command(first + 1, "shell", rest)] if name in {"!", "system", "sx"} and rest else [])]
        return CellCode("", (*commands, *_shell_lines(below)))
    return CellCode("", (Command(first + 1, "cell-magic", f"{name} {rest}".strip()),))


def _shell_lines(lines: list[str]) -> Iterator[Command]:
    for number, text in _logical(lines):
        if text.strip() and not text.lstrip().startswith("#"):
            yield Command(number, "shell", text.strip())


def _logical(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Lines joined where one ends in a backslash, each with the number of its first."""
    number = 0
    while number < len(lines):
        start, text = number, lines[number]
        while text.endswith("\\") and number + 1 < len(lines):
            number += 1
            text = text[:-1] + " " + lines[number]
        yield start + 1, text
        number += 1


def _of_lines(lines: list[str]) -> CellCode:
    python: list[str] = []
    commands: list[Command] = []
    scanner = _Scanner()
    number = 0
    while number < len(lines):
        length = 1
        replaced = _replaced(lines[number]) if scanner.is_at_statement else None
        if replaced is None:
            python.append(lines[number])
            scanner.read(lines[number])
        else:
            while lines[number + length - 1].endswith("\\") and number + length < len(lines):
                length += 1
            joined = next(_logical(lines[number : number + length]))[1]
            text, found = _replaced(joined) or replaced
            python += [text] + [""] * (length - 1)
            commands += [Command(number + 1, *command) for command in found]
        number += length
    return CellCode("\n".join(python), tuple(commands))


# Kind, text, and whether a variable takes the output, of each command in a line.
Found = list[tuple[CommandKind, str, bool]]


def _replaced(line: str) -> tuple[str, Found] | None:
    """Python for a line that IPython would not read as Python, and the commands in it; None for a line of Python."""
    text = line.lstrip()
    indent = line[: len(line) - len(text)]
    if text.startswith("!"):
        return f"{indent}pass", [("shell", text.lstrip("!").strip(), False)]
    if text.startswith("%"):
        return _magic(indent, text.lstrip("%").strip())
    if assigned := _ASSIGNED.match(line):
        shell: Found = [("shell", assigned[4].strip(), True)]
        python, found = ("", shell) if assigned[3] == "!" else _magic("", assigned[4].strip())
        return f"{assigned[1]}{assigned[2]} = {'None' if python in {'', 'pass'} else python}", found
    return (f"{indent}pass", []) if _HELP.match(line) else None


def _magic(indent: str, text: str) -> tuple[str, Found]:
    name, _, rest = text.partition(" ")
    if name in _PYTHON_LINES:
        return f"{indent}{rest.strip() or 'pass'}", []
    kind: CommandKind = "shell" if name in _SHELL_LINES else "magic"
    return f"{indent}pass", [(kind, rest.strip() if kind == "shell" else text, kind == "shell")]


class _Scanner:
    """Where a line of Python leaves us: inside a string, inside brackets, after a backslash, or at a new statement."""

    def __init__(self) -> None:
        self._quote = ""
        self._depth = 0
        self._is_continued = False

    @property
    def is_at_statement(self) -> bool:
        """Whether the next line begins a statement, so that a leading % or ! is no operator."""
        return not self._quote and self._depth <= 0 and not self._is_continued

    def read(self, line: str) -> None:
        """Go over one line."""
        at = 0
        is_comment = False
        while at < len(line):
            if self._quote:
                at = self._after_quote(line, at)
                continue
            piece = _PIECE.search(line, at)
            if piece is None:
                break
            is_comment = piece["comment"] is not None
            self._quote = piece["triple"] or ""
            if piece["bracket"]:
                self._depth += 1 if piece["bracket"] in "([{" else -1
            at = piece.end()
        self._is_continued = not self._quote and not is_comment and line.endswith("\\")
        self._depth = max(self._depth, 0)

    def _after_quote(self, line: str, at: int) -> int:
        while at < len(line):
            if line[at] == "\\":
                at += 2
            elif line.startswith(self._quote, at):
                self._quote = ""
                return at + 3
            else:
                at += 1
        return at
