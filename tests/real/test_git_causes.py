"""When git on the host refuses, the cause is told and not the symptom (issue 10 G): ownership, identity, signing, locks."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.real.three_clones import ThreeClones, make_clones
from tests.support import Cli, EnvironFor


@pytest.fixture
def clones(tmp_path: Path) -> ThreeClones:
    """Origin, the laptop's clone and the host's."""
    return make_clones(tmp_path / "three")


@pytest.fixture
def cli(hemma_with: Callable[[dict[str, str]], Cli], settings_env: EnvironFor, clones: ThreeClones) -> Cli:
    """The CLI in the laptop's clone."""
    made = hemma_with(settings_env(root=clones.path("host")))
    made.folder = clones.path("local")
    return made


def _says(done: subprocess.CompletedProcess[bytes], *words: str, code: int = 1) -> None:
    said = done.stderr.decode()
    assert done.returncode == code, said
    for word in words:
        assert word in said, said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a clone to somebody else")
def test_a_clone_of_somebody_else_is_named_as_that(cli: Cli, clones: ThreeClones) -> None:
    for path in (clones.path("host"), clones.path("host") / ".git"):
        os.chown(path, 65534, 65534)
    place = str(clones.path("host"))
    remedy = f"--shell 'git config --global --add safe.directory {place}'"
    for argv in (["status"], ["sync"], ["commit", "-m", "x", "-a"]):
        # git reads nothing of it, so whether it is a clone of this one cannot be told either.
        _says(cli(*argv), "belongs to another account", remedy, code=69)


def test_a_key_to_sign_with_is_missing(cli: Cli, clones: ThreeClones) -> None:
    git = ["git", "-C", str(clones.path("host"))]
    for name, value in (("commit.gpgsign", "true"), ("gpg.format", "ssh"), ("user.signingkey", "/nowhere/key.pub")):
        subprocess.run([*git, "config", name, value], check=True)
    (clones.path("host") / "new.py").write_text("x = 1\n")
    _says(cli("commit", "-m", "x", "new.py"), "cannot: give it a key", "git config commit.gpgsign false")


def test_a_lock_that_was_left_behind_is_named(cli: Cli, clones: ThreeClones) -> None:
    (clones.path("host") / ".git" / "index.lock").write_text("")
    (clones.path("host") / "new.py").write_text("x = 1\n")
    _says(cli("commit", "-m", "x", "new.py"), "left its lock", "index.lock")
