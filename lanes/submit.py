"""May this request go to the host as it is? No secret in it, no place that is only on the machine it was written on (S8-R05, D3).

Looked at are all of its words: settings, arguments, environment, and the string constants of a script that rides along.
A place is a word that names one on some machine: absolute, from the home folder, on a drive, as a file address. What such
a place must be is decided by facts of the host, which the caller asks for: whether it exists there.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from manifests.commands import Remedy, command, once

from lanes.redaction import redact
from lanes.verdict import Reason, Verdict

# Where what is named is made, not read: its first folder must be there, not all of it.
OUTPUTS = ("persist.destination",)
# Ours, and names that no program opens: who asked, and prose.
_NO_PLACES = ("who", "task", "references", "accept", "name", "until", "resume", "commit")
_WINDOWS = re.compile(r"(?:file:/{2,3})?(?:[A-Za-z]:(?:[\\/]|$)|\\\\[\w.$-]+\\)")
_POSIX = re.compile(r"(?:file://(?:localhost)?(?=/))?(?P<path>/[^\s/:*?\"'<>|][^\n:*?\"'<>|]*|~[\w.-]*(?:/[^\n]*)?)\Z")
_HOMES = re.compile(r"/(?:Users|home)/[^/]+")
# An absolute word of one part (/think, /no_think, /end) is a mark in a template as often as a place.
_ONE_PART = re.compile(r"/[\w.-]+/?\Z")
# `eos_token` and its kin are arguments of every day; of a variable the end of the name tells.
_SECRET_ARGUMENT = re.compile(
    r"(?:^|_)(?:hub_token|hf_token|auth_token|access_token|api_key|access_key|secret|password)$|^token$", re.IGNORECASE
)
_SECRET_VARIABLE = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)$", re.IGNORECASE)


@dataclass(frozen=True)
class Place:
    """A word of the request that names a place: where it stands, and the path as it would be opened on the host."""

    key: str
    path: str
    is_foreign: bool = False

    @property
    def is_output(self) -> bool:
        """Whether it will be written."""
        return self.key in OUTPUTS

    @property
    def to_ask(self) -> str:
        """The path whose existence on the host decides."""
        if self.is_output and self.path.startswith("/"):
            return "/" + self.path.split("/")[1]
        return "~" if self.is_output else self.path


def places(request: Mapping[str, Any], script: str | None = None) -> tuple[Place, ...]:
    """Every place that the request names, and `script` (the text of a module of the repository that it calls), in order."""
    found = [
        place for key, word in _words(request) if key.split(".")[0] not in _NO_PLACES for place in _place(key, word)
    ]
    return tuple(dict.fromkeys([*found, *_of_script(request, script)]))


def invariant(
    request: Mapping[str, Any], named: Sequence[Place], exists: Mapping[str, bool], *, clone_here: str | None = None
) -> Verdict:
    """The invariant before every submit. `exists` answers `Place.to_ask` for every place that is not foreign.

    `clone_here` is the clone on the machine that asks: a place in it is named by its path in the repository instead.
    """
    reasons = [*_secrets(request)]
    steps: list[Remedy] = ["put it into the environment of the host, and name the variable"] if reasons else []
    for place in named:
        reason, step = _fault(place, exists, (clone_here or "").rstrip("/"))
        reasons += [reason] if reason else []
        if step:
            steps.append(step)
    if not reasons:
        return Verdict(True, (Reason("submit invariant (S8-R05)", "no secret, and every place is there"),))
    return Verdict(False, tuple(reasons), once(steps))


def _fault(place: Place, exists: Mapping[str, bool], clone: str) -> tuple[Reason | None, Remedy]:
    rule = "a request names no place of another machine (S8-R05)"
    if clone and (place.path == clone or place.path.startswith(clone + "/")) and not exists.get(place.to_ask):
        inside = place.path[len(clone) :].strip("/") or "."
        fact = f"{place.key}: {place.path} is in the clone on this machine, not on the host"
        return Reason(rule, fact), command("{}: {}", place.key, inside)
    if place.is_foreign:
        return Reason(rule, f"{place.key}: {place.path} is a path of Windows, the host has none"), _instead(place)
    if exists.get(place.to_ask):
        return None, ""
    whose = " (a home folder of another machine?)" if _HOMES.match(place.path) else ""
    what = f"{place.to_ask}, where it would be made, is" if place.is_output else f"{place.path} is"
    return Reason(rule, f"{place.key}: {what} not on the host{whose}"), _instead(place)


def _instead(place: Place) -> Remedy:
    if place.is_output:
        return command("{}: a folder that the host has, for example ~/hemma-models", place.key)
    return command("{}: put it into the repository (hemma put FILE) and name it by its path there", place.key)


def _secrets(request: Mapping[str, Any]) -> Iterator[Reason]:
    """Secrets by their shape in any word, and by their name among arguments and environment; never repeated."""
    rule = "a request holds no secret (S20-R03)"
    for key, word in _words(request):
        if _shapes(word):
            yield Reason(rule, f"{key} looks like a secret")
    for group, name in (("arguments", _SECRET_ARGUMENT), ("environment", _SECRET_VARIABLE)):
        for key, value in _mapping(request.get(group)).items():
            if name.search(str(key)) and isinstance(value, str) and _is_value(value):
                yield Reason(rule, f"{group}.{key} stands under the name of a secret")


def _is_value(word: str) -> bool:
    """Whether it may be a secret itself; a place of one, a switch, or one that has its own shape (told already) is none."""
    return bool(word) and not _shapes(word) and not word.startswith(("/", "~", "$")) and word not in ("true", "false")


def _shapes(word: str) -> bool:
    """Whether a word has a secret's own shape. A long mixed one may be the name of a model: that alone refuses nothing."""
    return any(kind != "unnamed-token" for kind in redact(word).counts)


def _words(value: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Every string in nested data with the dotted key it stands under."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, each in cast("Mapping[str, object]", value).items():
            yield from _words(each, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        for number, each in enumerate(cast("Sequence[object]", value)):
            yield from _words(each, f"{key}[{number}]")


def _place(key: str, word: str) -> Iterator[Place]:
    word = word.strip()
    if _WINDOWS.match(word):
        yield Place(key, word, is_foreign=True)
        return
    found = _POSIX.fullmatch(word)
    if found and not (
        _ONE_PART.match(found["path"]) and key not in OUTPUTS and not key.startswith(("dataset", "model"))
    ):
        yield Place(key, found["path"])


def _of_script(request: Mapping[str, Any], script: str | None) -> Iterator[Place]:
    """The places among a script's string constants; one that is no Python is the audit's to tell."""
    name = str(_mapping(request.get("dataset")).get("reward") or "the script").partition(":")[0]
    # As one interactive statement: for a module with certain errors CPython opens the file that it would be from.
    block = "\n ".join(["if True:", *(script or "").splitlines(), "pass\n"])
    try:
        tree = ast.parse(block, mode="single")
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _place(f"{name}, line {node.lineno - 1}", node.value)


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}
