"""README.md says what the code says: exit codes, settings, commands, options, figures."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from controller import snapshot
from lanes import guards
from manifests import errors
from manifests.settings import HostEntry, HostSettings, ProjectSettings, Settings, UserConfig
from script import docs

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The text under a heading, down to the next heading of any level."""
    found = re.search(rf"^#+ {re.escape(title)}$\n(.*?)(?=^#+ |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, f"README.md has no section {title!r}"
    return found.group(1)


def table(text: str) -> list[list[str]]:
    """The cells of every table row in `text`, less headings and rules."""
    rows = [line.strip()[1:-1] for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)] for row in rows]


def words(cell: str) -> set[str]:
    """What stands in backticks."""
    return set(re.findall(r"`([^`]+)`", cell))


# --- generated parts ---------------------------------------------------------------------------------------------


def test_generated_parts_are_fresh() -> None:
    assert docs.rendered(README) == README, "run script/docs"


def test_a_missing_part_is_noticed() -> None:
    with pytest.raises(ValueError, match="no part"):
        docs.rendered("# Nothing here\n")


ROW: dict[str, Any] = {
    "name": "warm", "ours": 50.2, "peer": 82.4, "unit": "ms", "ratio": 0.609, "target": "<= 0.6", "holds": False,
}  # fmt: skip


def test_figures_that_miss_their_target_say_so() -> None:
    assert docs.figures_table([ROW]).splitlines()[2] == "| warm | 50 ms | 82 ms | 0.61 | <= 0.6 | **no** |"


def test_the_date_of_the_figures_moves_only_with_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = tmp_path / "run.json"
    monkeypatch.setattr(docs, "RESULTS", tmp_path)
    assert docs.figures("run", "") == "Not measured yet: `script/bench run`.\n"
    results.write_text(json.dumps([ROW]))
    dated = f"Measured 2001-02-03.\n\n{docs.figures_table([ROW])}"
    assert docs.figures("run", dated) == dated
    results.write_text(json.dumps([{**ROW, "ours": 40.0}]))
    assert "2001" not in docs.figures("run", dated)


# --- exit codes --------------------------------------------------------------------------------------------------


def exit_codes() -> dict[str, set[str]]:
    """Code as written -> words under --json."""
    return {row[0]: words(row[2]) for row in table(section("Exit codes"))[1:]}


def error_tree() -> list[type[errors.HemmaError]]:
    """Every class of manifests/errors.py."""
    return [kind for kind in errors._tree(errors.HemmaError) if kind.__module__ == errors.__name__]


def test_every_error_has_its_row_and_its_word() -> None:
    wanted: dict[str, set[str]] = {}
    for kind in error_tree():
        wanted.setdefault(str(kind.exit_code), set()).add(kind.code)
    listed = exit_codes()
    assert {code: listed.get(code) for code in wanted} == wanted
    assert {code for code, named in listed.items() if named} == set(wanted)


@pytest.mark.req("S9-R21")
def test_every_refusal_of_the_guard_is_listed() -> None:
    facts: dict[str, Any] = {name: True for name, _ in guards.REQUIREMENTS}
    found: set[str] = set()
    for name, _ in guards.REQUIREMENTS:
        refusal = guards.judge({**facts, "root": "/r", "cwd": "/r/c", "toplevel": "/", name: False})
        assert refusal is not None
        found.add(str(refusal.exit_code))
    assert found == {"66", "67", "68"}
    assert found <= set(exit_codes())


# --- settings ----------------------------------------------------------------------------------------------------


def settings_columns() -> list[set[str]]:
    """Keys of [tool.hemma], of config.toml, and the variables, as the table names them."""
    rows = [row for row in table(section("Settings")) if len(row) == 5][1:]
    return [{word for row in rows for word in words(row[column])} for column in (1, 2, 3)]


def test_every_setting_is_listed_where_it_may_stand() -> None:
    project, user, variables = settings_columns()
    assert project == set(ProjectSettings.model_fields)
    entries = {f"hosts.NAME.{key}" for key in HostEntry.model_fields}
    assert user == set(UserConfig.model_fields) - {"hosts"} | entries
    assert variables == set(snapshot.VARIABLES)


def test_the_defaults_are_those_of_the_models() -> None:
    fields = {**HostSettings.model_fields, **Settings.model_fields}
    defaults = {name: field.default for name, field in fields.items() if isinstance(field.default, str | float | bool)}
    rows = [row for row in table(section("Settings")) if len(row) == 5]
    shown = {word.rpartition(".")[2]: row[4] for row in rows for word in words(row[2])}
    assert len(defaults) == 5
    assert {name: shown.get(name) for name in defaults} == {
        name: f"`{str(value).lower()}`" for name, value in defaults.items()
    }


def test_every_variable_of_ours_is_explained() -> None:
    rooms = ("hemma", "controller", "remote", "lanes", "manifests", "training")
    sources = (path.read_text("utf-8") for room in rooms for path in (REPOSITORY / room).rglob("*.py"))
    in_code = {name for text in sources for name in re.findall(r"\bHEMMA_[A-Z_]*[A-Z]\b", text)}
    assert {word for word in words(section("Settings")) if word.startswith("HEMMA_")} == in_code
