"""A failed run on a real host becomes a draft: both its streams and its exit code are read from there."""

from __future__ import annotations

import json
import os

import pytest
import typer
from typer.testing import CliRunner

from controller.cli import gotcha
from tests.support import Cli

SCRIPT = "echo step 1; echo 'RuntimeError: frobnicator 12 of 40 lost its sync' >&2; exit 3"


@pytest.mark.req("S17-R01", "S17-R07")
def test_a_failed_run_is_drafted_from_what_it_wrote(hemma: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hemma("run", "--shell", SCRIPT).returncode == 3
    for name, value in hemma.environ.items():
        monkeypatch.setenv(name, value)
    os.chdir(hemma.folder)
    app = typer.Typer()
    gotcha.register(app)
    app.callback()(lambda: None)
    result = CliRunner().invoke(app, ["gotcha", "propose", "last", "--json"])
    assert result.exit_code == 0, result.exception
    made = json.loads(result.stdout)["proposal"]
    assert made["evidence"] == ["RuntimeError: frobnicator 12 of 40 lost its sync"]
    assert made["status"] == "open"
