"""`hemma put` and `hemma get` against a real host: byte-exact, whole or not at all, nothing that was there is lost."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from remote.loopback import LoopbackHost
from tests.real.chaos_proxy import ChaosProxy
from tests.support import WEIRD_NAMES, Cli, EnvironFor, RepositoryOnHost, end_brokers, make_repository

Make = Callable[[dict[str, str]], Cli]
BINARY = bytes(range(256)) * 40 + b"\r\n\x00\xff"
NAMES = {**WEIRD_NAMES, "not-utf8": os.fsdecode(b"caf\xe9 \xff"), "long": "x" * 250, "option": "--json"}


@pytest.fixture
def clone(tmp_path: Path) -> RepositoryOnHost:
    """A clone on the host that the test may change."""
    (tmp_path / "on-host").mkdir()
    return make_repository(tmp_path / "on-host")


@pytest.fixture
def cli(hemma_with: Make, settings_env: EnvironFor, clone: RepositoryOnHost, tmp_path: Path) -> Cli:
    """The CLI for that clone, started in a folder that is no clone."""
    (tmp_path / "here").mkdir()
    made = hemma_with(settings_env(root=clone.path, state=tmp_path / "hemma"))
    made.folder = tmp_path / "here"
    return made


@pytest.fixture(scope="module")
def shared(settings_env: EnvironFor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """The CLI for a clone that several tests fill, each under a name of its own."""
    folder = tmp_path_factory.mktemp("shared")
    made = Cli(settings_env(root=make_repository(folder).path, state=folder / "hemma"), folder)
    yield made
    end_brokers(folder / "hemma/state")


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` but git's own, with its bytes."""
    paths = [path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def incoming(cli: Cli) -> list[str]:
    """What is left of uploads on the host."""
    folder = Path(cli.environ["HEMMA_HOST_STATE_DIR"]) / "incoming"
    return os.listdir(folder) if folder.exists() else []


def moved(done: subprocess.CompletedProcess[bytes]) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


# --- bytes and names -------------------------------------------------------------------------------------------------


@pytest.mark.req("S9-R02")
@pytest.mark.parametrize("name", list(NAMES.values()), ids=list(NAMES))
def test_any_bytes_under_any_name_arrive_and_come_back_the_same(shared: Cli, tmp_path: Path, name: str) -> None:
    (tmp_path / "in").write_bytes(BINARY)
    (report,) = moved(shared("put", "--json", "--", "in", name, cwd=tmp_path))
    assert Path(shared.environ["HEMMA_ROOT"], name).read_bytes() == BINARY
    assert (report["is_new"], report["digest"]) == (True, hashlib.sha256(BINARY).hexdigest())
    assert report["path"].encode("utf-8", "surrogateescape") == os.fsencode(name)
    moved(shared("get", "--json", "--", name, "out", cwd=tmp_path))
    assert (tmp_path / "out").read_bytes() == BINARY


def test_an_empty_file_is_a_file(cli: Cli, clone: RepositoryOnHost) -> None:
    (cli.folder / "empty").touch()
    moved(cli("put", "--json", "empty", "there"))
    assert (clone.path / "there").read_bytes() == b""
    moved(cli("get", "--json", "there", "back"))
    assert (cli.folder / "back").read_bytes() == b""


def test_several_files_go_into_a_folder_and_nowhere_else(cli: Cli, clone: RepositoryOnHost) -> None:
    for name in ("a", "b"):
        (cli.folder / name).write_text(name)
    refused = cli("put", "a", "b", "nowhere")
    assert refused.returncode == 2
    assert b"is no folder on the host" in refused.stderr
    assert cli("put", "a", "b", "nowhere/").returncode == 1
    assert set(tree(clone.path)) == {"README.md"}
    assert cli("put", "--parents", "a", "b", "new/deep/").returncode == 0
    assert tree(clone.path / "new/deep") == {"a": b"a", "b": b"b"}
    assert cli("get", "new/deep/a", "new/deep/b", ".").returncode == 0
    assert cli("get", "new/deep/a", "new/deep/b", "c").returncode == 2


def test_in_a_local_clone_paths_are_as_seen_from_where_one_stands(
    cli: Cli, clone: RepositoryOnHost, tmp_path: Path
) -> None:
    local = tmp_path / "local"
    subprocess.run(["git", "clone", "-q", str(clone.origin), str(local)], check=True)
    (local / "src/data").mkdir(parents=True)
    (local / "src/data/new.py").write_text("x = 1\n")
    (report,) = moved(cli("put", "--json", "data/new.py", cwd=local / "src"))
    assert report["path"] == "src/data/new.py"
    (clone.path / "src/data/new.py").write_text("x = 2\n")
    moved(cli("get", "--json", "new.py", cwd=local / "src/data"))
    assert (local / "src/data/new.py").read_text() == "x = 2\n"
    moved(cli("put", "--json", str(local / "README.md"), "../docs.txt", cwd=local / "src"))
    assert (clone.path / "docs.txt").read_text() == "# A project\n"
    outside = cli("put", "../../here/x", cwd=local / "src")
    assert outside.returncode == 2


def test_nothing_is_got_through_a_link_out_of_the_clone_or_the_folder(
    cli: Cli, clone: RepositoryOnHost, tmp_path: Path
) -> None:
    local, outside = tmp_path / "local", tmp_path / "outside"
    subprocess.run(["git", "clone", "-q", str(clone.origin), str(local)], check=True)
    outside.mkdir()
    (outside / "README.md").write_text("mine\n")
    (clone.path / "sub").mkdir()
    for name in ("README.md", "sub/README.md", "new"):
        (clone.path / name).write_text("theirs\n")
    (local / "README.md").unlink()
    (local / "README.md").symlink_to(outside / "README.md")
    (local / "sub").symlink_to(outside)
    (local / "new").symlink_to(outside / "new")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/README.md").symlink_to(outside / "README.md")
    for words in (("README.md",), ("sub/README.md",), ("new",), ("README.md", "sub/x"), ("README.md", "../folder")):
        refused = cli("get", *words, cwd=local)
        assert (refused.returncode, b"leads through a link to" in refused.stderr) == (2, True), words
    assert tree(outside) == {"README.md": b"mine\n"}
    # What was named as it is, outside of the clone, is what was asked for; and so is a link within the clone.
    assert cli("get", "README.md", str(outside / "got"), cwd=local).returncode == 0
    (local / "there").symlink_to("got-here")
    assert cli("get", "new", "there", cwd=local).returncode == 0
    assert (local / "got-here").read_text() == "theirs\n"


# --- what is there already -------------------------------------------------------------------------------------------


def test_what_is_replaced_keeps_its_mode_and_is_itself_kept(cli: Cli, clone: RepositoryOnHost) -> None:
    there, here = clone.path / "run.sh", cli.folder / "run.sh"
    there.write_text("old\n")
    there.chmod(0o750)
    here.write_text("new\n")
    (report,) = moved(cli("put", "--json", "run.sh", "run.sh"))
    assert (there.read_text(), there.stat().st_mode & 0o7777) == ("new\n", 0o750)
    assert Path(report["kept"]).read_text() == "old\n"
    there.write_text("newer\n")
    (report,) = moved(cli("get", "--json", "run.sh", "run.sh"))
    assert here.read_text() == "newer\n"
    assert Path(report["kept"]).read_text() == "new\n"
    assert Path(report["kept"]).parent.stat().st_mode & 0o077 == 0


def test_a_new_file_is_executable_where_it_was(cli: Cli, clone: RepositoryOnHost) -> None:
    (cli.folder / "tool").write_text("#!/bin/sh\n")
    (cli.folder / "tool").chmod(0o755)
    assert cli("put", "tool", "tool").stderr == b""
    assert (clone.path / "tool").stat().st_mode & 0o111
    cli("get", "tool", "back")
    assert (cli.folder / "back").stat().st_mode & 0o111


def test_the_same_bytes_again_touch_nothing(cli: Cli, clone: RepositoryOnHost) -> None:
    before = (clone.path / "README.md").stat()
    (cli.folder / "same").write_bytes((clone.path / "README.md").read_bytes())
    (report,) = moved(cli("put", "--json", "same", "README.md"))
    assert (report["is_changed"], report["kept"]) == (False, None)
    assert (clone.path / "README.md").stat() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")
def test_owner_group_and_times_are_those_of_a_file_written_in_place(cli: Cli, clone: RepositoryOnHost) -> None:
    there = clone.path / "theirs"
    there.write_text("old")
    os.chown(there, 12345, 23456)
    there.chmod(0o664)
    os.utime(there, (1, 1))
    (cli.folder / "new").write_text("new")
    moved(cli("put", "--json", "new", "theirs"))
    facts = there.stat()
    assert (facts.st_uid, facts.st_gid, facts.st_mode & 0o7777) == (12345, 23456, 0o664)
    assert facts.st_mtime > 1_000_000


# --- what is refused -------------------------------------------------------------------------------------------------


def test_links_are_followed_inside_the_repository_and_never_out_of_it(
    cli: Cli, clone: RepositoryOnHost, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("mine")
    (clone.path / "out").symlink_to(secret)
    (clone.path / "away").symlink_to(tmp_path)
    (clone.path / "in").symlink_to("README.md")
    (cli.folder / "new").write_text("new\n")
    for path in ("out", "away/secret", "../../secret", str(secret), "src/../../x"):
        for words in (("put", "new", path), ("get", path, "got")):
            done = cli(*words)
            assert done.returncode == 2, (words, done.stderr)
            assert b"outside the repository" in done.stderr
    assert secret.read_text() == "mine"
    assert not (cli.folder / "got").exists()
    moved(cli("put", "--json", "new", "in"))
    assert (clone.path / "in").is_symlink()
    assert (clone.path / "README.md").read_text() == "new\n"


def test_gits_own_files_folders_and_missing_ones_are_refused(cli: Cli, clone: RepositoryOnHost) -> None:
    (cli.folder / "new").write_text("new\n")
    (clone.path / "folder").mkdir()
    os.mkfifo(clone.path / "pipe")
    assert b"belongs to git" in cli("put", "new", ".git/hooks/pre-commit").stderr
    assert b"belongs to git" in cli("put", "new", ".GIT/config").stderr
    for words, code, said in (
        (("get", "folder", "x"), 2, b"is a folder"),
        (("get", "none", "x"), 1, b"does not exist on the host"),
        (("get", "pipe", "x"), 2, b"no ordinary file"),
        (("put", "new", "pipe"), 2, b"no ordinary file"),
        (("put", "none", "x"), 2, b"does not exist here"),
        (("put", ".", "x"), 2, b"is a folder"),
        (("put", "new", "README.md/x"), 1, b"cannot be written"),
        (("put", "new", "no/folder"), 1, b"--parents"),
        (("get", "README.md", "no/folder"), 1, b"cannot be written"),
        (("get", "a\0b".replace("\0", "\x01"), "x"), 1, b"does not exist"),
    ):
        done = cli(*words)
        assert (done.returncode, said in done.stderr) == (code, True), (words, done.stderr)
    assert not (cli.folder / "x").exists()


def test_a_wrong_root_has_the_guards_exit_codes(
    hemma_with: Make, settings_env: EnvironFor, clone: RepositoryOnHost, tmp_path: Path
) -> None:
    (clone.path / "sub").mkdir()
    for root, code in ((tmp_path / "none", 66), (tmp_path, 67), (clone.path / "sub", 68)):
        cli = hemma_with(settings_env(root=root, state=tmp_path / "hemma"))
        assert cli("get", "--json", "README.md", "x").returncode == code


# --- big files, links that break, disks that are full ----------------------------------------------------------------


def big_file(path: Path, size: int) -> str:
    """A file of random bytes, no two parts alike; returns its digest."""
    seed, seen = os.urandom(1 << 20), hashlib.sha256()
    with path.open("wb") as file:
        for number in range(size >> 20):
            piece = number.to_bytes(8, "big") + seed[8:]
            seen.update(piece)
            file.write(piece)
    return seen.hexdigest()


@pytest.mark.req("S9-R13")
def test_200_mb_go_there_and_back_in_parts(cli: Cli, clone: RepositoryOnHost) -> None:
    digest = big_file(cli.folder / "big", 200 << 20)
    (report,) = moved(cli("put", "--json", "big", "big"))
    assert (report["digest"], report["size"]) == (digest, 200 << 20)
    (report,) = moved(cli("put", "--json", "big", "big"))
    assert not report["is_changed"]
    (report,) = moved(cli("get", "--json", "big", "back"))
    assert hashlib.sha256((cli.folder / "back").read_bytes()).hexdigest() == digest
    assert incoming(cli) == []
    assert set(os.listdir(clone.path)) == {".git", "README.md", "big"}
    for name in ("big", "back"):
        (cli.folder / name).unlink()


def test_a_link_that_breaks_within_a_transfer_costs_nothing(
    hemma_with: Make, settings_env: EnvironFor, sshd: LoopbackHost, clone: RepositoryOnHost, tmp_path: Path
) -> None:
    with ChaosProxy(sshd.port) as proxy:
        environ = settings_env(
            root=clone.path, ssh_config=proxy.ssh_config_for(sshd), state=tmp_path / "hemma", HEMMA_KEEPALIVE_S="2"
        )
        cli = hemma_with(environ)
        digest = big_file(tmp_path / "big", 24 << 20)
        child = cli.start("put", "--json", "big", "big")
        proxy.wait_for(lambda _: bool(incoming(cli)))
        assert proxy.cut()
        out, err = child.communicate(timeout=60)
        assert child.returncode == 0, err.decode()
        assert json.loads(out)[0]["digest"] == digest
        proxy.drop_after(9 << 20)
        (report,) = moved(cli("get", "--json", "big", "back"))
        assert report["digest"] == digest == hashlib.sha256((tmp_path / "back").read_bytes()).hexdigest()
        assert proxy.cuts >= 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MiB on the host."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("state_is_full_too", [False, True], ids=["repository", "state"])
def test_a_full_disk_leaves_everything_as_it_was(
    hemma_with: Make, settings_env: EnvironFor, small_disk: Path, tmp_path: Path, state_is_full_too: bool
) -> None:
    on_host = make_repository(small_disk)
    state = small_disk / "state" if state_is_full_too else tmp_path / "state"
    environ = settings_env(root=on_host.path, state=tmp_path / "hemma", HEMMA_HOST_STATE_DIR=str(state))
    cli = hemma_with(environ)
    assert cli("run", "--", "true").returncode == 0
    before = tree(on_host.path)
    big_file(tmp_path / "big", 40 << 20)
    announced = cli("put", "big", "big")
    assert announced.returncode == 255, announced.stderr
    assert b"no room" in announced.stderr
    room = shutil.disk_usage(small_disk).free
    (small_disk / "filler").write_bytes(b"x" * (room - (1 << 20)))
    (tmp_path / "medium").write_bytes(os.urandom(3 << 20))
    for path in ("README.md", "new/medium"):
        full = cli("put", "--parents", "medium", path)
        assert full.returncode == 255, full.stderr
        assert b"nothing was written" in full.stderr
    assert tree(on_host.path) == before
    assert not (on_host.path / "new").exists()
    assert not [name for name in os.listdir(on_host.path) if name.startswith(".hemma")]
    assert incoming(cli) == []
    (small_disk / "filler").unlink()
    assert cli("put", "medium", "medium").returncode == 0


def test_a_full_disk_here_leaves_nothing_half_written(cli: Cli, clone: RepositoryOnHost, small_disk: Path) -> None:
    big_file(clone.path / "big", 30 << 20)
    full = cli("get", "big", small_disk / "big")
    assert full.returncode == 1
    assert b"cannot be written" in full.stderr
    assert os.listdir(small_disk) == []


def test_a_path_of_the_local_lane_gets_a_note(cli: Cli, clone: RepositoryOnHost) -> None:
    (cli.folder / "guide.md").write_text("# Guide\n")
    done = cli("put", "--parents", "guide.md", "docs/guide.md")
    assert done.returncode == 0
    assert b"local lane" in done.stderr
    assert cli("put", "guide.md", "train.py").stderr == b""
