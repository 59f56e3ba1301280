"""What a run says, kept in logs/rows.log and shown as it comes: its own lines, and what the processor prints (S9-R14, S20-R03)."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Collection
from typing import BinaryIO, TextIO

from lanes.redaction import redact
from training.rows import heart
from training.rows.files import Files

LOG = "logs/rows.log"
# Beyond this between two batches a chatty processor's lines are counted, not kept: the run must not drown in them.
MAX_WAITING_BYTES = 1 << 20
MAX_LINE = 4000
_MOST_READ = 1 << 20


class Log:
    """Lines from every thread, secrets masked before they go anywhere. A log that cannot be written stops nothing.

    Without `files` they are only shown.
    """

    def __init__(self, files: Files | None, secrets: Collection[str]) -> None:
        self._files, self._secrets, self._lock = files, secrets, threading.Lock()
        self._waiting: list[bytes] = []
        self._size = self._dropped = 0

    def say(self, line: str, stream: TextIO | None = None) -> None:
        """Show a line (on stdout unless told otherwise) and keep it."""
        text = redact(line[:_MOST_READ], self._secrets).text[
            :MAX_LINE
        ]  # cut behind the mask: half a secret has no shape
        with self._lock, contextlib.suppress(OSError, ValueError):  # whoever looked at it is gone
            print(text, file=stream or sys.stdout, flush=True)
        self._keep(f"{heart.now()} {text}\n".encode("utf-8", "backslashreplace"))

    def pump(self, pipe: BinaryIO) -> None:
        """Say every line that comes out of a child's pipe, to its end; in a thread of its own."""

        def follow() -> None:
            with pipe:
                for line in iter(lambda: pipe.readline(_MOST_READ), b""):
                    self.say(line.decode("utf-8", "backslashreplace").rstrip("\r\n"), sys.stderr)

        threading.Thread(target=follow, daemon=True).start()

    def flush(self) -> None:
        """Put what was said into the log; what a bad mount refuses is tried with the next batch."""
        with self._lock:
            lines, dropped = list(self._waiting), self._dropped
        if not lines or self._files is None:
            return
        note = [f"{heart.now()} ... {dropped} lines more were not kept\n".encode("ascii")] if dropped else []
        try:
            self._files.append(LOG, b"".join([*lines, *note]))
        except OSError:
            return
        with self._lock:  # lines that came meanwhile are behind those that were written
            del self._waiting[: len(lines)]
            self._size -= sum(map(len, lines))
            self._dropped -= dropped

    def _keep(self, line: bytes) -> None:
        with self._lock:
            if self._size + len(line) > MAX_WAITING_BYTES:
                self._dropped += 1
            else:
                self._waiting.append(line)
                self._size += len(line)
