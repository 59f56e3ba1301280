"""One client channel on the agent: reads a run's spools from the client's offsets and carries frames to its supervisor.

The spool is the truth; messages from the supervisor only say when to look. So a client that comes back with its offsets
gets each byte exactly once, whichever agent serves it.
"""

from __future__ import annotations

import os
import socket

from . import frames, identity, ownership, shapes, store

# What may wait for a supervisor: more than a client sends before it is acknowledged.
MOST_UNTOLD = 8 << 20


def _end_of(payload: bytes) -> dict[str, object]:
    """A run's last status as its supervisor told it; nothing where that was no status."""
    try:
        end = frames.fields_of(payload)
        shapes.STATUS(end)
    except (frames.BadFrame, shapes.BadShape):
        return {}
    return end


class Relay:
    """The view of one run for one client."""

    def __init__(self, channel: int, folder: str, offsets: tuple[int, int], follow: bool) -> None:
        self.channel = channel
        self.folder = folder
        self.follow = follow
        self.sent = dict(zip(store.STREAMS, offsets))
        self.acknowledged = dict(self.sent)
        self.sizes = dict.fromkeys(store.STREAMS, 0)
        self.spools = {
            name: os.open(store.spool_path(folder, name), os.O_RDONLY | os.O_CLOEXEC) for name in store.STREAMS
        }
        self.supervisor: socket.socket | None = None
        self.parser = frames.Parser(frames.FROM_SUPERVISOR)
        self.outbox = bytearray()
        self.end: dict[str, object] | None = None
        self.is_closed = False

    def connect(self) -> bool:
        """Reach the supervisor over the run's control socket; False when nobody answers there."""
        here = os.open(".", os.O_RDONLY)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            os.chdir(self.folder)  # a socket's name may not be longer than 107 bytes, a folder's may
            sock.connect("control.sock")
        except OSError:
            sock.close()
            return False
        finally:
            os.fchdir(here)
            os.close(here)
        if not ownership.is_own_peer(sock):
            sock.close()
            return False
        self.adopt(sock)
        return True

    def adopt(self, sock: socket.socket) -> None:
        """Use this connection to the supervisor."""
        sock.setblocking(False)
        self.supervisor = sock

    def look(self) -> None:
        """Read the spools' sizes, and the end if there is no supervisor to tell it."""
        for name, spool in self.spools.items():
            self.sizes[name] = os.fstat(spool).st_size
        if self.supervisor is None and self.end is None:
            known = store.facts(self.folder)
            status = known.get("status")
            self.end = dict(status) if isinstance(status, dict) else {}
            self.end["supervisor_alive"] = known["supervisor_alive"]
            self.end["command_alive"] = known["command_alive"]
            self.end["boot_id_now"] = identity.boot_id()

    def tell(self, data: bytes) -> None:
        """Carry a frame to the supervisor."""
        if self.supervisor is not None and len(self.outbox) < MOST_UNTOLD:
            self.outbox += data
            self.flush()

    def flush(self) -> None:
        """Send as much as the supervisor takes."""
        try:
            while self.outbox and self.supervisor is not None:
                del self.outbox[: self.supervisor.send(self.outbox)]
        except BlockingIOError:
            return
        except OSError:
            self.outbox.clear()

    def on_supervisor(self) -> list[bytes]:
        """Take what the supervisor says; returns the frames to pass to the client."""
        if self.supervisor is None:
            return []
        try:
            data = self.supervisor.recv(1 << 16)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self.drop_supervisor()
            return []
        passed = []
        try:
            found = self.parser.feed(data)
        except frames.BadFrame:
            self.drop_supervisor()  # no supervisor of ours: what is on disk counts
            return []
        for kind, _, payload in found:
            if kind == frames.GREW:
                for name, size in zip(store.STREAMS, frames.OFFSETS.unpack(payload)):
                    self.sizes[name] = max(size, self.sizes[name])
            elif kind == frames.EXIT:
                self.end = _end_of(payload)
            else:
                passed.append(frames.frame(kind, self.channel, payload))
        return passed

    def drop_supervisor(self) -> None:
        """The supervisor is gone: what its files say is what is known now."""
        if self.supervisor is not None:
            self.supervisor.close()
            self.supervisor = None
        self.look()

    def next_output(self) -> bytes | None:
        """The next frame of output within the client's window, or None when there is nothing to send now."""
        for name, kind in (("stderr", frames.ERR), ("stdout", frames.OUT)):
            room = min(self._last(name) - self.sent[name], self.acknowledged[name] + frames.WINDOW - self.sent[name])
            if room <= 0:
                continue
            data = os.pread(self.spools[name], min(room, frames.CHUNK), self.sent[name])
            if not data:
                self.sizes[name] = self.sent[name]  # the spool is shorter than was said: cut behind our back
                continue
            head = frames.HEADER.pack(kind, self.channel, frames.OFFSET.size + len(data))
            offset = frames.OFFSET.pack(self.sent[name])
            self.sent[name] += len(data)
            return b"".join((head, offset, data))
        return None

    def _last(self, name: str) -> int:
        """Where this stream ends: at the size the status gives once the run is over (late output stays in the log)."""
        size = self.sizes[name]
        end = self.end.get(name + "_bytes") if self.end is not None else None
        return min(size, end) if isinstance(end, int) else size

    def final_frame(self) -> bytes | None:
        """The EXIT frame, once everything before it was sent; for a reader that does not follow, at the current end."""
        is_sent = all(self.sent[name] >= self._last(name) for name in store.STREAMS)
        if not is_sent or (self.end is None and self.follow):
            return None
        end = self.end if self.end is not None else {"state": "running"}
        # Where both streams ended: a client that lacks a byte is to know.
        sent = [self.sent[name] for name in store.STREAMS]
        return frames.json_frame(frames.EXIT, self.channel, dict(end, sent=sent))

    def acknowledge(self, payload: bytes) -> None:
        """The client has these offsets."""
        for name, offset in zip(store.STREAMS, frames.OFFSETS.unpack(payload)):
            self.acknowledged[name] = max(self.acknowledged[name], offset)

    def close(self) -> None:
        """Let go of files and socket; the run goes on."""
        if self.is_closed:
            return
        self.is_closed = True
        for spool in self.spools.values():
            os.close(spool)
        if self.supervisor is not None:
            self.supervisor.close()
            self.supervisor = None
