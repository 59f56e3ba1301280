"""The agent's loop: frames from the client's broker on stdin, frames back on stdout. One process per SSH connection.

It owns nothing: commands belong to their supervisors, output to the spools. When it dies, nothing is lost.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
import time

from . import frames, identity, launch, relay, requests, shapes, store, verbs

# Output queued for SSH before the agent stops reading spools.
HIGH_WATER = 1 << 20
# With no sign of life from the broker for this long the link is dead, whatever TCP thinks.
SILENCE_S = 120.0
# Runs that are watched and questions under way, on one connection.
MOST_CHANNELS = 1024


class Agent:
    """Serves all channels of one connection."""

    def __init__(self, source: int, sink: int) -> None:
        self.source = source
        self.sink = sink
        self.environment = identity.own_environment()
        self.parser = frames.Parser(frames.TO_HOST)
        self.selector = selectors.DefaultSelector()
        self.relays: dict[int, relay.Relay] = {}
        self.replies: dict[int, tuple[int, bytearray]] = {}
        # Runs whose clone is being looked at: the request, and the frames that came for it meanwhile.
        self.waiting: dict[int, tuple[dict[str, object], list[tuple[int, bytes]]]] = {}
        self.looks: set[int] = set()
        self.outbox: list[memoryview] = []
        self.queued = 0
        self.is_writing = False
        self.heard = time.monotonic()

    def loop(self) -> None:
        """Serve until the connection ends."""
        os.set_blocking(self.source, False)
        os.set_blocking(self.sink, False)
        self.selector.register(self.source, selectors.EVENT_READ, self._on_input)
        while time.monotonic() - self.heard < SILENCE_S:
            for key, _ in self.selector.select(5.0):
                key.data()
            self._pump()

    # -- the link ------------------------------------------------------------------------------------------------

    def _on_input(self) -> None:
        try:
            data = os.read(self.source, 1 << 18)
        except BlockingIOError:
            return
        if not data:
            raise EOFError
        self.heard = time.monotonic()
        for kind, channel, payload in self.parser.feed(data):
            self._on_frame(kind, channel, payload)

    def _on_frame(self, kind: int, channel: int, payload: bytes) -> None:
        if kind == frames.PING:
            if self.queued < HIGH_WATER:  # who does not read need not hear
                self.send(frames.frame(frames.PONG, channel, payload))
        elif kind == frames.OPEN:
            self._open(channel, payload)
        elif kind == frames.CLOSE:
            self._close(channel)
        elif channel in self.waiting:
            self.waiting[channel][1].append((kind, payload))
        elif channel in self.relays:
            view = self.relays[channel]
            if kind == frames.ACK:
                view.acknowledge(payload)
            view.tell(frames.frame(kind, 0, payload))
            self._watch(view)

    def _watch(self, view: relay.Relay) -> None:
        """Wait for what a run's supervisor says and, while something waits to be told, for room to tell it."""
        if view.supervisor is not None:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if view.outbox else 0)
            if self.selector.get_key(view.supervisor).events != events:
                self.selector.modify(view.supervisor, events, lambda: self._on_supervisor(view))

    def send(self, data: bytes) -> None:
        """Queue bytes for the client."""
        self.outbox.append(memoryview(data))
        self.queued += len(data)

    def flush(self) -> None:
        """Send as much as the link takes now."""
        try:
            while self.outbox:
                written = os.writev(self.sink, self.outbox[:16])
                self.queued -= written
                while written:
                    size = len(self.outbox[0])
                    if written < size:
                        self.outbox[0] = self.outbox[0][written:]
                        break
                    written -= size
                    del self.outbox[0]
        except BlockingIOError:
            pass
        if bool(self.outbox) != self.is_writing:
            self.is_writing = bool(self.outbox)
            if self.is_writing:
                self.selector.register(self.sink, selectors.EVENT_WRITE, self.flush)
            else:
                self.selector.unregister(self.sink)

    def _pump(self) -> None:
        """Send what may be sent now, a chunk of each run in turn."""
        busy = True
        while busy and self.queued < HIGH_WATER:
            busy = False
            for channel, view in list(self.relays.items()):
                try:
                    data = view.next_output()
                except OSError as error:  # its disk
                    self._refuse(channel, "not-readable", "the run's output cannot be read: %s" % error.strerror, 255)
                    self._close(channel)
                    continue
                if data is not None:
                    busy = True
                    self.send(data)
                    continue
                final = view.final_frame()
                if final is not None:
                    self.send(final)
                    self._close(channel)
            self.flush()
        self.flush()

    # -- channels ------------------------------------------------------------------------------------------------

    def _open(self, channel: int, payload: bytes) -> None:
        """Begin what a client asks for. Whatever is wrong with it is its own error, and no other channel's."""
        try:
            request = frames.fields_of(payload)
            requests.check(request)
            verb = request["verb"]
            if len(self.relays) + len(self.replies) >= MOST_CHANNELS:
                raise store.Refused("busy", "the agent serves %d at once already" % MOST_CHANNELS, "try again", 75)
            self._close(channel)
            if verb == "run":
                self._run(channel, request)
            elif verb == "attach":
                self._attach(channel, request)
            else:
                self._ask(channel, request)
        except store.Refused as refused:
            self.send(frames.json_frame(frames.REPLY, channel, refused.fields))
        except OSError as error:
            self.send(frames.json_frame(frames.REPLY, channel, store.refusal(error, str(error.filename)).fields))
        except (frames.BadFrame, shapes.BadShape) as bad:
            self._refuse(channel, "usage", "the request cannot be read: %s" % bad, 2)
        except Exception as error:  # a bug of ours: this channel's loss, not that of the runs beside it
            self._refuse(channel, "agent-failed", "the agent failed: %r" % error, 70)

    def _refuse(self, channel: int, code: str, message: str, exit_code: int) -> None:
        refused = store.Refused(code, message, exit_code=exit_code)
        self.send(frames.json_frame(frames.REPLY, channel, refused.fields))

    def _run(self, channel: int, asked: dict[str, object]) -> None:
        request = launch.settled(asked)
        if request is None:
            self.waiting[channel] = (asked, [])
            self.looks.add(self._ask(channel, dict(asked, verb="clone-related")))
            return
        folder, supervisor, facts = launch.start(request, self.environment)
        view = self._view(channel, folder, request, supervisor)
        reply = {"run_id": os.path.basename(folder), "attached": supervisor is None, "cwd": facts["cwd"]}
        reply.update(launch.unusual(facts))
        self.send(frames.json_frame(frames.REPLY, channel, reply))
        if request.get("lease_s") is None and not request.get("follow"):
            self._close(channel)
        elif supervisor is None or request.get("is_repeated"):
            view.tell(frames.json_frame(frames.OPEN, 0, {"hold": True}))

    def _attach(self, channel: int, request: dict[str, object]) -> None:
        state_dir = request.get("state_dir")
        runs = store.runs_folder(str(state_dir) if state_dir else None)
        folder = store.find(runs, str(request["run"]))
        view = self._view(channel, folder, request, None)
        offsets = [view.sent[name] for name in store.STREAMS]
        reply = {"run_id": os.path.basename(folder), "offsets": offsets}
        self.send(frames.json_frame(frames.REPLY, channel, reply))
        view.tell(frames.json_frame(frames.OPEN, 0, dict(request, verb=request.get("action"))))

    def _view(
        self, channel: int, folder: str, request: dict[str, object], supervisor: socket.socket | None
    ) -> relay.Relay:
        offsets = request.get("offsets")
        start = (int(offsets[0]), int(offsets[1])) if isinstance(offsets, list) else (0, 0)
        view = relay.Relay(channel, folder, start, bool(request.get("follow", True)))
        tail = request.get("tail_bytes")
        if supervisor is not None:
            view.adopt(supervisor)
        elif not view.connect():
            self._wait_for_start(view)
        view.look()
        if isinstance(tail, int):
            view.sent = {name: max(view.sent[name], size - tail) for name, size in view.sizes.items()}
            view.acknowledged = dict(view.sent)
        self.relays[channel] = view
        if view.supervisor is not None:
            self.selector.register(view.supervisor, selectors.EVENT_READ, lambda: self._on_supervisor(view))
        return view

    def _wait_for_start(self, view: relay.Relay) -> None:
        """A run that was made a moment ago may not listen yet; one that is over never will again."""
        for _ in range(40):
            if store.read(view.folder, "status.json") is not None or view.connect():
                break
            time.sleep(0.01)
        if view.supervisor is None:
            view.connect()

    def _on_supervisor(self, view: relay.Relay) -> None:
        sock = view.supervisor
        view.flush()
        passed = view.on_supervisor()
        self._watch(view)
        if view.supervisor is None and sock is not None:
            self._unregister(sock)
        for data in passed:
            self.send(data)

    def _unregister(self, sock: socket.socket) -> None:
        for key in list(self.selector.get_map().values()):
            if key.fileobj is sock:
                self.selector.unregister(sock)

    def _go_on(self, channel: int, reply: bytes) -> None:
        """The clone of a run was looked at: start the run, or refuse it, with the frames that came meanwhile."""
        request, frames_of_run = self.waiting.pop(channel, (None, []))
        if request is None:
            return  # its client left
        self._open(channel, frames.json_of(dict(request, related=json.loads(reply))))
        for kind, payload in frames_of_run:
            self._on_frame(kind, channel, payload)

    def _close(self, channel: int) -> None:
        self.waiting.pop(channel, None)
        for reader in [reader for reader, (waiting, _) in self.replies.items() if waiting == channel]:
            self._forget_reply(reader)
        view = self.relays.pop(channel, None)
        if view is not None:
            if view.supervisor is not None:
                self._unregister(view.supervisor)
            view.close()

    # -- questions -----------------------------------------------------------------------------------------------

    def _ask(self, channel: int, request: dict[str, object]) -> int:
        reader = verbs.start(request)
        os.set_blocking(reader, False)
        self.replies[reader] = (channel, bytearray())
        self.selector.register(reader, selectors.EVENT_READ, lambda: self._on_reply(reader))
        return reader

    def _on_reply(self, reader: int) -> None:
        channel, collected = self.replies[reader]
        try:
            data = os.read(reader, 1 << 18)
        except BlockingIOError:
            return
        collected += data
        while collected.startswith(verbs.PROGRESS) and b"\n" in collected:
            line, _, rest = bytes(collected).partition(b"\n")
            collected[:] = rest
            text = line[len(verbs.PROGRESS) :].decode("utf-8", "replace")
            self.send(frames.json_frame(frames.NOTICE, channel, {"notice": "progress", "text": text}))
        if data:
            return
        if not collected:
            refused = store.Refused(
                "agent-failed", "the agent's part that was asked ended without a word", exit_code=70
            )
            collected += frames.json_of(refused.fields)
        is_look = reader in self.looks
        self._forget_reply(reader)
        if is_look:
            self._go_on(channel, bytes(collected))
            return
        for start in range(0, len(collected), frames.CHUNK):
            piece = bytes(collected[start : start + frames.CHUNK])
            is_last = start + frames.CHUNK >= len(collected)
            self.send(frames.frame(frames.REPLY if is_last else frames.OUT, channel, piece))

    def _forget_reply(self, reader: int) -> None:
        """Close a reply's pipe: the child that still writes into it learns that nobody waits."""
        self.selector.unregister(reader)
        os.close(reader)
        del self.replies[reader]
        self.looks.discard(reader)


def main() -> int:
    """Speak frames on stdin and stdout until the connection ends; returns the exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are supervisors: the kernel reaps them
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    source, sink = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    agent = Agent(source, sink)
    hello = {"python": sys.version.split()[0], "pid": os.getpid(), "boot_id": identity.boot_id()}
    agent.send(frames.json_frame(frames.REPLY, 0, hello))
    agent.flush()
    try:
        agent.loop()
    except (EOFError, BrokenPipeError, ConnectionError):
        pass
    return 0
