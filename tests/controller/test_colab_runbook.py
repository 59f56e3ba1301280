"""The Colab lane and its runbook come together: every verb of the lane is in it, and what only a person can do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from controller.cli import colab, drive, notebook, rows
from controller.cli import slice as slices
from controller.flows.drive import SCOPES

PAGE = (Path(__file__).resolve().parents[2] / "runbooks/training/fine-tune-on-colab.md").read_text("utf-8")
# Verbs of notebooks that serve git and are explained with the hooks.
OF_GIT = {"hemma notebook text", "hemma notebook strip", "hemma notebook merge"}


def verbs() -> list[str]:
    """Every command of the lane, as it is typed."""
    app = typer.Typer()
    for module in (slices, rows, drive, colab, notebook):
        module.register(app)
    groups: dict[str, Any] = getattr(typer.main.get_command(app), "commands", {})
    return [f"hemma {group} {name}" for group in groups for name in groups[group].commands]


@pytest.mark.req("S9-R23")
def test_every_verb_of_the_lane_is_in_its_runbook() -> None:
    assert len(verbs()) > 20
    assert [verb for verb in verbs() if verb not in OF_GIT and verb not in PAGE] == []


@pytest.mark.req("S18-R13")
def test_what_needs_a_person_is_said_before_all_else() -> None:
    sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    assert sections[1].startswith("What needs a person")
    for needed in ("account", "hemma drive login", "*Run all*", "secrets", "--yes", "75"):
        assert needed in sections[1], needed


@pytest.mark.req("S18-R13", "S20-R02")
def test_what_each_sign_in_may_see_is_in_the_runbook() -> None:
    rows_ = [line for line in PAGE.splitlines() if line.startswith("| `drive")]
    assert [re.findall(r"`([^`]+)`", row)[0] for row in rows_] == [
        scope.rpartition("/")[2] for scope in SCOPES.values()
    ]
