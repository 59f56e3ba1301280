"""`hemma where` and `hemma lane --diff` in real work trees: odd states, odd names, and commands that really work."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from controller.cli import app as cli
from tests.support import WEIRD_NAMES, RepositoryOnHost, make_repository


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RepositoryOnHost:
    """A clone with one pushed commit as working directory, with Hemma's folders beside it."""
    made = make_repository(tmp_path)
    monkeypatch.chdir(made.path)
    for name in ("config", "state", "cache"):
        monkeypatch.setenv(f"HEMMA_{name.upper()}_DIR", str(tmp_path / name))
    return made


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    code = cli.main([*(arguments or ("where",)), "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert code == answer.get("exit_code", 0)
    return answer


def lanes(answer: Any) -> dict[str, tuple[str, str]]:
    return {each["subject"]: (each["status"], each["lane"]) for each in answer["decisions"]}


def write(clone: RepositoryOnHost, name: str, text: str = "x\n") -> Path:
    path = clone.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def commit(clone: RepositoryOnHost, *names: str) -> None:
    for name in names:
        write(clone, name)
    clone.git("add", "--all")
    clone.git("commit", "-q", "-m", "more")


@pytest.mark.req("S9-R01", "S9-R02")
def test_each_changed_file_has_its_lane_and_command(
    clone: RepositoryOnHost, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(clone, "src/a.py", "src/b.py", "docs/a.md", ".gitignore")
    write(clone, ".gitignore", "ignored\n")
    write(clone, "ignored")
    write(clone, "src/a.py", "changed\n")
    (clone.path / "src/b.py").unlink()
    write(clone, "docs/a.md", "changed\n")
    write(clone, "docs/deep/new.md")
    write(clone, "colab/x.ipynb", "{}")
    answer = shown(capsys)
    assert lanes(answer) == {
        ".gitignore": (" M", "hemma"),
        "src/a.py": (" M", "hemma"),
        "src/b.py": (" D", "hemma"),
        "colab/x.ipynb": ("??", "colab"),
        "docs/a.md": (" M", "local"),
        "docs/deep/new.md": ("??", "local"),
    }
    assert answer["lane"] == "mixed"
    assert [part["lane"] for part in answer["parts"]] == ["hemma", "colab", "local"]
    assert cli.main(["where"]) == 0
    assert "hemma apply -" in capsys.readouterr().out


def test_a_clean_tree_has_nothing_to_show(clone: RepositoryOnHost, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys) == {"lane": "none", "decisions": [], "parts": []}
    assert cli.main(["where"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "nothing is changed\n")
    assert shown(capsys, "lane", "--diff", "HEAD")["exit_code"] == 0


def test_a_rename_is_shown_as_both_its_names(clone: RepositoryOnHost, capsys: pytest.CaptureFixture[str]) -> None:
    commit(clone, "docs/a.md")
    (clone.path / "src").mkdir()
    clone.git("mv", "docs/a.md", "src/a.md")
    assert lanes(shown(capsys)) == {"docs/a.md": ("D ", "local"), "src/a.md": ("A ", "hemma")}


def test_a_branch_without_a_commit_is_shown(
    tmp_path: Path, clone: RepositoryOnHost, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = tmp_path / "fresh"
    subprocess.run(["git", "init", "-q", str(fresh)], check=True)
    os.chdir(fresh)
    (fresh / "a.py").write_text("x")
    (fresh / "b.md").write_text("x")
    subprocess.run(["git", "add", "b.md"], check=True)
    answer = shown(capsys)
    assert lanes(answer) == {"a.py": ("??", "hemma"), "b.md": ("A ", "local")}
    assert cli.main(["lane", "--diff", "HEAD"]) == 2


@pytest.mark.parametrize("bare", [False, True])
def test_without_a_work_tree_it_says_so(
    tmp_path: Path, clone: RepositoryOnHost, capsys: pytest.CaptureFixture[str], *, bare: bool
) -> None:
    (tmp_path / "empty").mkdir()
    os.chdir(clone.origin if bare else tmp_path / "empty")
    for arguments in (["where"], ["lane", "--diff", "HEAD"]):
        assert cli.main(arguments) == 67
        assert "git repository" in capsys.readouterr().err


def test_a_detached_head_and_a_subfolder_are_no_hindrance(
    clone: RepositoryOnHost, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(clone, "src/a.py")
    clone.git("switch", "-q", "--detach")
    write(clone, "src/a.py", "changed\n")
    write(clone, "docs/x.md")
    os.chdir(clone.path / "src")
    answer = shown(capsys)
    assert lanes(answer) == {"a.py": (" M", "hemma"), "../docs/x.md": ("??", "local")}
    assert answer["decisions"][0]["next"].endswith("HEAD -- a.py | hemma apply -")


def test_a_linked_work_tree_is_judged_by_its_own_files(
    clone: RepositoryOnHost, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clone.git("worktree", "add", "-q", str(tmp_path / "other"))
    os.chdir(tmp_path / "other")
    Path("a.py").write_text("x")
    assert lanes(shown(capsys)) == {"a.py": ("??", "hemma")}


def test_a_conflict_is_to_be_ended_first(clone: RepositoryOnHost, capsys: pytest.CaptureFixture[str]) -> None:
    commit(clone, "src/a.py", "docs/a.md")
    clone.git("switch", "-q", "-c", "side")
    write(clone, "src/a.py", "side\n")
    clone.git("commit", "-qam", "side")
    clone.git("switch", "-q", "main")
    write(clone, "src/a.py", "main\n")
    clone.git("commit", "-qam", "main")
    with pytest.raises(subprocess.CalledProcessError):
        clone.git("merge", "-q", "side")
    answer = shown(capsys)
    assert lanes(answer) == {"src/a.py": ("UU", "hemma")}
    assert "merge --abort" in answer["decisions"][0]["next"]


def test_a_submodule_is_one_entry(clone: RepositoryOnHost, capsys: pytest.CaptureFixture[str]) -> None:
    clone.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(clone.origin), "vendor/sub")
    clone.git("commit", "-qm", "sub")
    (clone.path / "vendor/sub/README.md").write_text("changed\n")
    assert lanes(shown(capsys)) == {"vendor/sub": (" M", "hemma")}


def test_asking_locks_nothing_and_changes_nothing(clone: RepositoryOnHost, capsys: pytest.CaptureFixture[str]) -> None:
    write(clone, "README.md", "changed\n")
    index = clone.path / ".git" / "index"
    index.with_suffix(".lock").touch()
    before = index.read_bytes()
    assert lanes(shown(capsys)) == {"README.md": (" M", "local")}
    assert index.read_bytes() == before
    index.with_suffix(".lock").unlink()


@pytest.mark.parametrize("name", [*WEIRD_NAMES.values(), os.fsdecode(b"caf\xe9")], ids=[*WEIRD_NAMES, "not-utf8"])
def test_weird_names_are_shown_whole_and_the_offered_commands_work(
    clone: RepositoryOnHost, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    write(clone, f"docs/{name}")
    write(clone, "docs/other.md")
    write(clone, name)
    answer = shown(capsys)
    assert {f"docs/{name}", name, "docs/other.md"} == set(lanes(answer))
    mine = next(each for each in answer["decisions"] if each["subject"] == f"docs/{name}")
    subprocess.run(["bash", "-c", mine["next"]], check=True, cwd=clone.path)
    staged = subprocess.run(["git", "diff", "--cached", "--name-only", "-z"], check=True, capture_output=True)
    assert os.fsdecode(staged.stdout) == f"docs/{name}\0"


@pytest.mark.req("S9-R04")
def test_documents_are_committed_by_the_offered_commands(
    clone: RepositoryOnHost, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(clone, "docs/a.md", "docs/b.md", "docs/c.md", "src/a.py")
    write(clone, "docs/a.md", "changed\n")
    (clone.path / "docs/b.md").unlink()
    clone.git("rm", "-q", "docs/c.md")
    write(clone, "docs/new.md")
    write(clone, "src/a.py", "changed\n")
    clone.git("add", "src/a.py")
    (part,) = [part for part in shown(capsys)["parts"] if part["lane"] == "local"]
    for step in part["next_steps"]:
        if step.startswith("git "):
            subprocess.run(["bash", "-c", step], check=True, cwd=clone.path, capture_output=True)
    assert set(lanes(shown(capsys))) == {"src/a.py"}
    told = clone.git("show", "--no-renames", "--name-status", "--format=")
    assert told.split() == ["M", "docs/a.md", "D", "docs/b.md", "D", "docs/c.md", "A", "docs/new.md"]


@pytest.mark.req("S9-R03", "S9-R08")
def test_the_hosts_files_edited_here_travel_as_a_patch_and_are_kept_in_the_stash(
    clone: RepositoryOnHost, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """`hemma apply -` is stood in for by the git command that it is on the host; all the rest is pasted as offered."""
    commit(clone, "src/a.py", "src/b.py", "src/c.py")
    clone.git("push", "-q")
    host = tmp_path / "host"
    subprocess.run(["git", "clone", "-q", str(clone.origin), str(host)], check=True)
    write(clone, "src/a.py", "changed\n")
    (clone.path / "src/b.py").unlink()
    clone.git("rm", "-q", "src/c.py")
    write(clone, "src/new.py")
    write(clone, "docs/mine.md")
    (part,) = [part for part in shown(capsys)["parts"] if part["lane"] == "hemma"]
    for step in part["next_steps"]:
        if step.startswith("git "):
            line = step.replace("hemma apply -", f"git -C '{host}' apply --3way -")
            subprocess.run(["bash", "-o", "pipefail", "-c", line], check=True, cwd=clone.path, capture_output=True)
    assert (host / "src/a.py").read_text() == "changed\n"
    assert not (host / "src/b.py").exists()
    assert (host / "src/new.py").read_text() == "x\n"
    assert set(lanes(shown(capsys))) == {"docs/mine.md"}
    assert clone.git("stash", "list").endswith("now on the host")
    assert "src/new.py" in clone.git("stash", "show", "--include-untracked", "--name-only")


def test_a_file_staged_and_removed_is_taken_out_of_the_index(
    clone: RepositoryOnHost, capsys: pytest.CaptureFixture[str]
) -> None:
    write(clone, "docs/x.md").parent.joinpath("y.md").write_text("y")
    clone.git("add", "docs/x.md")
    (clone.path / "docs/x.md").unlink()
    answer = shown(capsys)
    assert lanes(answer)["docs/x.md"] == ("AD", "local")
    for step in answer["parts"][0]["next_steps"][:3]:
        subprocess.run(["bash", "-c", step], check=True, cwd=clone.path, capture_output=True)
    assert shown(capsys)["decisions"] == []


def test_a_revision_and_a_range_are_split_by_lane(clone: RepositoryOnHost, capsys: pytest.CaptureFixture[str]) -> None:
    commit(clone, "src/a.py", "docs/a.md")
    clone.git("mv", "docs/a.md", "docs/b.md")
    clone.git("commit", "-qm", "rename")
    write(clone, "untracked.py")
    answer = shown(capsys, "lane", "--diff", "HEAD~2..HEAD")
    assert [part["subjects"] for part in answer["parts"]] == [["src/a.py"], ["docs/b.md"]]
    answer = shown(capsys, "lane", "--diff", "HEAD~1")
    assert (answer["exit_code"], answer["parts"][0]["subjects"]) == (12, ["docs/a.md", "docs/b.md"])


@pytest.mark.parametrize("revision", ["nope", "--output=pwned", "", "HEAD..nope", "a\nb"])
def test_a_revision_that_git_does_not_know_is_refused(
    clone: RepositoryOnHost, capsys: pytest.CaptureFixture[str], revision: str
) -> None:
    assert cli.main(["lane", f"--diff={revision}"]) == 2
    assert "refused" in capsys.readouterr().err
    assert not (clone.path / "pwned").exists()


def test_a_machine_without_git_is_told_what_to_install(
    clone: RepositoryOnHost, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "no-programs").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "no-programs"))
    assert cli.main(["where"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "failed   git is not installed here",
        "do       sudo apt-get install git",
    ]
