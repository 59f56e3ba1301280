"""A port of the host's own loopback, on ours, for as long as it is needed: how a dashboard there is looked at here."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Generator
from typing import Any

from remote import connection

LISTEN_TIMEOUT_S = 10.0


@contextlib.contextmanager
def forwarded(spec: dict[str, Any], remote_port: int, *, local_port: int = 0) -> Generator[int]:
    """Within this, 127.0.0.1:<the port it gives> here is 127.0.0.1:`remote_port` on the host.

    A connection of its own, by fabric: what flows through it cannot hold up a run's output. Raises what `connect` raises.
    """
    chain = connection.connect(spec)
    port = local_port or _free_port()
    try:
        with chain[-1].forward_local(port, remote_port, remote_host="127.0.0.1", local_host="127.0.0.1"):
            _await_listener(port)
            yield port
    finally:
        connection.close(chain)


def _await_listener(port: int) -> None:
    """fabric listens in a thread of its own: an address that is told before would refuse whoever is quick."""
    deadline = time.monotonic() + LISTEN_TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
