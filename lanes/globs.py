"""Globs of .gitignore, matched in time that grows with the name, not with the wildcards' powers.

The pathspec library reads a glob and writes a regular expression for it, which re tries with backtracking: `*a*a*a*a*a*a`
on a long name takes minutes. An expression with few wildcards goes to re; one with more, or a long name, is walked through
all its states at once. Both give the same answer (tests/lanes/test_globs.py).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence

from pathspec import PathSpec

# What re takes in a blink: this many open ends, on a name of this length, at most.
_FEW = 2
_SHORT = 1024
# What is refused in a rule; a real one is far below.
LONGEST = 1024
MOST_WILDCARDS = 64

_OPEN = re.compile(r"\[\^/\][*+]|\(\?:\.\+/\)\?|\(\?:/\.\+\)\?")
_PARTS = re.compile(
    r"""(?P<above>\(\?:\.\+/\)\?) | (?P<between>\(\?:/\.\+\)\?) | (?P<whole>\(\?:/\|\$\)$) | (?P<ending>/\?\$$)
      | (?P<many>\[\^/\]\*) | (?P<some>\[\^/\]\+) | (?P<one>\[\^?\]?[^\]]*\] | \\. | [^\\()\[\]*+?^$.|{}])""",
    re.VERBOSE | re.DOTALL,
)

Test = Callable[[str], bool]


class Globs:
    """Globs in their order: the last one that matches decides, `!` in front makes it an exception.

    Raises ValueError (or re.error) for one that is no glob.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        # The plain backend: the same answer whichever faster regex libraries a machine happens to have.
        spec = PathSpec.from_lines("gitignore", patterns, backend="simple")
        #: Whether each glob includes or excludes; None for a comment or blank, which does neither.
        self.kinds = [each.include for each in spec.patterns]
        matchers = [(each.include, _matcher(each.regex.pattern)) for each in spec.patterns if each.regex is not None]
        self._last_first = matchers[::-1]

    def match(self, name: str) -> bool:
        """Whether this path, relative and without detours, is meant; one that ends with `/` is a folder."""
        return next((bool(include) for include, is_match in self._last_first if is_match(name)), False)


def fault_of(pattern: str) -> str:
    """Why this pattern is too much for a rule, or ""."""
    if len(pattern) > LONGEST:
        return f"is longer than {LONGEST} characters"
    if pattern.count("*") + pattern.count("?") + pattern.count("[") > MOST_WILDCARDS:
        return f"has more than {MOST_WILDCARDS} wildcards"
    return ""


def _matcher(expression: str) -> Test:
    compiled = re.compile(expression)
    open_ends = len(_OPEN.findall(expression))
    if open_ends <= _FEW and not expression.startswith("^"):
        return lambda name: compiled.search(name) is not None
    walk = _Walk(expression)
    if open_ends > _FEW:
        return walk.match
    return lambda name: compiled.search(name) is not None if len(name) <= _SHORT else walk.match(name)


class _Walk:
    """An expression as pathspec writes them, as states in a row; a set of them is the bits of a number."""

    def __init__(self, expression: str) -> None:
        self._steps: list[tuple[Test, int]] = []  # per state: what it takes, and the state after that
        self._skips: list[int] = []  # per state: where one may be without taking anything; itself when nowhere
        self._accepts_anywhere = 0
        self._accepts_at_end = 0
        self._read(expression)
        self._first = self._closed(1)
        self._known: dict[tuple[int, str], int] = {}

    def _read(self, expression: str) -> None:
        at = 1  # after the `^`
        while at < len(expression):
            part = _PARTS.match(expression, at)
            if part is None or not expression.startswith("^"):
                raise ValueError(f"no glob: {expression!r}")
            at = part.end()
            self._add(str(part.lastgroup), part[0])
        last = len(self._steps)
        if not self._accepts_at_end:
            self._accepts_anywhere |= 1 << last
        self._state(_nothing, last)

    def _add(self, kind: str, text: str) -> None:
        here = len(self._steps)
        if kind == "above":  # (?:.+/)?
            self._state(_any, here + 1, skip=here + 3)
            self._state(_any, here + 1, skip=here + 2)
            self._state(_slash, here + 3)
        elif kind == "between":  # (?:/.+)?
            self._state(_slash, here + 1, skip=here + 3)
            self._state(_any, here + 2)
            self._state(_any, here + 2, skip=here + 3)
        elif kind == "many":
            self._state(_no_slash, here, skip=here + 1)
        elif kind == "some":
            self._state(_no_slash, here + 1)
            self._state(_no_slash, here + 1, skip=here + 2)
        elif kind == "whole":  # (?:/|$)
            self._accepts_at_end |= 1 << here
            self._accepts_anywhere |= 1 << here + 1
            self._state(_slash, here + 1)
        elif kind == "ending":  # /?$
            self._accepts_at_end |= 3 << here
            self._state(_slash, here + 1)
        else:
            self._state(_test(text), here + 1)

    def _state(self, takes: Test, after: int, *, skip: int | None = None) -> None:
        self._skips.append(len(self._steps) if skip is None else skip)
        self._steps.append((takes, after))

    def _closed(self, states: int) -> int:
        """These states, and those that are reached from them without a letter. Skips lead forward only."""
        for state, skip in enumerate(self._skips):
            if states >> state & 1:
                states |= 1 << skip
        return states

    def _next(self, states: int, letter: str) -> int:
        found = 0
        for state, (takes, after) in enumerate(self._steps):
            if states >> state & 1 and takes(letter):
                found |= 1 << after
        return self._closed(found)

    def match(self, name: str) -> bool:
        """Whether the expression matches from the beginning of `name` on."""
        states, known = self._first, self._known
        for letter in name:
            if states & self._accepts_anywhere:
                return True
            key = (states, letter)
            following = known.get(key)
            if following is None:
                if len(known) > 1 << 14:
                    known.clear()
                following = known[key] = self._next(states, letter)
            states = following
            if not states:
                return False
        return bool(states & (self._accepts_anywhere | self._accepts_at_end))


def _any(letter: str) -> bool:
    return letter != "\n"


def _slash(letter: str) -> bool:
    return letter == "/"


def _no_slash(letter: str) -> bool:
    return letter != "/"


def _nothing(_letter: str) -> bool:
    return False


@functools.lru_cache(maxsize=1024)
def _test(text: str) -> Test:
    if text.startswith("["):
        taken = re.compile(text)
        return lambda letter: taken.match(letter) is not None
    wanted = text[-1]
    return lambda letter: letter == wanted
