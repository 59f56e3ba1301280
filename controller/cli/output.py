"""Stdout as the verbs see it: what cannot be written is remembered, whoever printed it and whoever caught the error."""

from __future__ import annotations

from typing import Any, TextIO


class WatchedStdout:
    """Passes everything on to `stream`; `fault` is the first OSError of a write or flush, else None."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.fault: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write text. Raises OSError."""
        try:
            return self.stream.write(text)
        except OSError as error:
            self.fault = self.fault or error
            raise

    def flush(self) -> None:
        """Write what is held back. Raises OSError."""
        try:
            self.stream.flush()
        except OSError as error:
            self.fault = self.fault or error
            raise
