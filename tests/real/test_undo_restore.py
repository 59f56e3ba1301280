"""Undo: whatever was lost comes back as it was, byte for byte, and the undo itself can be undone. Real git throughout."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from remote.agent import backups, restore, snapshot, store
from remote.agent.snapshot_content import Limits
from tests.real.undo_states import destroy, differences, make_state, observed
from tests.support import RepositoryOnHost, make_repository

CODE = Path(__file__).resolve().parents[2]
PRECIOUS = ["*.ign", "ignored/**"]
SEEDS = range(120 if os.environ.get("HEMMA_FULL") else 14)


@pytest.fixture
def clone(tmp_path: Path) -> RepositoryOnHost:
    """A clone with one commit and its origin, both this test's own."""
    return make_repository(tmp_path)


def taken(clone: RepositoryOnHost, **options: Any) -> snapshot.Snapshot:
    """A backup of the clone, which must be made."""
    made = snapshot.take(str(clone.path), reason="a test", precious=PRECIOUS, **options)
    assert made is not None
    return made


@pytest.mark.parametrize("seed", SEEDS)
def test_any_state_comes_back_from_any_loss(clone: RepositoryOnHost, seed: int) -> None:
    chance = random.Random(seed)
    make_state(clone, chance)
    then = observed(clone.path)
    made = taken(clone)
    assert not made.left_out
    done = [destroy(clone.path, chance) for _ in range(chance.randrange(1, 6))]
    lost = observed(clone.path)
    outside = {path.name: path.stat().st_mtime_ns for path in clone.path.parent.iterdir() if path != clone.path}
    back = restore.restore(str(clone.path), made.ref)
    now = observed(clone.path)
    assert differences(then, now) == {}, done
    assert {path.name: path.stat().st_mtime_ns for path in clone.path.parent.iterdir() if path != clone.path} == outside
    assert not [each for each in back.missing if each.path]
    assert restore.restore(str(clone.path), made.ref, dry_run=True).is_empty()
    assert back.saved is not None
    restore.restore(str(clone.path), back.saved)
    again = observed(clone.path)
    assert differences(lost, again) == {}, done
    clone.git("fsck", "--strict")


def test_what_stands_in_the_way_is_moved_aside_and_nothing_is_written_through_a_link(
    clone: RepositoryOnHost, tmp_path: Path
) -> None:
    (clone.path / "dir").mkdir()
    (clone.path / "dir/file").write_text("mine")
    (clone.path / "plain").write_text("plain")
    made = taken(clone)
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.rmtree(clone.path / "dir")
    (clone.path / "dir").symlink_to(outside)
    (clone.path / "plain").unlink()
    (clone.path / "plain").mkdir()
    (clone.path / "plain/new").write_text("made since")
    back = restore.restore(str(clone.path), made.ref)
    assert (clone.path / "dir/file").read_text() == "mine"
    assert (clone.path / "plain").read_text() == "plain"
    assert list(outside.iterdir()) == []
    aside = dict(back.moved)
    assert (clone.path / aside["plain"] / "new").read_text() == "made since"
    assert (clone.path / aside["dir"]).is_symlink()


def test_big_and_precious_files_come_back_and_one_written_into_is_said(clone: RepositoryOnHost) -> None:
    (clone.path / ".gitignore").write_text("*.ign\n")
    (clone.path / "big").write_bytes(b"b" * 5000)
    (clone.path / "spoiled").write_bytes(b"s" * 5000)
    (clone.path / "key.ign").write_text("secret")
    (clone.path / "key.ign").chmod(0o600)
    made = taken(clone, limits=Limits(file_bytes=4000))
    (clone.path / "big").unlink()
    with (clone.path / "spoiled").open("r+b") as file:
        file.write(b"into the same file")
    (clone.path / "key.ign").write_text("another")
    back = restore.restore(str(clone.path), made.ref)
    assert (clone.path / "big").read_bytes() == b"b" * 5000
    assert (clone.path / "key.ign").read_text() == "secret"
    assert (clone.path / "key.ign").stat().st_mode & 0o777 == 0o600
    assert [(each.path, each.why) for each in back.missing] == [
        ("spoiled", "it was kept as a link, and something wrote into it since")
    ]
    assert back.saved is not None
    restore.restore(str(clone.path), back.saved, ["key.ign"])
    assert (clone.path / "key.ign").read_text() == "another"


def test_an_ignored_file_is_found_in_a_later_backup_that_was_about_to_lose_it(clone: RepositoryOnHost) -> None:
    (clone.path / ".gitignore").write_text("*.log\n")
    (clone.path / "run.log").write_text("old")
    made = snapshot.take(str(clone.path), reason="before a run")
    assert made is not None
    for text in ("old", "new"):
        (clone.path / "run.log").write_text(text)
        snapshot.take(str(clone.path), reason="git clean", extra=["run.log"])
    (clone.path / "run.log").unlink()
    restore.restore(str(clone.path), made.ref)
    assert (clone.path / "run.log").read_text() == "old"


def test_a_file_that_was_ignored_then_is_found_where_a_later_backup_saw_it(clone: RepositoryOnHost) -> None:
    (clone.path / ".gitignore").write_text("*.log\n")
    (clone.path / "run.log").write_text("old")
    made = taken(clone)
    time.sleep(0.1)
    (clone.path / ".gitignore").write_text("")
    (clone.path / "made-since").write_text("new")
    taken(clone)  # as before a `git stash`
    clone.git("stash", "-q", "-u")
    clone.git("stash", "drop", "-q")
    restore.restore(str(clone.path), made.ref)
    assert (clone.path / "run.log").read_text() == "old"
    assert (clone.path / ".gitignore").read_text() == "*.log\n"
    assert not (clone.path / "made-since").exists()


def test_another_git_at_work_is_waited_for_by_refusing(clone: RepositoryOnHost) -> None:
    made = taken(clone)
    (clone.path / "README.md").unlink()
    (clone.path / ".git/index.lock").touch()
    with pytest.raises(store.Refused, match="at work") as refused:
        restore.restore(str(clone.path), made.ref)
    assert refused.value.fields["exit_code"] == 75
    assert not (clone.path / "README.md").exists()
    assert len(clone.git("for-each-ref", "refs/hemma/backup").splitlines()) == 1


def test_a_branch_of_another_work_tree_and_what_origin_has_stay(clone: RepositoryOnHost, tmp_path: Path) -> None:
    clone.git("branch", "side")
    made = taken(clone)
    clone.git("worktree", "add", "-q", str(tmp_path / "linked"), "side")
    clone.git("-C", str(tmp_path / "linked"), "commit", "-q", "--allow-empty", "-m", "there")
    clone.git("commit", "-q", "--allow-empty", "-m", "here")
    clone.git("push", "-q")
    there, pushed = clone.git("rev-parse", "side"), clone.git("rev-parse", "origin/main")
    back = restore.restore(str(clone.path), made.ref)
    assert [each.why for each in back.missing] == ["another work tree has it checked out"]
    assert (clone.git("rev-parse", "side"), clone.git("rev-parse", "origin/main")) == (there, pushed)
    assert clone.git("rev-parse", "main") != pushed


def test_settings_of_a_deleted_branch_come_back(clone: RepositoryOnHost) -> None:
    clone.git("checkout", "-q", "-b", "side", "--track", "origin/main")
    clone.git("checkout", "-q", "main")
    made = taken(clone)
    clone.git("branch", "-D", "side")
    clone.git("config", "user.name", "Somebody since")
    restore.restore(str(clone.path), made.ref)
    assert clone.git("config", "branch.side.merge") == "refs/heads/main"
    assert clone.git("config", "user.name") == "Somebody since"


@pytest.mark.parametrize("at", range(1, 13))
def test_killed_at_any_step_it_is_completed_by_another_undo(clone: RepositoryOnHost, at: int) -> None:
    chance = random.Random(at)
    make_state(clone, chance)
    then = observed(clone.path)
    made = taken(clone)
    clone.git("checkout", "-q", "-f", "--orphan", "lost")
    clone.git("rm", "-q", "-r", "-f", ".")
    clone.git("clean", "-q", "-fdx")
    lost = observed(clone.path)
    code = (
        "import os, signal, sys; from remote.agent import restore, restore_work as w\n"
        "left = [int(sys.argv[3])]\n"
        "def step(real):\n"
        "    def stepped(*a, **k):\n"
        "        left[0] -= 1\n"
        "        if not left[0]: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return real(*a, **k)\n"
        "    return stepped\n"
        "for n in ('_move_refs', '_move_head', '_stash', '_check_out', '_write', '_remove', '_beside', '_index', '_clear_way'):\n"
        "    setattr(w.Worker, n, step(getattr(w.Worker, n)))\n"
        "w._take_place = step(w._take_place)\n"
        "restore.restore(sys.argv[1], sys.argv[2])\n"
    )
    argv = [sys.executable, "-c", code, str(clone.path), made.ref, str(at)]
    killed = subprocess.run(argv, cwd=CODE, capture_output=True, check=False)
    assert killed.returncode in {-9, 0}, killed.stderr
    clone.git("status")
    saved = clone.git("for-each-ref", "--sort=-refname", "--format=%(refname)", "refs/hemma/backup").split()[0]
    restore.restore(str(clone.path), made.ref)
    assert differences(then, observed(clone.path)) == {}
    restore.restore(str(clone.path), saved)
    assert differences(lost, observed(clone.path)) == {}


def test_old_backups_go_and_git_keeps_what_is_still_named(clone: RepositoryOnHost) -> None:
    made: list[snapshot.Snapshot] = []
    works = [os.urandom(9000) for _ in range(3)]
    for work in works:
        (clone.path / "work").write_bytes(work)
        made.append(taken(clone))
    blob = clone.git("rev-parse", f"{made[0].ref}:files/work")
    assert backups.prune(str(clone.path)).removed == []
    pruned = backups.prune(str(clone.path), keep_bytes=25_000)
    assert pruned.removed == [made[0].ref]
    assert [each.ref for each in backups.backups(str(clone.path))] == [made[2].ref, made[1].ref]
    clone.git("gc", "-q", "--prune=now")
    assert subprocess.run(["git", "cat-file", "-e", blob], cwd=clone.path, check=False).returncode != 0
    clone.git("fsck", "--strict")
    assert backups.prune(str(clone.path), keep_days=0).kept == 1
    restore.restore(str(clone.path), made[2].ref)
    assert (clone.path / "work").read_bytes() == works[2]


def test_a_sparse_checkout_made_since_ends_with_the_undo(clone: RepositoryOnHost) -> None:
    (clone.path / "far").mkdir()
    (clone.path / "far/file").write_text("far")
    clone.git("add", ".")
    clone.git("commit", "-qm", "far")
    (clone.path / "near").write_text("mine")
    then = observed(clone.path)
    made = taken(clone)
    clone.git("sparse-checkout", "set", "nothing-here")
    assert not (clone.path / "far/file").exists()
    restore.restore(str(clone.path), made.ref)
    assert differences(then, observed(clone.path)) == {}
    clone.git("checkout", "-q", "--detach")  # takes it away again where the checkout is still a sparse one
    assert (clone.path / "far/file").read_text() == "far"


def test_a_sparse_checkout_of_before_stays_one(clone: RepositoryOnHost) -> None:
    (clone.path / "far").mkdir()
    (clone.path / "far/file").write_text("far")
    clone.git("add", ".")
    clone.git("commit", "-qm", "far")
    clone.git("sparse-checkout", "set", "nothing-here")
    (clone.path / "mine").write_text("mine")
    then = observed(clone.path)
    made = taken(clone)
    (clone.path / "mine").unlink()
    restore.restore(str(clone.path), made.ref)
    assert differences(then, observed(clone.path)) == {}
    assert not (clone.path / "far").exists()


def test_a_hidden_change_is_kept_where_a_sparse_checkout_was_given_up(clone: RepositoryOnHost) -> None:
    (clone.path / "settings").write_text("theirs")
    clone.git("add", ".")
    clone.git("commit", "-qm", "settings")
    clone.git("sparse-checkout", "set", "nothing-here")
    clone.git("sparse-checkout", "disable")
    clone.git("update-index", "--skip-worktree", "settings")
    (clone.path / "settings").write_text("mine")
    made = taken(clone)
    clone.git("update-index", "--no-skip-worktree", "settings")
    clone.git("checkout", "--", "settings")
    restore.restore(str(clone.path), made.ref)
    assert (clone.path / "settings").read_text() == "mine"


def test_a_lost_branch_of_another_work_tree_comes_back(clone: RepositoryOnHost, tmp_path: Path) -> None:
    clone.git("worktree", "add", "-q", "-b", "beside", str(tmp_path / "beside"))
    then = clone.git("rev-parse", "beside")
    made = taken(clone)
    clone.git("update-ref", "-d", "refs/heads/beside")
    back = restore.restore(str(clone.path), made.ref)
    assert clone.git("rev-parse", "refs/heads/beside") == then
    assert not back.missing
