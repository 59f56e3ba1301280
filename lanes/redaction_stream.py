"""Secrets masked in a stream of bytes: where it was cut into pieces hides none of them (S20-R03).

What is not a whole line yet waits, as does an armoured key until its end and a line that leads to a value on the next one.
A line without end goes on in parts, never cut within a secret.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from lanes.redaction import redact, redact_up_to

LONGEST_LINE = 1 << 20
_LONGEST_KEY = 1 << 16
_OVERLAP = 4096
_KEY_BEGINS = re.compile(rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?![\s\S]*-----END )")
_LEADS_ON = re.compile(
    rb"(?i)(?:(?:token|secret|passw(?:or)?d|passphrase|key|credentials?)[\"']?\s{0,3}[:=]\s*|(?:login|account)\s+\S+\s*|\\)\r?\n\Z"
)


class MaskedStream:
    """Bytes in, the same bytes without secrets out, a line at a time at most. `known` are values to mask by themselves."""

    def __init__(self, known: Collection[str] = (), longest: int = LONGEST_LINE) -> None:
        self._known, self._longest = tuple(known), max(longest, 2 * _OVERLAP)
        self._rest = bytearray()

    def feed(self, piece: bytes) -> bytes:
        """What can be said now of what came so far; the rest waits for the next piece."""
        self._rest += piece
        # A bar of progress ends in a return.
        end = max(self._rest.rfind(b"\n", -len(piece) or None), self._rest.rfind(b"\r", -len(piece) or None)) + 1
        end = self._before_what_waits(end)
        if end:
            return self._said(end)
        return self._part() if len(self._rest) > self._longest else b""

    def end(self) -> bytes:
        """What waited, at the end of the stream."""
        return self._said(len(self._rest))

    def _before_what_waits(self, end: int) -> int:
        if not end:
            return 0
        key = _KEY_BEGINS.search(self._rest)
        if key and len(self._rest) - key.start() < _LONGEST_KEY:
            # From the beginning of its line: what leads to it there is masked with it.
            return min(end, self._rest.rfind(b"\n", 0, key.start()) + 1)
        line = self._rest.rfind(b"\n", 0, end - 1) + 1
        return line if _LEADS_ON.search(self._rest, line, end) and end - line < _OVERLAP else end

    def _said(self, end: int) -> bytes:
        text = bytes(self._rest[:end]).decode("utf-8", "surrogateescape")
        del self._rest[:end]
        return redact(text, self._known).text.encode("utf-8", "surrogateescape")

    def _part(self) -> bytes:
        """All of a line without end but its last part, and no part of a secret."""
        text = bytes(self._rest).decode("utf-8", "surrogateescape")
        masked, at = redact_up_to(text, len(text) - _OVERLAP, self._known)
        self._rest = bytearray(text[at:].encode("utf-8", "surrogateescape"))
        return masked.encode("utf-8", "surrogateescape")
