"""A host without a way to origin: what a shallow clone cannot pass on is said, and a rollback is not undone over it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.real.three_clones import ThreeClones, make_clones
from tests.support import Cli, EnvironFor


@pytest.fixture
def clones(tmp_path: Path) -> ThreeClones:
    """Local, host, other and origin at one commit; the host cannot reach origin."""
    made = make_clones(tmp_path / "clones")
    made.git("host", "remote", "set-url", "origin", str(made.folder / "unreachable.git"))
    return made


@pytest.fixture
def cli(hemma_with: Callable[[dict[str, str]], Cli], settings_env: EnvironFor, clones: ThreeClones) -> Cli:
    """The CLI in the local clone, for the host's clone."""
    made = hemma_with(settings_env(root=clones.path("host")))
    made.folder = clones.path("local")
    return made


def test_a_shallow_clone_passes_on_what_it_has_whole_and_says_what_it_has_not(clones: ThreeClones, cli: Cli) -> None:
    shutil.rmtree(clones.path("local"))
    url = clones.path("origin").as_uri()
    clones.git("other", "clone", "-q", "--depth=1", url, str(clones.path("local")))
    whole = clones.publish("docs/b.md", "b")
    assert cli("sync").returncode == 0
    assert set(clones.heads().values()) == {whole}
    clones.publish("docs/c.md", "c")
    clones.publish("docs/d.md", "d")
    clones.git("local", "fetch", "-q", "--depth=1")  # c is behind the cut
    before = clones.heads()
    done = cli("sync", "--json")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["error"]) == (1, "shallow-clone")
    assert "its history is cut off above what the host has" in answer["message"]
    assert clones.heads() == before
    assert clones.git("host", "fsck", "--connectivity-only") == ""
    assert answer["remedy"] == "git fetch --unshallow, then hemma sync"
    clones.git("local", "fetch", "-q", "--unshallow")
    assert cli("sync").returncode == 0
    assert clones.are_in_step()
    assert clones.git("host", "rev-parse", "--is-shallow-repository") == "false"


def test_a_rollback_is_not_undone_by_a_host_that_is_cut_off(clones: ThreeClones, cli: Cli) -> None:
    # No reflog remembers what origin had: the host never asks it, and goes by what was written down at the last relay.
    clones.git("host", "config", "core.logAllRefUpdates", "false")
    clones.git("host", "reflog", "expire", "--expire=now", "--all")
    clones.publish("docs/a.md", "a")
    secret = clones.publish("src/secret.py", "s")
    assert cli("sync").returncode == 0
    clones.git("other", "reset", "-q", "--hard", "HEAD~1")
    clones.git("other", "push", "-q", "--force", "origin", "HEAD:main")
    back = clones.head("origin")
    answer = json.loads(cli("sync", "--json").stdout)
    (reason,) = answer["verdict"]["reasons"]
    assert reason["rule"] == "origin-rewritten"
    assert secret[:7] in reason["fact"]
    assert "the host's clone and the local clone" in reason["fact"]
    assert (clones.head("origin"), clones.head("host")) == (back, secret)
    assert cli("sync", "--accept", "origin-rewritten").returncode == 0
    assert set(clones.heads().values()) == {back}
    assert not clones.path("host", "src/secret.py").exists()
