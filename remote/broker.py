"""The per-user process that keeps SSH connections warm and shares them between `hemma` commands.

One client connection is one channel. The client's first frame names the target and the request; everything after it goes
through unchanged, in both directions. The broker owns no run: killed -9, it costs its clients one reconnect.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from manifests import ownership
from manifests.errors import AWAY, HemmaError, Unreachable
from remote.agent import frames, shapes
from remote.broker_channel import OPENING, Client
from remote.housekeeping import Housekeeping

IDLE_S = 900.0
TICK_S = 0.5
# A host that was connected this recently and refuses now is restarting rather than misspelt.
SEEN_LATELY_S = 120.0
_LOG_BYTES = 1 << 20
_FEWEST_OPEN_FILES = 64
_OPEN_FILES = 4096


class Broker:
    """Accepts clients, opens links, leaves when idle."""

    def __init__(
        self, listener: socket.socket | None, idle_s: float, keep_bytes: Callable[[str], int | None] | None = None
    ) -> None:
        self.selector = selectors.DefaultSelector()
        self.idle_s = idle_s
        self.links: dict[str, Any] = {}
        self.clients: set[Client] = set()
        self.busy_at = time.monotonic()
        self.is_stopping = False
        self.seen_s: dict[str, float] = {}
        self.housekeeping = Housekeeping(keep_bytes=keep_bytes)
        self._wanting: list[Client] = []
        self._lock = threading.Lock()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self.selector.register(self._wake_read, selectors.EVENT_READ, self._on_wake)
        if listener is not None:
            listener.setblocking(False)
            self.selector.register(listener, selectors.EVENT_READ, lambda: self._accept(listener))

    def loop(self) -> None:
        """Serve until idle for too long, or told to stop."""
        next_check = time.monotonic()
        while not self.is_stopping:
            for key, _ in self.selector.select(TICK_S):
                key.data()
            if time.monotonic() >= next_check:
                next_check = time.monotonic() + TICK_S
                self._check_links()
            if self.clients:
                self.busy_at = time.monotonic()
            elif time.monotonic() - self.busy_at > self.idle_s:
                break
        for link in list(self.links.values()):
            link.close()
        for client in self.clients:
            with client.lock:
                client.is_closed = True
                client.sock.close()
        self.selector.close()
        self._wake_read.close()
        self._wake_write.close()

    def _check_links(self) -> None:
        for link in list(self.links.values()):
            link.check()
        for client in [each for each in self.clients if each.is_held and not each.link.is_full()]:
            client.is_held = False
            self._write(client)
        self.housekeeping.start_due()

    def add(self, sock: socket.socket) -> None:
        """Serve this client."""
        client = Client(self, sock)
        self.clients.add(client)
        self.selector.register(sock, selectors.EVENT_READ, lambda: self._on_client(client))

    def want_write(self, client: Client) -> None:
        """Called from any thread: the loop shall send what waits for this client."""
        with self._lock:
            self._wanting.append(client)
        try:
            self._wake_write.send(b"w")
        except OSError:
            pass  # it is awake already, or gone

    def _on_wake(self) -> None:
        try:
            self._wake_read.recv(4096)
        except BlockingIOError:
            pass
        with self._lock:
            wanting, self._wanting = self._wanting, []
        for client in wanting:
            self._write(client)

    def _write(self, client: Client) -> None:
        if client.is_closed:
            return
        # One that sends more than the link takes is not read meanwhile.
        events = 0 if client.is_held else selectors.EVENT_READ
        events |= 0 if client.flush() else selectors.EVENT_WRITE
        is_watched = client.sock in self.selector.get_map()
        if is_watched and events:
            self.selector.modify(client.sock, events, lambda: self._on_client(client))
        elif is_watched:
            self.selector.unregister(client.sock)
        elif events:
            self.selector.register(client.sock, events, lambda: self._on_client(client))

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        if not ownership.is_own_peer(sock):
            print(f"refused a connection of user id {ownership.peer_uid(sock)}", file=sys.stderr, flush=True)
            sock.close()
            return
        self.add(sock)

    def _on_client(self, client: Client) -> None:
        if client.outbox:
            self._write(client)
        if client.is_held:
            return
        try:
            data = client.sock.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(client)
            return
        if client.link is not None and client.link.is_full():
            client.is_held = True
            self._write(client)
        try:
            for kind, _, payload in client.parser.feed(data):
                self._on_frame(client, kind, payload)
        except (frames.BadFrame, shapes.BadShape):
            self._drop(client)  # no `hemma` says such a thing
        except Exception:  # noqa: BLE001 - a bug of ours: this client's loss, not that of the runs beside it
            traceback.print_exc()  # the broker's log
            self._drop(client)

    def _on_frame(self, client: Client, kind: int, payload: bytes) -> None:
        if kind == frames.OPEN:
            fields = frames.fields_of(payload)
            OPENING(fields)
            self._open(client, fields)
        elif client.link is not None:
            client.link.send(frames.frame(kind, client.channel, payload))

    def may_pass(self, link: Any, error: HemmaError) -> bool:
        """Whether this failure to connect may be gone in a moment: a break, or a host that was there a minute ago."""
        if not isinstance(error, Unreachable):
            return False
        return error.is_passing or (error.code in AWAY and self.has_been_up(link))

    def has_been_up(self, link: Any) -> bool:
        """Whether an agent has spoken on this link, or a moment ago on another to the same host."""
        if link is None:
            return False
        seen_s = self.seen_s.get(str(link.spec["ssh"]), -SEEN_LATELY_S)
        return link.connected_s > 0 or time.monotonic() - seen_s < SEEN_LATELY_S

    def _drop(self, client: Client) -> None:
        with client.lock:
            client.is_closed = True
        self.clients.discard(client)
        if client.sock in self.selector.get_map():
            self.selector.unregister(client.sock)
        client.sock.close()
        if client.link is not None:
            client.link.forget(client.channel)

    def _open(self, client: Client, fields: dict[str, Any]) -> None:
        verb = fields["request"].get("verb")
        if verb == "broker-stop":
            self.is_stopping = True
        if verb in ("broker-stop", "broker-state"):
            client.take([frames.json_frame(frames.REPLY, 0, self._state())])
            return
        if not fields["target"].get("ssh"):
            raise shapes.BadShape("missing", ".target.ssh")
        if client.link is not None:
            client.link.forget(client.channel)
        client.link = self._link(fields["target"], fields.get("auth_sock"))
        client.channel = client.link.open(client, fields["request"])
        if verb == "run":
            asked = fields["request"]
            self.housekeeping.note(client.link, asked.get("state_dir"), str(asked.get("host_name") or ""))

    def _state(self) -> dict[str, object]:
        links: list[dict[str, object]] = [
            {"ssh": link.spec["ssh"], "is_up": link.connected_s > 0, "agent": link.agent}
            for link in self.links.values()
        ]
        return {"pid": os.getpid(), "clients": len(self.clients), "links": links}

    def _link(self, spec: dict[str, Any], auth_sock: str | None) -> Any:
        from remote.link import Link  # brings paramiko in, once the first client is already accepted

        key = json.dumps([spec, _config_times(spec)], sort_keys=True)
        link = self.links.get(key)
        if link is None or link.is_gone:
            # The agent of whoever makes the connection; it is no part of the key, for a warm one needs none.
            link = self.links[key] = Link({**spec, "auth_sock": auth_sock}, self._on_gone)
        return link

    def _on_gone(self, link: Any) -> None:
        if link.connected_s:
            self.seen_s[str(link.spec["ssh"])] = time.monotonic()
        with self._lock:
            self.links = {key: other for key, other in self.links.items() if other is not link}


def _config_times(spec: dict[str, Any]) -> list[int]:
    """Changes with the ssh_config files: a warm connection made under an older configuration is not used again."""
    home_config = os.path.expanduser("~/.ssh/config")
    times: list[int] = []
    for path in [spec["ssh_config"]] if spec.get("ssh_config") else [home_config, "/etc/ssh/ssh_config"]:
        try:
            times.append(os.stat(path).st_mtime_ns)
        except OSError:
            times.append(0)
    return times


def serve_inline() -> socket.socket:
    """A client connection served by a thread of this process, for where no broker can run."""
    ours, theirs = socket.socketpair()
    broker = Broker(None, idle_s=1.0)
    broker.add(theirs)
    threading.Thread(target=broker.loop, daemon=True, name="hemma-inline-broker").start()
    return ours


def serve(path: str, keep_bytes: Callable[[str], int | None] | None = None) -> int:
    """Be the broker on the socket `path`: returns when idle. A second one for the same socket leaves at once.

    `keep_bytes`: see remote.housekeeping.Housekeeping.
    """
    import fcntl  # not there on Windows, where no broker runs

    os.setsid()
    os.chdir("/")
    os.umask(0o077)
    ownership.demand_folder(os.path.dirname(path), may_be_link=False)
    os.closerange(3, 256)
    if not _has_room_for_files():
        return 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    lock = os.open(path + ".lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return 0  # another one is already there, or about to listen
    _trim_log()
    if os.path.exists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    os.chmod(path, 0o600)
    inode = os.lstat(path).st_ino
    listener.listen(128)
    with open(path.removesuffix(".sock") + ".pid", "w", encoding="ascii") as file:
        file.write(f"{os.getpid()}\n")
    try:
        broker = Broker(listener, float(os.environ.get("HEMMA_BROKER_IDLE_S") or IDLE_S), keep_bytes)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)  # closes the pipe the starter waits on: we listen
        os.close(null)
        broker.loop()
    finally:
        # The end of a login session removes its runtime folder, and another broker may stand there by now.
        with contextlib.suppress(OSError):
            if os.lstat(path).st_ino == inode:
                os.unlink(path.removesuffix(".sock") + ".pid")
                os.unlink(path)
    return 0


def _has_room_for_files() -> bool:
    """Whether this process may open as many files as a few clients and hosts need; the soft limit is raised for them."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft != resource.RLIM_INFINITY and soft < _FEWEST_OPEN_FILES:
        print(f"too few open files are allowed: {soft} (ulimit -n), {_FEWEST_OPEN_FILES} are needed", file=sys.stderr)
        return False
    return True


def _trim_log() -> None:
    if os.fstat(2).st_size > _LOG_BYTES:
        os.ftruncate(2, 0)
    sys.stderr.flush()
