"""`hemma init`: any repository's pyproject.toml, once and again."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest

from controller.cli.app import main
from controller.flows.init import LANES, Wanted, edited, target
from controller.settings import resolve
from manifests.errors import UsageError
from remote.agent import clone


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository (as far as init looks) that is the working directory."""
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "repo")
    for name in ("config", "state", "cache"):
        monkeypatch.setenv(f"HEMMA_{name.upper()}_DIR", str(tmp_path / name))
    return tmp_path / "repo"


GIVEN = ["init", "--host", "gpu-box", "--root", "~/work/repo", "--env", "A=b=c", "--lane", "src/**=hemma"]


def test_a_repo_without_a_pyproject_gets_one(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(GIVEN) == 0
    data = tomllib.loads((repo / "pyproject.toml").read_text())
    assert data["tool"]["hemma"] == {
        "host": "gpu-box",
        "root": "~/work/repo",
        "env": {"A": "b=c"},
        "lanes": {"src/**": "hemma"},
    }
    assert data["tool"]["pdm"]["scripts"] == {"run-hemma": {"cmd": "run-hemma"}}
    assert data["project"]["name"] == "repo"
    assert 'host = "gpu-box"' in capsys.readouterr().out
    assert resolve(str(repo), {}).host.ssh == "gpu-box"


def test_a_second_time_changes_nothing(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(GIVEN)
    before = (repo / "pyproject.toml").read_bytes()
    capsys.readouterr()
    assert main(GIVEN) == 0
    assert main(["init"]) == 0
    assert (repo / "pyproject.toml").read_bytes() == before
    assert "nothing to change" in capsys.readouterr().out


def test_another_value_needs_force(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(GIVEN)
    assert main(["init", "--host", "other"]) == 2
    assert "hemma init --force --host other" in capsys.readouterr().err
    assert main(["init", "--host", "other", "--force"]) == 0
    assert tomllib.loads((repo / "pyproject.toml").read_text())["tool"]["hemma"]["host"] == "other"


def test_what_was_there_stays(repo: Path) -> None:
    old = '# mine\n[project]\nname = "x" # why\nversion = "1"\n\n[tool.pdm.scripts]\nrun-hemma = "my own"\n'
    (repo / "pyproject.toml").write_text(old)
    (repo / "pyproject.toml").chmod(0o664)
    assert main(["init", "--host", "a", "--root", "/srv/x"]) == 0
    text = (repo / "pyproject.toml").read_text()
    assert text.startswith(old)
    assert tomllib.loads(text)["tool"]["hemma"]["lanes"] == LANES
    assert (repo / "pyproject.toml").stat().st_mode & 0o777 == 0o664


def test_from_a_subfolder_the_top_of_the_repository_is_written(repo: Path) -> None:
    (repo / "src" / "deep").mkdir(parents=True)
    assert target(str(repo / "src" / "deep")) == str(repo / "pyproject.toml")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no host"),
        (["--host", "a"], "no root"),
        (["--host", "a", "--root", "rel"], "/ or ~"),
        (["--host", "-x", "--root", "/r"], "alias"),
        (["--host", "a", "--root", "/r", "--env", "A"], "NAME=VALUE"),
    ],
)
def test_a_request_that_cannot_be_met_writes_nothing(
    repo: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["init", *arguments]) == 2
    captured = capsys.readouterr().err
    assert said in captured
    assert "\ndo " in captured
    assert not (repo / "pyproject.toml").exists()


def test_a_broken_pyproject_is_left_alone(repo: Path) -> None:
    with pytest.raises(UsageError, match="not valid TOML"):
        edited("[project\n", Wanted("a", "/r"), str(repo / "pyproject.toml"))


def test_init_records_which_repository_this_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (
        ["init", "-q"],
        ["commit", "-q", "--allow-empty", "-m", "first"],
        ["remote", "add", "origin", "https://host/me/it.git"],
    ):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True)
    first = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    for name in ("config", "state", "cache"):
        monkeypatch.setenv(f"HEMMA_{name.upper()}_DIR", str(tmp_path / ".git/own" / name))
    monkeypatch.chdir(tmp_path)
    assert main(["init", "--host", "gpu", "--root", "/w"]) == 0
    assert f"origin host/me/it, first commit {first[:10]}" in " ".join(capsys.readouterr().out.split())
    known = clone.known(str(tmp_path), str(tmp_path / ".git/own/cache/clones"))
    assert known is not None
    assert known["roots"] == [first.strip()]
