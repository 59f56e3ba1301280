"""Settings from all layers: defaults < user's config.toml < repo's [tool.hemma] < HEMMA_* variables.

The layers are flat tables with dotted keys, so that each value also knows the layer it came from.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from typing import Any, NamedTuple

from controller import snapshot
from manifests.commands import command
from manifests.errors import UsageError
from manifests.settings import HostSettings, ProjectSettings, Settings, UserConfig, unknown_keys, validated

_FROM_VARIABLE = {
    "HEMMA_ROOT": "host.root",
    "HEMMA_PYTHON": "host.python",
    "HEMMA_SSH_CONFIG": "host.ssh_config",
    "HEMMA_HOST_STATE_DIR": "host.state_dir",
    "HEMMA_LEASE_S": "lease_s",
    "HEMMA_KEEPALIVE_S": "host.keepalive_s",
    "HEMMA_CONNECT_TIMEOUT_S": "host.connect_timeout_s",
    "HEMMA_LOGIN": "login",
}
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
DEFAULT = "default"


class Resolved(NamedTuple):
    """Settings with their story: `origins` maps dotted keys to a layer, `ignored` lists unknown keys as FILE: KEY."""

    settings: Settings
    origins: dict[str, str]
    ignored: list[str]


class Files(NamedTuple):
    """Both settings files, read and validated, with what their sources say for errors and origins."""

    user: UserConfig
    project: ProjectSettings
    sources: snapshot.Sources


def load(start: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """The settings for the folder `start` as a dict: from the snapshot, or resolved now. Raises UsageError."""
    return snapshot.read(start, environ) or resolve(start, environ).as_dict()


def resolve(start: str, environ: Mapping[str, str]) -> Settings:
    """The settings for the folder `start`; their snapshot is written for the next time. Raises UsageError.

    A missing host is refused; a missing `root` is not (commands that need one say so). Raises NotTrusted for a repository's
    settings that no person has allowed.
    """
    files = read_files(start, environ)
    demand_trust(files)
    settings = explain(files).settings
    snapshot.write(files.sources, settings.as_dict())
    return settings


def read_files(start: str, environ: Mapping[str, str]) -> Files:
    """Both settings files as they are now; an absent one is an empty one. Raises UsageError for a broken one."""
    try:
        sources = snapshot.Sources(start, environ)
    except OSError as error:
        raise UsageError(
            f"{error.filename} cannot be read: {error.strerror}", remedy=command("ls -l {}", error.filename)
        ) from error
    user = validated(UserConfig, _table(sources.config_path, sources.config), sources.config_path)
    name = f"{sources.pyproject_path} [tool.hemma]"
    tool = _table(sources.pyproject_path or "", sources.pyproject).get("tool", {})
    project = validated(ProjectSettings, tool.get("hemma", {}), name)
    return Files(user, project, sources)


def demand_trust(files: Files) -> None:
    """Raise NotTrusted unless a person has allowed these files' [tool.hemma]: before anything is done with what it says."""
    from controller import trust

    trust.demand(files.sources.pyproject_path, files.project)


def explain(files: Files) -> Resolved:
    """What the layers of `files` say together, each value with its origin. Raises UsageError when no host is named."""
    name, named_by = _host_name(files)
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, values in _layers(files, name, named_by):
        merged |= values
        origins |= dict.fromkeys(values, origin)
    root_is_own = origins["host.root"] not in (DEFAULT, files.sources.config_path)
    settings = validated(Settings, {**_nested(merged), "root_is_own": root_is_own}, "the settings together")
    known = [(files.sources.config_path, files.user), (f"{files.sources.pyproject_path} [tool.hemma]", files.project)]
    return Resolved(settings, origins, [f"{source}: {key}" for source, model in known for key in unknown_keys(model)])


def _table(path: str, data: bytes | None) -> dict[str, Any]:
    try:
        # A byte order mark is no TOML, but editors on Windows write one.
        return tomllib.loads((data or b"").decode("utf-8-sig"))
    except ValueError as error:
        raise UsageError(
            f"{path} is not valid TOML: {error}", remedy=command("mend the line named above in {}", path)
        ) from error


def _host_name(files: Files) -> tuple[str, str]:
    chosen = files.sources.variables.get("HEMMA_HOST")
    if chosen:
        validated(Settings, {"host": {"name": chosen, "ssh": chosen}}, "the variable HEMMA_HOST")
        return chosen, "HEMMA_HOST"
    if files.project.host:
        return files.project.host, str(files.sources.pyproject_path)
    if files.user.default_host:
        return files.user.default_host, files.sources.config_path
    raise UsageError(
        "no host is configured for this folder",
        remedy="hemma init --host ALIAS --root PATH   (in the repo; or, for all repos: hemma host add NAME ALIAS --default)",
    )


def _layers(files: Files, name: str, named_by: str) -> list[tuple[str, dict[str, Any]]]:
    user, project, sources = files
    entry = user.hosts.get(name)
    fields = HostSettings.model_fields
    defaults = {f"host.{key}": field.default for key, field in fields.items() if key not in ("name", "ssh")}
    defaults |= {"project_root": None, "lease_s": Settings.model_fields["lease_s"].default, "login": False}
    defaults |= {"lanes": {}, "notebooks": {}, "backup": {}}
    chosen: dict[str, Any] = {"host.name": name, "host.ssh": name}
    if sources.pyproject_path:
        chosen["project_root"] = os.path.dirname(sources.pyproject_path)
    personal = _set_values(user, ("lease_s", "login")) | _environment(user.env)
    if entry:
        personal |= {f"host.{key}": value for key, value in _set_values(entry, tuple(type(entry).model_fields)).items()}
    if "host.ssh_config" in personal:
        beside = os.path.dirname(sources.config_path)
        personal["host.ssh_config"] = os.path.join(beside, os.path.expanduser(personal["host.ssh_config"]))
    ours = _set_values(project, ("lease_s", "login")) | _environment(project.env)
    ours |= {f"host.{key}": value for key, value in _set_values(project, ("root", "python")).items()}
    if project.lanes:
        ours["lanes"] = project.lanes
    if project.notebooks.model_fields_set:
        ours["notebooks"] = project.notebooks.as_dict()
    names = {"snapshot": "when", "precious": "precious", "backup_days": "keep_days", "backup_gb": "keep_gb"}
    if backup := {names[key]: value for key, value in _set_values(project, tuple(names)).items() if value != ()}:
        ours["backup"] = backup
    found = [
        (DEFAULT, defaults),
        (named_by, chosen),
        (sources.config_path, personal),
        (str(sources.pyproject_path), ours),
    ]
    return [*found, *_variable_layers(sources.variables)]


def _set_values(model: UserConfig | ProjectSettings | object, keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key in keys if (value := getattr(model, key)) is not None}


def _environment(env: Mapping[str, str]) -> dict[str, Any]:
    return {f"env.{name}": value for name, value in env.items()}


def _variable_layers(variables: Mapping[str, str]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (name, {key: _typed(name, key, variables[name])}) for name, key in _FROM_VARIABLE.items() if name in variables
    ]


def _typed(name: str, key: str, text: str) -> str | float | bool:
    if key == "login":
        return _flag(name, text)
    if not key.endswith("_s"):
        # Run it through the model, so that the error names the variable and not only the key.
        validated(
            Settings, {"host": {"name": "x", "ssh": "x", key.removeprefix("host."): text}}, f"the variable {name}"
        )
        return text
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise UsageError(
            f"{name} must be a number of seconds above 0", remedy=command("export {}=60   (or: unset {})", name, name)
        )
    return seconds


def _flag(name: str, text: str) -> bool:
    if text.lower() not in _TRUE + _FALSE:
        words = ", ".join(_TRUE + _FALSE)
        raise UsageError(f"{name} must be one of {words}", remedy=command("export {}=1   (or: unset {})", name, name))
    return text.lower() in _TRUE


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys one level down: `host.root` and `env.NAME`; a name may hold dots itself."""
    tables: dict[str, Any] = {"host": {}, "env": {}}
    for key, value in flat.items():
        table, dot, rest = key.partition(".")
        if dot:
            tables[table][rest] = value
        else:
            tables[key] = value
    return tables
