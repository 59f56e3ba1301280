"""The client's side of one run: stdio on this side, frames on the other, and a link in between that may break.

Every byte has an absolute offset, on both sides. What was written here is counted; after a break the next connection is
asked to go on from there, so no byte comes twice and none is missing. Standard library only: the `hemma run` path.
"""

from __future__ import annotations

import os
import signal
import socket
import time

from manifests.commands import command
from manifests.errors import REFUSALS, ConnectionLost, UsageError, from_dict, no_answer
from remote import broker_client
from remote.agent import frames, shapes
from remote.incoming import Incoming, LinkBroke, fields_of, reply_of
from remote.refusals import HostRefused
from remote.session_input import SessionInput
from remote.stdio import wait_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from remote.stdio import Source, Write

RECEIVE_BYTES = 1 << 20
ACK_BYTES = frames.WINDOW // 4
RENEW_S = 10.0
BACKOFF_S = (0.02, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0)
# An outage shorter than this is not worth a word.
SILENT_OUTAGE_S = 2.0
# A host that never answered yet is given up much sooner than one whose run is under way.
FIRST_CONTACT_S = 20.0
FIRST_CONTACT_TRIES = 2
_STREAM_NAMES = {frames.OUT: b"stdout", frames.ERR: b"stderr"}
ESCALATION = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
# How long a person who wants to leave waits for the host to say that it has heard.
LEAVE_S = 0.8
__all__ = ["HostRefused", "LinkBroke", "Session"]


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
        self._incoming = Incoming(offsets, self._on_data, self._on_frame)
        self.give_up_s = give_up_s
        self._writers: dict[int, Write | None] = {frames.OUT: writers[0], frames.ERR: writers[1]}
        self._acknowledged = 0
        # One who attaches is not the only one who types.
        self._input = SessionInput(stdin, self._send, is_shared=request.get("verb") == "attach")
        self._notice = notice or _say_nothing
        self._sock: socket.socket | None = None
        self._is_sending = False
        self._waiting_frames: list[bytes] = []
        self._interrupts = 0
        self._is_terminated = False
        self._token = os.urandom(8)
        self._signals: list[bytes] = []
        self._was_reached = False
        self._was_tried = False
        self._first_contacts = 0
        self._end: dict[str, Any] | None = None
        self._buffer = bytearray(RECEIVE_BYTES)
        self._leave_at: float | None = None
        self._is_leave_final = False

    @property
    def offsets(self) -> dict[int, int]:
        """How many bytes of each stream have come, from its beginning."""
        return self._incoming.offsets

    # -- signals and size, called from handlers ------------------------------------------------------------------

    def interrupt(self) -> None:
        """Ctrl-C: SIGINT to the remote process group, then SIGTERM, then SIGKILL; after that we leave in any case."""
        number = ESCALATION[min(self._interrupts, len(ESCALATION) - 1)]
        self._interrupts += 1
        self.send_signal(number)
        if self._interrupts >= len(ESCALATION):
            self._leave_soon(is_final=True)

    def terminate(self) -> None:
        """SIGTERM to us is one to the command; where nothing there hears it, or a second time, we leave."""
        self.send_signal(signal.SIGTERM)
        self._leave_soon(is_final=self._leave_at is not None or self._is_terminated)
        self._is_terminated = True
        self._send(frames.frame(frames.PING, 0))

    def _leave_soon(self, *, is_final: bool) -> None:
        if self._leave_at is None:
            self._leave_at = time.monotonic() + LEAVE_S
        self._is_leave_final = self._is_leave_final or is_final

    def leave_if_due(self) -> None:
        """Raise ConnectionLost when a person wanted to leave and the host has not ended the run in time."""
        if self._leave_at is not None and time.monotonic() >= self._leave_at:
            raise ConnectionLost(
                f"left without the host's word; run {self.run_id} may go on, until its lease ends",
                remedy=command("hemma attach {}", self.run_id),
                code="left",
            )

    def is_leaving(self) -> bool:
        """Whether `leave_if_due` is to be called soon."""
        return self._leave_at is not None

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
        return self._input.is_agreed and self.reply is not None and self._sock is not None

    def _say_back(self, lost_at: float) -> None:
        if time.monotonic() - lost_at > SILENT_OUTAGE_S:
            self._notice("connected again, nothing was lost")

    def _judge_outage(self, outage_s: float, attempt: int, broke: Exception) -> None:
        if self._interrupts > 1:
            raise ConnectionLost(
                f"left while the connection was down; run {self.run_id} ends with its lease",
                remedy=command("hemma attach {}", self.run_id),
            )
        if outage_s > (self.give_up_s if self.reply is not None else min(self.give_up_s, FIRST_CONTACT_S)):
            there = self.reply is not None or self._was_reached
            raise ConnectionLost(
                f"the connection stayed down for {outage_s:.0f} s ({broke})",
                remedy=command("when it is back: hemma attach {}", self.run_id) if there else "hemma host check",
            )
        if outage_s > SILENT_OUTAGE_S and attempt and attempt % 4 == 0:
            self._notice(f"connection lost; run {self.run_id} goes on, trying again ({broke})")

    def _connect(self) -> None:
        self._sock = broker_client.connect()
        assert self._sock is not None
        self._incoming.reset()
        request = dict(self.request, is_repeated=self._was_tried)
        self._input.begin(is_again=self._was_tried)
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
        if len(opening) - frames.HEADER.size > frames.MAX_PAYLOAD:
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
        has_frames, has_input = wait_for(sock, self._input.readable(), LEAVE_S if self.is_leaving() else RENEW_S)
        self.leave_if_due()
        if has_frames:
            self._receive(sock)
        if has_input:
            self._input.read()
        if not (has_frames or has_input):
            self.renew()

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
        self._incoming.feed(memoryview(self._buffer)[:size])

    def _on_data(self, kind: int, piece: memoryview) -> None:
        write = self._writers[kind]
        if write is not None:
            try:
                write(piece)
            except OSError:
                self._stop_stream(kind)
        if sum(self.offsets.values()) + len(piece) - self._acknowledged >= ACK_BYTES:
            self.renew()

    def _stop_stream(self, kind: int) -> None:
        """Our own reader is gone: the command shall learn it from its pipe."""
        self._writers[kind] = None
        self._send(frames.frame(frames.CLOSE_STREAM, 0, _STREAM_NAMES[kind]))

    def _on_frame(self, kind: int, payload: bytes) -> None:
        if kind == frames.IN_ACK:
            self._input.on_acknowledged(frames.OFFSET.unpack(payload)[0])
        elif kind == frames.EXIT:
            self._on_end(fields_of(payload, shapes.END, "the end of a run"))
        elif kind == frames.REPLY:
            self._on_reply(payload)
        elif kind == frames.LINK_LOST:
            self._on_link_lost(fields_of(payload, shapes.LINK_LOST, "the broker's word"))
        elif kind == frames.NOTICE:
            self._on_notice(fields_of(payload, shapes.NOTICE, "a notice"))
        elif kind == frames.PONG and not self._is_leave_final:
            self._leave_at = None  # it has heard

    def _on_end(self, fields: dict[str, Any]) -> None:
        if self.reply is None:
            raise no_answer("the end of a run that it did not begin")
        if fields["sent"] != [self.offsets[frames.OUT], self.offsets[frames.ERR]]:
            raise no_answer("the end of a run before all of its output")
        if fields.get("state") == "finished" and fields.get("exit_code") is None:
            raise no_answer("the end of a run without an exit code")
        self._end = fields

    def _on_reply(self, payload: bytes) -> None:
        is_run, is_first = self.request.get("verb") == "run", self.reply is None
        shape = shapes.STARTED if is_run and is_first else shapes.ATTACHED
        fields = reply_of(payload, shape, "the reply to " + ("run" if shape is shapes.STARTED else "attach"))
        if (is_run or not is_first) and fields["run_id"] != self.run_id:
            raise no_answer(f"a reply about the run {fields['run_id']}, which was not asked for")
        self.reply = fields
        self.run_id = fields["run_id"]
        if is_first and not is_run:
            self._begin_at(fields["offsets"])
        if is_run and self.request.get("lease_s") is None and not self.request.get("follow"):
            self._end = {"state": "detached", "exit_code": 0}

    def _begin_at(self, offsets: list[int]) -> None:
        """Where the host begins: where it was asked to, or the given number of bytes before the end."""
        if "tail_bytes" not in self.request and offsets != list(self.offsets.values()):
            raise no_answer(f"output from {offsets} on; from {list(self.offsets.values())} on was asked for")
        self.offsets.update(zip((frames.OUT, frames.ERR), offsets, strict=True))

    def _on_link_lost(self, fields: dict[str, Any]) -> None:
        error = from_dict(fields, is_ours=True)
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
            self._input.close()
        elif fields.get("notice") == "input-shared":
            self._input.is_shared = True
        elif fields.get("notice") == "disk-full":
            self._notice("the host's disk is full: the command waits until there is room")
        elif fields.get("notice") == "disk-room":
            self._notice("the host's disk has room again")


def _say_nothing(_: str) -> None:
    """For sessions whose user wants no word of ours."""
