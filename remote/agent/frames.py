"""The wire format, once, for both sides: client <-> broker <-> agent <-> supervisor.

A frame is kind (1 byte), channel (4 bytes), payload length (4 bytes), payload. Requests, replies and ends are JSON; output
and input carry an 8-byte absolute offset before their bytes, so that a repeated or missing byte is visible to the reader.
Strings that came from bytes travel as UTF-8 with surrogate escapes, hence any argv and any environment value survives.

Each side takes the other for a stranger: a kind it may not send, a length its kind cannot have, JSON that is too deep or
holds too much are BadFrame, before anything is allocated for them. What the JSON then says is shapes.py's.
"""

from __future__ import annotations

import json
import re
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

# What one question may bring back in all, in bytes, and how many values its JSON may hold.
MAX_ANSWER = 24 << 20
MAX_VALUES = 400_000
# Of one frame's JSON: arguments and environment of the kernel's largest size, a word for every eight bytes.
FRAME_VALUES = 300_000
# No word of ours nests deeper than ten.
MAX_DEPTH = 32
_DIGITS = 20

_NONE, _SMALL, _JSON = (0, 0), (2, 1 << 16), (2, 1 << 20)
_OUTPUT = (OFFSET.size, OFFSET.size + CHUNK)
# (least, most) bytes of a payload, by kind; a kind that is not there may not come from that side.
TO_HOST = {
    OPEN: (2, MAX_PAYLOAD),
    IN: _OUTPUT,
    IN_EOF: _NONE,
    SIGNAL: (SIGNAL_PAYLOAD.size, SIGNAL_PAYLOAD.size),
    RESIZE: (SIZE.size, SIZE.size),
    ACK: (OFFSETS.size, OFFSETS.size),
    CLOSE: _NONE,
    CLOSE_STREAM: (6, 6),
    PING: (0, 64),
}
FROM_HOST = {
    REPLY: (2, 1 << 20),
    OUT: _OUTPUT,
    ERR: _OUTPUT,
    IN_ACK: (OFFSET.size, OFFSET.size),
    EXIT: _JSON,
    NOTICE: _SMALL,
    PONG: (0, 64),
}
FROM_BROKER = {**FROM_HOST, LINK_LOST: _SMALL}
FROM_SUPERVISOR = {
    GREW: (OFFSETS.size, OFFSETS.size),
    IN_ACK: (OFFSET.size, OFFSET.size),
    EXIT: _JSON,
    NOTICE: _SMALL,
}

# What the first stage says before anything else; banners and noisy start-up files before it are skipped.
MAGIC = b"\x00hemma\x01\xf5"


class BadFrame(Exception):
    """The peer sent something that is no frame: another version, or noise on the channel."""


def frame(kind: int, channel: int, payload: bytes = b"") -> bytes:
    """One encoded frame."""
    return HEADER.pack(kind, channel, len(payload)) + payload


def json_frame(kind: int, channel: int, fields: Mapping[str, object]) -> bytes:
    """One encoded frame whose payload is `fields` as JSON."""
    return frame(kind, channel, json_of(fields))


def json_of(fields: Mapping[str, object]) -> bytes:
    """`fields` as ASCII JSON (surrogates escaped, so any bytes survive)."""
    return json.dumps(fields, separators=(",", ":")).encode("ascii")


def fields_of(payload: bytes | bytearray, most_values: int = FRAME_VALUES) -> dict[str, object]:
    """The JSON object of a payload, bounded in depth and in how many values it holds. Raises BadFrame when it is none."""
    if _count_of(payload) > most_values and _exact_count(payload, most_values) > most_values:
        raise BadFrame("JSON of more than %d values" % most_values)
    try:
        fields = _DECODER.decode(payload.decode("utf-8"))
        if b"\\ud" in payload or b"\\uD" in payload:
            json.dumps(fields, ensure_ascii=False).encode("utf-8", "surrogateescape")  # no half of a pair
    except RecursionError:
        raise BadFrame("JSON that is nested too deep") from None
    except UnicodeError:
        raise BadFrame("text that stands for no bytes") from None
    except ValueError:
        raise BadFrame("no JSON") from None
    if not isinstance(fields, dict):
        raise BadFrame("JSON that is no object")
    if payload.count(b"[") + payload.count(b"{") > MAX_DEPTH and is_deep(fields):
        raise BadFrame("JSON that is nested too deep")
    return fields


def _count_of(payload: bytes | bytearray) -> int:
    """No fewer than the values in this JSON; more where its texts hold such letters."""
    return payload.count(b",") + payload.count(b"[") + payload.count(b"{")


def _exact_count(payload: bytes | bytearray, most: int) -> int:
    """The same without what stands in texts; ends early beyond `most`."""
    found = 0
    for token in _TOKEN.finditer(payload):
        found += token[0][:1] != b'"'
        if found > most:
            break
    return found


def is_deep(fields: dict[str, object]) -> bool:
    """Whether this nests deeper than any word of ours."""
    level: list[object] = [fields]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError
    return int(digits)


def _fraction(digits: str) -> float:
    number = float(digits)
    if len(digits) > 64 or number - number != 0:  # 1e999 is read as infinity
        raise ValueError
    return number


def _no_number(word: str) -> float:
    raise ValueError(word)


_DECODER = json.JSONDecoder(parse_int=_whole, parse_float=_fraction, parse_constant=_no_number)
# A text that never ends is taken to the end, so that no letter is looked at twice.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[{,]', re.DOTALL)


def text_of(raw: bytes) -> str:
    """Bytes as text that JSON can carry and `bytes_of` turns back exactly."""
    return raw.decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    """The bytes that `text_of` was given."""
    return text.encode("utf-8", "surrogateescape")


def check(kind: int, length: int, limits: Mapping[int, tuple[int, int]]) -> None:
    """Raise BadFrame unless a frame of this kind may have this length, by a table of this module."""
    limit = limits.get(kind)
    if limit is None:
        raise BadFrame("a frame of kind %d" % kind)
    if not limit[0] <= length <= limit[1]:
        raise BadFrame("a frame of kind %d with %d bytes" % (kind, length))


class Parser:
    """Cuts a byte stream into frames; keeps the incomplete rest between calls. `limits`: what the other side may send."""

    def __init__(self, limits: Mapping[int, tuple[int, int]]) -> None:
        self._rest = bytearray()
        self._limits = limits

    def feed(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """All frames that are complete now, as (kind, channel, payload). Raises BadFrame for one that may not come."""
        self._rest += data
        found = []
        start = 0
        while len(self._rest) - start >= HEADER.size:
            kind, channel, length = HEADER.unpack_from(self._rest, start)
            check(kind, length, self._limits)
            end = start + HEADER.size + length
            if len(self._rest) < end:
                break
            found.append((kind, channel, bytes(memoryview(self._rest)[start + HEADER.size : end])))
            start = end
        if start:
            del self._rest[:start]
        return found
