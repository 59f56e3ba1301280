"""An origin that is slow, or silent: waited for by its signs of life, ended with all that talks to it, on both sides."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from manifests.errors import RepositoryError
from tests.real.slow_origin import SlowOrigin
from tests.real.test_run_terminal import Terminal
from tests.real.three_clones import Sync, ThreeClones, make_clones
from tests.support import Cli, EnvironFor

SILENCE = "HEMMA_ORIGIN_SILENCE_S"


@pytest.fixture
def clones(tmp_path: Path) -> ThreeClones:
    """Local, host, other and origin at one commit."""
    return make_clones(tmp_path / "clones")


@pytest.fixture
def origin(clones: ThreeClones) -> SlowOrigin:
    """What can be put before origin."""
    return SlowOrigin(clones)


@pytest.fixture
def cli(hemma_with: Callable[[dict[str, str]], Cli], settings_env: EnvironFor, clones: ThreeClones) -> Cli:
    """The CLI in the local clone, for the host's clone."""
    made = hemma_with(settings_env(root=clones.path("host")))
    made.folder = clones.path("local")
    return made


def test_a_slow_origin_is_waited_for_while_it_shows_life(
    clones: ThreeClones, origin: SlowOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    clones.publish("docs/o.md", "o")
    for place in ("local", "host"):
        origin.put_before(place, "slow", 3.0)
    monkeypatch.setenv(SILENCE, "2")
    begun_s, sync = time.monotonic(), Sync(clones)
    seen = sync.look()
    assert time.monotonic() - begun_s > 2.0  # so it was slower than the silence that is borne
    for facts in (seen.local_facts, seen.host_facts):
        assert (facts["fetch"]["kind"], facts["origin_head"]) == ("ok", clones.head("origin"))
    # Not taken for a host without a way to origin: nothing was brought to it from here.
    assert sync.asked == ["git-state"]


@pytest.mark.parametrize(("place", "how"), [("local", "silent"), ("host", "stubborn")])
def test_a_silent_origin_is_named_as_silent(
    clones: ThreeClones, origin: SlowOrigin, monkeypatch: pytest.MonkeyPatch, place: str, how: str
) -> None:
    clones.publish("docs/o.md", "o")
    origin.put_before(place, how)
    monkeypatch.setenv(SILENCE, "1")
    sync, before = Sync(clones), clones.heads()
    with pytest.raises(RepositoryError) as caught:
        sync()
    assert caught.value.message == f"{place}: origin cannot be asked: origin has said nothing for 1 s"
    assert f"{SILENCE}=600 hemma sync" in caught.value.remedy
    assert origin.left() == []
    assert clones.heads() == before
    # Not taken for a host without a way to origin: nothing was brought to it from here.
    assert sync.asked == ["git-state"]


def test_an_origin_that_falls_silent_under_a_push_is_named_too(
    clones: ThreeClones, origin: SlowOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = clones.commit("host", "src/h.py", "h")
    sync = Sync(clones)
    seen, plan = sync.look(), sync.plan()
    origin.put_before("host", "silent")
    monkeypatch.setenv(SILENCE, "1")
    with pytest.raises(RepositoryError, match=r"host: push: .*origin has said nothing for 1 s"):
        sync.carry_out(seen, plan)
    assert origin.left() == []
    assert commit not in clones.heads()["origin"]


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM", "SIGHUP"])
def test_whoever_leaves_leaves_nothing_that_talks_to_origin(
    clones: ThreeClones, origin: SlowOrigin, cli: Cli, how: str
) -> None:
    for place in ("local", "host"):
        origin.put_before(place, "silent")
    before = clones.snapshot()
    master, slave = os.openpty()
    child = cli.start("sync", stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    terminal = Terminal(child, master, [])
    origin.wait_for("local", "host")
    child.send_signal(signal.SIGINT if how == "Ctrl-C" else getattr(signal, how))
    number = {"Ctrl-C": signal.SIGINT}.get(how) or getattr(signal, how)
    assert terminal.wait() == 128 + number
    assert b"Traceback" not in terminal.seen
    os.close(master)
    assert origin.left() == []
    assert clones.snapshot() == before


def test_progress_of_both_sides_is_shown_on_a_terminal(clones: ThreeClones, origin: SlowOrigin, cli: Cli) -> None:
    clones.publish("docs/o.md", "o")
    for place in ("local", "host"):
        origin.put_before(place, "slow", 0.8)
    master, slave = os.openpty()
    child = cli.start("sync", stdin=slave, stdout=slave, stderr=slave, env={"TERM": "xterm-256color"})
    os.close(slave)
    terminal = Terminal(child, master, [])
    assert terminal.wait() == 0
    os.close(master)
    for place in (b"local", b"host"):
        assert b"\r\x1b[K  " + place + b": remote: " in terminal.seen
    assert clones.are_in_step()
