"""status.json of a row run, kept fresh by a thread of its own: a row may take an hour, and a reader must see that we live."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import threading
import time
from collections.abc import Callable
from typing import Any

from training.rows.files import Files

STATUS = "status.json"
Status = dict[str, Any]


def now() -> str:
    """The time, as status files say it."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")


class Heart:
    """Holds what is known and writes it, every `heartbeat_s` and whenever told to. A heartbeat that fails stops nothing."""

    def __init__(self, files: Files, first: Status, live: Callable[[], Status], *, wait_s: float = 0.25) -> None:
        self._files, self._status, self._live, self._wait_s = files, first, live, wait_s
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._beat_on, daemon=True)
        self.missed = 0

    def start(self) -> None:
        """Write the first status and go on in a thread."""
        self.beat()
        self._thread.start()

    def set(self, **facts: Any) -> None:
        """Put these facts into the next heartbeat."""
        with self._lock:
            self._status.update(facts)

    def beat(self) -> None:
        """Write the status now. A folder that refuses is tried again at the next beat."""
        with self._lock:
            self._status.update(self._live(), heartbeat_at=now())
            try:
                self._files.replace(STATUS, as_bytes(self._status))
            except OSError:
                self.missed += 1

    def end(self, **facts: Any) -> None:
        """The last status: written several times over if need be, as it is what everyone will read."""
        self._ended.set()
        with contextlib.suppress(RuntimeError):  # never started
            self._thread.join()
        self.set(**facts)
        for pauses in (0, 1, 4, 12):
            time.sleep(pauses * self._wait_s)
            self.beat()
            with contextlib.suppress(OSError):
                if self._files.read(STATUS) == as_bytes(self._status):
                    return

    def _beat_on(self) -> None:
        while not self._ended.wait(float(self._status["heartbeat_s"])):
            self.beat()


def as_bytes(status: Status) -> bytes:
    """The file's content."""
    return json.dumps(status, indent=2).encode("ascii") + b"\n"


def read(files: Files) -> Status | None:
    """The status that is there; None when there is none or it cannot be understood (a mount may give half a file)."""
    try:
        value: object = json.loads(files.read(STATUS))
    except (OSError, ValueError):
        return None
    return {str(key): each for key, each in value.items()} if isinstance(value, dict) else None
