"""What `hemma init` writes: [tool.hemma] and the PDM script, into a pyproject.toml that belongs to somebody else."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any, cast

from controller import snapshot
from controller.flows import toml_edit
from manifests.commands import Command, command
from manifests.errors import UsageError
from manifests.files import atomic_write
from manifests.settings import ProjectSettings, validated

SECTION = ("tool", "hemma")
SCRIPTS = ("tool", "pdm", "scripts")
SCRIPT = {"run-hemma": {"cmd": "run-hemma"}}
# A beginning only: a rule for everything would hide the built-in ones, which know notebooks and dependency files.
LANES = {"docs/**/*.md": "local", "*.md": "local"}
LANES_COMMENT = "Where edits to a path belong: hemma, colab or local. First match decides; built-in rules follow."


@dataclass(frozen=True)
class Wanted:
    """What was asked for. None leaves a key as it is; `lanes` empty means the usual rules where there are none yet."""

    host: str | None = None
    root: str | None = None
    env: dict[str, str] = field(default_factory=dict[str, str])
    lanes: dict[str, str] = field(default_factory=dict[str, str])


def target(start: str) -> str:
    """The pyproject.toml to write: one with [tool.hemma] at or above `start`, else the one of the repository's top folder."""
    present = snapshot.find_project(start)[0]
    if present:
        return present
    folder = os.path.abspath(start)
    while not os.path.exists(os.path.join(folder, ".git")):
        if os.path.dirname(folder) == folder:
            return os.path.join(os.path.abspath(start), "pyproject.toml")
        folder = os.path.dirname(folder)
    return os.path.join(folder, "pyproject.toml")


def read(path: str) -> str | None:
    """The text of a pyproject.toml, line ends as they are; None when there is none. Raises UsageError."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", remedy=command("ls -l {}", path)) from error


def present(text: str | None, path: str) -> ProjectSettings:
    """What [tool.hemma] of this text says now. Raises UsageError when it is broken."""
    section = toml_edit.value_at(toml_edit.parsed(text or "", path), SECTION)
    return validated(ProjectSettings, section or {}, f"{path} [tool.hemma]")


def edited(text: str | None, wanted: Wanted, path: str, *, force: bool = False) -> tuple[str, list[str]]:
    """The text after the edit and each change in words; the same text and [] when all is there. Pure.

    Raises UsageError when the file is broken, when a value is none, or when a key says something else and not `force`.
    """
    changes: list[str] = [] if text is not None else [f"{path} created"]
    new = text if text is not None else minimal(os.path.basename(os.path.dirname(path)))
    top = {key: value for key, value in (("host", wanted.host), ("root", wanted.root)) if value is not None}
    has_rules = toml_edit.value_at(toml_edit.parsed(new, path), (*SECTION, "lanes"))
    steps: list[tuple[toml_edit.Path, dict[str, Any], str]] = [
        (SECTION, top, ""),
        ((*SECTION, "env"), dict(wanted.env), ""),
    ]
    if wanted.lanes or not has_rules:
        steps.append(((*SECTION, "lanes"), dict(wanted.lanes or LANES), LANES_COMMENT))
    if "run-hemma" not in (toml_edit.value_at(toml_edit.parsed(new, path), SCRIPTS) or {}):
        steps.append((SCRIPTS, dict(SCRIPT), ""))
    for table, values, comment in steps:
        new, said = _put(new, table, values, path, comment=comment, force=force)
        changes += said
    present(new, path)
    return new, changes


def apply(path: str, text: str) -> None:
    """Write the edited text in one step; a file that is there keeps its mode. Raises HemmaError."""
    atomic_write(path, text.encode("utf-8"), mode=None)


def minimal(folder: str) -> str:
    """A pyproject.toml that PDM accepts, for a repo that has none and is no package."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.lower()).strip("-") or "project"
    return f'[project]\nname = "{name}"\nversion = "0.0.0"\n\n[tool.pdm]\ndistribution = false\n'


def _again(table: toml_edit.Path, values: dict[str, Any]) -> Command:
    """The command that sets these values over others."""
    option = {"env": "--env", "lanes": "--lane"}.get(table[-1])
    if option:
        words = [word for k, v in values.items() for word in (option, f"{k}={v}")]
    else:
        words = [word for key, value in values.items() for word in (f"--{key}", str(value))]
    return command("hemma init --force {}", words)


def _put(
    text: str, table: toml_edit.Path, values: dict[str, Any], path: str, *, comment: str, force: bool
) -> tuple[str, list[str]]:
    there = toml_edit.value_at(toml_edit.parsed(text, path), table)
    known = cast("dict[str, Any]", there) if isinstance(there, dict) else {}
    new = {key: value for key, value in values.items() if known.get(key) != value}
    other = [key for key in new if key in known]
    head = toml_edit.header(table)
    if other and not force:
        facts = ", ".join(toml_edit.rendered(key, known[key]) for key in other)
        raise UsageError(f"{path} {head} already says {facts}", remedy=_again(table, values))
    # [tool.hemma] itself is opened even when empty, so that the folder is known as a project.
    if not new and (there is not None or table != SECTION):
        return text, []
    changes = [f"{head} {toml_edit.rendered(key, value)}" for key, value in new.items()] or [head]
    return toml_edit.put(text, table, new, path, comment=comment), changes
