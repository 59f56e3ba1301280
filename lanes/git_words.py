"""How git reads its own command line: global options, the command, bundled letters, abbreviated names, `--`.

Only as much as a judge of commands needs, and careful in one direction: a word that may be an option counts as one when
that makes a command dangerous (`Words.typed`), and not when it makes one harmless (`Words.surely`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# Global options as git.c has them; they are never abbreviated, and short ones are never bundled.
_SWITCHES = frozenset((
    "-p", "--paginate", "-P", "--no-pager", "--bare", "--no-replace-objects", "--no-lazy-fetch", "--no-optional-locks",
    "--no-advice", "--literal-pathspecs", "--glob-pathspecs", "--noglob-pathspecs", "--icase-pathspecs",
))  # fmt: skip
_WITH_VALUE = frozenset((
    "-C", "-c", "--git-dir", "--work-tree", "--namespace", "--super-prefix", "--config-env", "--attr-source",
    "--shallow-file",
))  # fmt: skip
# Git answers these itself and reads no further.
_ANSWERS = frozenset((
    "-h", "--help", "-v", "--version", "--exec-path", "--html-path", "--man-path", "--info-path", "--build-options",
))  # fmt: skip


@dataclass(frozen=True)
class Call:
    """A git command line taken apart. `command` is "" when git only answers about itself.

    `settings` are those given for this call alone; a value of None stands in an environment variable. `strange` is a
    global word that hides what would be done.
    """

    command: str
    arguments: tuple[str, ...] = ()
    settings: tuple[tuple[str, str | None], ...] = ()
    strange: str | None = None


def split(argv: Sequence[str]) -> Call:
    """The call that `argv` (without the leading `git`) makes."""
    settings: list[tuple[str, str | None]] = []
    words = iter(argv)
    for word in words:
        if not word.startswith("-"):
            # Some file systems would find git-Submodule for `git Submodule`.
            return Call(word.lower(), tuple(words), tuple(settings))
        name, equals, value = word.partition("=")
        if word in _SWITCHES:
            continue
        if word in _ANSWERS or name == "--list-cmds":
            return Call("", (), tuple(settings))
        if word in _WITH_VALUE:
            value = next(words, "")
        elif not equals or not name.startswith("--") or name not in _WITH_VALUE:
            return Call("", (), tuple(settings), strange=word)
        if name == "-c":
            settings.append(_setting(value))
        elif name == "--config-env":
            settings.append((value.rpartition("=")[0], None))
    return Call("", (), tuple(settings))


def _setting(text: str) -> tuple[str, str]:
    # `-c name` alone means true, `-c name=` means the empty value.
    name, equals, value = text.partition("=")
    return name, value if equals else "true"


@dataclass(frozen=True)
class Words:
    """The arguments of one command. `paths` is what follows `--` (None: there was none); values have no words of their own."""

    shorts: tuple[str, ...]
    longs: tuple[tuple[str, str | None], ...]
    positionals: tuple[str, ...]
    paths: tuple[str, ...] | None
    sure: frozenset[str]
    is_doubtful: bool

    def typed(self, flag: str, exact: Sequence[str] = ()) -> str | None:
        """The word that git may take for `flag` (`-f`, `--force`), abbreviations too; None when there is none.

        `exact` are other names of the command that begin `flag`'s name and are not it.
        """
        if not flag.startswith("--"):
            return flag if flag[1:] in self.shorts else None
        return next((f"--{name}" for name, _ in self.longs if flag[2:].startswith(name) and name not in exact), None)

    def surely(self, *flags: str) -> bool:
        """Whether one of `flags` is given, spelled out, and is no value of another option."""
        return any(flag in self.sure for flag in flags)

    def denies(self, name: str) -> bool:
        """Whether `--no-NAME` is given, abbreviated or not."""
        return any(typed and f"no-{name}".startswith(typed) for typed, _ in self.longs)

    def values_of(self, name: str) -> tuple[str, ...]:
        """The values given to the long option `name`, abbreviated or not."""
        return tuple(value or "" for typed, value in self.longs if typed and name.startswith(typed))


def words_of(arguments: Sequence[str], letters: str = "", names: Sequence[str] = ()) -> Words:
    """The arguments of a command whose one-letter options `letters` and long options `names` take a value."""
    return _Reading(letters, tuple(names)).read(arguments)


class _Reading:
    """One pass over the arguments. Behind an abbreviated option that takes a value every word is in doubt."""

    def __init__(self, letters: str, names: tuple[str, ...]) -> None:
        self.letters = letters
        self.names = names
        self.shorts: list[str] = []
        self.longs: list[tuple[str, str | None]] = []
        self.positionals: list[str] = []
        self.paths: tuple[str, ...] | None = None
        self.sure: set[str] = set()
        self.is_doubtful = False

    def read(self, arguments: Sequence[str]) -> Words:
        rest = iter(arguments)
        for word in rest:
            if word in ("--", "--end-of-options"):
                self._end(word, rest)
            elif word.startswith("--"):
                self._long(word, rest)
            elif word.startswith("-") and len(word) > 1:
                self._bundle(word[1:], rest)
            else:
                self.positionals.append(word)
        found = tuple(self.shorts), tuple(self.longs), tuple(self.positionals)
        return Words(*found, self.paths, frozenset(self.sure), self.is_doubtful)

    def _end(self, word: str, rest: Iterator[str]) -> None:
        if self.is_doubtful:
            return  # it may be a value: what follows is read on
        after = list(rest)
        if word == "--end-of-options":
            cut = after.index("--") if "--" in after else len(after)
            self.positionals += after[:cut]
            if cut == len(after):
                return
            after = after[cut + 1 :]
        self.paths = tuple(after)

    def _long(self, word: str, rest: Iterator[str]) -> None:
        name, equals, value = word[2:].partition("=")
        if not self.is_doubtful:
            self.sure.add("--" + name)
        if equals or name not in self.names:
            self.longs.append((name, value if equals else None))
            self.is_doubtful |= not equals and any(known.startswith(name) for known in self.names)
        else:
            self.longs.append((name, next(rest, "")))

    def _bundle(self, bundle: str, rest: Iterator[str]) -> None:
        for at, letter in enumerate(bundle):
            self.shorts.append(letter)
            if not self.is_doubtful:
                self.sure.add("-" + letter)
            if letter in self.letters:
                if at + 1 == len(bundle):
                    next(rest, None)
                return
