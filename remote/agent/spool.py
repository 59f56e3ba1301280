"""Append-only output with offsets: from the command's pipe (or terminal) to the end of a file."""

from __future__ import annotations

import errno
import fcntl
import os
import selectors
import time

PIPE_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031


class Spool:
    """One output stream. What `read` has returned from is on disk, as far as a crash of any process goes (no fsync)."""

    def __init__(self, name: str, source: int, spool: int) -> None:
        self.name = name
        self.source: int | None = source
        self.spool = spool
        self.size = 0
        self.unwritten = b""
        self.last_read_s = time.monotonic()
        os.set_blocking(source, False)
        try:
            fcntl.fcntl(source, _F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:
            pass  # a terminal, or over the user's pipe limit: the default size works too

    def read(self) -> bool:
        """Move what is there now to the spool; False at the end of the stream. Raises OSError when the disk is full."""
        if self.source is None:
            return False
        try:
            data = os.read(self.source, PIPE_BYTES)
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno != errno.EIO:  # a terminal whose last user is gone
                raise
            data = b""
        if not data:
            return False
        self.last_read_s = time.monotonic()
        self.unwritten = data
        self.flush()
        return True

    def flush(self) -> None:
        """Write what is held back, after a full disk has room again. Raises OSError when it still has none."""
        while self.unwritten:
            written = os.write(self.spool, self.unwritten)
            self.size += written
            self.unwritten = self.unwritten[written:]


def drain_late(spools: list[Spool]) -> None:
    """After the run: keep a background child's output flowing to the log until it ends; on a full disk it is let go."""
    late = [spool for spool in spools if spool.source is not None]
    while late:
        with selectors.DefaultSelector() as selector:
            for spool in late:
                assert spool.source is not None
                selector.register(spool.source, selectors.EVENT_READ, spool)
            for key, _ in selector.select():
                try:
                    if not key.data.read():
                        late.remove(key.data)
                except OSError:
                    key.data.unwritten = b""
