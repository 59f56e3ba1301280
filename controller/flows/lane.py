"""Behind `hemma lane` and `hemma where`: collects the facts on this machine, asks lanes, puts the commands beside."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from controller.flows import work_tree
from controller.settings import read_files
from lanes.classification import (
    NO_FACTS,
    Decision,
    Facts,
    Group,
    change_of,
    classify_command,
    classify_manifest,
    classify_path,
    classify_shell,
)
from lanes.lane_steps import Edit, command_steps, first_step, revision_steps, shell_steps, steps
from lanes.rules import Rule, rules_from
from manifests.commands import Remedy, command
from manifests.errors import UsageError
from manifests.model import MOST_MANIFEST_BYTES, demand_size

MOST_BYTES = 50 << 20  # of a notebook that is read for a few of its fields


@dataclass(frozen=True)
class Ground:
    """Where the question is asked (`start`), the folder that the globs are about (`base`), and the rules."""

    start: str
    base: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Answer:
    """One decision with git's letters for the file (if it was asked about as changed) and the next safe command."""

    decision: Decision
    letters: str = ""
    step: str = ""


@dataclass(frozen=True)
class Part:
    """One lane's part of an answer: what is in it, and the commands to do it with, in order."""

    lane: str
    owner: str
    commits: str
    subjects: tuple[str, ...]
    next_steps: tuple[Remedy, ...]


@dataclass(frozen=True)
class Report:
    """What was asked, decided: `lane` is hemma, colab, local, mixed or none; the parts stand in the order to do them in."""

    lane: str
    answers: tuple[Answer, ...]
    parts: tuple[Part, ...]

    def as_dict(self) -> dict[str, Any]:
        """The report as agents read it under --json."""
        answers = [
            {**answer.decision.as_dict(), **({"status": answer.letters} if answer.letters else {}), "next": answer.step}
            for answer in self.answers
        ]
        return {"lane": self.lane, "decisions": answers, "parts": [dataclasses.asdict(part) for part in self.parts]}


def ground(start: str, environ: Mapping[str, str]) -> Ground:
    """The rules that hold in the folder `start`, and the folder they are about. Raises UsageError for broken settings.

    That folder is the one of the pyproject.toml with [tool.hemma], else the top of the repository, else `start`.
    """
    files = read_files(start, environ)
    project = files.sources.pyproject_path
    base = os.path.dirname(project) if project else _repository_top(start)
    return Ground(os.path.realpath(start), os.path.realpath(base), rules_from(files.project.lanes))


def of_paths(where: Ground, names: Iterable[str]) -> Report:
    """The lanes of these paths, given as from `where.start`. Raises UsageError for one outside the rules' folder."""
    asked = [(name, _resolved(where, name)) for name in dict.fromkeys(names)]
    return _report(where, [(name, Edit(_as_folder(name, path)), "", path) for name, path in asked])


def of_revision(where: Ground, revision: str) -> Report:
    """The lanes of what differs from `revision` (or within A..B). Raises UsageError, NotARepository."""
    top = work_tree.top(where.start)
    names = [os.path.relpath(os.path.join(top, path), where.start) for path in work_tree.changed_since(top, revision)]
    change = change_of(_decision(where, name, os.path.join(where.start, name)) for name in names)
    answers = (Answer(each, step=revision_steps(each.lane, [each.subject], revision)[0]) for each in change.decisions)
    parts = (_part(group, revision_steps(group.lane, _subjects(group), revision)) for group in change.groups)
    return Report(change.lane, tuple(answers), tuple(parts))


def of_work_tree(where: Ground) -> Report:
    """The lanes of every changed file of the work tree, each with its next safe command. Raises NotARepository."""
    top = work_tree.top(where.start)
    asked: list[tuple[str, Edit, str, str]] = []
    for file in work_tree.changed(top):
        name = os.path.relpath(os.path.join(top, file.path), where.start)
        name += "/" if file.path.endswith("/") else ""
        asked.append((name, Edit(name, file.state), file.letters, os.path.join(top, file.path)))
    return _report(where, asked)


def of_command(where: Ground, words: Sequence[str]) -> Report:
    """The lane of a command; one word with a space in it is a shell line."""
    if not words:
        raise UsageError("--command needs a command", remedy="hemma lane --command python train.py")
    if len(words) == 1 and len(words[0].split()) > 1:
        decision = classify_shell(words[0], where.rules)
        return _single(decision, shell_steps(decision.lane, words[0]))
    decision = classify_command(words, where.rules)
    return _single(decision, command_steps(decision.lane, words))


def of_manifest(where: Ground, path: str) -> Report:
    """The lane in which the manifest (YAML or JSON) at `path` runs. Raises UsageError when it cannot be read."""
    return _single(classify_manifest(read_manifest(os.path.join(where.start, path), path), where.rules, path), ())


def read_manifest(path: str, name: str) -> dict[str, object]:
    """The fields of a YAML (or JSON) file; `name` is what errors call it. Raises UsageError."""
    import yaml

    remedy = command("mend {}: a table such as lane: hemma, one FIELD: VALUE on each line", name)
    try:
        with open(path, "rb") as file:
            text = file.read(MOST_MANIFEST_BYTES + 1)
        demand_size(text, name)
        value: object = yaml.safe_load(text)  # not libyaml: it overflows the stack on deep nesting
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}", remedy=command("ls -l {}", name)) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{name} is not valid YAML: {' '.join(str(error).split())}", remedy=remedy) from error
    if not isinstance(value, dict):
        raise UsageError(f"{name} holds no table of fields", remedy=remedy)
    return {str(key): item for key, item in cast("dict[object, object]", value).items()}


def notebook_facts(path: str) -> Facts:
    """What the notebook at `path` says about its lane (metadata.hemma.lane); nothing when it cannot be read."""
    if not path.endswith(".ipynb") or not os.path.isfile(path):
        return NO_FACTS
    try:
        with open(path, "rb") as file:
            return facts_in(file.read(MOST_BYTES))
    except OSError:
        return NO_FACTS


def facts_in(notebook: bytes) -> Facts:
    """What a notebook says about its lane (metadata.hemma.lane); nothing when it cannot be read."""
    try:
        value: Any = json.loads(notebook)
        lane: object = value["metadata"]["hemma"]["lane"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return NO_FACTS
    return Facts(notebook_lane=lane if isinstance(lane, str) else None)


def _report(where: Ground, asked: Sequence[tuple[str, Edit, str, str]]) -> Report:
    """The report about files: each its name as shown, what is to be done, git's letters, and its absolute path."""
    edits = {name: edit for name, edit, _, _ in asked}
    letters = {name: text for name, _, text, _ in asked}
    change = change_of(_decision(where, name, path) for name, _, _, path in asked)
    answers = [
        Answer(each, letters[each.subject], first_step(each.lane, edits[each.subject])) for each in change.decisions
    ]
    parts = (_part(group, steps(group.lane, [edits[name] for name in _subjects(group)])) for group in change.groups)
    return Report(change.lane, tuple(answers), tuple(parts))


def _part(group: Group, todo: tuple[Remedy, ...]) -> Part:
    return Part(group.lane, group.owner, group.commits, _subjects(group), todo)


def _subjects(group: Group) -> tuple[str, ...]:
    return tuple(each.subject for each in group.decisions)


def _decision(where: Ground, name: str, path: str) -> Decision:
    relative = _as_folder(os.path.relpath(path, where.base), path)
    return dataclasses.replace(classify_path(relative, where.rules, notebook_facts(path)), subject=name)


def _as_folder(name: str, path: str) -> str:
    """`name`, with one slash at its end when a folder (no link to one) is at `path`."""
    return name.rstrip("/") + "/" if os.path.isdir(path) and not os.path.islink(path) else name


def _single(decision: Decision, todo: tuple[Remedy, ...]) -> Report:
    answer = Answer(decision, step=todo[0] if todo else "")
    part = Part(decision.lane, decision.owner, decision.commits, (decision.subject,), todo)
    return Report(decision.lane, (answer,), (part,))


def _resolved(where: Ground, name: str) -> str:
    """The absolute path that `name` means; its last part is not followed when it is a link: the link itself is meant."""
    path = os.path.join(where.start, name)
    folder, last = os.path.split(path)
    absolute = os.path.realpath(path) if last in ("", ".", "..") else os.path.join(os.path.realpath(folder), last)
    if not name or os.path.commonpath([absolute, where.base]) != where.base:
        raise UsageError(
            f"{name!r} lies outside {where.base}", remedy="cd into the repository it belongs to, and ask there"
        )
    return absolute


def _repository_top(start: str) -> str:
    folder = os.path.abspath(start)
    while not os.path.exists(os.path.join(folder, ".git")):
        above = os.path.dirname(folder)
        if above == folder:
            return start
        folder = above
    return folder
