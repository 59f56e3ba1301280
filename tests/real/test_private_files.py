"""Files and folders that decide what Hemma does: another user's, or one that others may write, is refused when it is used."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from controller.flows import drive
from manifests import ownership
from manifests.errors import NotPrivate
from remote import loopback
from remote.agent import bootstrap
from tests import second_user
from tests.second_user import needs_root
from tests.support import Cli, EnvironFor
from training.data import local_copy

CONFIG = '[hosts.there]\nssh = "there"\n'


@pytest.fixture
def cli(hemma_with: object, settings_env: EnvironFor, tmp_path: Path) -> Cli:
    """The CLI with folders of its own that exist, with a config in them."""
    environ = settings_env(state=tmp_path / "s")
    for name in ("CONFIG", "STATE", "CACHE"):
        Path(environ[f"HEMMA_{name}_DIR"]).mkdir(parents=True, mode=0o700)
    (Path(environ["HEMMA_CONFIG_DIR"]) / "config.toml").write_text(CONFIG)
    return hemma_with(environ)  # type: ignore[operator]


def refused(cli: Cli, *arguments: str) -> str:
    done = cli(*arguments)
    assert (done.returncode, b"not yours alone" in done.stderr) == (75, True), done.stderr
    return done.stderr.decode()


@needs_root
def test_a_config_of_another_user_is_refused_by_every_way_in(cli: Cli) -> None:
    config = Path(cli.environ["HEMMA_CONFIG_DIR"]) / "config.toml"
    second_user.give(config)
    for arguments in (("run", "--", "true"), ("config",), ("host", "list")):
        assert f"{config} is not yours alone: it belongs to" in refused(cli, *arguments)


def test_a_config_that_others_may_write_is_refused_and_one_they_may_read_is_not(cli: Cli) -> None:
    config = Path(cli.environ["HEMMA_CONFIG_DIR"]) / "config.toml"
    config.chmod(0o666)
    said = refused(cli, "run", "--", "true")
    assert "others may write it (mode 0666)" in said
    assert f"chmod go-rwx {config}" in said
    config.chmod(0o644)
    assert cli("run", "--", "true").returncode == 0
    config.parent.chmod(0o777)
    refused(cli, "run", "--", "true")


@needs_root
def test_a_settings_snapshot_of_another_user_is_not_believed(cli: Cli) -> None:
    assert cli("run", "--", "true").returncode == 0
    (snapshot,) = Path(cli.environ["HEMMA_CACHE_DIR"], "settings").iterdir()
    second_user.give(snapshot)
    assert str(snapshot) in refused(cli, "run", "--", "true")


@needs_root
@pytest.mark.parametrize("name", ["CONFIG", "STATE", "CACHE"])
def test_a_folder_of_another_user_holds_up_every_verb(cli: Cli, name: str) -> None:
    folder = Path(cli.environ[f"HEMMA_{name}_DIR"])
    second_user.give(folder)
    assert f"the folder {folder} is not yours alone" in refused(cli, "host", "list")
    assert cli("--version").returncode == 0


def test_a_token_that_others_may_read_is_refused() -> None:
    token = Path(drive.token_path())
    token.parent.mkdir(parents=True, exist_ok=True)
    token.write_text("{}")
    try:
        token.chmod(0o640)
        with pytest.raises(NotPrivate, match="others may read it"):
            drive.credentials()
    finally:
        token.unlink()


def test_a_loopback_host_leaves_no_folder_that_others_may_enter(tmp_path: Path) -> None:
    os.umask(0o022)
    with loopback._locked(tmp_path / "state" / "loopback" / "x"):
        pass
    folders = [tmp_path / "state", tmp_path / "state/loopback", tmp_path / "state/loopback/x"]
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in folders] == [0o700] * 3


@needs_root
def test_local_copies_of_another_user_are_not_trained_on(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"1 1 0:1 / {tmp_path}/far rw - nfs x rw\n")
    (tmp_path / "far").mkdir()
    (tmp_path / "far/data").write_text("theirs")
    scratch, said = tmp_path / "scratch", list[str]()
    copy = local_copy.local_file(tmp_path / "far/data", say=said.append, mounts=mounts, scratch=scratch)
    assert copy.is_relative_to(scratch)
    second_user.give(scratch)
    assert local_copy.local_file(tmp_path / "far/data", say=said.append, mounts=mounts, scratch=scratch) == (
        tmp_path / "far/data"
    )
    assert "not yours alone" in said[-1]


@needs_root
def test_an_agent_in_a_cache_of_another_user_is_not_started(tmp_path: Path) -> None:
    cache = tmp_path / "cache/hemma/agent"
    cache.mkdir(parents=True)
    second_user.give(cache)
    program = f"import sys; source = sys.stdin.buffer\n{Path(bootstrap.__file__).read_text()}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", program],
        input=b"0" * 64 + b" 10 null\n",
        env={"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, b"it is not yours alone" in done.stdout, b"SEND" in done.stdout) == (1, True, False)


def test_a_link_of_ours_to_a_bigger_disk_will_do(tmp_path: Path) -> None:
    (tmp_path / "big").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "big")
    assert ownership.private_dir(str(tmp_path / "link")) == str(tmp_path / "link")
    with pytest.raises(NotPrivate):
        ownership.demand_folder(str(tmp_path / "link"), may_be_link=False)
