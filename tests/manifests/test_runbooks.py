"""Entries and proposals that earlier versions wrote still load, and unknown fields survive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from lanes.runbook_rules import read_entries
from manifests.errors import HemmaError
from manifests.files import read_json
from manifests.runbooks import Fact, Proposal

SAMPLES = Path(__file__).resolve().parents[1] / "old_versions"


def test_an_old_proposal_loads_and_comes_back_whole(tmp_path: Path) -> None:
    path = SAMPLES / "proposal.v1.json"
    proposal = Proposal.read(str(path))
    assert proposal.as_dict() == read_json(str(path))
    proposal.write(str(tmp_path / "p.json"))
    assert read_json(str(tmp_path / "p.json")) == read_json(str(path))


def test_an_old_file_of_entries_loads_and_loses_nothing() -> None:
    text = (SAMPLES / "gotchas.v1.yaml").read_text("utf-8")
    file, problem = read_entries("gotchas/x.yaml", text)
    assert problem is None
    assert file.model is not None
    (entry,) = file.model.as_dict()["gotchas"]
    (wanted,) = yaml.safe_load(text)["gotchas"]
    wanted["corrections"][0]["day"] = str(wanted["corrections"][0]["day"])
    assert {name: entry[name] for name in wanted} == wanted


def test_a_file_of_a_newer_version_is_named_and_not_read() -> None:
    text = (SAMPLES / "gotchas.v1.yaml").read_text("utf-8").replace("schema_version: 1", "schema_version: 2")
    _, problem = read_entries("gotchas/x.yaml", text)
    assert problem is not None
    assert "newer Hemma" in problem.says
    with pytest.raises(HemmaError):
        Proposal.parse({**read_json(str(SAMPLES / "proposal.v1.json")), "schema_version": 2}, "p")


@pytest.mark.req("S17-R13")
@pytest.mark.parametrize(
    "wrong",
    [
        {"verified": "2026-11-21"}, {"verified": "2026-00"}, {"verified": "last month"}, {"verified": ""},
        {"source": "http://example.org"}, {"source": "https://"}, {"source": "ftp://x.org/x"}, {"source": "https://a b.org"},
        {"says": " \n"}, {"says": None}, {"money": "perhaps"},
    ],
    ids=str,
)  # fmt: skip
def test_a_fact_without_a_month_or_a_public_source_is_none(wrong: dict[str, Any]) -> None:
    whole = {"says": "it is so", "source": "https://example.org/x", "verified": "2026-11"}
    assert Fact.model_validate(whole)
    with pytest.raises(ValidationError):
        Fact.model_validate({**whole, **wrong})
