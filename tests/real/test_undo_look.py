"""A look at a clone, and what a small backup writes: read from git's files and written without git, always as git itself has it."""

from __future__ import annotations

import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from remote.agent import backup_state, loose_objects, raw_refs, snapshot, snapshot_objects, store
from remote.agent.backup_clone import Clone
from remote.agent.snapshot_objects import Entry
from tests.real.undo_states import make_state
from tests.support import RepositoryOnHost, make_repository


@pytest.fixture
def clone(tmp_path: Path) -> RepositoryOnHost:
    """A clone with one commit and its origin, both this test's own."""
    return make_repository(tmp_path)


def at(path: Path) -> Clone:
    """The clone there, as the agent sees it."""
    found = Clone.at(str(path))
    assert found is not None
    return found


def as_git_lists_them(path: Path) -> dict[bytes, raw_refs.Ref]:
    """Every ref as `git for-each-ref` says it, less Hemma's own."""
    argv = ["git", "for-each-ref", "--format=%(objectname) %(refname) %(symref)"]
    said = subprocess.run(argv, cwd=path, check=True, capture_output=True).stdout
    return {name: ref for name, ref in backup_state.refs_in(said) if not name.startswith(b"refs/hemma/")}


@pytest.mark.req("S9-R11")
@pytest.mark.parametrize("is_packed", [False, True])
def test_refs_are_read_as_git_lists_them(clone: RepositoryOnHost, tmp_path: Path, is_packed: bool) -> None:
    for name in ("topic/a", "topic/b.c", "x"):
        clone.git("branch", name)
    clone.git("tag", "-a", "-m", "one", "v1")
    clone.git("remote", "set-head", "origin", "main")
    clone.git("symbolic-ref", "refs/heads/second-name", "refs/remotes/origin/HEAD")
    clone.git("symbolic-ref", "refs/heads/to-nowhere", "refs/heads/nowhere")
    clone.git("worktree", "add", "-q", "-b", "beside", str(tmp_path / "beside"))
    if is_packed:
        clone.git("pack-refs", "--all")
    clone.git("branch", "-f", "x", clone.git("commit-tree", "-m", "two", "HEAD^{tree}"))
    snapshot.take(str(clone.path), reason="a test")
    for place in (clone.path, tmp_path / "beside"):
        subprocess.run(["git", "bisect", "start", "HEAD"], cwd=place, check=True, capture_output=True)
        subprocess.run(["git", "update-ref", "refs/worktree/mine", "HEAD"], cwd=place, check=True)
        assert raw_refs.read(at(place)) == as_git_lists_them(place)
        assert list(raw_refs.read(at(place))) == list(as_git_lists_them(place))


@pytest.mark.parametrize("seed", range(12))
def test_a_large_tree_is_seen_as_a_small_one_is(
    clone: RepositoryOnHost, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    make_state(clone, random.Random(seed))
    subprocess.run(["git", "init", "-q", str(clone.path / "inner")], check=True)
    (clone.path / "inner/file").write_text("x")
    (clone.path / "empty").mkdir()
    small = backup_state.look(at(clone.path), {}, [])
    monkeypatch.setattr(backup_state, "_LARGE_INDEX", 0)
    monkeypatch.setattr(backup_state, "has_idle_processor", lambda: True)
    asked = backup_state.ask(at(clone.path), {})
    assert asked.untracked is not None
    large = backup_state.look(at(clone.path), {}, [], asked)
    assert set(large.status.changed) == set(small.status.changed)
    assert large.status._replace(changed=[]) == small.status._replace(changed=[])
    assert large.files == small.files
    assert large.refs == small.refs


@pytest.mark.parametrize("kind", ["sha1", "sha256"])
def test_a_small_backup_is_the_commit_that_git_would_have_made(tmp_path: Path, kind: str) -> None:
    subprocess.run(["git", "init", "-q", f"--object-format={kind}", str(tmp_path)], check=True)
    here = at(tmp_path)
    paths = [b"files/a", b"files/a.b", b"files/a-c/d", b"files/a0", b"refs", b"z\xff"]
    known = here.run("hash-object", "-w", "--stdin", given=b"known\n").strip()
    parent = here.run("commit-tree", "-m", "p", here.run("mktree", given=b"").strip()).strip()
    entries = [Entry(path, b"100755", content=path * number) for number, path in enumerate(paths)]
    entries += [Entry(b"files/link", b"120000", content=b"to"), Entry(b"files/known", b"100644", known)]
    entries += [Entry(b"files/long", b"100644", content=b"long" * 5000)]
    made = loose_objects.write(here, entries, [parent], b"hemma: a test\n\nRun: -\n", 1_700_000_000, kind)
    here.run("fsck", "--strict", "--full")
    name = b"refs/hemma/backup/one"
    told, unread = snapshot_objects.write(
        here, name, entries, [parent], b"hemma: a test\n\nRun: -\n", 1_700_000_000, size=1
    )
    assert (told, unread) == (made, [])


def test_an_object_that_is_there_is_marked_as_used_now(clone: RepositoryOnHost) -> None:
    (clone.path / "new").write_text("new\n")
    oid = clone.git("hash-object", "-w", "new")
    place = clone.path / ".git/objects" / oid[:2] / oid[2:]
    os.utime(place, (1, 1))
    snapshot.take(str(clone.path), reason="a test")
    assert time.time() - place.stat().st_mtime < 60


def test_git_that_fails_is_told_in_its_own_words(clone: RepositoryOnHost) -> None:
    (clone.path / ".git/index").write_bytes(b"no index at all, and longer than thirty-two bytes")
    with pytest.raises(store.Refused) as refused:
        snapshot.take(str(clone.path), reason="a test")
    said = str(refused.value.fields["message"])
    assert said.startswith("git status: ")
    assert "index" in said
