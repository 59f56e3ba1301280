"""What a configuration, a command line, an environment or a text says about the scope: settings by key, and plain acts.

A setting is a key with a value; an act is something that is done and counts as often as it is done (a dropped row, a
command of a shell script). Python texts are read by lanes/scope_script.py. What cannot be read is an act of its own.
"""

from __future__ import annotations

import json
import posixpath
import re
import shlex
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import yaml

from lanes.scope_keys import Key, classify, is_known, normal
from lanes.scope_table import IDLE_SECTIONS
from lanes.scope_values import Value, canonical, location

MOST_FIELDS = 20_000
_FLAG = re.compile(r"--?[A-Za-z][\w.-]*(=.*)?", re.DOTALL)
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_OVERRIDE = re.compile(r"(?:\+{0,2}|~)([A-Za-z_][\w./-]*)=(.*)", re.DOTALL)
_OPERATORS = re.compile(r"^(&&|\|\||;|\||&|;;)$")
_REDIRECT = re.compile(r"^\d?(>>?|<)&?\d?$")
# Shell words that prepare and change nothing of a training.
_HARMLESS = frozenset(
    ("mkdir", "echo", "printf", "nvidia-smi", "set", "ulimit", "module", "sleep", "date", "df", "free", "ls", "pwd")
)
_INSTALLS = (["pip", "install"], ["pip3", "install"], ["uv", "pip", "install"], ["python", "-m", "pip", "install"])
# Options of python and of launchers that change nothing of what runs.
_LAUNCH = frozenset(("-u", "-B", "-X", "-W", "-m", "-I", "-s"))


@dataclass(frozen=True)
class Setting:
    """One value of one key, with the name it was written under and the place it stands in."""

    key: Key
    value: Value
    written: str
    where: str


@dataclass
class Facts:
    """All that was read: settings, acts with their counts, and per config-like call the keys that it passes."""

    settings: list[Setting] = field(default_factory=list[Setting])
    acts: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    passed: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    # While one script is read: the name that each call's result is bound to, by the id of the call's node.
    targets: dict[int, str] = field(default_factory=dict[int, str])

    def add(self, path: Sequence[str], value: object, where: str) -> None:
        """Take in a setting, unless it stands in a section that has no effect."""
        if not any(normal(part) in IDLE_SECTIONS for part in path[:-1]):
            self.settings.append(Setting(classify(tuple(path)), canonical(value), path[-1] if path else "", where))

    def act(self, facet: str, what: str) -> None:
        """Take in one act."""
        self.acts[facet, what] += 1

    def take(self, other: Facts) -> None:
        """Take in all of another's facts."""
        self.settings += other.settings
        self.acts.update(other.acts)
        for call, keys in other.passed.items():
            self.passed.setdefault(call, set()).update(keys)


def of_mapping(config: Mapping[str, Any], where: str) -> Facts:
    """The settings of a configuration, nested ones by their path; the members of a list stand at the list's own path."""
    facts = Facts()
    for path, value in _leaves(config):
        facts.add(path, value, f"{where}:{'.'.join(path[:-1])}")
    return facts


def _leaves(config: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], object]]:
    waiting: list[tuple[tuple[str, ...], object]] = [((), config)]
    seen = 0
    while waiting:
        path, value = waiting.pop()
        seen += 1
        if seen > MOST_FIELDS:
            raise ValueError(f"more than {MOST_FIELDS} fields")
        if isinstance(value, Mapping):
            mapping = cast("Mapping[object, object]", value)
            waiting += [((*path, *str(key).split(".")), each) for key, each in mapping.items()]
            if not mapping and path:
                yield path, None
        elif isinstance(value, list | tuple) and any(isinstance(each, Mapping | list | tuple) for each in value):
            waiting += [(path, each) for each in value]
        else:
            yield path, value


def of_environment(environment: Mapping[str, str], where: str) -> Facts:
    """The settings of environment variables; GPUs that are made visible count as devices."""
    facts = Facts()
    for name, value in environment.items():
        facts.add((name,), device_count(name, value), where)
    return facts


def device_count(name: str, value: object) -> object:
    """The number of devices that a variable lists; every other value as it is."""
    if normal(name) not in ("cuda_visible_devices", "hip_visible_devices", "gpu_ids"):
        return value
    if isinstance(value, int):
        return 1
    listed = [part for part in re.split(r"[,\s]+", str(value)) if part]
    return 0 if not listed or listed[0] == "-1" else len(listed)


def of_argv(argv: Sequence[str], where: str) -> Facts:
    """The flags and overrides of a command as settings, its other words as one act."""
    facts = Facts()
    words = list(argv)
    plain: list[str] = []
    while words and _ASSIGNMENT.fullmatch(words[0]):
        name, value = words.pop(0).split("=", 1)
        facts.take(of_environment({name: value}, where))
    script = next((at for at, word in enumerate(words) if word.endswith(".py")), 0)
    at = 0
    while at < len(words):
        at = _word(words, at, script, plain, facts, where)
    if plain:
        facts.act("command", " ".join(plain))
    return facts


def _word(words: list[str], at: int, script: int, plain: list[str], facts: Facts, where: str) -> int:
    """Read one word, and the values that belong to it; returns where the next one begins."""
    word = words[at]
    override = _OVERRIDE.fullmatch(word)
    if word in _LAUNCH or not word:
        return at + 1
    if word.startswith("~"):
        facts.act("removed", word)
        return at + 1
    if override and not word.startswith("-"):
        facts.add(re.split(r"[./]", override.group(1)), override.group(2), where)
        return at + 1
    if not _FLAG.fullmatch(word):
        plain.append(location(word))
        return at + 1
    name, equals, value = word.partition("=")
    path = name.lstrip("-").split(".")
    if equals:
        facts.add(path, device_count(path[-1], value), where)
        return at + 1
    end = at + 1
    while end < len(words) and not _begins(words[end]) and not (at < script and end > at + 1):
        end += 1
    if at < script:
        end = min(end, script)
    values: list[str] = words[at + 1 : end]
    if values:
        facts.add(path, values[0] if len(values) == 1 else values, where)
    else:
        _switch(path, facts, where)
    return end


def _begins(word: str) -> bool:
    """Whether a word is no value of the flag before it: another flag, or an override as hydra has them."""
    override = _OVERRIDE.fullmatch(word)
    return bool(_FLAG.fullmatch(word)) or bool(
        override and (word[0] in "+~" or "." in override.group(1) or is_known(override.group(1)))
    )


def _switch(path: list[str], facts: Facts, where: str) -> None:
    """A flag without a value: on; or off, when it begins with `no-` and the rest is a name that is known."""
    name = normal(path[-1])
    if name.startswith("no_") and not is_known(name) and is_known(name[3:]):
        facts.add([*path[:-1], name[3:]], False, where)
    else:
        facts.add(path, True, where)


def of_shell(text: str, where: str) -> Facts:
    """The commands, flags and variables of a shell text."""
    facts = Facts()
    for line in text.replace("\\\n", " ").splitlines():
        try:
            lexer = shlex.shlex(_without_comment(line), posix=True, punctuation_chars=";&|")
            lexer.whitespace_split, lexer.commenters = True, ""
            words = list(lexer)
        except ValueError:
            facts.act("unreadable", line.strip())
            continue
        for command in _commands(words):
            _command(command, facts, where)
    return facts


def _without_comment(line: str) -> str:
    """A line of a shell text up to its comment: a # that begins a word and stands in no quotes."""
    quote, before = "", " "
    for at, letter in enumerate(line):
        if quote:
            quote = "" if letter == quote and before != "\\" else quote
        elif letter in "'\"" and before != "\\":
            quote = letter
        elif letter == "#" and before in " \t;&|":
            return line[:at]
        before = letter
    return line


def _commands(words: Iterable[str]) -> Iterator[list[str]]:
    command: list[str] = []
    for word in [*words, ";"]:
        if _OPERATORS.match(word):
            if command:
                yield command
            command = []
        elif not _REDIRECT.match(word):
            command.append(word)


def _command(words: list[str], facts: Facts, where: str) -> None:
    if words[0] == "unset":
        for name in words[1:]:
            facts.act("environment", f"unset {name}")
        return
    if words[0] in ("export", "declare", "env"):
        words = words[1:]
    assigned = [word for word in words if _ASSIGNMENT.fullmatch(word)]
    if words and _is_harmless(words):
        return
    if assigned and len(assigned) == len(words):
        facts.take(of_environment(dict(word.split("=", 1) for word in assigned), where))
    elif words:
        facts.take(of_argv(words, where))


def _is_harmless(words: list[str]) -> bool:
    """Whether a command prepares only: prints, makes a folder, installs; with nothing run or written by the way."""
    if any(mark in word for word in words for mark in ("$(", "`", ">", "<(")):
        return False
    return words[0] in _HARMLESS or any(words[: len(each)] == each for each in _INSTALLS)


def of_dependencies(text: str) -> Facts:
    """The tracker among the packages that a file asks for: the one package whose absence changes what is watched."""
    facts = Facts()
    for name in ("trackio", "wandb", "tensorboard", "mlflow"):
        if re.search(rf"(?m)^[^#\n]*\b{name}\b", text):
            facts.act("tracker-package", name)
    return facts


def of_data(name: str, text: str) -> Facts:
    """The settings of a YAML, JSON or TOML text; of a text that cannot be read, that it could not."""
    facts = Facts()
    try:
        value: object = _load(name, text)
        if isinstance(value, Mapping):
            return of_mapping(cast("Mapping[str, Any]", value), "file")
    except (ValueError, yaml.YAMLError, RecursionError):
        pass
    facts.act("unreadable", f"{posixpath.basename(name)}: {text}")
    return facts


def _load(name: str, text: str) -> object:
    if name.endswith(".json"):
        return json.loads(text)
    if name.endswith(".toml"):
        return tomllib.loads(text)
    documents = list(yaml.safe_load_all(text))
    return documents[0] if len(documents) == 1 else {str(at): each for at, each in enumerate(documents)}
