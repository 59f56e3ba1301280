"""The [hosts.NAME] tables of the user's config.toml: add, list, remove. Comments and order of the file stay."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from controller.flows import toml_edit
from manifests.commands import command
from manifests.errors import UsageError
from manifests.files import atomic_write
from manifests.ownership import read_own
from manifests.places import config_dir
from manifests.settings import UserConfig, validated


def config_path() -> str:
    """The user's config.toml."""
    return os.path.join(config_dir(), "config.toml")


def read(path: str) -> tuple[str, UserConfig]:
    """The text of a config.toml (empty when there is none) and what it says. Raises UsageError for a broken one."""
    try:
        text = read_own(path, is_config=True).decode("utf-8")
    except FileNotFoundError:
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", remedy=command("ls -l {}", path)) from error
    return text, validated(UserConfig, toml_edit.parsed(text, path), path)


def add(path: str, name: str, fields: Mapping[str, Any], *, default: bool, force: bool) -> list[str]:
    """Write [hosts.NAME] with `fields`; returns each change in words, nothing when all of it is there already.

    The first host becomes the default. A key that says something else is only changed with `force`.
    Raises UsageError, and the file is then as it was.
    """
    text, config = read(path)
    present = config.hosts[name].model_dump(exclude_none=True) if name in config.hosts else {}
    other = [key for key, value in fields.items() if key in present and present[key] != value]
    if other and not force:
        facts = ", ".join(f"{key} = {present[key]!r}" for key in other)
        raise UsageError(
            f"host {name!r} is there already with {facts}",
            remedy=command("hemma host add {} {} --force", name, fields["ssh"]),
        )
    new = {key: value for key, value in fields.items() if present.get(key) != value}
    changes = [f"hosts.{name}.{key} = {value!r}" for key, value in new.items()]
    if new:
        text = toml_edit.put(text, ("hosts", name), new, path)
    if (default or not config.hosts) and config.default_host != name and (default or not config.default_host):
        text = toml_edit.put(text, (), {"default_host": name}, path)
        changes.append(f"default_host = {name!r}")
    validated(UserConfig, toml_edit.parsed(text, path), path)
    if changes:
        atomic_write(path, text.encode("utf-8"))
    return changes


def remove(path: str, name: str) -> list[str]:
    """Take [hosts.NAME] out, and default_host if it names it; returns each change in words. Raises UsageError.

    The default never moves to another host by itself: work would go where nobody sent it.
    """
    text, config = read(path)
    if name not in config.hosts:
        raise UsageError(f"no host {name!r} in {path}", remedy="hemma host list")
    text = toml_edit.drop(text, ("hosts", name), path)
    changes = [f"hosts.{name} removed"]
    if config.default_host == name:
        text = toml_edit.drop(text, ("default_host",), path)
        changes.append("default_host removed")
    atomic_write(path, text.encode("utf-8"))
    return changes


def rows(config: UserConfig) -> list[dict[str, Any]]:
    """The configured hosts as data for a table or for --json."""
    return [
        {"name": name, "ssh": entry.ssh or name, "root": entry.root, "default": name == config.default_host}
        for name, entry in config.hosts.items()
    ]


def named(config: UserConfig, word: str) -> str:
    """The host that `word` means: a configured name, else the one whose ssh destination it is, else the word itself."""
    if word in config.hosts:
        return word
    return next((name for name, entry in config.hosts.items() if entry.ssh == word), word)
