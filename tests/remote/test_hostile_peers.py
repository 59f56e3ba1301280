"""A broker and a supervisor between strangers: what one of them says wrong is its own loss, and everybody else goes on."""

from __future__ import annotations

import json
import shutil
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from remote import link
from remote.agent import frames
from remote.broker import Broker
from remote.broker_channel import SOCKET_BUFFER, WAITING_BYTES
from remote.host import target_of
from remote.loopback import LoopbackHost

Connect = Callable[[], socket.socket]
FAKE_AGENT = Path(__file__).parents[1] / "real" / "fake_agent.py"
ANSWER: dict[str, object] = {"runs": [], "rest": 0, "before": None}
WAIT_S = 30.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a name short enough for the sockets in it."""
    with tempfile.TemporaryDirectory(prefix="hemma-peers-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def connect(folder: Path) -> Iterator[Connect]:
    """`connect()`: another connection to one real broker."""
    path, opened = str(folder / "b.sock"), list[socket.socket]()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(16)
        broker = Broker(listener, idle_s=60.0)
        thread = threading.Thread(target=broker.loop)
        thread.start()

        def fresh() -> socket.socket:
            opened.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            opened[-1].settimeout(WAIT_S)
            opened[-1].connect(path)
            return opened[-1]

        yield fresh
        broker.is_stopping = True
        thread.join(WAIT_S)
        for sock in opened:
            sock.close()
        assert not thread.is_alive()


class Peer:
    """A client of the broker, as ours are."""

    def __init__(self, connect: Connect, target: dict[str, Any], request: dict[str, Any]) -> None:
        self.sock = connect()
        self.parser = frames.Parser(frames.FROM_BROKER)
        self.heard: list[tuple[int, bytes]] = []
        self.sock.sendall(frames.json_frame(frames.OPEN, 0, {"target": target, "request": request}))

    def hears(self, kind: int) -> bytes:
        """The payload of the next frame of this kind; others are passed over."""
        while True:
            while self.heard:
                found, payload = self.heard.pop(0)
                if found == kind:
                    return payload
            data = self.sock.recv(1 << 16)
            assert data, "the broker hung up"
            self.heard += [(found, payload) for found, _, payload in self.parser.feed(data)]


class Cat(Peer):
    """A run of `cat`."""

    def __init__(self, connect: Connect, target: dict[str, Any], root: Path) -> None:
        run = {"verb": "run", "run_id": "cat", "argv": ["cat"], "stdin": True, "lease_s": 60.0, "cwd": "."}
        super().__init__(connect, target, {**run, "root": str(root), "state_dir": target["state_dir"]})
        self.said = 0
        assert frames.fields_of(self.hears(frames.REPLY))["run_id"] == "cat"

    def goes_on(self) -> None:
        """Whether what it is told comes back, at its place."""
        word = b"word %d\n" % self.said
        self.sock.sendall(frames.frame(frames.IN, 0, frames.OFFSET.pack(self.said) + word))
        assert self.hears(frames.OUT) == frames.OFFSET.pack(self.said) + word
        self.said += len(word)


@pytest.fixture
def target(sshd: LoopbackHost, folder: Path) -> dict[str, Any]:
    """The real host, with a state folder of the test's own."""
    return target_of(
        {"ssh": sshd.alias, "ssh_config": sshd.ssh_config, "python": sshd.python, "state_dir": str(folder / "state")}
    )


@pytest.fixture
def cat(connect: Connect, target: dict[str, Any], folder: Path) -> Iterator[Cat]:
    """A run beside which all this happens, and which ends well after it."""
    made = Cat(connect, target, folder)
    made.goes_on()
    yield made
    made.goes_on()
    made.sock.sendall(frames.frame(frames.IN_EOF, 0))
    assert frames.fields_of(made.hears(frames.EXIT))["exit_code"] == 0


def opening(target: object, request: object = None) -> bytes:
    return frames.json_frame(frames.OPEN, 0, {"target": target, "request": request or {"verb": "list"}})


HOSTILE_CLIENTS = {
    "deep": frames.frame(frames.OPEN, 0, b'{"target":' + b"[" * 100_000),
    "list": frames.frame(frames.OPEN, 0, b"[]"),
    "no-target": frames.frame(frames.OPEN, 0, b'{"request": {"verb": "list"}}'),
    "giant": frames.HEADER.pack(frames.OPEN, 0, 0xFFFFFFF0),
    "unknown-kind": frames.HEADER.pack(99, 0, 0),
    "kind-of-a-host": frames.frame(frames.REPLY, 0, b"{}"),
    "short-signal": frames.frame(frames.SIGNAL, 0, b"x"),
    "no-host": opening({}),
    "host-is-a-list": opening({"ssh": ["x"]}),
    "host-with-nul": opening({"ssh": "x\0y"}),
    "file-with-nul": opening({"ssh": "x", "ssh_config": "/x\0y"}),
    "pause-is-a-list": opening({"ssh": "x", "keepalive_s": [1]}),
    "pause-is-a-text": opening({"ssh": "x", "keepalive_s": "soon"}),
    "another-name": opening({"ssh": "x", "proxy": "x"}),
    "verb-is-a-list": opening({"ssh": "x"}, {"verb": []}),
    "state-is-a-list": opening({"ssh": "x"}, {"verb": "run", "state_dir": [1]}),
    "name-is-an-object": opening({"ssh": "x"}, {"verb": "run", "host_name": {}}),
}


@pytest.mark.timeout(120)
def test_a_client_that_says_what_ours_never_do_is_hung_up_on_and_no_other(connect: Connect, cat: Cat) -> None:
    for name, said in HOSTILE_CLIENTS.items():
        hostile = connect()
        hostile.sendall(said)
        assert hostile.recv(1) == b"", name
        cat.goes_on()
    for said in (frames.frame(frames.IN, 0, bytes(9)), frames.frame(frames.OPEN, 7, b"{}")[:5]):
        connect().sendall(said)  # input for nothing, and half a frame that stays half
        cat.goes_on()


@pytest.mark.timeout(120)
def test_a_client_that_does_not_read_is_hung_up_on_and_no_other(
    connect: Connect, target: dict[str, Any], cat: Cat
) -> None:
    argv = ["head", "-c", str(3 * WAITING_BYTES), "/dev/zero"]
    run = {"verb": "run", "run_id": "flood", "argv": argv, "lease_s": 60.0, "cwd": ".", "root": "/"}
    hostile = Peer(connect, target, {**run, "state_dir": target["state_dir"]})
    hostile.hears(frames.REPLY)
    hostile.sock.sendall(frames.frame(frames.ACK, 0, frames.OFFSETS.pack(1 << 60, 0)))  # as if it had read it all
    hostile.sock.sendall(frames.frame(frames.PING, 0) * 100)
    taken = 0
    for _ in range(100):
        cat.goes_on()
    while data := hostile.sock.recv(1 << 20):
        taken += len(data)
        cat.goes_on()
    assert taken <= WAITING_BYTES + 2 * SOCKET_BUFFER


@pytest.fixture
def strange(target: dict[str, Any], folder: Path) -> Callable[..., dict[str, Any]]:
    """`strange(*said)`: a host where something else answers, and says this to every request from now on."""
    there = folder / "there"
    there.mkdir()
    shutil.copy(FAKE_AGENT, there / "python")
    (there / "python").chmod(0o755)

    def says(*said: tuple[Any, ...]) -> dict[str, Any]:
        (there / "new").write_text(json.dumps(said))
        (there / "new").replace(there / "says")
        return {**target, "python": str(there / "python")}

    return says


def reply(**more: object) -> tuple[Any, ...]:
    return frames.REPLY, json.dumps({**ANSWER, **more}), None


def quiet_peer(connect: Connect, strange: Callable[..., dict[str, Any]]) -> Peer:
    """A client on the strange host's first channel, who has heard that it is wanted and waits since."""
    peer = Peer(connect, strange((frames.NOTICE, '{"notice":"progress"}', None)), {"verb": "list"})
    peer.hears(frames.NOTICE)
    return peer


@pytest.mark.timeout(120)
def test_frames_to_channels_that_are_not_open_reach_nobody(
    connect: Connect, cat: Cat, strange: Callable[..., dict[str, Any]]
) -> None:
    silent = quiet_peer(connect, strange)
    others = [(kind, json.dumps(ANSWER), None, channel) for kind in (17, 18, 21) for channel in (0, 5, 0xFFFFFFFF)]
    asks = Peer(connect, strange(*others, reply()), {"verb": "list"})
    assert frames.fields_of(asks.hears(frames.REPLY)) == ANSWER
    assert asks.heard == []
    silent.sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        silent.sock.recv(1)
    cat.goes_on()


@pytest.mark.timeout(120)
def test_a_host_that_floods_one_client_costs_that_one_alone(
    connect: Connect, cat: Cat, strange: Callable[..., dict[str, Any]]
) -> None:
    victim = quiet_peer(connect, strange)
    size = frames.OFFSET.size + frames.CHUNK
    flood = (frames.OUT, "x" * size, None, 1, WAITING_BYTES // size + 50)
    asks = Peer(connect, strange(flood, reply()), {"verb": "list"})
    assert frames.fields_of(asks.hears(frames.REPLY)) == ANSWER
    taken = 0
    while data := victim.sock.recv(1 << 20):
        taken += len(data)
    assert taken <= WAITING_BYTES + 2 * SOCKET_BUFFER
    cat.goes_on()


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("kind", "claimed"), [(frames.REPLY, 0xFFFFFFF0), (frames.OUT, 4), (99, 0), (frames.LINK_LOST, 2), (frames.OPEN, 2)]
)
def test_what_no_agent_says_ends_its_own_link_and_no_other(
    connect: Connect, cat: Cat, strange: Callable[..., dict[str, Any]], kind: int, claimed: int
) -> None:
    silent = quiet_peer(connect, strange)
    asks = Peer(connect, strange((kind, "", claimed, 4000)), {"verb": "list"})
    for peer in (silent, asks):
        said = frames.fields_of(peer.hears(frames.LINK_LOST))
        assert (said["error"], said["exit_code"], said["is_final"]) == ("not-an-answer", 255, 1)
    cat.goes_on()
    again = Peer(connect, strange(reply()), {"verb": "list"})
    assert frames.fields_of(again.hears(frames.REPLY)) == ANSWER


@pytest.mark.timeout(120)
def test_noise_without_an_end_in_place_of_an_agent_is_given_up(
    connect: Connect, cat: Cat, folder: Path, target: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "_START_TIMEOUT_S", 1.0)
    (folder / "noise").write_text("#!/bin/sh\nwhile echo welcome; do sleep 0.05; done\n")
    (folder / "noise").chmod(0o755)
    asks = Peer(connect, {**target, "python": str(folder / "noise")}, {"verb": "list"})
    assert "did not start the agent in time" in str(frames.fields_of(asks.hears(frames.LINK_LOST))["message"])
    cat.goes_on()


HOSTILE_VIEWERS = {
    "deep": frames.frame(frames.OPEN, 0, b'{"hold":' + b"[" * 100_000),
    "list": frames.frame(frames.OPEN, 0, b"[]"),
    "giant": frames.HEADER.pack(frames.IN, 0, 0xFFFFFFF0),
    "unknown-kind": frames.HEADER.pack(99, 0, 0),
    "kind-of-a-supervisor": frames.frame(frames.GREW, 0, bytes(16)),
    "short-input": frames.frame(frames.IN, 0, b"1234"),
}
STRANGE_VIEWERS = {
    "verb-is-a-list": frames.json_frame(frames.OPEN, 0, {"verb": [], "grace_s": {}, "hold": {}}),
    "input-from-far-on": frames.frame(frames.IN, 0, frames.OFFSET.pack(1 << 63) + b"x"),
    "read-more-than-there-is": frames.frame(frames.ACK, 0, frames.OFFSETS.pack((1 << 64) - 1, 1 << 63)),
    "signal-that-is-none": frames.frame(frames.SIGNAL, 0, frames.SIGNAL_PAYLOAD.pack(255, b"12345678", 1)),
    "size-of-no-terminal": frames.frame(frames.RESIZE, 0, frames.SIZE.pack(65535, 0)),
    "no-such-stream": frames.frame(frames.CLOSE_STREAM, 0, b"stdfoo"),
    "to-another-channel": frames.frame(frames.PING, 77, b"x"),
    "half": struct.pack(">BI", frames.IN, 0),
}


def viewer_of(control: str) -> socket.socket:
    viewer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    viewer.settimeout(WAIT_S)
    viewer.connect(control)
    return viewer


@pytest.mark.timeout(120)
def test_a_run_goes_on_whatever_is_said_to_its_supervisor(cat: Cat, folder: Path) -> None:
    control, held = str(folder / "state/runs/cat/control.sock"), list[socket.socket]()
    for name, said in {**HOSTILE_VIEWERS, **STRANGE_VIEWERS}.items():
        viewer = viewer_of(control)
        held.append(viewer)
        viewer.sendall(said)
        if name in HOSTILE_VIEWERS:
            while viewer.recv(1 << 16):
                pass
        cat.goes_on()
    held.append(silent := viewer_of(control))  # asks and asks, and reads nothing
    silent.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            silent.send(frames.json_frame(frames.OPEN, 0, {}) * 1000)
    for _ in range(50):
        cat.goes_on()
    for viewer in held:
        viewer.close()
