"""One warm SSH connection to a host with the agent at its other end, shared by every client of the broker.

Frames from the agent are routed in paramiko's own thread, straight from the decrypted packet to the client's socket: no
second thread and no second buffer in between (benchmarks/NOTES.md has what that gains).
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, Protocol

import paramiko
from paramiko.buffered_pipe import BufferedPipe
from paramiko.common import cMSG_CHANNEL_WINDOW_ADJUST

from lanes.connection_failures import Stage
from manifests.errors import AgentUnavailable, HemmaError, HostDiskFull, Unreachable, no_answer
from remote import connection, delivery, ssh_config
from remote.agent import frames, shapes
from remote.incoming import fields_of

_START_TIMEOUT_S = 30.0
_STDERR_KEPT = 4096
# How long the shell may take to say how it ended, once it has closed its streams.
_STATUS_TIMEOUT_S = 1.0
# The longest word of a first stage: a path and why it cannot be written.
_WORD_BYTES = 1 << 14
# What may wait to be sent: a few of the largest parts of a file.
_FULL_BYTES = 32 << 20
# How soon a closed channel is noticed when there is nothing to send.
_TICK_S = 0.2
# Often enough for the agent, which leaves after two minutes of silence (serve.SILENCE_S), and for any firewall.
_PING_S = 20.0
# The wall clock went on and ours did not: the machine slept, and the connection is dead more often than not.
_SLEPT_S = 15.0


class Receiver(Protocol):
    """Where a channel's frames go."""

    def take(self, pieces: list[bytes | memoryview]) -> None:
        """Accept bytes of frames addressed to this receiver, in order."""

    def lost(self, error: HemmaError | None) -> None:
        """The link is gone; no more frames will come."""

    def hang_up(self) -> None:
        """The link broke within a frame to this receiver: only the end of its connection can tell it so."""


class _Router(BufferedPipe):  # type: ignore[type-arg]
    """The channel's input buffer, replaced: cuts the stream at frame borders and hands each part to its receiver."""

    def __init__(self, deliver: Callable[[int, int, bytes], Receiver | None]) -> None:
        super().__init__()
        self._deliver = deliver
        self._head = bytearray()
        self._left = 0
        self._target: Receiver | None = None
        self.received = 0
        self.fault: HemmaError | None = None

    def feed(self, data: bytes) -> None:
        """Route one SSH packet's payload."""
        self.received += len(data)
        if self.fault is not None:
            return
        view, position = memoryview(data), 0
        batch: dict[int, tuple[Receiver, list[bytes | memoryview]]] = {}
        while position < len(view):
            if self._left == 0:
                position = self._read_head(view, position, batch)
                if self.fault is not None:
                    break
                continue
            piece = view[position : position + self._left]
            position += len(piece)
            self._left -= len(piece)
            self._put(batch, piece)
        for receiver, pieces in batch.values():
            receiver.take(pieces)

    def torn(self) -> Receiver | None:
        """Who has received only a part of a frame."""
        return self._target if self._left else None

    def _read_head(self, view: memoryview, position: int, batch: dict[int, Any]) -> int:
        taken = view[position : position + frames.HEADER.size - len(self._head)]
        self._head += taken
        if len(self._head) == frames.HEADER.size:
            head = bytes(self._head)
            self._head.clear()
            kind, channel, length = frames.HEADER.unpack(head)
            try:
                frames.check(kind, length, frames.FROM_HOST)
            except frames.BadFrame as bad:
                self.fault = no_answer(bad)  # nothing after it can be read
                return position + len(taken)
            self._left = length
            self._target = self._deliver(kind, channel, head)
            self._put(batch, head)
        return position + len(taken)

    def _put(self, batch: dict[int, Any], piece: bytes | memoryview) -> None:
        if self._target is not None:
            batch.setdefault(id(self._target), (self._target, []))[1].append(piece)


class Link:
    """A connection that is being made, is up, or is gone. Thread-safe."""

    def __init__(self, spec: dict[str, Any], on_gone: Callable[[Link], None]) -> None:
        self.spec = spec
        self.is_gone = False
        self.agent: dict[str, Any] = {}
        self.connected_s = 0.0
        self._on_gone = on_gone
        self._chain: list[Any] = []
        self._channel: paramiko.Channel | None = None
        self._router = _Router(self._receiver)
        self._receivers: dict[int, Receiver] = {}
        self._next = 1
        self._lock = threading.Lock()
        self._is_told = False  # that the link is gone, to all who waited for it
        self._error: HemmaError | None = None
        self._credited = 0
        self._queued = 0
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._keepalive_s = float(spec.get("keepalive_s") or 15)
        self._heard = (0, time.monotonic())
        self._is_asked = False
        self._asked_s = 0.0
        self._checked = (time.monotonic(), time.time())
        self._thread = threading.Thread(target=self._run, daemon=True, name="hemma-link")
        self._thread.start()

    def open(self, receiver: Receiver, request: dict[str, Any]) -> int:
        """Start a channel with this request; returns its number. What is sent before the link is up waits."""
        with self._lock:
            channel = self._next
            self._next += 1
            is_late = self._is_told  # a link can fail before its first client has come to it
            if not is_late:
                self._receivers[channel] = receiver
        if is_late:
            receiver.lost(self._error)
        else:
            self.send(frames.json_frame(frames.OPEN, channel, request))
        return channel

    def send(self, data: bytes) -> None:
        """Queue bytes for the agent."""
        with self._lock:
            self._queued += len(data)
        self._outbox.put(data)

    def is_full(self) -> bool:
        """Whether so much waits to be sent that its clients are to wait as well."""
        return self._queued > _FULL_BYTES and not self.is_gone

    def forget(self, channel: int) -> None:
        """The receiver of this channel is gone: tell the agent; the run goes on without it."""
        with self._lock:
            known = self._receivers.pop(channel, None)
        if known is not None:
            self.send(frames.frame(frames.CLOSE, channel))

    def has_channels(self) -> bool:
        """Whether any client uses the link now."""
        return bool(self._receivers)

    def close(self) -> None:
        """Take the link down."""
        self._outbox.put(None)

    def check(self) -> None:
        """Notice a link that has gone silent, or that this machine slept through; called about once a second."""
        now, wall = time.monotonic(), time.time()
        has_slept = abs((wall - self._checked[1]) - (now - self._checked[0])) > _SLEPT_S
        self._checked = (now, wall)
        if self._channel is None or self.is_gone:
            return
        if self._router.received != self._heard[0]:
            self._heard, self._is_asked = (self._router.received, now), False
        silence_s = now - self._heard[1]
        is_overdue = self._is_asked and now - self._asked_s > self._keepalive_s * 2 / 3
        if has_slept or is_overdue:
            self._abort()
        elif silence_s > min(self._keepalive_s / 3, _PING_S) and not self._is_asked:
            self._is_asked, self._asked_s = True, now
            self.send(frames.frame(frames.PING, 0))

    # -- private -----------------------------------------------------------------------------------------------------

    def _receiver(self, kind: int, channel: int, head: bytes) -> Receiver | None:
        if kind == frames.EXIT:
            with self._lock:
                return self._receivers.pop(channel, None)
        return self._receivers.get(channel)

    def _run(self) -> None:
        error: HemmaError | None = None
        try:
            self._chain = connection.connect(self.spec)
            self._start_agent()
            self._write_loop()
        except HemmaError as refused:
            error = refused
        except (paramiko.SSHException, OSError, EOFError):
            pass
        except Exception as surprise:  # noqa: BLE001 - a thread: it must end as an error of its clients
            traceback.print_exc()  # the broker's log
            error = Unreachable(
                f"the broker failed: {surprise!r}", remedy="see broker.log in Hemma's state folder", exit_code=70
            )
        finally:
            self._go(error)

    def _go(self, error: HemmaError | None) -> None:
        self.is_gone = True
        self._on_gone(self)
        with self._lock:
            self._is_told, self._error = True, error
            receivers = list(self._receivers.values())
            self._receivers.clear()
        torn = self._router.torn()
        if torn is not None:
            torn.hang_up()
        for receiver in receivers:
            if receiver is not torn:
                receiver.lost(error)
        connection.close(self._chain)

    def _abort(self) -> None:
        """Close the socket under paramiko: both its thread and a send that waits for the peer end at once."""
        try:
            self._chain[-1].transport.sock.close()
        except (OSError, EOFError, AttributeError):
            pass
        self._outbox.put(None)

    def _write_loop(self) -> None:
        """Send what is queued and give the window back, until the channel ends or `close` is called."""
        channel = self._channel
        assert channel is not None
        while not (channel.closed or channel.eof_received):
            try:
                data = self._outbox.get(timeout=_TICK_S)
                if data is None:
                    return
                channel.sendall(data)
                with self._lock:
                    self._queued -= len(data)
            except queue.Empty:
                pass
            if self._router.fault is not None:
                raise self._router.fault
            self._give_window_back(channel)

    def _give_window_back(self, channel: paramiko.Channel) -> None:
        """What Channel.recv does after a read; the router reads past it, so it is done here, outside paramiko's thread."""
        taken = self._router.received - self._credited
        if not taken:
            return
        self._credited = self._router.received
        credit = channel._check_add_window(taken)  # type: ignore[attr-defined,union-attr] # noqa: SLF001
        if credit > 0:
            message = paramiko.Message()
            message.add_byte(cMSG_CHANNEL_WINDOW_ADJUST)
            message.add_int(channel.remote_chanid)
            message.add_int(credit)
            channel.transport._send_user_message(message)  # type: ignore[attr-defined,union-attr] # noqa: SLF001

    def _start_agent(self) -> None:
        transport = self._chain[-1].transport
        try:
            channel = transport.open_session(
                window_size=connection.WINDOW_BYTES, max_packet_size=connection.PACKET_BYTES
            )
            channel.settimeout(_START_TIMEOUT_S)
            channel.exec_command(delivery.command_line(str(self.spec.get("python") or "python3")))
        except paramiko.SSHException as error:
            raise self._failure(Stage.SESSION, str(error), transport.goodbye) from error
        _say(channel, delivery.greeting(self.spec.get("state_dir")))
        self.agent = self._hello(channel, self._first_words(channel))
        # After its hello the agent says nothing until it is asked, so nothing can fall between the two buffers.
        channel.in_buffer = self._router
        self._channel = channel
        channel.settimeout(None)
        self.connected_s = time.monotonic()
        self._heard = (self._router.received, self.connected_s)

    def _first_words(self, channel: paramiko.Channel) -> bytes:
        """Get the agent running: answer its first stage until it is ready; returns bytes that came after that."""
        noise, is_sent = b"", False
        while True:
            word, noise = self._next_word(channel, noise)
            if word == "SEND" and not is_sent:
                is_sent = True
                _say(channel, delivery.agent_zip()[0])
            elif word == "READY":
                return noise
            else:
                raise _refusal(word)

    def _hello(self, channel: paramiko.Channel, data: bytes) -> dict[str, Any]:
        parser, until_s = frames.Parser(frames.FROM_HOST), time.monotonic() + _START_TIMEOUT_S
        while True:
            try:
                for _, _, payload in parser.feed(data):
                    return fields_of(payload, shapes.HELLO, "the agent's first word")
            except frames.BadFrame as bad:
                raise no_answer(bad) from None
            data = self._receive(channel, until_s)

    def _next_word(self, channel: paramiko.Channel, data: bytes) -> tuple[str, bytes]:
        until_s = time.monotonic() + _START_TIMEOUT_S
        while True:
            _, magic, after = data.partition(frames.MAGIC)
            if magic and b"\n" in after:
                word, _, rest = after.partition(b"\n")
                return word.decode("utf-8", "replace"), rest
            if len(after) > _WORD_BYTES:
                raise no_answer("a first word without an end")
            piece = self._receive(channel, until_s, data)
            data = (data + piece)[-(1 << 20) :] if not magic else data + piece

    def _receive(self, channel: paramiko.Channel, until_s: float, before: bytes = b"") -> bytes:
        try:
            if time.monotonic() > until_s:  # start-up files that print without an end
                raise TimeoutError
            piece = channel.recv(1 << 16)
        except TimeoutError:
            raise AgentUnavailable(
                "the host did not start the agent in time", remedy="hemma host check; is the host overloaded?"
            ) from None
        if not piece:
            raise self._no_agent(channel, before)
        return piece

    def _no_agent(self, channel: paramiko.Channel, stdout: bytes) -> HemmaError:
        """Why no agent spoke: by the exit status of the account's shell and by what it wrote, on either stream."""
        has_ended = channel.status_event.wait(_STATUS_TIMEOUT_S) and channel.exit_status >= 0
        stderr = channel.in_stderr_buffer.read(_STDERR_KEPT, 1.0) if channel.recv_stderr_ready() else b""
        said = (stdout[-_STDERR_KEPT:] + b"\n" + stderr).decode("utf-8", "replace").strip()
        return self._failure(Stage.START, "", said, channel.exit_status if has_ended else None)

    def _failure(self, stage: Stage, error: str, said: str, status: int | None = None) -> HemmaError:
        target = ssh_config.resolve(str(self.spec["ssh"]), self.spec.get("ssh_config"))
        python = str(self.spec.get("python") or "python3")
        return connection.failure(target, stage, error, said, status=status, python=python)


def _say(channel: paramiko.Channel, data: bytes) -> None:
    """Send what the agent's start needs; where nobody takes it any more, what the host said instead is read next."""
    with contextlib.suppress(OSError):
        channel.sendall(data)


def _refusal(word: str) -> HemmaError:
    kind, _, detail = word.partition(" ")
    if kind == "OLD":
        return AgentUnavailable(
            f"python3 on the host is {detail}; the agent needs 3.9 or newer",
            remedy='name a newer one: python = "/path/to/python3.11" in [tool.hemma]',
        )
    if kind == "DISK" and "No space" in detail:
        return HostDiskFull(
            f"the host has no room for the agent: {detail}",
            remedy="free some space there, or name another folder: host.state_dir (hemma config)",
        )
    if kind == "DISK":
        return AgentUnavailable(
            f"the agent cannot be stored on the host: {detail}",
            remedy="make that folder writable for your user, or name another: host.state_dir (hemma config)",
        )
    return AgentUnavailable(f"the agent did not arrive whole ({word})", remedy="try again")
