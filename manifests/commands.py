"""Commands that a person or an agent pastes: a remedy, a next step. What is put into one is quoted, always.

    command("hemma put {} PATH", local)        ->  hemma put './x;touch y' PATH
    command("git add -- {}", ["a b", "c"])     ->  git add -- 'a b' c

The words of the command are ours and literal; PATH, MESSAGE and their like stand for the words of whoever pastes it. A value
is one word of a shell and one line, whatever bytes it holds. A `Command` goes into another as it is, since it is quoted.

Standard library only: the `hemma run` path imports this module.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import LiteralString, TypeAlias

    Value: TypeAlias = str | os.PathLike[str] | int | float | Sequence[str]

_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_")
# What could end a $'…', or mean the history to an interactive shell; octal, since no digit after it can belong to it.
_ESCAPES = {"\\": r"\\", "'": r"\047", "!": r"\041"}


class Command(str):
    """Text that may be pasted into a shell: whatever of it is not literally ours is quoted. Only this module makes one."""

    __slots__ = ()


if TYPE_CHECKING:
    # What may be called a remedy: pyright refuses any text that is neither literal nor made here.
    Remedy: TypeAlias = LiteralString | Command
else:
    Remedy = str


def command(template: LiteralString, *values: Value) -> Command:
    """`template` with a value for each `{}`: text as one word, a sequence of texts as several, a number as it is.

    Also for a remedy of several commands or with a word beside them. Literal braces are doubled, as in `str.format`.
    """
    return Command(template.format(*map(_fit, values)))


def joined(ways: Iterable[Remedy], by: LiteralString = "   or   ") -> Command:
    """Several remedies as one, each once, with `by` between them; those that are empty are left out."""
    return Command(by.join(dict.fromkeys(way for way in ways if way)))


def once(steps: Iterable[Remedy]) -> tuple[Remedy, ...]:
    """Each of `steps` once, in order."""
    return tuple(dict.fromkeys(steps))


def listed(names: Iterable[str]) -> Command:
    """Names to choose from, each one word: `a, 'b c'`."""
    return Command(", ".join(map(word, names)))


def literal(text: str) -> Command:
    """`text` in quotes also where a shell would need none: for a value of TOML or YAML."""
    shown = word(text)
    return Command(f"'{shown}'" if shown == text else shown)


def home_path(path: str) -> Command:
    """A path as settings have it: a `~/` in front stays the home of whoever pastes it, the rest is one word."""
    return Command("~/" + word(path[2:])) if path.startswith("~/") and path[2:] else Command(word(path))


def word(text: str) -> str:
    """`text` as one word of a POSIX shell with $'…' (bash, zsh, ksh), on one line, whatever bytes it holds."""
    if text and _SAFE.issuperset(text):
        return text
    if text.isprintable():
        return "'" + text.replace("'", "'\"'\"'") + "'"
    return "$'" + "".join(_ESCAPES.get(c) or (c if c.isprintable() else _octal(c)) for c in text) + "'"


def _fit(value: Value) -> str:
    if isinstance(value, Command):
        return value
    if isinstance(value, (str, os.PathLike)):
        return word(os.fspath(value))
    return str(value) if isinstance(value, (int, float)) else " ".join(map(word, value))


def _octal(character: str) -> str:
    # Bytes that are no UTF-8 come as lone surrogates from dc80 to dcff; any other one has no byte of its own.
    handler = "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass"
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", handler))
