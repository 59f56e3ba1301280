"""What the executor of a training, or a tool on the host, tells in lines of JSON: cut out, bounded, and looked at once.

A line that is no event is passed over, since a library may print there too. An event that lacks what is read of it is no
answer: a stranger's word, as all that comes from a host.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from manifests.errors import no_answer
from remote.agent import frames, shapes
from remote.incoming import checked

Event = dict[str, Any]
# The largest result of a tool is a slice's table of contents.
LONGEST_LINE = frames.MAX_PAYLOAD
_WORDS = shapes.text(1 << 18)
_MAY_BE_ABSENT = shapes.maybe(shapes.LINE)


def _measured(value: object) -> None:
    """A number as training measures it, which may be no number (nan)."""
    if type(value) not in (int, float):
        raise shapes.BadShape("no number")


def _open(needed: dict[str, shapes.Shape], more: dict[str, shapes.Shape] | None = None) -> shapes.Shape:
    return shapes.record(needed, more or {}, is_open=True)


_FILE = _open({"path": shapes.PATH, "size_bytes": shapes.whole()})
_ANSWER = _open({"prompt": shapes.anything, "held": shapes.flag, "fact": _WORDS})
# Of the data of each kind of event: what is read of it. A kind that is not here is only shown.
_DATA: dict[str, shapes.Shape] = {
    "stopped": _open({"reason": shapes.LINE, "message": _WORDS, "remedy": _WORDS}),
    "refused": _open({"error": shapes.text(64), "message": _WORDS, "exit_code": shapes.whole(1, 255)}),
    "started": _open({"name": shapes.LINE, "until": _MAY_BE_ABSENT}, {"run_id": shapes.maybe(shapes.RUN_ID)}),
    "begin": _open({"stage": shapes.LINE}),
    "first-metric": _open({"value": _measured}),
    "progress": _open(
        {},
        {
            "rows": shapes.whole(),
            "scanned": shapes.LINE,
            "bytes": shapes.whole(),
            "of": shapes.whole(1),
            **dict.fromkeys(("step", "total"), shapes.maybe(shapes.whole())),
        },
    ),
    "check": _open({"name": _WORDS, "held": shapes.flag, "fact": _WORDS}),
    "tokenizer": _open(
        {"path": shapes.PATH, "vocab_size": shapes.whole(), "rows": shapes.whole(), "bytes_per_token": shapes.number}
    ),
    "slice": _open(
        {
            "state": shapes.either("dry", "issued", "there"),
            "folder": shapes.PATH,
            "warnings": shapes.listed(_WORDS),
            "index": _open({"rows": shapes.whole(), "files": shapes.listed(_FILE)}),
        }
    ),
    "not-integrated": _open({"checks": shapes.listed(_ANSWER)}),
    "integrated": _open({"checks": shapes.listed(_ANSWER)}),
}


def event_of(line: bytes) -> Event | None:
    """The event in a line, None where there is none. Raises NoAnswer for one that lacks what is read of it."""
    try:
        event: object = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("kind"), str) or frames.is_deep(event):
        return None
    data = event.get("data")
    if data is not None and not isinstance(data, dict):
        return None
    if event["kind"] in _DATA:
        checked(data, _DATA[event["kind"]], f"the event {event['kind']}")
    return {str(key): value for key, value in event.items()}


class EventLines:
    """A writer that cuts what is printed into lines and hands each event on."""

    def __init__(self, on_event: Callable[[Event], None]) -> None:
        self._on_event, self._rest = on_event, bytearray()

    def write(self, piece: memoryview) -> None:
        """Take a piece of output; a line that is no event is passed over. Raises NoAnswer."""
        self._rest += piece
        if len(self._rest) > LONGEST_LINE:
            raise no_answer(f"a line of more than {LONGEST_LINE >> 20} MiB where events are expected")
        if b"\n" not in piece.tobytes():
            return
        *lines, rest = bytes(self._rest).split(b"\n")
        self._rest = bytearray(rest)
        for line in lines:
            event = event_of(line)
            if event is not None:
                self._on_event(event)
