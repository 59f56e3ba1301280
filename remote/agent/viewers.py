"""Who watches a run: the supervisor's control socket in the run's folder, and the connections on it."""

from __future__ import annotations

import os
import selectors
import socket
import struct
from typing import Callable

from . import frames, ownership

NAME = "control.sock"
# A viewer that does not read loses wake-ups beyond this, no output: that is in the spool.
_OUTBOX_BYTES = 1 << 20


class Viewer:
    """One connection to the supervisor: an agent that relays for a client."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.parser = frames.Parser(frames.TO_HOST)
        self.outbox = bytearray()

    def flush(self) -> None:
        """Send as much as the socket takes."""
        try:
            while self.outbox:
                del self.outbox[: self.sock.send(self.outbox)]
        except OSError:
            pass  # no room now, or gone: reading tells which


class Viewers:
    """All of them. `on_frame(viewer, kind, payload)` gets what they say, `on_change()` hears that one has left."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        on_frame: Callable[[Viewer, int, bytes], None],
        on_change: Callable[[], None],
    ) -> None:
        self.selector = selector
        self.on_frame = on_frame
        self.on_change = on_change
        self.all: list[Viewer] = []
        self.listener: socket.socket | None = None

    def listen(self) -> None:
        """Open the control socket in the current folder: by a relative name, since a folder's path may be too long."""
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(NAME)
        os.chmod(NAME, 0o600)
        self.listener.listen(16)
        self.listener.setblocking(False)
        self.selector.register(self.listener, selectors.EVENT_READ, self._accept)

    def add(self, sock: socket.socket) -> None:
        """Serve this connection."""
        viewer = Viewer(sock)
        self.all.append(viewer)
        self.selector.register(sock, selectors.EVENT_READ, lambda: self._on_ready(viewer))

    def tell(self, data: bytes, besides: object = None) -> None:
        """Send a frame to everyone, or to everyone but one."""
        for viewer in self.all:
            if viewer is not besides:
                self.send(viewer, data)

    def send(self, viewer: Viewer, data: bytes) -> None:
        """Send a frame to one."""
        if len(viewer.outbox) < _OUTBOX_BYTES:
            viewer.outbox += data
        viewer.flush()
        self._watch(viewer)

    def close(self) -> None:
        """Let everyone have what waits for them, then close."""
        try:
            os.unlink(NAME)
        except OSError:
            pass
        if self.listener is not None:
            self.listener.close()
            self.listener = None
        for viewer in self.all:
            viewer.sock.settimeout(5)
            try:
                viewer.sock.sendall(viewer.outbox)
            except OSError:
                pass
            viewer.sock.close()
        self.all.clear()

    def _accept(self) -> None:
        assert self.listener is not None
        try:
            sock, _ = self.listener.accept()
        except OSError:
            return
        if not ownership.is_own_peer(sock):
            sock.close()
            return
        self.add(sock)

    def _watch(self, viewer: Viewer) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if viewer.outbox else 0)
        if self.selector.get_key(viewer.sock).events != events:
            self.selector.modify(viewer.sock, events, lambda: self._on_ready(viewer))

    def _on_ready(self, viewer: Viewer) -> None:
        viewer.flush()
        self._watch(viewer)
        try:
            data = viewer.sock.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        try:
            for kind, _, payload in viewer.parser.feed(data):
                self.on_frame(viewer, kind, payload)
        except (frames.BadFrame, struct.error, IndexError):
            data = b""  # noise: this viewer goes, the command does not care
        if not data:
            self._drop(viewer)

    def _drop(self, viewer: Viewer) -> None:
        self.selector.unregister(viewer.sock)
        viewer.sock.close()
        self.all.remove(viewer)
        self.on_change()
