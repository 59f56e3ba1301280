"""The command line as a whole: verdict words, exit codes, reports, and what it never shows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from controller.cli import app as cli
from controller.cli.run_options import OPTIONS
from controller.flows.train import manifest_on_host
from controller.reports import console, surprise
from lanes.redaction import mask
from manifests.errors import UsageError

ROOT = Path(cli.__file__).resolve().parents[2]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with Hemma's folders beside it."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in ("config", "state", "cache"):
        monkeypatch.setenv(f"HEMMA_{name.upper()}_DIR", str(tmp_path / name))
    return tmp_path


def test_version_and_help_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("hemma ")
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in ("run", "init", "host", "config"))


def test_an_unknown_command_suggests_the_near_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["hots"]) == 2
    assert "host" in capsys.readouterr().err


def test_a_refusal_says_what_and_what_to_do(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("refused  no host")
    assert lines[1].startswith("do       hemma init")


def test_a_refusal_under_json_is_an_object(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)
    assert (error["error"], error["exit_code"]) == ("usage", 2)


def test_hosts_are_added_listed_and_removed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["host", "add", "gpu", "me@gpu-box:2222", "--root", "~/r"]) == 0
    assert cli.main(["host", "add", "b.2", "two", "--default"]) == 0
    config = place / "config" / "config.toml"
    assert config.stat().st_mode & 0o777 == 0o600
    assert tomllib.loads(config.read_text()) == {
        "default_host": "b.2",
        "hosts": {"gpu": {"ssh": "me@gpu-box:2222", "root": "~/r"}, "b.2": {"ssh": "two"}},
    }
    capsys.readouterr()
    assert cli.main(["host", "list", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out) if row["default"]] == ["b.2"]
    assert cli.main(["host", "add", "gpu", "elsewhere"]) == 2
    assert cli.main(["host", "remove", "b.2"]) == 0
    assert cli.main(["host", "remove", "b.2"]) == 2
    assert tomllib.loads(config.read_text()) == {"hosts": {"gpu": {"ssh": "me@gpu-box:2222", "root": "~/r"}}}


def test_comments_in_the_config_survive(place: Path) -> None:
    config = place / "config" / "config.toml"
    config.parent.mkdir()
    config.write_text("# mine\nlease_s = 30 # half a minute\n")
    assert cli.main(["host", "add", "gpu", "box"]) == 0
    assert "# mine\nlease_s = 30 # half a minute\n" in config.read_text()


@pytest.mark.req("S20-R03")
def test_config_shows_where_values_come_from_and_no_environment_value(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = place / "config" / "config.toml"
    config.parent.mkdir()
    config.write_text('default_host = "gpu"\n[env]\nTOKEN = "hunter2"\n[later]\nx = 1\n')
    assert cli.main(["config", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["settings"]["env.TOKEN"] == {"value": "(set)", "from": str(config)}
    assert shown["ignored"] == [f"{config}: later"]
    assert cli.main(["config"]) == 0
    captured = capsys.readouterr()
    assert "hunter2" not in captured.out + captured.err
    assert "later" in captured.err


@pytest.mark.req("S20-R03")
def test_a_surprise_leaves_a_redacted_report(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "hunter2hunter2")
    monkeypatch.setenv("HOME", str(place))

    def explode(_: object) -> None:
        raise ZeroDivisionError(f"hunter2hunter2 https://ada:pw@host/x {place}/secret-place")

    monkeypatch.setattr("controller.cli.config.config", explode)
    monkeypatch.setattr("controller.cli.config.register", lambda app: app.command("config")(lambda: explode(None)))
    assert cli.main(["config"]) == 70
    said = capsys.readouterr().err
    assert said.startswith("failed   internal error: ZeroDivisionError; report: ")
    assert len(said.splitlines()) == 1
    (report,) = (place / "state" / "reports").iterdir()
    text = report.read_text()
    assert report.stat().st_mode & 0o777 == 0o600
    assert "ZeroDivisionError" in text
    assert f"{mask('known-value')} https://ada:{mask('url-password')}@host/x ~/secret-place" in text
    assert "hunter2" not in text


def test_redaction_masks_the_longest_value_first() -> None:
    environ = {"A_TOKEN": "secret-1", "B_TOKEN": "secret-1-longer", "PLAIN": "ordinary", "HOME": "/"}
    assert (
        surprise.redacted("secret-1-longer secret-1 ordinary /x", environ)
        == f"{mask('known-value')} {mask('known-value')} ordinary /x"
    )


def test_text_from_elsewhere_cannot_drive_the_terminal() -> None:
    assert console.printable("a\x1b[31mb\udcff\n é") == "a\\x1b[31mb\\udcff\\n é"


def test_bare_completion_answers(place: Path) -> None:
    environ = {**os.environ, "_HEMMA_COMPLETE": "complete_bash", "COMP_WORDS": "hemma ho", "COMP_CWORD": "1"}
    command = [sys.executable, str(ROOT / "hemma" / "__main__.py")]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert set(done.stdout.split()) == {"hooks", "host"}


def test_colour_stays_away_when_asked(place: Path) -> None:
    environ = {**os.environ, "NO_COLOR": "1", "TERM": "xterm-256color"}
    command = [sys.executable, str(ROOT / "hemma" / "__main__.py"), "config"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "\x1b" not in done.stderr


def test_the_host_check_of_nobody_names_what_is_wrong(place: Path) -> None:
    # Port 1 of this machine: nothing listens there, nothing is sent anywhere.
    environ = {**os.environ, "HEMMA_BROKER": "off", "HEMMA_HOST": "nobody@127.0.0.1:1"}
    command = [sys.executable, str(ROOT / "hemma" / "__main__.py"), "host", "check", "--json"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    findings = json.loads(done.stdout)
    assert findings[0]["name"] == "ssh alias"
    assert findings[0]["level"] == "fail"
    assert findings[0]["mend"]
    assert {finding["level"] for finding in findings[1:]} == {"not checked"}


def test_run_has_a_help_page_with_every_option_of_its_parser(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "--help"]) == 0
    shown = capsys.readouterr().out
    assert [flag for option in OPTIONS for flag in option.flags if flag.startswith("--") and flag not in shown] == []


def test_every_verb_is_found_in_the_module_that_the_table_names() -> None:
    for module, verbs in cli.MODULES.items():
        alone: Any = typer.main.get_command(cli.application([verbs[0]]))
        assert set(alone.commands) == set(verbs), module


def test_one_verb_loads_no_other_verbs_module() -> None:
    code = "import sys; from controller.cli import app; app.main(['status', '--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "controller.cli.sync" in loaded
    assert [name for name in loaded if name in {"controller.cli.train", "controller.cli.commit", "nbformat"}] == []


@pytest.mark.parametrize("words", ["fine-tune a llama on my data", "train.py", ""])
def test_words_are_no_manifest_and_the_example_is_named(words: str) -> None:
    with pytest.raises(UsageError) as caught:
        manifest_on_host({}, words)
    assert "is no manifest" in str(caught.value)
    assert "hemma train --example" in caught.value.remedy
