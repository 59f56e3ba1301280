"""The wire format, once, for both sides: client <-> broker <-> agent <-> supervisor.

A frame is kind (1 byte), channel (4 bytes), payload length (4 bytes), payload. Requests, replies and ends are JSON; output
and input carry an 8-byte absolute offset before their bytes, so that a repeated or missing byte is visible to the reader.
Strings that came from bytes travel as UTF-8 with surrogate escapes, hence any argv and any environment value survives.
"""

from __future__ import annotations

import json
import struct

TYPE_CHECKING = False  # typing itself is not imported: it would be a tenth of a warm `hemma run`
if TYPE_CHECKING:
    from typing import Mapping

HEADER = struct.Struct(">BII")
OFFSET = struct.Struct(">Q")
OFFSETS = struct.Struct(">QQ")
SIZE = struct.Struct(">HH")
# A signal's number, who sends it, and its place among that sender's signals.
SIGNAL_PAYLOAD = struct.Struct(">B8sI")

# An argv and environment of the kernel's largest size fit, even where each byte takes six in JSON.
MAX_PAYLOAD = 16 << 20
CHUNK = 1 << 18

# Kinds. The direction is client -> host for the first group, host -> client for the second.
OPEN, IN, IN_EOF, SIGNAL, RESIZE, ACK, CLOSE, CLOSE_STREAM, PING = 1, 2, 3, 4, 5, 6, 7, 8, 9
REPLY, OUT, ERR, IN_ACK, EXIT, NOTICE, PONG, GREW, LINK_LOST = 17, 18, 19, 20, 21, 22, 23, 24, 25

# Bytes in flight per stream before the host waits for the client's acknowledgement.
WINDOW = 8 << 20
# Unacknowledged input a client keeps, to send it again after a reconnect.
INPUT_WINDOW = 1 << 20

# What the first stage says before anything else; banners and noisy start-up files before it are skipped.
MAGIC = b"\x00hemma\x01\xf5"


class BadFrame(Exception):
    """The peer sent something that is no frame: another version, or noise on the channel."""


def frame(kind: int, channel: int, payload: bytes = b"") -> bytes:
    """One encoded frame."""
    return HEADER.pack(kind, channel, len(payload)) + payload


def json_frame(kind: int, channel: int, fields: Mapping[str, object]) -> bytes:
    """One encoded frame whose payload is `fields` as ASCII JSON (surrogates escaped, so any bytes survive)."""
    return frame(kind, channel, json.dumps(fields, separators=(",", ":")).encode("ascii"))


def fields_of(payload: bytes) -> dict[str, object]:
    """The JSON object of a payload. Raises BadFrame when it is none."""
    try:
        fields = json.loads(payload)
    except ValueError as error:
        raise BadFrame(str(error)) from None
    if not isinstance(fields, dict):
        raise BadFrame("a frame's payload is not a JSON object")
    return fields


def text_of(raw: bytes) -> str:
    """Bytes as text that JSON can carry and `bytes_of` turns back exactly."""
    return raw.decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    """The bytes that `text_of` was given."""
    return text.encode("utf-8", "surrogateescape")


class Parser:
    """Cuts a byte stream into frames; keeps the incomplete rest between calls."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """All frames that are complete now, as (kind, channel, payload). Raises BadFrame on an impossible length."""
        self._rest += data
        found = []
        start = 0
        while len(self._rest) - start >= HEADER.size:
            kind, channel, length = HEADER.unpack_from(self._rest, start)
            if length > MAX_PAYLOAD:
                raise BadFrame("a frame of %d bytes" % length)
            end = start + HEADER.size + length
            if len(self._rest) < end:
                break
            found.append((kind, channel, bytes(memoryview(self._rest)[start + HEADER.size : end])))
            start = end
        if start:
            del self._rest[:start]
        return found
