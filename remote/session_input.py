"""The input of a followed run: what is read of our stdin, and what of it the host has said that it took.

Every byte has its offset, so that after a break none comes twice and none is missing. Standard library only: the
`hemma run` path.
"""

from __future__ import annotations

from manifests.errors import no_answer
from remote.agent import frames
from remote.stdio import read_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from remote.stdio import Source

CHUNK = 1 << 16


class SessionInput:
    """`send(frame)` puts a frame on the wire. `is_shared`: another client may type as well, so offsets may run ahead of us."""

    def __init__(self, source: Source | None, send: Callable[[bytes], None], *, is_shared: bool) -> None:
        self.is_shared = is_shared
        self.is_agreed = True
        self._source = source
        self._send = send
        self._base = 0
        self._kept = bytearray()
        self._is_ended = source is None
        self._is_open = source is not None

    def begin(self, *, is_again: bool) -> None:
        """A connection begins. What the host has of our input is known from its first word after a break only."""
        is_late = self.is_shared and self._source is not None  # others may have typed before us
        self.is_agreed = not (is_again or is_late)

    def readable(self) -> Source | None:
        """What to wait for, or None while nothing may be read."""
        may = self._is_open and not self._is_ended and self.is_agreed and len(self._kept) < frames.INPUT_WINDOW
        return self._source if may else None

    def read(self) -> None:
        """Read what there is and send it, or say that it has ended."""
        assert self._source is not None
        data = read_from(self._source)
        if data is None:
            return
        if data:
            offset = self._base + len(self._kept)
            self._kept += data
            self._send(frames.frame(frames.IN, 0, frames.OFFSET.pack(offset) + data))
        else:
            self._is_ended = True
            self._send(frames.frame(frames.IN_EOF, 0))

    def close(self) -> None:
        """The command reads no more."""
        self._is_open = False
        self._kept.clear()

    def on_acknowledged(self, offset: int) -> None:
        """The command has taken our input up to `offset`. Raises NoAnswer when that is more than there was."""
        if self._is_open and offset > self._base + len(self._kept) and not self.is_shared:
            raise no_answer(f"that it took {offset} bytes of input; {self._base + len(self._kept)} were sent")
        if offset > self._base:
            del self._kept[: offset - self._base]
            self._base = offset
        if not self.is_agreed:
            self.is_agreed = True
            self._send_again()

    def _send_again(self) -> None:
        for start in range(0, len(self._kept), CHUNK):
            piece = bytes(self._kept[start : start + CHUNK])
            self._send(frames.frame(frames.IN, 0, frames.OFFSET.pack(self._base + start) + piece))
        if self._is_ended and self._source is not None:
            self._send(frames.frame(frames.IN_EOF, 0))
