"""`hemma push`: where the host's settings say, as a sync reads them, with what origin's hooks and git's progress say."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from controller.flows import push as flow
from controller.flows.git_on_host import GitFailed
from tests.real.slow_origin import SlowOrigin
from tests.real.test_run_terminal import Terminal
from tests.real.three_clones import HostHere, ThreeClones, make_clones
from tests.support import Cli, EnvironFor


@pytest.fixture
def clones(tmp_path: Path) -> ThreeClones:
    """Local, host, other and origin at one commit, and a fork."""
    made = make_clones(tmp_path / "clones")
    subprocess.run(["git", "init", "-q", "--bare", str(made.folder / "fork.git")], check=True)
    made.git("host", "remote", "add", "fork", str(made.folder / "fork.git"))
    return made


@pytest.fixture
def push(clones: ThreeClones, monkeypatch: pytest.MonkeyPatch) -> Callable[[], flow.Pushed]:
    """A push of the host's clone, asked without a wire."""
    monkeypatch.setattr("remote.repository.Host", HostHere)
    spec = {"root": str(clones.path("host")), "state_dir": str(clones.folder / "on-host")}
    return lambda: flow.push({"host": spec})


def fork_has(clones: ThreeClones) -> list[str]:
    """The fork's branches, each with its commit."""
    asked = ["git", "-C", str(clones.folder / "fork.git"), "for-each-ref", "--format=%(refname:short) %(objectname)"]
    return subprocess.run(asked, capture_output=True, check=True, text=True).stdout.splitlines()


@pytest.mark.parametrize("key", ["remote.pushDefault", "branch.main.pushRemote"])
def test_it_goes_where_the_settings_push(clones: ThreeClones, push: Callable[[], flow.Pushed], key: str) -> None:
    clones.git("host", "config", key, "fork")
    before, commit = clones.head("origin"), clones.commit("host", "src/h.py", "h")
    done = push()
    assert (done.remote, done.is_changed, done.url) == ("fork", True, None)
    assert fork_has(clones) == [f"main {commit}"]
    assert clones.head("origin") == before
    assert clones.git("host", "config", "branch.main.remote") == "origin"


def test_a_branch_that_only_goes_to_a_fork_does_not_follow_it(
    clones: ThreeClones, push: Callable[[], flow.Pushed]
) -> None:
    clones.git("host", "switch", "-q", "--no-track", "-c", "fresh")
    clones.git("host", "config", "branch.fresh.pushRemote", "fork")
    assert push().remote == "fork"
    assert clones.try_git("host", "config", "branch.fresh.remote").returncode == 1
    clones.git("host", "config", "--unset", "branch.fresh.pushRemote")
    assert push().remote == "origin"
    assert clones.git("host", "config", "branch.fresh.remote") == "origin"


def test_a_name_that_is_no_remote_is_refused_and_origin_gets_nothing_in_its_stead(
    clones: ThreeClones, push: Callable[[], flow.Pushed]
) -> None:
    clones.git("host", "config", "remote.pushDefault", "https://me:secret@example.invalid/fork.git")
    before = clones.head("origin")
    clones.commit("host", "src/h.py", "h")
    with pytest.raises(GitFailed) as caught:
        push()
    assert caught.value.code == "push-elsewhere"
    assert "pushes main to https://example.invalid/fork.git (remote.pushdefault)" in caught.value.message
    assert clones.head("origin") == before
    assert caught.value.remedy == "hemma run -- git config branch.main.pushRemote origin"
    clones.git("host", *caught.value.remedy.split()[4:])
    assert push().remote == "origin"
    assert clones.head("origin") == clones.head("host")


@pytest.mark.parametrize("how", ["pushurl", "pushInsteadOf"])
def test_push_addresses_are_used_and_named(clones: ThreeClones, push: Callable[[], flow.Pushed], how: str) -> None:
    fork = (clones.folder / "fork.git").as_uri()
    if how == "pushurl":
        clones.git("host", "remote", "set-url", "--push", "origin", fork)
    else:
        clones.git("host", "config", f"url.{fork}.pushInsteadOf", str(clones.path("origin")))
    before, commit = clones.head("origin"), clones.commit("host", "src/h.py", "h")
    done = push()
    assert (done.remote, done.url) == ("origin", fork)
    assert fork_has(clones) == [f"main {commit}"]
    assert clones.head("origin") == before


def test_hooks_words_progress_and_silence_are_told(
    clones: ThreeClones, hemma_with: Callable[[dict[str, str]], Cli], settings_env: EnvironFor
) -> None:
    cli = hemma_with(settings_env(root=clones.path("host")))
    cli.folder = clones.path("local")
    hook = clones.write("origin", "hooks/pre-receive", "#!/bin/sh\necho 'CI: see build 42' >&2\n")
    hook.chmod(0o755)
    slow = SlowOrigin(clones)
    slow.put_before("host", "slow", 0.8)
    clones.commit("host", "src/h.py", "h")
    master, slave = os.openpty()
    child = cli.start("push", stdin=slave, stdout=slave, stderr=slave, env={"TERM": "xterm-256color"})
    os.close(slave)
    terminal = Terminal(child, master, [])
    assert terminal.wait() == 0
    os.close(master)
    assert b"\r\x1b[K  host: " in terminal.seen
    assert b"remote: CI: see build 42" in terminal.seen.rpartition(b"\x1b[K")[2]
    assert clones.head("origin") == clones.head("host")
    clones.commit("host", "src/h.py", "h2")
    slow.put_before("host", "silent")
    answer = json.loads(cli("push", "--json", env={"HEMMA_ORIGIN_SILENCE_S": "1"}).stdout)
    assert (answer["error"], "origin has said nothing for 1 s" in answer["message"]) == ("origin-silent", True)
    assert slow.left() == []
