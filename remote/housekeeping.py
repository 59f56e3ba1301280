"""Old runs are removed from the host without anybody asking: once a day, when the host is in use, never a live one.

Facts come from the agent, the choice from lanes.retention, and the agent looks again before it removes.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from lanes import retention
from manifests.errors import HemmaError, no_answer
from remote import answers
from remote.agent import frames
from remote.incoming import reply_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from remote.agent.shapes import Shape
    from remote.link import Link

INTERVAL_S = 86400.0
# Never while the command that woke the link is likely to be still at work.
DELAY_S = 20.0


class _Answer:
    """Collects one reply of the agent, then calls `then(fields)` in the link's thread."""

    def __init__(self, then: Any, shape: Shape) -> None:
        self._then = then
        self._shape = shape
        self._parser = frames.Parser(frames.FROM_HOST)
        self._collected = bytearray()

    def take(self, pieces: list[bytes | memoryview]) -> None:
        """Accept a part of the reply."""
        try:
            for kind, _, payload in self._parser.feed(b"".join(pieces)):
                self._collected += payload
                if kind == frames.REPLY:
                    self._then(reply_of(self._collected, self._shape, "a reply", frames.MAX_VALUES))
                if len(self._collected) > frames.MAX_ANSWER:
                    raise no_answer("more than one question can bring back")
        except (frames.BadFrame, HemmaError):
            self._collected.clear()  # another day, then

    def lost(self, error: HemmaError | None) -> None:
        """Another day, then."""

    def hang_up(self) -> None:
        """Another day, then."""


class Housekeeping:
    """Which hosts are due for a clean-up. Lives in the broker's loop.

    `keep_bytes`: how much a person wants kept on the host of this name; None for what is usual (S17-R12).
    """

    def __init__(self, delay_s: float = DELAY_S, keep_bytes: Callable[[str], int | None] | None = None) -> None:
        self._delay_s = delay_s
        self._keep_bytes = keep_bytes
        self._due: dict[tuple[int, str], tuple[float, Link, str | None, str]] = {}
        self._done: dict[tuple[int, str], float] = {}

    def note(self, link: Link, state_dir: str | None, name: str = "") -> None:
        """This host is in use: clean up there a little later, at most once in INTERVAL_S."""
        key = (id(link), state_dir or "")
        now = time.monotonic()
        if key not in self._due and now - self._done.get(key, -INTERVAL_S) >= INTERVAL_S:
            self._due[key] = (now + self._delay_s, link, state_dir, name)

    def start_due(self) -> None:
        """Start what is due now."""
        now = time.monotonic()
        for key, (moment, link, state_dir, name) in list(self._due.items()):
            if now >= moment:
                del self._due[key]
                self._done[key] = now
                if not link.is_gone:
                    _start(link, state_dir, self._limit(name))

    def _limit(self, name: str) -> int:
        wanted = self._keep_bytes(name) if self._keep_bytes and name else None
        return retention.MAX_BYTES if wanted is None else wanted


def _ignore(reply: dict[str, Any]) -> None:
    """What went is not of interest here."""


def _start(link: Link, state_dir: str | None, max_bytes: int) -> None:
    def choose(reply: dict[str, Any]) -> None:
        chosen = retention.expired(
            reply["runs"], time.time(), max_bytes=max_bytes, total_bytes=reply.get("total_bytes")
        )
        if chosen:
            remove = {"verb": "remove", "state_dir": state_dir, "run_ids": chosen}
            link.open(_Answer(_ignore, answers.SHAPES["remove"]), remove)

    ask = {"verb": "list", "state_dir": state_dir, "not_sooner_than_s": INTERVAL_S, **retention.ASKED}
    link.open(_Answer(choose, answers.SHAPES["list"]), ask)
