"""Backups of a clone: what they hold, what they leave alone, and how little they ask for. Real git throughout."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from remote.agent import snapshot
from remote.agent.snapshot_content import Limits
from tests.support import RepositoryOnHost, make_repository, wait_until


@pytest.fixture
def clone(tmp_path: Path) -> RepositoryOnHost:
    """A clone with one commit and its origin, both this test's own."""
    return make_repository(tmp_path)


def taken(clone: RepositoryOnHost, **options: Any) -> snapshot.Snapshot:
    """A backup of the clone, which must be made."""
    made = snapshot.take(str(clone.path), reason="a test", **options)
    assert made is not None
    return made


def held(clone: RepositoryOnHost, made: snapshot.Snapshot, path: str) -> bytes:
    """The bytes that a backup has at this path of its tree."""
    argv = ["git", "-C", str(clone.path), "cat-file", "blob", f"{made.ref}:{path}"]
    return subprocess.run(argv, check=True, capture_output=True).stdout


def record(clone: RepositoryOnHost, made: snapshot.Snapshot) -> dict[str, Any]:
    """What a backup's record says."""
    return json.loads(held(clone, made, "record"))


def objects(clone: RepositoryOnHost) -> int:
    """How many objects the clone has."""
    said = clone.git("count-objects", "-v")
    return sum(int(line.split()[1]) for line in said.splitlines() if line.startswith(("count:", "in-pack:")))


def settled(clone: RepositoryOnHost) -> None:
    """Wait until no file was written so recently that its time cannot be trusted."""
    past = time.time() - 60
    for path in clone.path.rglob("*"):
        if ".git" not in path.parts and path.is_file() and not path.is_symlink():
            os.utime(path, (past, past))
    time.sleep(0.05)  # the change of time itself is a change


def test_holds_raw_bytes_of_what_git_does_not_have(clone: RepositoryOnHost) -> None:
    odd = os.fsdecode(b'a "name"\n\\ \xff')
    (clone.path / "README.md").write_bytes(b"changed\r\n\0")
    (clone.path / odd).write_bytes(b"untracked")
    (clone.path / "run.sh").write_text("#!/bin/sh\n")
    (clone.path / "run.sh").chmod(0o750)
    (clone.path / "link").symlink_to("nowhere")
    (clone.path / ".gitattributes").write_text("*.md text eol=lf\n")
    made = taken(clone)
    assert held(clone, made, "files/README.md") == b"changed\r\n\0"
    assert held(clone, made, f"files/{odd}") == b"untracked"
    assert held(clone, made, "files/link") == b"nowhere"
    listing = clone.git("ls-tree", "-r", made.ref, "files/")
    assert "100755 blob" in listing
    assert "120000 blob" in listing
    assert record(clone, made)["modes"] == {"run.sh": 0o750}


def test_holds_the_index_stashes_refs_and_what_was_deleted(clone: RepositoryOnHost) -> None:
    (clone.path / "README.md").write_text("stashed")
    clone.git("stash")
    (clone.path / "staged").write_text("as staged")
    (clone.path / "hinted").write_text("later")
    clone.git("add", "staged")
    clone.git("add", "-N", "hinted")
    (clone.path / "staged").write_text("as it lies there")
    (clone.path / "README.md").unlink()
    clone.git("tag", "-a", "v1", "-m", "one")
    made = taken(clone, run_id="r1")
    assert held(clone, made, "staged/staged") == b"as staged"
    assert held(clone, made, "files/staged") == b"as it lies there"
    told = record(clone, made)
    assert (told["deleted"], told["intended"], told["run_id"]) == (["README.md"], ["hinted"], "r1")
    assert told["head"] == {"ref": "refs/heads/main", "commit": clone.git("rev-parse", "HEAD")}
    assert [entry[0] for entry in told["stash"]] == [clone.git("rev-parse", "stash")]
    assert f"{clone.git('rev-parse', 'v1')} refs/tags/v1 " in held(clone, made, "refs").decode().splitlines()


def test_git_itself_keeps_everything_a_backup_names(clone: RepositoryOnHost) -> None:
    clone.git("checkout", "-q", "-b", "other")
    (clone.path / "only-there").write_text("x")
    clone.git("add", "-A")
    clone.git("commit", "-q", "-m", "only on other")
    clone.git("tag", "-a", "v1", "-m", "one")
    clone.git("tag", "text", clone.git("hash-object", "-w", "README.md"))
    other, tag = clone.git("rev-parse", "HEAD"), clone.git("cat-file", "tag", "v1")
    (clone.path / "README.md").write_text("stashed\n")
    clone.git("stash")
    stash = clone.git("rev-parse", "stash")
    clone.git("checkout", "-q", "main")
    made = taken(clone)
    clone.git("stash", "drop")
    clone.git("tag", "-d", "v1", "text")
    clone.git("branch", "-D", "other")
    clone.git("reflog", "expire", "--expire=now", "--all")
    clone.git("gc", "-q", "--prune=now")
    assert clone.git("cat-file", "-t", other) == "commit"
    assert clone.git("cat-file", "-t", stash) == "commit"
    assert tag in held(clone, made, "tags").decode()


def test_more_tips_than_a_commit_has_parents_are_kept_too(clone: RepositoryOnHost) -> None:
    tree = clone.git("write-tree")
    commits = [clone.git("commit-tree", "-p", "HEAD", "-m", f"tip {n}", tree) for n in range(150)]
    lines = "".join(f"create refs/heads/b{n} {commit}\n" for n, commit in enumerate(commits))
    subprocess.run(["git", "-C", str(clone.path), "update-ref", "--stdin"], input=lines, text=True, check=True)
    made = taken(clone)
    reached = set(clone.git("rev-list", made.ref).split())
    assert set(commits) < reached
    assert len(clone.git("rev-list", "--parents", "-1", made.ref).split()) < 10


def test_unchanged_clone_gets_no_second_backup_and_nothing_is_written(clone: RepositoryOnHost) -> None:
    (clone.path / "new").write_text("x")
    settled(clone)
    first = taken(clone)
    before = (objects(clone), clone.git("for-each-ref"), (clone.path / ".git/index").stat().st_mtime_ns)
    notes = (clone.path / ".git/hemma/last.json").stat().st_mtime_ns
    second = taken(clone, run_id="another")
    assert (second.ref, second.is_new) == (first.ref, False)
    assert (objects(clone), clone.git("for-each-ref"), (clone.path / ".git/index").stat().st_mtime_ns) == before
    assert (clone.path / ".git/hemma/last.json").stat().st_mtime_ns == notes


def test_touched_files_and_fresh_ones_are_no_change(clone: RepositoryOnHost) -> None:
    (clone.path / "new").write_text("x")
    first = taken(clone)
    os.utime(clone.path / "new", (1, 1))
    (clone.path / "README.md").touch()
    assert not taken(clone).is_new
    (clone.path / "new").write_text("y")  # the same size, within the same tick of the clock
    second = taken(clone)
    assert second.is_new
    assert held(clone, second, "files/new") == b"y"
    assert held(clone, first, "files/new") == b"x"


@pytest.mark.parametrize(
    "change",
    [
        ("branch", "side"),
        ("tag", "mark"),
        ("stash", "drop", "stash@{1}"),
        ("checkout", "-q", "--detach"),
        ("add", "new"),
        ("update-index", "--assume-unchanged", "README.md"),
    ],
    ids=lambda change: change[0],
)
def test_every_kind_of_change_is_seen(clone: RepositoryOnHost, change: tuple[str, ...]) -> None:
    for text in ("one", "two"):
        (clone.path / "README.md").write_text(text)
        clone.git("stash")
    (clone.path / "new").write_text("x")
    settled(clone)
    taken(clone)
    clone.git(*change)
    assert taken(clone).is_new


def test_a_file_git_was_told_not_to_look_at_is_held(clone: RepositoryOnHost) -> None:
    clone.git("update-index", "--skip-worktree", "README.md")
    (clone.path / "README.md").write_text("local only\n")
    assert held(clone, taken(clone), "files/README.md") == b"local only\n"


def test_nothing_of_the_users_runs_and_no_lock_is_taken(clone: RepositoryOnHost, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$0 $*" >> "{ran}"\ncat\n')
    program.chmod(0o755)
    hooks = clone.path / ".git/hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("post-index-change", "reference-transaction", "pre-auto-gc", "post-checkout"):
        (hooks / name).write_text(program.read_text())
        (hooks / name).chmod(0o755)
    (clone.path / ".gitattributes").write_text("*.md filter=x.y\n")
    for key in ("filter.x.y.clean", "filter.x.y.process", "core.fsmonitor", "core.pager", "gpg.program"):
        clone.git("config", key, str(program))
    clone.git("config", "log.showSignature", "true")
    clone.git("config", "alias.status", "!touch pwned")
    (clone.path / "README.md").write_text("changed\n")
    (clone.path / ".git/index.lock").touch()
    ran.unlink(missing_ok=True)
    made = taken(clone)
    assert not ran.exists()
    assert held(clone, made, "files/README.md") == b"changed\n"
    assert (clone.path / ".git/index.lock").stat().st_size == 0


def test_the_callers_git_variables_say_nothing(
    clone: RepositoryOnHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path / "other")], check=True)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "nothing"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(tmp_path / "objects"))
    made = taken(clone)
    monkeypatch.undo()
    assert clone.git("rev-parse", made.ref) == made.commit
    assert not (tmp_path / "other/.git/refs/hemma").exists()


def test_what_is_beyond_the_bounds_is_linked_or_named(clone: RepositoryOnHost) -> None:
    (clone.path / "big").write_bytes(b"b" * 3000)
    for n in range(4):
        (clone.path / f"small{n}").write_bytes(b"s" * 400)
    subprocess.run(["git", "init", "-q", str(clone.path / "inner")], check=True)
    (clone.path / "inner/file").write_text("x")
    made = taken(clone, limits=Limits(file_bytes=2000, total_bytes=1000))
    linked = {entry[0]: entry[1] for entry in record(clone, made)["linked"]}
    assert set(linked) == {"big", "small2", "small3"}
    kept = clone.path / ".git/hemma/linked" / linked["big"][:2] / linked["big"]
    assert kept.samefile(clone.path / "big")
    assert [(each.path, each.why) for each in made.left_out] == [("inner", "a repository of its own")]
    many = taken(clone, limits=Limits(files=2))
    assert many.left_out[0].why == "3 more files than the 2 of one backup"


@pytest.mark.parametrize("kind", ["unborn", "detached", "worktree", "sparse", "sha256", "conflict"])
def test_every_kind_of_clone_can_be_backed_up(clone: RepositoryOnHost, tmp_path: Path, kind: str) -> None:
    where = clone
    if kind in {"unborn", "sha256"}:
        where = RepositoryOnHost(tmp_path / "fresh", clone.origin)
        form = ["--object-format=sha256"] if kind == "sha256" else []
        subprocess.run(["git", "init", "-q", *form, str(where.path)], check=True)
        (where.path / "staged").write_text("s")
        where.git("add", "staged")
        if kind == "sha256":
            where.git("commit", "-q", "-m", "one")
    elif kind == "detached":
        clone.git("checkout", "-q", "--detach")
    elif kind == "worktree":
        clone.git("worktree", "add", "-q", str(tmp_path / "linked"))
        where = RepositoryOnHost(tmp_path / "linked", clone.origin)
    elif kind == "sparse":
        (clone.path / "far").mkdir()
        (clone.path / "far/file").write_text("x")
        clone.git("add", "-A")
        clone.git("commit", "-q", "-m", "far")
        clone.git("sparse-checkout", "set", "near")
    else:
        for branch in ("a", "b"):
            clone.git("checkout", "-q", "-B", branch, "main")
            (clone.path / "README.md").write_text(branch)
            clone.git("commit", "-q", "-am", branch)
        subprocess.run(["git", "-C", str(clone.path), "merge", "-q", "a"], capture_output=True, check=False)
    (where.path / "new").write_text("new")
    made = taken(where)
    assert made.is_new
    assert held(where, made, "files/new") == b"new"
    assert not made.left_out
    if kind == "conflict":
        assert [side[0] for side in record(clone, made)["unmerged"]["README.md"]] == [1, 2, 3]
        assert held(clone, made, "sides/2/README.md") == b"b"
        assert held(clone, made, "state/MERGE_HEAD").decode().strip() == clone.git("rev-parse", "a")


def test_backups_stay_at_home(clone: RepositoryOnHost, tmp_path: Path) -> None:
    made = taken(clone)
    taken(clone)
    assert clone.git("config", "--get-all", "transfer.hideRefs") == "refs/hemma"
    for name, argv in {"mirror": ["clone", "-q", "--mirror"], "bare": ["clone", "-q", "--bare", "--no-local"]}.items():
        subprocess.run(["git", *argv, str(clone.path), str(tmp_path / name)], check=True, capture_output=True)
        said = subprocess.run(
            ["git", "-C", str(tmp_path / name), "for-each-ref"], capture_output=True, text=True, check=True
        )
        assert "refs/heads/main" in said.stdout
        assert "refs/hemma" not in said.stdout
    assert made.ref in clone.git("for-each-ref")
    said = clone.git("push", "-q", "--porcelain", "origin", "main")
    assert (
        "hemma"
        not in said
        + subprocess.run(
            ["git", "-C", str(clone.origin), "for-each-ref"], capture_output=True, text=True, check=True
        ).stdout
    )


def test_precious_files_are_kept_once_and_only_what_was_named(clone: RepositoryOnHost) -> None:
    (clone.path / ".gitignore").write_text("*\n")
    (clone.path / ".env").write_text("KEY=1")
    for name in ("ckpt/1/model.bin", "ckpt/2/model.bin", "cache/junk"):
        (clone.path / name).parent.mkdir(parents=True, exist_ok=True)
        (clone.path / name).write_text(name)
    first = taken(clone, precious=[".env", "ckpt/**"])
    assert [entry[0] for entry in record(clone, first)["precious"]] == [".env", "ckpt/1/model.bin", "ckpt/2/model.bin"]
    kept = [path for path in (clone.path / ".git/hemma/precious").rglob("*") if path.is_file()]
    assert sorted(path.read_text() for path in kept) == ["KEY=1", "ckpt/1/model.bin", "ckpt/2/model.bin"]
    (clone.path / "new-commit").write_text("")
    clone.git("add", "-f", "new-commit")
    second = taken(clone)  # the globs of the last one hold where none are given
    assert second.is_new
    assert record(clone, second)["precious"] == record(clone, first)["precious"]
    assert len([path for path in (clone.path / ".git/hemma/precious").rglob("*") if path.is_file()]) == 3
    listing = clone.git("ls-tree", "-r", "--name-only", second.ref)
    assert ".env" not in listing


def test_a_folder_without_git_has_none(tmp_path: Path) -> None:
    assert snapshot.take(str(tmp_path), reason="x") is None
    assert not snapshot.is_due(str(tmp_path), "always")
    assert list(tmp_path.iterdir()) == []


def test_killed_while_it_writes_leaves_a_clone_as_it_was(clone: RepositoryOnHost) -> None:
    for n in range(8):
        (clone.path / f"new{n}").write_bytes(os.urandom(1 << 20))
    code = (
        "import sys, time; from remote.agent import snapshot, snapshot_objects as s; real = s._data\n"
        "def slow(content):\n"
        "    if len(content) > 1000: print('writing', flush=True); time.sleep(0.2)\n"
        "    return real(content)\n"
        "s._data = slow; snapshot.take(sys.argv[1], reason='killed')"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(clone.path)], stdout=subprocess.PIPE, cwd=_CODE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    marker = clone.path / ".git/hemma"
    wait_until(lambda: not _lives(marker), what="the end of git fast-import")
    assert clone.git("for-each-ref", "refs/hemma") == ""
    clone.git("fsck", "--strict")
    made = taken(clone)
    assert held(clone, made, "files/new7") == (clone.path / "new7").read_bytes()
    assert [path.name for path in marker.iterdir() if path.name.startswith("importing-")] == []
    assert [path.name for path in (clone.path / ".git").iterdir() if "crash" in path.name] == []


_CODE = Path(__file__).resolve().parents[2]


def _lives(marker: Path) -> bool:
    pids = [path.name.rpartition("-")[2] for path in marker.iterdir() if path.name.startswith("importing-")]
    assert pids
    return any(Path(f"/proc/{pid}").exists() for pid in pids)
