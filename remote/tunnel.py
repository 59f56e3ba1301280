"""A port of the host's own loopback, on ours, for as long as it is needed: how a dashboard there is looked at here."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Generator
from typing import Any

from remote import connection


@contextlib.contextmanager
def forwarded(spec: dict[str, Any], remote_port: int, *, local_port: int = 0) -> Generator[int]:
    """Within this, 127.0.0.1:<the port it gives> here is 127.0.0.1:`remote_port` on the host.

    A connection of its own, by fabric: what flows through it cannot hold up a run's output. Raises what `connect` raises.
    """
    chain = connection.connect(spec)
    port = local_port or _free_port()
    try:
        with chain[-1].forward_local(port, remote_port, remote_host="127.0.0.1", local_host="127.0.0.1"):
            yield port
    finally:
        connection.close(chain)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
