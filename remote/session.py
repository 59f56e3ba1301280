"""The client's side of one run: stdio on this side, frames on the other, and a link in between that may break.

Every byte has an absolute offset, on both sides. What was written here is counted; after a break the next connection is
asked to go on from there, so no byte comes twice and none is missing. Standard library only: the `hemma run` path.
"""

from __future__ import annotations

import os
import signal
import socket
import time

from manifests.errors import REFUSALS, ConnectionLost, HemmaError, UsageError, from_dict
from remote import broker_client
from remote.agent import frames
from remote.stdio import read_from, wait_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from remote.stdio import Source, Write

RECEIVE_BYTES = 1 << 20
ACK_BYTES = frames.WINDOW // 4
STDIN_CHUNK = 1 << 16
RENEW_S = 10.0
BACKOFF_S = (0.02, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0)
# An outage shorter than this is not worth a word.
SILENT_OUTAGE_S = 2.0
# A host that never answered yet is given up much sooner than one whose run is under way.
FIRST_CONTACT_S = 20.0
FIRST_CONTACT_TRIES = 2
_STREAM_NAMES = {frames.OUT: b"stdout", frames.ERR: b"stderr"}
ESCALATION = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)


class LinkBroke(Exception):
    """The connection ended; the run did not."""


class Session:
    """Follows one run to its end. `writers` take the bytes of stdout and stderr; `stdin` is a file to read, or None."""

    def __init__(
        self,
        target: dict[str, Any],
        request: dict[str, Any],
        writers: tuple[Write, Write],
        *,
        stdin: Source | None = None,
        notice: Callable[[str], None] | None = None,
        give_up_s: float = 600.0,
    ) -> None:
        self.target = target
        self.request = request
        self.reply: dict[str, Any] | None = None
        self.run_id = str(request.get("run_id") or request.get("run"))
        offsets = request.get("offsets") or [0, 0]
        self.offsets = {frames.OUT: int(offsets[0]), frames.ERR: int(offsets[1])}
        self.give_up_s = give_up_s
        self._writers: dict[int, Write | None] = {frames.OUT: writers[0], frames.ERR: writers[1]}
        self._acknowledged = 0
        self._stdin = stdin
        self._stdin_base = 0
        self._stdin_kept = bytearray()
        self._stdin_ended = stdin is None
        self._stdin_open = stdin is not None
        self._is_input_agreed = True
        self._notice = notice or _say_nothing
        self._sock: socket.socket | None = None
        self._is_sending = False
        self._waiting_frames: list[bytes] = []
        self._interrupts = 0
        self._token = os.urandom(8)
        self._signals: list[bytes] = []
        self._was_reached = False
        self._was_tried = False
        self._first_contacts = 0
        self._end: dict[str, Any] | None = None
        self._buffer = bytearray(RECEIVE_BYTES)
        self._head = bytearray()
        self._data_kind = 0
        self._data_left = 0

    # -- signals and size, called from handlers ------------------------------------------------------------------

    def interrupt(self) -> None:
        """Ctrl-C: SIGINT to the remote process group, the second time SIGTERM, the third time SIGKILL."""
        if self._interrupts > len(ESCALATION):
            raise KeyboardInterrupt  # nothing there to hear it: leave
        number = ESCALATION[min(self._interrupts, len(ESCALATION) - 1)]
        self._interrupts += 1
        self.send_signal(number)

    def send_signal(self, number: int) -> None:
        """Send a signal to the remote process group."""
        # Numbered, since after a break all are sent again and none may count twice.
        self._signals.append(frames.SIGNAL_PAYLOAD.pack(number, self._token, len(self._signals) + 1))
        self._send(frames.frame(frames.SIGNAL, 0, self._signals[-1]))

    def resize(self, rows: int, columns: int) -> None:
        """Tell the remote terminal its new size."""
        self._send(frames.frame(frames.RESIZE, 0, frames.SIZE.pack(rows, columns)))

    def renew(self) -> None:
        """Say that this client lives, and how far it has got. Also called while a write to our own stdout blocks."""
        if self._sock is not None and self.reply is not None and not self._is_sending:
            self._acknowledged = sum(self.offsets.values())
            self._send(
                frames.frame(frames.ACK, 0, frames.OFFSETS.pack(self.offsets[frames.OUT], self.offsets[frames.ERR]))
            )

    # -- the life of a session -----------------------------------------------------------------------------------

    def follow(self) -> dict[str, Any]:
        """Run (or attach) and pass everything through until the end; returns the final status as the host wrote it.

        Raises the HemmaError that the host or the link gave; ConnectionLost when the link stays down for give_up_s.
        """
        lost_at: float | None = None
        attempt = 0
        while self._end is None:
            try:
                self._connect()
                while self._end is None:
                    self._step()
                    if lost_at is not None and self._has_progress():
                        self._say_back(lost_at)
                        lost_at, attempt = None, 0
            except (LinkBroke, OSError) as broke:
                self._disconnect()
                now = time.monotonic()
                lost_at = now if lost_at is None else lost_at
                self._judge_outage(now - lost_at, attempt, broke)
                time.sleep(BACKOFF_S[min(attempt, len(BACKOFF_S) - 1)])
                attempt += 1
        self._disconnect()
        return self._end

    def detach(self) -> None:
        """Leave without waiting; the run goes on for as long as its lease."""
        self._disconnect()

    def _has_progress(self) -> bool:
        return self._is_input_agreed and self.reply is not None and self._sock is not None

    def _say_back(self, lost_at: float) -> None:
        if time.monotonic() - lost_at > SILENT_OUTAGE_S:
            self._notice("connected again, nothing was lost")

    def _judge_outage(self, outage_s: float, attempt: int, broke: Exception) -> None:
        if self._interrupts > 1:
            raise ConnectionLost(
                f"left while the connection was down; run {self.run_id} ends with its lease",
                remedy=f"hemma attach {self.run_id}",
            )
        if outage_s > (self.give_up_s if self.reply is not None else min(self.give_up_s, FIRST_CONTACT_S)):
            there = self.reply is not None or self._was_reached
            raise ConnectionLost(
                f"the connection stayed down for {outage_s:.0f} s ({broke})",
                remedy=f"when it is back: hemma attach {self.run_id}" if there else "hemma host check",
            )
        if outage_s > SILENT_OUTAGE_S and attempt and attempt % 4 == 0:
            self._notice(f"connection lost; run {self.run_id} goes on, trying again ({broke})")

    def _connect(self) -> None:
        self._sock = broker_client.connect()
        assert self._sock is not None
        self._head.clear()
        self._data_left = 0
        request = dict(self.request, is_repeated=self._was_tried)
        # What the host has of our input is known from its first word after a break only.
        self._is_input_agreed = not self._was_tried
        self._was_tried = True
        if self.reply is not None:
            request = {
                "verb": "attach",
                "run": self.run_id,
                "state_dir": self.request.get("state_dir"),
                "offsets": [self.offsets[frames.OUT], self.offsets[frames.ERR]],
                "hold": self.request.get("verb") == "run" or self.request.get("hold"),
                "follow": self.request.get("follow", True),
            }
        fields = {"target": self.target, "request": request, "auth_sock": os.environ.get("SSH_AUTH_SOCK")}
        opening = frames.json_frame(frames.OPEN, 0, fields)
        if len(opening) > frames.MAX_PAYLOAD:
            raise UsageError(
                f"arguments and environment of {len(opening) >> 20} MiB are more than any kernel takes",
                remedy="put them into a file, or send them on stdin",
            )
        self._waiting_frames.clear()
        self._send(opening)
        for signal_payload in self._signals:
            self._send(frames.frame(frames.SIGNAL, 0, signal_payload))
        for kind, write in self._writers.items():
            if write is None:
                self._send(frames.frame(frames.CLOSE_STREAM, 0, _STREAM_NAMES[kind]))

    def _disconnect(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _step(self) -> None:
        """Wait for something to do and do it. Raises LinkBroke or OSError when the connection is gone."""
        sock = self._sock
        assert sock is not None
        stdin = self._stdin if self._may_read_stdin() else None
        has_frames, has_input = wait_for(sock, stdin, RENEW_S)
        if has_frames:
            self._receive(sock)
        if has_input:
            self._read_stdin()
        if not (has_frames or has_input):
            self.renew()

    # -- input ---------------------------------------------------------------------------------------------------

    def _may_read_stdin(self) -> bool:
        return (
            self._stdin_open
            and not self._stdin_ended
            and self._is_input_agreed
            and len(self._stdin_kept) < frames.INPUT_WINDOW
        )

    def _read_stdin(self) -> None:
        assert self._stdin is not None
        data = read_from(self._stdin)
        if data is None:
            return
        if data:
            offset = self._stdin_base + len(self._stdin_kept)
            self._stdin_kept += data
            self._send(frames.frame(frames.IN, 0, frames.OFFSET.pack(offset) + data))
        else:
            self._stdin_ended = True
            self._send(frames.frame(frames.IN_EOF, 0))

    def _on_input_acknowledged(self, offset: int) -> None:
        if offset > self._stdin_base:
            del self._stdin_kept[: offset - self._stdin_base]
            self._stdin_base = offset
        if not self._is_input_agreed:
            self._is_input_agreed = True
            for start in range(0, len(self._stdin_kept), STDIN_CHUNK):
                piece = bytes(self._stdin_kept[start : start + STDIN_CHUNK])
                self._send(frames.frame(frames.IN, 0, frames.OFFSET.pack(self._stdin_base + start) + piece))
            if self._stdin_ended and self._stdin is not None:
                self._send(frames.frame(frames.IN_EOF, 0))

    # -- frames out ----------------------------------------------------------------------------------------------

    def _send(self, data: bytes) -> None:
        """Send a frame whole. A signal handler that fires within a send only queues its own."""
        self._waiting_frames.append(data)
        if self._is_sending or self._sock is None:
            return
        self._is_sending = True
        try:
            while self._waiting_frames:
                self._sock.sendall(self._waiting_frames.pop(0))
        except OSError:
            pass  # the receiving side notices the break and decides
        finally:
            self._is_sending = False

    # -- frames in -----------------------------------------------------------------------------------------------

    def _receive(self, sock: socket.socket) -> None:
        size = sock.recv_into(self._buffer)
        if size == 0:
            raise LinkBroke("the broker went away")
        view = memoryview(self._buffer)[:size]
        position = 0
        while position < size:
            if self._data_left:
                position += self._take_data(view[position : position + self._data_left])
            else:
                position += self._take_head(view[position:])

    def _take_data(self, piece: memoryview) -> int:
        """Pass a piece of output on, as it is, without waiting for the rest of its frame."""
        self._data_left -= len(piece)
        write = self._writers[self._data_kind]
        if write is not None:
            try:
                write(piece)
            except OSError:
                self._stop_stream(self._data_kind)
        self.offsets[self._data_kind] += len(piece)
        if sum(self.offsets.values()) - self._acknowledged >= ACK_BYTES:
            self.renew()
        return len(piece)

    def _stop_stream(self, kind: int) -> None:
        """Our own reader is gone: the command shall learn it from its pipe."""
        self._writers[kind] = None
        self._send(frames.frame(frames.CLOSE_STREAM, 0, _STREAM_NAMES[kind]))

    def _take_head(self, view: memoryview) -> int:
        """Collect a frame's head, or a whole small frame; returns how many bytes were used."""
        needed = frames.HEADER.size
        if len(self._head) >= needed:
            kind, _, length = frames.HEADER.unpack_from(self._head)
            needed += frames.OFFSET.size if kind in self.offsets else length
        taken = bytes(view[: needed - len(self._head)])
        self._head += taken
        if len(self._head) >= frames.HEADER.size:
            kind, _, length = frames.HEADER.unpack_from(self._head)
            self._finish_head(kind, length)
        return len(taken)

    def _finish_head(self, kind: int, length: int) -> None:
        body = len(self._head) - frames.HEADER.size
        if kind in self.offsets and body == frames.OFFSET.size:
            offset = frames.OFFSET.unpack_from(self._head, frames.HEADER.size)[0]
            if offset != self.offsets[kind]:
                raise LinkBroke(f"the host sent offset {offset} instead of {self.offsets[kind]}")
            self._data_kind, self._data_left = kind, length - frames.OFFSET.size
            self._head.clear()
        elif kind not in self.offsets and body == length:
            payload = bytes(self._head[frames.HEADER.size :])
            self._head.clear()
            self._on_frame(kind, payload)

    def _on_frame(self, kind: int, payload: bytes) -> None:
        if kind == frames.IN_ACK:
            self._on_input_acknowledged(frames.OFFSET.unpack(payload)[0])
        elif kind == frames.EXIT:
            self._end = dict(frames.fields_of(payload))
        elif kind == frames.REPLY:
            self._on_reply(dict(frames.fields_of(payload)))
        elif kind == frames.LINK_LOST:
            self._on_link_lost(dict(frames.fields_of(payload)))
        elif kind == frames.NOTICE:
            self._on_notice(dict(frames.fields_of(payload)))

    def _on_reply(self, fields: dict[str, Any]) -> None:
        if "error" in fields:
            raise refusal_of(fields)
        is_first = self.reply is None
        self.reply = fields
        if is_first and "run_id" in fields:
            self.run_id = str(fields["run_id"])
            sent = fields.get("offsets")
            if isinstance(sent, list):
                self.offsets = {frames.OUT: int(sent[0]), frames.ERR: int(sent[1])}
        if self.request.get("verb") == "run" and self.request.get("lease_s") is None and not self.request.get("follow"):
            self._end = {"state": "detached", "exit_code": 0}

    def _on_link_lost(self, fields: dict[str, Any]) -> None:
        error = from_dict(fields)
        is_first = self.reply is None and not self._was_reached
        if fields.get("is_final") and (is_first or isinstance(error, REFUSALS)):
            raise error
        self._first_contacts += 1 if is_first and fields.get("is_first_contact") else 0
        if is_first and self._first_contacts >= FIRST_CONTACT_TRIES:
            raise error
        # Whether our request arrived before the break is not known, so it is made again.
        self._was_reached = self._was_reached or not fields.get("is_first_contact")
        raise LinkBroke(error.message)

    def _on_notice(self, fields: dict[str, Any]) -> None:
        if fields.get("notice") == "stdin-closed":
            self._stdin_open = False
            self._stdin_kept.clear()
        elif fields.get("notice") == "disk-full":
            self._notice("the host's disk is full: the command waits until there is room")
        elif fields.get("notice") == "disk-room":
            self._notice("the host's disk has room again")


class HostRefused(HemmaError):
    """The host did not do what was asked; `fields` has everything it said, e.g. the guard's facts."""

    def __init__(self, fields: dict[str, Any]) -> None:
        known = from_dict(fields)
        super().__init__(known.message, remedy=known.remedy, exit_code=known.exit_code, code=known.code)
        self.fields = fields


def refusal_of(fields: dict[str, Any]) -> HemmaError:
    """The error a reply carries, with its facts."""
    return HostRefused(fields)


def _say_nothing(_: str) -> None:
    """For sessions whose user wants no word of ours."""
