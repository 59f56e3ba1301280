"""`hemma undo` as people type it, over a real sshd: a run loses something, one command gives it back."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import Cli, EnvironFor, RepositoryOnHost, make_repository


@pytest.fixture
def clone(tmp_path: Path) -> RepositoryOnHost:
    """A clone on the host with an edit that nobody committed."""
    (tmp_path / "on-host").mkdir()
    made = make_repository(tmp_path / "on-host")
    (made.path / "README.md").write_text("an edit\n")
    (made.path / "notes.txt").write_text("never added\n")
    return made


@pytest.fixture
def cli(
    hemma_with: Callable[[dict[str, str]], Cli], settings_env: EnvironFor, clone: RepositoryOnHost, tmp_path: Path
) -> Cli:
    """The CLI for that clone."""
    return hemma_with(settings_env(root=clone.path, state=tmp_path / "hemma"))


def ok(cli: Cli, *arguments: str, **more: Any) -> str:
    """What the command printed; it must succeed."""
    done = cli(*arguments, **more)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def test_what_a_run_took_comes_back_and_the_undo_can_be_undone(cli: Cli, clone: RepositoryOnHost) -> None:
    ran = json.loads(ok(cli, "run", "--json", "--", "rm", "notes.txt", "README.md"))
    record = json.loads((Path(cli.environ["HEMMA_HOST_STATE_DIR"]) / "runs" / ran["run_id"] / "run.json").read_text())
    assert record["backup"]["ref"] in clone.git("for-each-ref", "refs/hemma")
    (clone.path / "made-since").write_text("stays\n")
    said = ok(cli, "undo", "--dry-run")
    assert said.startswith("would    2 files")
    assert not (clone.path / "notes.txt").exists()
    said = ok(cli, "undo", "-y")
    assert (clone.path / "notes.txt").read_text() == "never added\n"
    assert (clone.path / "README.md").read_text() == "an edit\n"
    assert (clone.path / "made-since").read_text() == "stays\n"
    assert "stays    made-since" in said
    again = said.rpartition("hemma undo ")[2].strip()
    said = ok(cli, "undo", "-y", again)
    assert not (clone.path / "README.md").exists()
    assert "stays    notes.txt" in said  # for that backup it is a file made since
    ok(cli, "undo", "-y", ran["run_id"])
    assert (clone.path / "README.md").read_text() == "an edit\n"
    assert ok(cli, "undo", "last").startswith("ok       as it was")


def test_one_file_is_chosen_by_its_place_in_the_local_clone(cli: Cli, clone: RepositoryOnHost, tmp_path: Path) -> None:
    here = RepositoryOnHost(tmp_path / "here", clone.origin)
    subprocess.run(["git", "clone", "-q", str(clone.origin), str(here.path)], check=True)
    (here.path / "src").mkdir()
    (clone.path / "src").mkdir()
    (clone.path / "src/a.py").write_text("a\n")
    ok(cli, "run", "--", "rm", "-r", "src", "notes.txt")
    ok(cli, "undo", "-y", "last", "a.py", cwd=here.path / "src")
    assert (clone.path / "src/a.py").read_text() == "a\n"
    assert not (clone.path / "notes.txt").exists()
    done = cli("undo", "last", "nothing.py", cwd=here.path)
    assert done.returncode == 2
    assert b"nothing.py is not in that backup" in done.stderr


def test_the_list_says_what_each_would_change(cli: Cli, clone: RepositoryOnHost) -> None:
    ok(cli, "run", "--", "true")
    ok(cli, "run", "--", "rm", "notes.txt")
    ok(cli, "run", "--", "true")
    rows = json.loads(ok(cli, "undo", "--list", "--json"))["backups"]
    assert [row["changes"]["files"] for row in rows] == [[], ["notes.txt"]]
    assert all(row["reason"] == "before a run" for row in rows)
    assert "1 file" in ok(cli, "undo", "--list")


def test_it_asks_and_without_a_terminal_it_changes_nothing(cli: Cli, clone: RepositoryOnHost) -> None:
    ok(cli, "run", "--", "rm", "notes.txt")
    for more in ([], ["--json"]):
        done = cli("undo", "last", *more)
        assert (done.returncode, b"no terminal to ask at" in done.stderr) == (75, True)
        assert not (clone.path / "notes.txt").exists()
    assert cli("undo", "--json", "-y").returncode == 0
    assert (clone.path / "notes.txt").exists()
    assert ok(cli, "undo", "last").startswith("ok       as it was")  # there is nothing to ask


def test_another_undo_goes_further_back_and_the_way_forward_has_a_name(cli: Cli, clone: RepositoryOnHost) -> None:
    notes, forward = clone.path / "notes.txt", list[str]()
    for text in ("one", "two", "three"):
        ok(cli, "run", "--shell", f"echo {text} > notes.txt")
    for text in ("two\n", "one\n", "never added\n"):
        said = ok(cli, "undo", "-y")
        assert notes.read_text() == text
        forward.append(said.rpartition("undo this: hemma undo ")[2].strip())
    assert "nothing to undo" in ok(cli, "undo", "-y")
    assert notes.read_text() == "never added\n"
    ok(cli, "undo", "-y", forward[0])
    assert notes.read_text() == "three\n"
    # What was done since another run is the newest thing again.
    ok(cli, "run", "--", "rm", "README.md")
    ok(cli, "undo", "-y")
    assert ((clone.path / "README.md").exists(), notes.read_text()) == (True, "three\n")


def test_a_chosen_file_goes_further_back_by_itself(cli: Cli, clone: RepositoryOnHost, tmp_path: Path) -> None:
    for text in ("one", "two"):
        ok(cli, "run", "--shell", f"echo {text} > notes.txt; echo {text} > README.md")
    for text in ("one\n", "never added\n"):
        ok(cli, "undo", "-y", "notes.txt", cwd=clone.path)
        assert (clone.path / "notes.txt").read_text() == text
    assert (clone.path / "README.md").read_text() == "two\n"
    ok(cli, "undo", "-y")
    assert (clone.path / "README.md").read_text() == "one\n"


def test_which_run_has_which_backup_and_what_they_take(cli: Cli, clone: RepositoryOnHost) -> None:
    ok(cli, "run", "--", "true")
    (run,) = json.loads(ok(cli, "ps", "--all", "--json"))
    assert run["backup"] in clone.git("for-each-ref", "--format=%(refname)", "refs/hemma/backup")
    assert run["backup"] in ok(cli, "ps", "--all", "--wide")
    assert run["backup"] not in ok(cli, "ps", "--all")
    assert "host  1 backups, 0.0 MB of disk; kept 14 days or 1 GB" in ok(cli, "status", cwd=clone.path)
    rows = json.loads(cli("doctor", "--json", cwd=clone.path).stdout)["rows"]
    (about,) = [row for row in rows if (row["part"], row["name"]) == ("backups", "host")]
    assert about["fact"] == "1 take 0.00 GiB; kept 14 days or 1 GB"


def test_names_that_mean_nothing_or_two_things_are_refused(cli: Cli, clone: RepositoryOnHost, tmp_path: Path) -> None:
    ok(cli, "run", "--", "true")
    (tmp_path / "last").touch()
    for words, code, said in (
        (["last"], 2, b"may be a file here, or a run"),
        (["20200101T000000Z"], 2, b"there is no backup"),
        (["2001-01-01"], 2, b"no backup from before"),
        (["--local", "-H", "x"], 2, b"do not go together"),
        (["yesterdy"], 2, b"no backup has 'yesterdy'"),
    ):
        done = cli("undo", *words, cwd=tmp_path)
        assert (done.returncode, said in done.stderr) == (code, True), done.stderr


def test_the_local_clone_has_the_same_undo(cli: Cli, tmp_path: Path) -> None:
    from remote.agent import snapshot

    here = make_repository(tmp_path)
    (here.path / "mine").write_text("mine\n")
    snapshot.take(str(here.path), reason="before sync")
    (here.path / "mine").unlink()
    ok(cli, "undo", "-y", "--local", cwd=here.path)
    assert (here.path / "mine").read_text() == "mine\n"


def test_a_run_goes_on_when_nothing_can_be_kept(cli: Cli, clone: RepositoryOnHost) -> None:
    (clone.path / ".git/hemma").write_text("in the way")
    ran = json.loads(ok(cli, "run", "--json", "--", "echo", "went on"))
    assert ran["stdout"] == "went on\n"
    record = json.loads((Path(cli.environ["HEMMA_HOST_STATE_DIR"]) / "runs" / ran["run_id"] / "run.json").read_text())
    assert "error" in record["backup"]
    done = cli("undo", ran["run_id"])
    assert done.returncode == 2
    assert b"has no backup" in done.stderr
