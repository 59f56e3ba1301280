"""The command's input: bytes with offsets in, each once, into a pipe or terminal that may be full or closed."""

from __future__ import annotations

import os
import selectors
from typing import Callable

from . import frames

MOST_WAITING = 4 * frames.INPUT_WINDOW


class Input:
    """Feeds one file. `tell(frame, besides)` reports how far the command has taken it, and that it will take no more."""

    def __init__(self, selector: selectors.BaseSelector, tell: Callable[..., None]) -> None:
        self.selector = selector
        self.tell = tell
        self.file: int | None = None
        self.close_file: Callable[[], None] | None = None
        self.is_terminal = False
        self.queue = bytearray()
        self.received = 0
        self.written = 0
        self.is_ended = False
        self.sender: object = None

    def use(self, file: int, close_file: Callable[[], None] | None, is_terminal: bool) -> None:
        """Feed `file` from now on; `close_file` ends a pipe, a terminal is told by its end-of-file character."""
        if is_terminal:
            file = os.dup(file)  # a file of its own, so that waiting for room does not meet waiting for output
        os.set_blocking(file, False)
        self.file = file
        self.close_file = close_file
        self.is_terminal = is_terminal

    def take(self, sender: object, offset: int, data: bytes) -> None:
        """Accept bytes that begin at `offset`; those that were here before (a client came back) are left out.

        More than MOST_WAITING is not kept: a client of ours sends no more than INPUT_WINDOW before it is acknowledged.
        """
        if self.sender is not sender:
            # To everyone who did not type this: what is acknowledged from now on is not theirs alone.
            alone = sender if self.sender is None else None
            self.tell(frames.json_frame(frames.NOTICE, 0, {"notice": "input-shared"}), alone)
            self.sender = sender
        fresh = data[self.received - offset :] if offset <= self.received else b""
        fresh = fresh[: MOST_WAITING - len(self.queue)]
        self.received += len(fresh)
        self.queue += fresh
        self.feed()

    def end(self) -> None:
        """There is no more input after what was taken."""
        self.is_ended = True
        self.feed()

    def feed(self) -> None:
        """Write what the file takes now."""
        if self.file is None:
            self.queue.clear()
            return
        try:
            while self.queue:
                count = os.write(self.file, self.queue[: frames.CHUNK])
                self.written += count
                del self.queue[:count]
        except BlockingIOError:
            if self.file not in self.selector.get_map():
                self.selector.register(self.file, selectors.EVENT_WRITE, self._on_room)
            return
        except OSError:
            self.close()  # the command does not read any more
            return
        finally:
            # Less the end of file that a terminal was given: no client sent that.
            taken = min(self.written, self.received)
            self.tell(frames.frame(frames.IN_ACK, 0, frames.OFFSET.pack(taken)))
        if self.is_ended:
            self._finish()

    def close(self) -> None:
        """Close the file: the command sees the end of its input; the client hears that no more is wanted."""
        self.queue.clear()
        if self.file is None:
            return
        if self.file in self.selector.get_map():
            self.selector.unregister(self.file)
        if self.is_terminal:
            os.close(self.file)
        elif self.close_file is not None:
            self.close_file()
        self.file = None
        self.tell(frames.json_frame(frames.NOTICE, 0, {"notice": "stdin-closed"}))

    def _on_room(self) -> None:
        if self.file is not None and self.file in self.selector.get_map():
            self.selector.unregister(self.file)
        self.feed()

    def _finish(self) -> None:
        if not self.is_terminal:
            self.close()
            return
        self.is_ended = False
        self.queue += b"\x04"  # what a person would type
        self.feed()
