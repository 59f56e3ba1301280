"""The settings models: what the user's config.toml and a repo's [tool.hemma] may say, and what comes of them.

People write these files, so every fault becomes a UsageError that names file, key, rule and mend. Unknown keys are kept
(a newer Hemma may know them) unless one is a near miss of a known key: a typing slip must not be ignored silently.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, ValidationError

from manifests.commands import Command, command
from manifests.errors import UsageError
from manifests.model import Model, RawText, RepoPath, faults, near_misses
from manifests.run import Lane


def _plain(value: str) -> str:
    if not value or any(ord(character) < 0x20 or ord(character) == 0x7F for character in value):
        raise ValueError("must be one line of text, not empty")
    return value


def _destination(value: str) -> str:
    # A leading dash would be read as an option by any ssh program that gets it.
    if value.startswith("-") or any(character.isspace() for character in value):
        raise ValueError("must be an ssh alias or [user@]host[:port]")
    return value


def _host_path(value: str) -> str:
    if not value.startswith(("/", "~")):
        raise ValueError("must be a path on the host that starts with / or ~")
    return value


def _finite(value: float) -> float:
    if not math.isfinite(value) or value <= 0:
        raise ValueError("must be a number of seconds above 0")
    return value


def _names(value: dict[str, str]) -> dict[str, str]:
    for name, text in value.items():
        if not name or "=" in name or "\0" in name + text:
            raise ValueError("names must not be empty or hold `=`, and nothing may hold a NUL")
    return value


Plain = Annotated[RawText, AfterValidator(_plain)]
Destination = Annotated[Plain, AfterValidator(_destination)]
HostPath = Annotated[Plain, AfterValidator(_host_path)]
Seconds = Annotated[float, Field(strict=True), AfterValidator(_finite)]
Flag = Annotated[bool, Field(strict=True)]
Environment = Annotated[dict[str, RawText], AfterValidator(_names)]
LaneRules = dict[str, JsonValue] | list[JsonValue]


def _lane(value: object) -> object:
    if value in get_args(Lane):
        return value
    close = difflib.get_close_matches(str(value), get_args(Lane), n=1)
    raise ValueError(f"must be hemma, colab or local{f'; did you mean `{close[0]}`?' if close else ''}")


def _several(value: object) -> object:
    return [value] if isinstance(value, str) else value


Patterns = Annotated[tuple[Plain, ...], BeforeValidator(_several)]


class LaneRule(Model):
    """One rule of [tool.hemma.lanes]: what matches one of its patterns, all of one kind, belongs to `lane` (S9-R01)."""

    lane: Annotated[Lane, BeforeValidator(_lane)]
    name: Plain | None = None
    why: Plain | None = None
    path: Patterns = ()
    notebook: Patterns = ()
    dependency: Patterns = ()
    command: Patterns = ()
    manifest: Patterns = ()

    def patterns(self, kind: str) -> tuple[str, ...]:
        """The patterns of this kind; empty when the rule is of another one."""
        return getattr(self, kind) if kind in RULE_KINDS else ()


RULE_KINDS = ("path", "notebook", "dependency", "command", "manifest")


def lane_rules(table: LaneRules) -> tuple[LaneRule, ...]:
    """The rules that [tool.hemma.lanes] holds, in order; ValueError naming every rule at fault and what is wrong.

    Either a table, "GLOB" = "LANE" or "NAME" = { lane = "LANE", command = ["WORDS"] }, or an array of such tables.
    """
    found: list[LaneRule] = []
    wrong: list[str] = []
    for label, entry in _entries(table):
        if not isinstance(entry, dict):
            wrong.append(f"rule `{label}`: must be a table with `lane` and patterns")
            continue
        try:
            rule = LaneRule.model_validate(entry)
        except ValidationError as error:
            wrong += [f"rule `{label}`: {key or 'it'} {text[:1].lower()}{text[1:]}" for key, text in faults(error)]
            continue
        found.append(rule)
        slips = [f"`{key}` is unknown; did you mean `{meant}`?" for key, meant in near_misses(rule)]
        if not slips and sum(bool(rule.patterns(kind)) for kind in RULE_KINDS) != 1:
            slips = [f"needs patterns of one kind, one of {', '.join(RULE_KINDS)}"]
        wrong += [f"rule `{label}`: {slip}" for slip in slips]
    if wrong:
        raise ValueError("; ".join(wrong))
    return tuple(found)


def _entries(table: LaneRules) -> Iterator[tuple[str, object]]:
    """Each rule as (how to call it, its fields): a key whose table has no patterns of its own is itself the glob."""
    if isinstance(table, list):
        for number, entry in enumerate(table, 1):
            name = entry.get("name") if isinstance(entry, dict) else None
            yield (name if isinstance(name, str) else str(number)), entry
        return
    for key, value in table.items():
        fields = value if isinstance(value, dict) else {"lane": value}
        glob = {} if any(kind in fields for kind in RULE_KINDS) else {"path": key}
        yield key, {"name": key, **glob, **fields}


def _lanes(value: LaneRules) -> LaneRules:
    lane_rules(value)
    return value


CheckedLaneRules = Annotated[LaneRules, AfterValidator(_lanes)]


Meant = Literal["drift", "intended"]


class NotebookSettings(Model):
    """[tool.hemma.notebooks], or a notebook's own metadata.hemma: what in it was meant, so that no sync discards it (S18-R03).

    `metadata` is all of it at once, `intended` names single keys such as kernelspec; outputs and widgets are said apart.
    """

    metadata: Meant = "drift"
    outputs: Meant = "drift"
    widgets: Meant = "drift"
    intended: Patterns = ()


def _inside(value: tuple[str, ...]) -> tuple[str, ...]:
    for pattern in value:
        if pattern.startswith("/") or ".." in pattern.split("/"):
            raise ValueError("must be globs of files below the repository's top")
    return value


When = Literal["always", "auto", "off"]
Precious = Annotated[Patterns, AfterValidator(_inside)]
Amount = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]


class BackupSettings(Model):
    """When a run's clone is backed up before it, which ignored files are kept too, and how long and how much is kept."""

    when: When = "auto"
    precious: Precious = ()
    keep_days: Amount = 14.0
    keep_gb: Amount = 1.0


class HostSettings(Model):
    """How one host is reached. `root`, `python` and `state_dir` are places on the host; `~` is expanded there."""

    name: Plain
    ssh: Destination
    root: HostPath | None = None
    python: Plain = "python3"
    state_dir: HostPath | None = None
    ssh_config: Plain | None = None
    keepalive_s: Seconds = 15.0
    connect_timeout_s: Seconds = 10.0


class Settings(Model):
    """What all layers together say, for one folder and one environment. `lanes` holds the lane rules as given, in order."""

    project_root: RawText | None = None
    host: HostSettings
    # Whether `root` was said for this folder, by its [tool.hemma] or a variable; not for all folders of this user.
    root_is_own: Flag = Field(default_factory=bool)
    env: Environment = Field(default_factory=dict[str, str])
    lease_s: Seconds = 60.0
    login: Flag = False
    lanes: LaneRules = Field(default_factory=dict[str, JsonValue])
    notebooks: NotebookSettings = Field(default_factory=NotebookSettings)
    backup: BackupSettings = Field(default_factory=BackupSettings)


class HostEntry(Model):
    """One [hosts.NAME] table of the user's config.toml; what is None is not set there. Without `ssh` NAME is the alias."""

    ssh: Destination | None = None
    root: HostPath | None = None
    python: Plain | None = None
    state_dir: HostPath | None = None
    ssh_config: Plain | None = None
    keepalive_s: Seconds | None = None
    connect_timeout_s: Seconds | None = None


class UserConfig(Model):
    """The user's config.toml: personal, for all repos."""

    hosts: dict[Destination, HostEntry] = Field(default_factory=dict[str, HostEntry])
    default_host: Destination | None = None
    lease_s: Seconds | None = None
    login: Flag | None = None
    env: Environment = Field(default_factory=dict[str, str])


class ProjectSettings(Model):
    """The [tool.hemma] table of a repo's pyproject.toml: committed, for everybody."""

    host: Destination | None = None
    root: HostPath | None = None
    python: Plain | None = None
    lease_s: Seconds | None = None
    login: Flag | None = None
    env: Environment = Field(default_factory=dict[str, str])
    lanes: CheckedLaneRules = Field(default_factory=dict[str, JsonValue])
    notebooks: NotebookSettings = Field(default_factory=NotebookSettings)
    # Backups before runs, for `hemma undo`: `precious` are ignored files that they keep too.
    snapshot: When | None = None
    precious: Precious = ()
    backup_days: Amount | None = None
    backup_gb: Amount | None = None
    drive: Plain | None = None
    memory: RepoPath | None = None
    # Where the repository keeps the configurations of its runs: `hemma init` asks, `hemma doctor` looks whether it is there.
    configs: RepoPath | None = None
    # manifests/verify.py has its model: only `hemma verify` reads it.
    verify: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])


EXAMPLES = {
    "ssh": 'ssh = "gpu-box"',
    "root": 'root = "~/work/repo"',
    "python": 'python = "python3"',
    "state_dir": 'state_dir = "~/.local/state/hemma"',
    "ssh_config": 'ssh_config = "~/.ssh/config"',
    "keepalive_s": "keepalive_s = 15.0",
    "connect_timeout_s": "connect_timeout_s = 10.0",
    "lease_s": "lease_s = 60.0",
    "login": "login = false",
    "host": 'host = "gpu"',
    "hosts": '[hosts.gpu] with ssh = "gpu-box"',
    "default_host": 'default_host = "gpu"',
    "env": 'env = { NAME = "value" }, each value quoted',
    "lanes": '[tool.hemma.lanes] with "docs/**" = "local"',
    "notebooks": '[tool.hemma.notebooks] with metadata = "intended"',
    "metadata": 'metadata = "intended"',
    "outputs": 'outputs = "intended"',
    "widgets": 'widgets = "intended"',
    "snapshot": 'snapshot = "auto"',
    "precious": 'precious = [".env", "ckpt/**"]',
    "backup_days": "backup_days = 14.0",
    "backup_gb": "backup_gb = 1.0",
    "drive": 'drive = "folder:~/hemma-drive", or a link to a folder of Drive',
    "memory": 'memory = ".claude"',
    "configs": 'configs = "configs"',
    "verify": '[tool.hemma.verify] with optional = ["plugins.*"]',
    "intended": 'intended = ["kernelspec"]',
}

S = TypeVar("S", UserConfig, ProjectSettings, Settings)


def validated(kind: type[S], table: dict[str, Any], source: str) -> S:
    """The settings in `table`. Raises UsageError naming `source` (a file, or where the values came from), key, rule, mend."""
    try:
        settings = kind.model_validate(table)
    except ValidationError as error:
        raise _refusal(source, faults(error)) from error
    slips = [(key, f"is unknown; did you mean `{meant}`?") for key, meant in near_misses(settings)]
    if slips:
        raise _refusal(source, slips)
    return settings


def unknown_keys(settings: Model) -> list[str]:
    """Dotted keys that this Hemma does not know and therefore ignores."""
    found = list(settings.model_extra or {})
    for name, entry in settings.hosts.items() if isinstance(settings, UserConfig) else ():
        found += [f"hosts.{name}.{key}" for key in unknown_keys(entry)]
    if isinstance(settings, ProjectSettings):
        found += [f"lanes.{rule.name}.{key}" for rule in lane_rules(settings.lanes) for key in unknown_keys(rule)]
        found += [f"notebooks.{key}" for key in unknown_keys(settings.notebooks)]
    return found


def _refusal(source: str, found: list[tuple[str, str]]) -> UsageError:
    # Lower-cased first letter: the rule continues the sentence "`key` ...".
    rules = "; ".join(f"`{key}` {rule[:1].lower()}{rule[1:]}" if key else rule for key, rule in found)
    keys = [part for key, _ in found for part in reversed(key.split(".")) if part in EXAMPLES]
    example = Command(f", e.g. {EXAMPLES[keys[0]]}" if keys else "")
    return UsageError(
        f"{source}: {rules}", remedy=command("mend {} in {}{}", found[0][0] or "the table", source, example)
    )
