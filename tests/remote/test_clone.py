"""Addresses in their normal form, relations of two clones, and what of a clone is kept: with real git, without a wire."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from remote.agent import clone


@pytest.mark.parametrize(
    "url",
    [
        "git@forge.example:team/project.git",
        "forge.example:team/project",
        "ssh://git@forge.example/team/project.git",
        "ssh://git@Forge.Example:22/team/project/",
        "git+ssh://me@forge.example//team//project.git",
        "https://forge.example/team/project",
        "https://me:s3cret@forge.example:443/team/project.git/",
        "http://forge.example/team/project?x=1#y",
        "git://forge.example:9418/team/project.git",
        "https://forge.example./team/pro%6Aect.git",
    ],
)
def test_every_way_to_one_repository_has_one_normal_form(url: str) -> None:
    assert clone.address(url, "/") == "forge.example/team/project"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://forge.example:8443/a", "https://forge.example:9443/a"),
        ("https://forge.example/a", "https://forge.example/A"),
        ("alice@server:project.git", "bob@server:project.git"),
        ("ssh://alice@server/~/project.git", "ssh://bob@server/~/project.git"),
        ("https://forge.example/a/b", "https://forge.example/a-b"),
        ("/srv/a.git", "ssh://server/srv/a.git"),
    ],
)
def test_what_may_be_two_repositories_has_two_forms(one: str, other: str) -> None:
    assert clone.address(one, "/") != clone.address(other, "/")


def test_forges_that_know_no_case_have_none_and_no_address_holds_a_secret() -> None:
    assert clone.address("git@GitHub.com:Me/Project.git", "/") == clone.address("https://github.com/me/project", "/")
    assert "hunter2" not in clone.address("https://me:hunter2@forge.example/a", "/")
    assert clone.address("ssh://git@[fe80::1]:2222/a/b.git", "/") == "fe80::1:2222/a/b"
    assert clone.address("alice@server:project.git", "/") == clone.address("ssh://alice@server/~/project", "/")


def test_a_path_is_absolute_whatever_it_was(tmp_path: Path) -> None:
    (tmp_path / "repo").mkdir()
    (tmp_path / "origin.git").mkdir()
    expected = f"file://{tmp_path}/origin"
    for url in (
        "../origin.git",
        str(tmp_path / "origin.git"),
        f"file://{tmp_path}/origin.git",
        f"{tmp_path}/origin/.git",
    ):
        assert clone.address(url, str(tmp_path / "repo")) == expected
    assert clone.address("./a:b", "/srv") == "file:" + "///srv/a:b"


def facts(roots: str = "", origin: str | None = None, **more: Any) -> dict[str, object]:
    """Facts of a clone whose first commits are the letters of `roots`."""
    known: dict[str, object] = {"roots": list(roots), "origin": origin, "head": "h" if roots else None, "ends": []}
    return {**known, "is_shallow": False, "said": None, **more}


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [
        (facts("a"), facts("a"), "same"),
        (facts("ab", "x"), facts("bc", "x"), "same"),
        (facts("a", "x"), facts("a"), "same"),
        (facts("a", "x"), facts("a", "y"), "fork"),
        (facts("a"), facts("b"), "other"),
        (facts("a", "x"), facts("b", "x"), "other"),
        (facts("", "x"), facts("a", "x"), "same-origin"),
        (facts("", "x"), facts("", "x"), "same-origin"),
        (facts("", "x"), facts("a", "y"), "other-origin"),
        (facts(), facts(), "unborn"),
        (facts("a", "x"), facts(), "unborn"),
        (facts(head="h", is_shallow=True), facts("a"), "no-witness"),
        (facts("a"), facts("a", said="fatal: no"), "unreadable"),
        ({}, {}, "unborn"),
        ({"roots": "a", "origin": ["x"]}, facts("a", "x"), "other-origin"),
    ],
)
def test_a_relation_needs_a_witness(here: dict[str, object], there: dict[str, object], expected: str) -> None:
    assert clone.relation(here, there) == expected


# --- with git --------------------------------------------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder; returns its stdout, stripped."""
    argv = ["git", "-C", str(folder), *arguments]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def new(folder: Path, *subjects: str) -> Path:
    """A repository with these commits."""
    folder.mkdir()
    git(folder, "init", "-q")
    for subject in subjects:
        git(folder, "commit", "-q", "--allow-empty", "-m", f"{folder.name} {subject}")
    return folder


def roots(folder: Path) -> list[str]:
    """What git itself says of the first commits."""
    return sorted(git(folder, "rev-list", "--max-parents=0", "HEAD").split())


def test_what_is_kept_holds_until_head_or_the_settings_move(tmp_path: Path) -> None:
    repo, cache = new(tmp_path / "repo", "one"), str(tmp_path / "cache")
    assert clone.known(str(repo), cache) is None
    found = clone.learn(str(repo), cache)
    assert found["roots"] == roots(repo)
    assert clone.known(str(repo), cache) == found
    git(repo, "remote", "add", "origin", "https://forge.example/a.git")
    assert clone.known(str(repo), cache) is None
    assert clone.learn(str(repo), cache)["origin"] == "forge.example/a"
    git(repo, "commit", "-q", "--allow-empty", "-m", "two")
    assert clone.known(str(repo), cache) is None
    assert clone.learn(str(repo), cache)["head"] == git(repo, "rev-parse", "HEAD")
    git(repo, "pack-refs", "--all")
    assert clone.learn(str(repo), cache)["roots"] == roots(repo)


def test_roots_are_right_after_every_kind_of_move(tmp_path: Path) -> None:
    """What is walked from an earlier HEAD comes to the same as the whole walk."""
    repo, cache = new(tmp_path / "repo", "one", "two"), str(tmp_path / "cache")
    other = new(tmp_path / "other", "far")
    git(repo, "fetch", "-q", str(other), "main:far")
    moves = [
        ("merge", "-q", "--allow-unrelated-histories", "-m", "both", "far"),
        ("reset", "-q", "--hard", "HEAD~1"),
        ("checkout", "-q", "far"),
        ("checkout", "-q", "main"),
        ("checkout", "-q", "--detach", "main~1"),
        ("checkout", "-q", "--orphan", "fresh"),
        ("commit", "-q", "--allow-empty", "-m", "fresh"),
        ("merge", "-q", "--allow-unrelated-histories", "-m", "more", "far"),
        ("merge", "-q", "--allow-unrelated-histories", "-m", "all", "main~1"),
    ]
    expected: list[str] = []
    for move in moves:
        git(repo, *move)
        found = clone.learn(str(repo), cache)
        expected = roots(repo) if found["head"] else []
        assert (move, found["roots"]) == (move, expected)
    assert len(expected) == 3


def test_a_clone_made_anew_at_the_same_place_is_looked_at_anew(tmp_path: Path) -> None:
    repo, cache = new(tmp_path / "repo", "one"), str(tmp_path / "cache")
    here = clone.learn(str(repo), cache)
    assert clone.related(here, str(repo), cache)[0] == "same"
    subprocess.run(["rm", "-rf", str(repo)], check=True)
    new(tmp_path / "repo", "another")
    assert clone.related(here, str(repo), cache)[0] == "other"


def test_what_is_kept_is_private_and_damage_is_only_a_miss(tmp_path: Path) -> None:
    repo, cache = new(tmp_path / "repo", "one"), tmp_path / "deep" / "cache"
    found = clone.learn(str(repo), str(cache))
    (stored,) = cache.iterdir()
    assert (stored.stat().st_mode & 0o777, cache.stat().st_mode & 0o777) == (0o600, 0o700)
    for damage in (b"", b"{", b"[]", b"{}", b'{"format": 1, "root": 5}', b"[" * 100_000):
        stored.write_bytes(damage)
        clone._memory.clear()
        assert clone.known(str(repo), str(cache)) is None
        assert clone.learn(str(repo), str(cache)) == found


def test_a_shallow_clone_has_no_first_commit(tmp_path: Path) -> None:
    repo = new(tmp_path / "repo", "one", "two", "three")
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{repo}", "shallow")
    found = clone.learn(str(tmp_path / "shallow"), str(tmp_path / "cache"))
    assert (found["roots"], found["is_shallow"]) == ([], True)
    assert found["ends"] == [git(repo, "rev-parse", "HEAD")]
    git(tmp_path / "shallow", "remote", "set-url", "origin", "https://forge.example/elsewhere")
    found = clone.learn(str(tmp_path / "shallow"), str(tmp_path / "cache"))
    assert clone.related(found, str(repo), str(tmp_path / "cache"))[0] == "shared-commit"
    stranger = new(tmp_path / "stranger", "one")
    assert clone.related(found, str(stranger), str(tmp_path / "cache"))[0] == "no-witness"
    git(stranger, "remote", "add", "origin", "https://forge.example/a")
    assert clone.related(found, str(stranger), str(tmp_path / "cache"))[0] == "other-origin"


def test_an_orphan_branch_is_the_same_repository_where_another_branch_and_the_address_say_so(tmp_path: Path) -> None:
    repo, cache = new(tmp_path / "repo", "one"), str(tmp_path / "cache")
    git(tmp_path, "clone", "-q", str(repo), "host")
    git(tmp_path, "clone", "-q", str(repo), "here")
    here = clone.learn(str(tmp_path / "here"), cache)
    git(tmp_path / "host", "checkout", "-q", "--orphan", "pages")
    git(tmp_path / "host", "commit", "-q", "--allow-empty", "-m", "pages")
    assert clone.related(here, str(tmp_path / "host"), cache)[0] == "same"
    git(tmp_path / "host", "remote", "set-url", "origin", "https://forge.example/other")
    assert clone.related(here, str(tmp_path / "host"), cache)[0] == "other"


def test_a_replaced_commit_hides_no_history(tmp_path: Path) -> None:
    repo, other = new(tmp_path / "repo", "one"), new(tmp_path / "other", "far")
    here = clone.learn(str(repo), str(tmp_path / "cache"))
    git(other, "fetch", "-q", str(repo), "main:theirs")
    git(other, "replace", "HEAD", "theirs")
    assert clone.related(here, str(other), str(tmp_path / "cache"))[0] == "other"
