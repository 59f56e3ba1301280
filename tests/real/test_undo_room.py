"""What backups take on a disk stays within its bound, and giving room back takes nothing of anybody else."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from remote.agent import backup_room, backups, restore, snapshot
from remote.agent.backup_clone import Clone
from remote.agent.snapshot_content import Limits
from remote.repository import LocalRepository
from tests.support import RepositoryOnHost, make_repository

_MB = 1 << 20


@pytest.fixture
def clone(tmp_path: Path) -> RepositoryOnHost:
    """A clone with one commit and its origin, both this test's own."""
    return make_repository(tmp_path)


def taken(clone: RepositoryOnHost, limits: Limits = snapshot.DEFAULT_LIMITS) -> snapshot.Snapshot:
    """A backup of the clone, which must be made."""
    made = snapshot.take(str(clone.path), reason="a test", limits=limits)
    assert made is not None
    return made


def disk_bytes(*folders: Path) -> int:
    """What these folders take on the disk that nothing else has."""
    found = [os.lstat(path) for folder in folders for path in folder.rglob("*") if path.is_file()]
    return sum(each.st_blocks * 512 for each in found if each.st_nlink == 1)


def aged(clone: RepositoryOnHost) -> None:
    """Make every object and kept file look old enough to go."""
    past = time.time() - 7200
    for path in (clone.path / ".git/objects").rglob("*"):
        if path.is_file():
            os.utime(path, (past, past))


@pytest.mark.parametrize("size", [_MB, 6 * _MB])  # loose objects, and a pack for each
def test_the_bound_holds_for_the_disk(clone: RepositoryOnHost, size: int) -> None:
    before = disk_bytes(clone.path / ".git/objects")
    made: list[snapshot.Snapshot] = []
    shared = os.urandom(size // 4)
    for number in range(6):
        (clone.path / "data").write_bytes(os.urandom(size))
        (clone.path / f"kept{number}").write_bytes(shared)
        made.append(taken(clone))
    (clone.path / "committed").write_bytes((clone.path / "data").read_bytes())
    clone.git("add", "committed")
    clone.git("commit", "-q", "-m", "the same bytes, committed")
    (clone.path / "data").write_bytes(b"small")
    last = taken(clone)
    assert int(str(backups.summary(str(clone.path))["disk_bytes"])) >= 6 * size
    aged(clone)
    bound = 3 * size
    pruned = backups.prune(str(clone.path), keep_bytes=bound)
    assert made[0].ref in pruned.removed
    assert last.ref not in pruned.removed
    assert pruned.kept_bytes <= bound
    # What a commit of the user's holds too is not of the backups; the rest of the folder is within the bound.
    assert disk_bytes(clone.path / ".git/objects") - before - size <= bound + _MB // 4
    clone.git("fsck", "--strict", "--full")
    assert clone.git("cat-file", "-s", "HEAD:committed") == str(size)
    kept = next(each for each in made if each.ref not in pruned.removed)
    restore.restore(str(clone.path), kept.ref)
    assert (clone.path / "data").stat().st_size == size
    assert (clone.path / "kept0").read_bytes() == shared
    assert abs(int(str(backups.summary(str(clone.path))["disk_bytes"])) - pruned.kept_bytes) < 2 * size


def test_a_linked_file_counts_when_the_clone_has_it_no_longer(
    clone: RepositoryOnHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backups, "_FRESH_S", 0.0)
    limits = Limits(file_bytes=1000)
    here = Clone.at(str(clone.path))
    assert here is not None
    for number in range(4):
        staged = clone.path / "checkpoint.new"
        staged.write_bytes(os.urandom(_MB))
        staged.rename(clone.path / "checkpoint")
        taken(clone, limits)
        assert backup_room.stored_bytes(here) <= number * _MB + 8192
    assert backup_room.stored_bytes(here) >= 3 * _MB
    assert backup_room.is_due(here, 16 * _MB)
    backups.prune(str(clone.path), keep_bytes=2 * _MB)
    assert backup_room.stored_bytes(here) <= 2 * _MB
    assert not backup_room.is_due(here, 16 * _MB)
    (clone.path / "checkpoint").unlink()
    backups.prune(str(clone.path), keep_bytes=0)
    assert len(backups.backups(str(clone.path))) == 1
    restore.restore(str(clone.path), backups.backups(str(clone.path))[0].ref)
    assert (clone.path / "checkpoint").stat().st_size == _MB


def test_a_sync_forgets_old_backups_of_a_clone_without_runs(clone: RepositoryOnHost) -> None:
    repository = LocalRepository(str(clone.path))
    refs: list[str] = []
    for text in ("one", "two"):
        (clone.path / "work").write_text(text)
        refs.append(repository.backup("before sync")["ref"])
    (clone.path / "work").write_text("three")
    last = repository.backup("before sync", {"keep_days": 0.0, "keep_gb": 1.0})["ref"]
    assert [each.ref for each in backups.backups(str(clone.path))] == [last]
    assert last not in refs


def test_objects_written_a_moment_ago_wait_for_the_next_time(clone: RepositoryOnHost) -> None:
    (clone.path / "data").write_bytes(os.urandom(_MB))
    first = taken(clone)
    blob = clone.git("rev-parse", f"{first.ref}:files/data")
    (clone.path / "data").write_bytes(b"small")
    taken(clone)
    assert backups.prune(str(clone.path), keep_bytes=_MB // 2).removed == [first.ref]
    assert clone.git("cat-file", "-t", blob) == "blob"
    aged(clone)
    backups.prune(str(clone.path))
    assert blob not in clone.git("cat-file", "--batch-check", "--batch-all-objects")


def test_what_a_reflog_or_the_index_reaches_stays(clone: RepositoryOnHost) -> None:
    content = os.urandom(_MB)
    (clone.path / "staged").write_bytes(content)
    (clone.path / "undone").write_bytes(content[::-1])
    first = taken(clone)
    clone.git("add", "undone")
    clone.git("commit", "-q", "-m", "undone")
    clone.git("reset", "-q", "--hard", "HEAD~1")
    clone.git("add", "staged")
    (clone.path / "staged").write_bytes(b"small")
    taken(clone)
    aged(clone)
    assert first.ref in backups.prune(str(clone.path), keep_bytes=0).removed
    assert clone.git("cat-file", "-s", ":staged") == str(_MB)
    assert clone.git("cat-file", "-s", "HEAD@{1}:undone") == str(_MB)
