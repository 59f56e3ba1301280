"""What is read from a repository's files is what git itself says of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from remote.agent import gitfacts
from tests.support import WEIRD_NAMES, RepositoryOnHost, make_repository


@pytest.fixture
def repo(tmp_path: Path) -> RepositoryOnHost:
    return make_repository(tmp_path)


def agrees(folder: Path) -> None:
    """git's own answers for this work tree are gitfacts' answers."""

    def git(*arguments: str) -> str | None:
        told = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
        return told.stdout.rstrip("\n") if told.returncode == 0 else None

    commit, branch = gitfacts.head(str(folder))
    assert commit == git("rev-parse", "--verify", "-q", "HEAD")
    assert branch == git("symbolic-ref", "--short", "-q", "HEAD")
    assert gitfacts.toplevel(str(folder)) == git("rev-parse", "--show-toplevel")


def test_a_branch(repo: RepositoryOnHost) -> None:
    agrees(repo.path)
    assert gitfacts.head(str(repo.path))[1] == "main"


@pytest.mark.parametrize("name", ["feature/deep/er", "with.dots", "grüße", "a-b_c", "refs/heads/odd"])
def test_a_branch_of_any_name(repo: RepositoryOnHost, name: str) -> None:
    repo.git("switch", "-q", "-c", name)
    agrees(repo.path)
    assert gitfacts.head(str(repo.path))[1] == name


@pytest.mark.parametrize("name", ["main", "feature/x"])
def test_packed_refs(repo: RepositoryOnHost, name: str) -> None:
    if name != "main":
        repo.git("switch", "-q", "-c", name)
    repo.git("pack-refs", "--all")
    repo.git("gc", "-q")
    assert not (repo.path / ".git/refs/heads" / name).exists()
    agrees(repo.path)
    (repo.path / "more").touch()
    repo.git("add", ".")
    repo.git("commit", "-q", "-m", "a loose ref over a packed one")
    agrees(repo.path)


def test_a_packed_ref_is_not_taken_for_one_whose_name_it_ends(repo: RepositoryOnHost) -> None:
    first = repo.git("rev-parse", "HEAD")
    (repo.path / "more").touch()
    repo.git("add", ".")
    repo.git("commit", "-q", "-m", "two")
    repo.git("branch", "x/refs/heads/main", first)
    repo.git("tag", "-a", "-m", "annotated", "main-tag")
    repo.git("pack-refs", "--all")
    agrees(repo.path)


def test_a_detached_head(repo: RepositoryOnHost) -> None:
    repo.git("checkout", "-q", "--detach")
    agrees(repo.path)
    assert gitfacts.head(str(repo.path))[1] is None


def test_an_unborn_branch(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", "-b", "first", str(tmp_path / "new")], check=True)
    assert gitfacts.head(str(tmp_path / "new")) == (None, "first")
    agrees(tmp_path / "new")


@pytest.mark.parametrize("state", ["branch", "detached", "packed"])
def test_a_linked_work_tree(repo: RepositoryOnHost, tmp_path: Path, state: str) -> None:
    tree = tmp_path / "linked tree"
    repo.git("worktree", "add", "-q", *(["--detach"] if state == "detached" else ["-b", "other"]), str(tree))
    if state == "packed":
        repo.git("pack-refs", "--all")
    agrees(tree)
    agrees(repo.path)


def test_a_submodule_is_a_work_tree_of_its_own(repo: RepositoryOnHost, tmp_path: Path) -> None:
    other = make_repository(tmp_path / "other")
    repo.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(other.path), "sub")
    agrees(repo.path / "sub")
    assert gitfacts.toplevel(str(repo.path / "sub")) == str(repo.path / "sub")


def test_folders_below_a_work_tree_belong_to_it(repo: RepositoryOnHost) -> None:
    below = repo.path / "a" / "b"
    below.mkdir(parents=True)
    assert gitfacts.toplevel(str(below)) == str(repo.path)


def test_a_link_to_a_work_tree_is_that_work_tree(repo: RepositoryOnHost, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(repo.path)
    assert gitfacts.toplevel(str(tmp_path / "link")) == str(repo.path)


@pytest.mark.parametrize("name", WEIRD_NAMES.values(), ids=WEIRD_NAMES.keys())
def test_a_work_tree_with_a_weird_name(tmp_path: Path, name: str) -> None:
    made = make_repository(tmp_path / name)
    commit, branch = gitfacts.head(str(made.path))
    assert (commit, branch) == (made.git("rev-parse", "HEAD"), "main")


def test_what_is_no_repository_is_none(tmp_path: Path, repo: RepositoryOnHost) -> None:
    assert gitfacts.head(str(tmp_path)) == (None, None)
    assert gitfacts.git_dir(str(tmp_path)) is None
    assert gitfacts.git_dir(str(repo.origin)) is None  # a bare one has no work tree
    fake = tmp_path / "fake"
    (fake / ".git").mkdir(parents=True)
    assert gitfacts.toplevel(str(fake)) is None
    (tmp_path / "text").mkdir()
    (tmp_path / "text/.git").write_text("this is no gitdir line\n")
    assert gitfacts.git_dir(str(tmp_path / "text")) is None
