"""The client's ear: cuts what the broker passes on into frames, and checks each against what has come before.

Output is handed on as it arrives, without waiting for the rest of its frame. Nothing is allocated for a length that a kind
cannot have. Standard library only: the `hemma run` path.
"""

from __future__ import annotations

from manifests.errors import no_answer
from remote.agent import frames, shapes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# A link that breaks never moves an offset; a host that does it this often is not asked again.
_LIES = 3


class LinkBroke(Exception):
    """The connection ended; the run did not."""


class Incoming:
    """What one client hears. `on_data(kind, piece)` takes output, `on_frame(kind, payload)` everything else, whole."""

    def __init__(
        self, offsets: list[int], on_data: Callable[[int, memoryview], None], on_frame: Callable[[int, bytes], None]
    ) -> None:
        self.offsets = {frames.OUT: int(offsets[0]), frames.ERR: int(offsets[1])}
        self._on_data = on_data
        self._on_frame = on_frame
        self._head = bytearray()
        self._data_kind = 0
        self._data_left = 0
        self._lies = 0

    def reset(self) -> None:
        """A new connection begins: what is left of a frame of the last one will not come."""
        self._head.clear()
        self._data_left = 0

    def feed(self, view: memoryview) -> None:
        """Take bytes off the wire. Raises LinkBroke for a wrong offset, NoAnswer for what no agent sends."""
        position, size = 0, len(view)
        while position < size:
            if self._data_left:
                piece = view[position : position + self._data_left]
                taken = len(piece)
                self._data_left -= taken
                self._on_data(self._data_kind, piece)
                self.offsets[self._data_kind] += taken
                position += taken
            else:
                position += self._take_head(view[position:])

    def _take_head(self, view: memoryview) -> int:
        """Collect a frame's head, or a whole small frame; returns how many bytes were used."""
        head = self._head
        needed = frames.HEADER.size
        if len(head) >= needed:
            kind, _, length = frames.HEADER.unpack_from(head)
            needed += frames.OFFSET.size if kind in self.offsets else length
        taken = bytes(view[: needed - len(head)])
        head += taken
        if len(head) >= frames.HEADER.size:
            kind, _, length = frames.HEADER.unpack_from(head)
            if len(head) == frames.HEADER.size:
                _check(kind, length)
            self._finish_head(kind, length)
        return len(taken)

    def _finish_head(self, kind: int, length: int) -> None:
        body = len(self._head) - frames.HEADER.size
        if kind in self.offsets:
            if body == frames.OFFSET.size:
                self._begin_output(kind, length - body)
        elif body == length:
            del self._head[: frames.HEADER.size]
            payload = bytes(self._head)
            self._head.clear()
            self._on_frame(kind, payload)

    def _begin_output(self, kind: int, length: int) -> None:
        offset = frames.OFFSET.unpack_from(self._head, frames.HEADER.size)[0]
        if offset != self.offsets[kind]:
            self._lies += 1
            what = f"output from byte {offset} on instead of {self.offsets[kind]}"
            raise no_answer(what) if self._lies >= _LIES else LinkBroke(f"the host sent {what}")
        self._data_kind, self._data_left = kind, length
        self._head.clear()


def _check(kind: int, length: int) -> None:
    try:
        frames.check(kind, length, frames.FROM_BROKER)
    except frames.BadFrame as bad:
        raise no_answer(bad) from None


def fields_of(
    payload: bytes | bytearray, shape: shapes.Shape, what: str, most: int = frames.FRAME_VALUES
) -> dict[str, Any]:
    """The JSON object of a frame, of this shape; `what` names it. Raises NoAnswer, or the refusal it holds."""
    try:
        fields = frames.fields_of(payload, most)
    except frames.BadFrame as bad:
        raise no_answer(f"{what} is {bad}") from None
    checked(fields, shape, what)
    return fields


def checked(fields: object, shape: shapes.Shape, what: str) -> None:
    """Raise NoAnswer unless what the host said is of this shape."""
    try:
        shape(fields)
    except shapes.BadShape as bad:
        raise no_answer(f"in {what}, {bad}" if bad.where else f"{what} is {bad.what}") from None


def reply_of(
    payload: bytes | bytearray, shape: shapes.Shape, what: str, most: int = frames.FRAME_VALUES
) -> dict[str, Any]:
    """The JSON object of a reply, of this shape. Raises NoAnswer; HostRefused when it is a refusal."""
    fields = fields_of(payload, shapes.anything, what, most)
    if "error" in fields:
        from remote.refusals import HostRefused

        checked(fields, shapes.REFUSAL, "a refusal")
        raise HostRefused(fields)
    checked(fields, shape, what)
    return fields
