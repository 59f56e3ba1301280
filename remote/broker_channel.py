"""One connected `hemma` command, as the broker sees it: what it may say first, and what waits to be told to it."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any, Protocol

from manifests.errors import ConnectionLost, HemmaError
from remote.agent import frames, shapes

SOCKET_BUFFER = 4 << 20
# What waits for a client that does not read: both windows of a run, or one answer, and room to spare. A host that sends
# more has not waited for the acknowledgement.
WAITING_BYTES = 2 * frames.WINDOW + 2 * frames.MAX_ANSWER
# No NUL: no name of a file or host has one, and the system's calls refuse it in ways of their own.
_TEXT = shapes.maybe(shapes.text(shapes.LONGEST_PATH * 4, "[^\0]*"))
_PAUSE_S = shapes.maybe(shapes.number)
# What a client's first frame is: which connection, and a request that the agent judges for itself.
OPENING = shapes.record(
    {
        "target": shapes.record(
            {},
            {
                **dict.fromkeys(("ssh", "ssh_config", "python", "state_dir"), _TEXT),
                **dict.fromkeys(("keepalive_s", "connect_timeout_s"), _PAUSE_S),
            },
        ),
        "request": shapes.record({"verb": shapes.text(64)}, {"state_dir": _TEXT, "host_name": _TEXT}, is_open=True),
    },
    {"auth_sock": _TEXT},
)


class Broker(Protocol):
    """What a client needs of the broker that serves it."""

    def want_write(self, client: Client) -> None:
        """Called from any thread: the loop shall send what waits for this client."""

    def may_pass(self, link: Any, error: HemmaError) -> bool:
        """Whether this failure to connect may be gone in a moment."""
        ...

    def has_been_up(self, link: Any) -> bool:
        """Whether this host has ever answered."""
        ...


class Client:
    """One connected `hemma` command. `take` and `lost` are called from a link's thread, the rest from the loop."""

    def __init__(self, broker: Broker, sock: socket.socket) -> None:
        sock.setblocking(False)
        with contextlib.suppress(OSError):  # more than this system allows: what it has will do
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
        self.broker = broker
        self.sock = sock
        self.parser = frames.Parser(frames.TO_HOST)
        self.link: Any = None
        self.channel = 0
        self.outbox: list[memoryview] = []
        self.waiting = 0
        self.is_closed = False
        self.is_held = False
        self.is_ending = False
        self.lock = threading.Lock()

    def take(self, pieces: list[bytes | memoryview]) -> None:
        """Send at once what the socket accepts; the rest waits for the loop."""
        with self.lock:
            if self.is_closed or self.is_ending:
                return
            if not self.outbox:
                pieces = self._send(pieces)
            if pieces:
                self.outbox += [memoryview(bytes(piece)) for piece in pieces]
                self.waiting += sum(len(piece) for piece in pieces)
                if self.waiting > WAITING_BYTES:
                    self._end()
                self.broker.want_write(self)

    def _end(self) -> None:
        """Nothing more for this client, which may be in the midst of a frame: only an end can tell it so."""
        self.outbox.clear()
        self.waiting = 0
        if not self.is_closed:
            self.is_ending = True
            with contextlib.suppress(OSError):  # it has left by itself
                self.sock.shutdown(socket.SHUT_RDWR)

    def _send(self, pieces: list[Any]) -> list[Any]:
        """Send pieces in order; returns what is left."""
        try:
            while pieces:
                sent = self.sock.sendmsg(pieces[:64])
                while pieces and sent >= len(pieces[0]):
                    sent -= len(pieces[0])
                    pieces = pieces[1:]
                if sent:
                    pieces = [memoryview(pieces[0])[sent:], *pieces[1:]]
        except BlockingIOError:
            return pieces
        except OSError:
            return []
        return pieces

    def flush(self) -> bool:
        """Send what waits; True when nothing is left."""
        with self.lock:
            self.outbox = self._send(self.outbox)
            self.waiting = sum(len(piece) for piece in self.outbox)
            return not self.outbox

    def lost(self, error: HemmaError | None) -> None:
        """The link is gone: say why; the client decides whether to try again."""
        facts = (error or ConnectionLost("the connection to the host was lost", remedy="hemma host check")).as_dict()
        facts["is_final"] = int(error is not None and not self.broker.may_pass(self.link, error))
        # Two tries are enough for a host that has never answered; one that has may be a while in coming back.
        facts["is_first_contact"] = int(not self.broker.has_been_up(self.link))
        self.take([frames.json_frame(frames.LINK_LOST, 0, dict(facts))])

    def hang_up(self) -> None:
        """End this client's connection; the loop sees the end and forgets it."""
        with self.lock:
            self._end()
