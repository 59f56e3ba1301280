"""Models: unknown fields survive, newer versions are refused, environment values never show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from manifests.errors import HemmaError
from manifests.run import RunRecord
from manifests.settings import Settings
from manifests.status import parse_status

RUN: dict[str, Any] = {
    "run_id": "r1",
    "argv": ["true"],
    "cwd": "/srv/repo",
    "who": "ada@laptop",
    "host": "gpu-1",
    "created_at": "2026-01-02T03:04:05Z",
}
# Any text that Python may have got from bytes or from a terminal, lone surrogates too.
texts = st.text(st.characters(codec=None, exclude_categories=[]), max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(argv=st.lists(texts, max_size=6), cwd=texts, names=st.lists(texts, max_size=3))
def test_any_argv_survives_the_round_trip_through_json(argv: list[str], cwd: str, names: list[str]) -> None:
    record = RunRecord.parse({**RUN, "argv": argv, "cwd": cwd, "env_names": names}, "run.json")
    again = RunRecord.parse(json.loads(json.dumps(record.as_dict())), "run.json")
    assert again == record
    assert list(again.argv or ()) == argv


@given(extra=st.dictionaries(st.text(min_size=1, max_size=8).map(lambda name: "x_" + name), values, max_size=4))
def test_unknown_fields_survive_the_round_trip(extra: dict[str, Any]) -> None:
    assert {**RunRecord.parse({**RUN, **extra}, "run.json").as_dict(), **extra} == {
        **RunRecord.parse(RUN, "run.json").as_dict(),
        **extra,
    }


def test_a_model_cannot_be_changed() -> None:
    record = RunRecord.parse(RUN, "run.json")
    with pytest.raises(ValidationError, match="frozen"):
        record.run_id = "r2"  # type: ignore[misc]


def test_a_newer_schema_version_is_refused_by_name() -> None:
    with pytest.raises(HemmaError, match="newer Hemma") as caught:
        RunRecord.parse({**RUN, "schema_version": 2}, "run.json")
    assert caught.value.code == "file-broken"


def test_a_run_without_a_command_is_refused() -> None:
    with pytest.raises(HemmaError, match="argv"):
        RunRecord.parse({**RUN, "argv": None}, "run.json")


@pytest.mark.req("S20-R03")
def test_repr_shows_environment_names_and_no_value() -> None:
    hidden = {"env": {"TOKEN": "hunter2"}, "later": {"env": {"DEEP": "hunter2"}}}
    settings = Settings.model_validate({"host": {"name": "gpu", "ssh": "gpu"}, **hidden})
    assert "TOKEN" in repr(settings)
    assert "DEEP" in str(settings)
    assert "hunter2" not in repr(settings) + str(settings)
    assert settings.env["TOKEN"] == "hunter2"


@pytest.mark.req("S20-R03")
def test_an_error_about_a_value_does_not_show_it() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"host": {"name": "gpu", "ssh": "gpu"}, "env": {"TOKEN": ["hunter2"]}})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("status", [{}, {"state": "paused"}, {"state": "running", "run_id": "r"}])
def test_a_broken_status_is_named(status: dict[str, Any]) -> None:
    with pytest.raises(HemmaError, match=r"status\.json is broken"):
        parse_status(status)


def test_a_written_model_is_private_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "r1" / "run.json"
    record = RunRecord.parse(RUN, "run.json")
    record.write(str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert RunRecord.read(str(path)) == record
