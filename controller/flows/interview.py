"""The first-run interview: what is known and from where, what to offer as an answer, and where the answers go (S17-R10..R12).

Facts of the project go into [tool.hemma], which is committed; those of the person and of a host into the personal memory.
"""

from __future__ import annotations

import datetime as dt
import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from controller.flows import hosts_file, personal, runbook, toml_edit
from controller.flows import init as init_flow
from lanes import interview as rules
from lanes.redaction import secret_values
from lanes.runbook_rules import is_profile
from manifests.commands import Command, command, listed
from manifests.errors import UsageError
from manifests.settings import ProjectSettings, UserConfig

MOST_BYTES = 64 << 10
_ENTRIES = ("train.py", "scripts/train.py", "src/train.py", "main.py")
_CONFIGS = ("configs", "config", "conf", "manifests/runs")
FORGET = "-"


@dataclass(frozen=True)
class Known:
    """A value, and in words where it is known from or was found."""

    value: str
    origin: str


@dataclass(frozen=True)
class Ground:
    """Where the questions are asked: the repository's pyproject.toml with what it says, the user's config, the memory."""

    path: str
    project: ProjectSettings
    user: UserConfig
    memory: personal.Memory

    @property
    def top(self) -> str:
        """The repository's folder."""
        return os.path.dirname(self.path)

    @property
    def name(self) -> str:
        """What the repository is called."""
        return os.path.basename(self.top)


def ground(path: str) -> Ground:
    """What lies here already; `path` is the pyproject.toml to write. Raises UsageError for a broken settings file."""
    project = init_flow.present(init_flow.read(path), path)
    return Ground(path, project, hosts_file.read(hosts_file.config_path())[1], personal.read())


def is_first(where: Ground) -> bool:
    """Whether nobody was asked here yet: the project has no host or no path, or the personal memory knows nothing."""
    host = where.project.host or where.user.default_host
    return not (host and where.project.root) or not where.memory.facts


def platforms() -> list[str]:
    """The platforms that the runbooks have a profile of."""
    library = runbook.load(runbook.SHIPPED, runbook.SHIPPED)
    found = [str((page.matter or {}).get("platform")) for page in library.pages() if is_profile(page.path)]
    return sorted(found)


# --- what is known -----------------------------------------------------------------------------------------------------


def known(where: Ground) -> dict[str, Known | None]:
    """Each question with what is known, of the project first; None where nothing is. Nothing is guessed here."""
    found = {**_of_project(where)}
    config = hosts_file.config_path()
    if "host" not in found and where.user.default_host:
        found["host"] = Known(where.user.default_host, config)
    host = found["host"].value if "host" in found else where.memory.value("host")
    for key in rules.KEYS:
        value = where.memory.value(key, host)
        if key not in found and value and key not in ("entry", "configs"):
            found[key] = Known(value, f"{personal.ORIGIN}: {personal.place(key, host)}")
    return {key: found.get(key) for key in rules.KEYS}


def _of_project(where: Ground) -> dict[str, Known]:
    entry: Any = where.project.verify.get("entry")
    said = {"host": where.project.host, "root": where.project.root, "configs": where.project.configs}
    found = {key: Known(value, where.path) for key, value in said.items() if value}
    entries = [entry] if isinstance(entry, str) else list(entry) if isinstance(entry, list) else []
    return {**found, **({"entry": Known(str(entries[0]), where.path)} if entries else {})}


def offered(where: Ground, key: str, host: str | None) -> Known | None:
    """What to offer as the answer: what the project says, else the memory, else what is found on this machine."""
    found = _of_project(where).get(key)
    if found is not None:
        return found
    remembered = where.memory.value(key, host)
    if key == "root":
        return _offered_root(where, host)
    if key in ("entry", "configs"):
        return _offered_path(where, key, remembered)
    if key == "host" and where.user.default_host:
        return Known(where.user.default_host, hosts_file.config_path())
    if remembered:
        return Known(remembered, personal.ORIGIN)
    return _offered_host() if key == "host" else None


def _offered_root(where: Ground, host: str | None) -> Known:
    folder = where.memory.value("repositories", host)
    return Known(f"{folder or '~/work'}/{where.name}", personal.ORIGIN if folder else "the usual place")


def _offered_path(where: Ground, key: str, remembered: str | None) -> Known | None:
    usual = [*([remembered] if remembered else []), *(_ENTRIES if key == "entry" else _CONFIGS)]
    exists = os.path.isfile if key == "entry" else os.path.isdir
    found = next((path for path in usual if exists(os.path.join(where.top, path))), None)
    return Known(found, "this repository") if found else None


def _offered_host() -> Known | None:
    """The host of ~/.ssh/config, when it names just one."""
    path = os.path.expanduser("~/.ssh/config")
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            named = rules.aliases(file.read(MOST_BYTES))
    except OSError:
        return None
    return Known(named[0], path) if len(named) == 1 else None


# --- answers -----------------------------------------------------------------------------------------------------------


def accepted(where: Ground, key: str, answer: str, environ: Mapping[str, str]) -> str:
    """The answer as it is kept; `-` is the answer that forgets, and comes back empty. Raises lanes' Refused."""
    if answer.strip() == FORGET:
        return ""
    names = platforms() if key == "platform" else ()
    text = rules.accepted(key, answer, platforms=names, known=secret_values(environ))
    if key in ("entry", "configs"):
        _demand_there(where, key, text)
    return text


def _demand_there(where: Ground, key: str, text: str) -> None:
    """What a run starts is checked when it is named as a path; a module's name may be found anywhere."""
    path = text.partition(":")[0]
    is_path = key == "configs" or "/" in path or path.endswith((".py", ".sh", ".ipynb"))
    exists = os.path.isdir if key == "configs" else os.path.isfile
    if is_path and not exists(os.path.join(where.top, path)):
        raise rules.Refused("is not in this clone", "give its path from the repository's root, or leave it out")


def checked(where: Ground, given: Mapping[str, str], environ: Mapping[str, str], source: str) -> dict[str, str]:
    """Answers that were given without being asked for. Raises UsageError naming the first that is not taken, not its value."""
    taken: dict[str, str] = {}
    for key, answer in given.items():
        try:
            taken[key] = accepted(where, key, answer, environ)
        except rules.Refused as refused:
            raise UsageError(f"{source}: {key} {refused.rule}", remedy=refused.mend) from refused
    return taken


def answers_of(path: str) -> dict[str, str]:
    """The answers in a YAML or JSON file. Raises UsageError for what is none, naming the key and never the value."""
    import yaml

    try:
        with open(path, "rb") as file:
            raw = file.read(MOST_BYTES + 1)
        value: object = yaml.safe_load(raw.decode("utf-8-sig")) if len(raw) <= MOST_BYTES else None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", remedy=command("ls -l {}", path)) from error
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError, ValueError) as error:
        # The error's own words would repeat the line, and a secret with it.
        raise UsageError(f"{path} is neither YAML nor JSON in UTF-8", remedy=_example(path)) from error
    if not isinstance(value, dict):
        what = f"is larger than {MOST_BYTES} bytes" if len(raw) > MOST_BYTES else "holds no mapping"
        raise UsageError(f"{path} {what}", remedy=_example(path))
    return _as_answers(cast("dict[object, object]", value), path)


def _as_answers(value: Mapping[object, object], path: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, answer in value.items():
        name = str(key).replace("-", "_")
        if name not in rules.KEYS:
            close = difflib.get_close_matches(name, rules.KEYS, n=1)
            keys = close or rules.KEYS
            raise UsageError(f"{path} has a key that is no question", remedy=command("one of: {}", listed(keys)))
        if answer is not None and (isinstance(answer, bool) or not isinstance(answer, str | int | float)):
            raise UsageError(f"{path}: {name} must be text or a number", remedy=_example(path))
        if answer is not None:
            found[name] = str(answer)
    return found


def _example(path: str) -> Command:
    return command("write lines such as host: gpu-box and disk_gb: 500 into {}", path)


# --- where they go -----------------------------------------------------------------------------------------------------


def with_project_facts(text: str, where: Ground, answers: Mapping[str, str]) -> tuple[str, list[str]]:
    """The text of pyproject.toml with entry point and folder of configurations, and each change in words. Pure."""
    changes: list[str] = []
    configs, entry = answers.get("configs"), answers.get("entry")
    if configs and configs != where.project.configs:
        text = toml_edit.put(text, init_flow.SECTION, {"configs": configs}, where.path)
        changes.append(f"[tool.hemma] {toml_edit.rendered('configs', configs)}")
    there: Any = toml_edit.value_at(toml_edit.parsed(text, where.path), (*init_flow.SECTION, "verify", "entry")) or []
    entries = [there] if isinstance(there, str) else list(there)
    if entry and entry not in entries:
        new = [*entries, entry]
        text = toml_edit.put(text, (*init_flow.SECTION, "verify"), {"entry": new}, where.path)
        changes.append(f"[tool.hemma.verify] {toml_edit.rendered('entry', new)}")
    return text, changes


def keep(where: Ground, answers: Mapping[str, str], today: dt.date) -> list[str]:
    """Write what the answers say of the person and the host; returns each change in words (S17-R03, S17-R10).

    Entry point and folder of configurations are kept too: the next repository that has them is offered them.
    """
    host = answers.get("host") or where.project.host or where.user.default_host
    facts = dict(answers)
    usual = rules.repositories_in(facts.pop("root", "") or "", where.name)
    if usual:
        facts["repositories"] = usual
    changes = [personal.keep(key, value, host, today) for key, value in facts.items()]
    return [change for change in changes if change]
