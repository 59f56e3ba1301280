"""Which lane does this belong to, who owns its edits, who commits it, and which rule says so? (S9-R01..R05, R17)

The core rule: what the host executes is edited, committed and pushed on the host; a local clone pulls. Nothing is ever
unanswered: what no rule knows falls to the safe side, the host, and the answer says that it did.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import itertools
import posixpath
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from manifests.run import Lane

from lanes.rules import PATH_KINDS, TABLE, Rule, globs, words

Owner = Literal["host", "local", "colab"]
Committer = Literal["host", "local"]

UNKNOWN = "unknown"
# Colab cannot commit: the host issues its notebooks from committed source, and commits what is kept of them (C1).
OWNERS: Mapping[Lane, tuple[Owner, Committer]] = {
    "hemma": ("host", "host"),
    "colab": ("colab", "host"),
    "local": ("local", "local"),
}
# The order to do a mixed change in: the host's edits first; Colab works on what the host has committed; documents last,
# on top of what was pulled, so that their push moves origin forward without another merge.
ORDER: tuple[Lane, ...] = ("hemma", "colab", "local")

# A manifest is a page of text; one that unfolds to more (YAML aliases can) is not read to its end.
MOST_FIELDS, MOST_LEVELS = 10_000, 8


@dataclass(frozen=True)
class Facts:
    """What a path alone does not tell. `notebook_lane`: the lane that a notebook's own metadata name (hemma.lane)."""

    notebook_lane: str | None = None


NO_FACTS = Facts()


@dataclass(frozen=True)
class Decision:
    """The answer for one path, command or manifest. `known` is false when no rule matched and the safe side was taken."""

    subject: str
    lane: Lane
    owner: Owner
    commits: Committer
    rule: str
    why: str
    known: bool = True

    def as_dict(self) -> dict[str, Any]:
        """The decision as agents read it under --json."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Group:
    """The part of a change that belongs to one lane; its decisions are sorted by path."""

    lane: Lane
    owner: Owner
    commits: Committer
    decisions: tuple[Decision, ...]


@dataclass(frozen=True)
class Change:
    """A change split by lane; the groups stand in the order to do them in."""

    groups: tuple[Group, ...]

    @property
    def lane(self) -> Lane | Literal["mixed", "none"]:
        """The lane of the whole change, `mixed` when there are several, `none` for an empty change."""
        if not self.groups:
            return "none"
        return self.groups[0].lane if len(self.groups) == 1 else "mixed"

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """All decisions, lane after lane."""
        return tuple(decision for group in self.groups for decision in group.decisions)


def classify_path(path: str, rules: Sequence[Rule], facts: Facts = NO_FACTS) -> Decision:
    """The lane of one path, relative to the folder that the rules are about; a folder's path ends with a slash.

    Any text is answered. A path that leads out of the folder is not the rules' to judge and falls to the host.
    """
    name = _normal(path)
    if name is None:
        return _unknown(path, "it lies outside the folder that the lane rules are about")
    for rule in rules:
        if rule.kind in PATH_KINDS and _matches_path(rule, name, facts):
            return _decided(path, rule)
    return _unknown(path, "no rule matches it")


def classify_command(argv: Sequence[str], rules: Sequence[Rule]) -> Decision:
    """The lane where a command belongs. A rule matches when its words match the command's first words.

    Leading NAME=value words, also behind a plain `env`, are passed over; an absolute program counts by its name.
    """
    subject = shlex.join(argv)
    command = _program_first(argv)
    for rule in rules:
        if rule.kind == "command" and any(_begins(command, words(pattern)) for pattern in rule.patterns):
            return _decided(subject, rule)
    return _unknown(subject, "no rule matches this command" if command else "there is no command")


def classify_shell(text: str, rules: Sequence[Rule]) -> Decision:
    """The lane of a shell line: that of its commands when they agree, the host's when one is the host's or unclear."""
    commands = _simple_commands(text)
    if not commands:
        return _unknown(text, "this shell line cannot be taken apart")
    decisions = [dataclasses.replace(classify_command(argv, rules), subject=text) for argv in commands]
    found = [each for each in decisions if not each.known] or [each for each in decisions if each.lane == "hemma"]
    if found:
        return found[0]
    if len({each.lane for each in decisions}) > 1:
        return _unknown(text, "its commands belong to different lanes")
    return decisions[0]


def classify_manifest(fields: Mapping[str, object], rules: Sequence[Rule], name: str = "the manifest") -> Decision:
    """The lane where a manifest runs: by a rule over its fields (dotted below the top), else by its command."""
    flat = dict(itertools.islice(_flat(fields), MOST_FIELDS))
    for rule in rules:
        if rule.kind == "manifest" and any(_matches_field(pattern, flat) for pattern in rule.patterns):
            return _decided(name, rule)
    if "lane" in fields:
        return _unknown(name, f"its lane is none of {', '.join(get_args(Lane))}")
    command = next((fields[key] for key in ("argv", "command", "shell") if key in fields), None)
    if isinstance(command, str):
        return dataclasses.replace(classify_shell(command, rules), subject=name)
    if isinstance(command, Sequence):
        return dataclasses.replace(classify_command([str(word) for word in command], rules), subject=name)
    return _unknown(name, "it names no lane and no command")


def classify_change(paths: Iterable[str], rules: Sequence[Rule], facts: Mapping[str, Facts] | None = None) -> Change:
    """The paths of a change by lane, in the order to do them in. Neither order nor repetition of `paths` matters."""
    known = facts or {}
    return change_of(classify_path(path, rules, known.get(path, NO_FACTS)) for path in set(paths))


def change_of(decisions: Iterable[Decision]) -> Change:
    """These decisions as a change: by lane, in the order to do them in, each part sorted by subject."""
    ordered = sorted(decisions, key=lambda each: each.subject)
    parts = {lane: tuple(each for each in ordered if each.lane == lane) for lane in ORDER}
    return Change(tuple(Group(lane, *OWNERS[lane], parts[lane]) for lane in ORDER if parts[lane]))


def _decided(subject: str, rule: Rule) -> Decision:
    return Decision(subject, rule.lane, *OWNERS[rule.lane], rule.name, rule.why)


def _unknown(subject: str, fact: str) -> Decision:
    why = f"{fact}: the host's, to be safe; {TABLE} may say otherwise"
    return Decision(subject, "hemma", *OWNERS["hemma"], UNKNOWN, why, known=False)


def _normal(path: str) -> str | None:
    """`path` without detours, or None when it is absolute, leads out, or is the folder itself. A last slash stays."""
    if path.startswith("/") or not path:
        return None
    name = posixpath.normpath(path)
    if name in (".", "..") or name.startswith("../"):
        return None
    return name + "/" if path.endswith("/") else name


def _matches_path(rule: Rule, name: str, facts: Facts) -> bool:
    if rule.kind == "notebook" and not name.endswith(".ipynb"):
        return False
    if rule.mark is not None and rule.mark != facts.notebook_lane:
        return False
    # To a regular expression a line break is an end and no character; no path holds a NUL.
    return globs(rule.patterns).match(name.replace("\n", "\0"))


def _program_first(argv: Sequence[str]) -> list[str]:
    rest = list(argv)
    # `env` with options is left as it is: which of its words is the program depends on them.
    if rest[:1] == ["env"] and not "".join(rest[1:2]).startswith("-"):
        rest = rest[1:]
    while rest and re.match(r"[A-Za-z_]\w*=", rest[0]):
        rest = rest[1:]
    if rest and rest[0].startswith("/"):
        rest[0] = posixpath.basename(rest[0])
    return rest


def _begins(command: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern or len(command) < len(pattern):
        return False
    return all(fnmatch.fnmatchcase(word, glob) for word, glob in zip(command, pattern, strict=False))


def _simple_commands(text: str) -> list[list[str]]:
    """The commands that `;`, `&&`, `||`, `|` and line ends put in a row; none when there is anything more to the line."""
    if "`" in text or "$(" in text:
        return []
    reader = shlex.shlex(text.replace("\n", " ; "), posix=True, punctuation_chars=True)
    reader.whitespace_split, reader.commenters = True, ""
    commands: list[list[str]] = [[]]
    try:
        for token in reader:
            if token in (";", "&&", "||", "|"):
                commands.append([])
            elif token and set(token) <= set("();<>|&"):
                return []
            else:
                commands[-1].append(token)
    except ValueError:
        return []
    return [argv for argv in commands if argv]


def _flat(fields: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Each plain value with its dotted key. Anything nested too deep to be a field is left out."""
    for key, value in fields.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            if name.count(".") < MOST_LEVELS:
                yield from _flat({str(inner): item for inner, item in value.items()}, f"{name}.")
        elif isinstance(value, str | int | float | bool):
            yield name, str(value).lower() if isinstance(value, bool) else str(value)


def _matches_field(pattern: str, flat: Mapping[str, str]) -> bool:
    field, _, glob = pattern.partition("=")
    return field.strip() in flat and fnmatch.fnmatchcase(flat[field.strip()], glob.strip())
