"""The proxy that the fault tests trust: each fault does exactly what its name says."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import Iterator

import pytest

from remote.loopback import LoopbackHost
from tests.real.chaos_proxy import ChaosProxy


class EchoServer:
    """Sends back what it gets, in a thread; a connection that sends b'!' first gets a megabyte instead."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=self.listener.accept()[:1], daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        with contextlib.suppress(OSError), peer:
            while chunk := peer.recv(65536):
                peer.sendall(b"x" * 1_000_000 if chunk == b"!" else chunk)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept
        self.listener.close()


@pytest.fixture
def proxy() -> Iterator[ChaosProxy]:
    server = EchoServer()
    with ChaosProxy(server.port) as proxy:
        yield proxy
    server.close()


def dial(proxy: ChaosProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def read_all(client: socket.socket) -> tuple[int, bool]:
    """How many bytes came, and whether the end was a reset."""
    count = 0
    try:
        while chunk := client.recv(65536):
            count += len(chunk)
    except ConnectionResetError:
        return count, True
    return count, False


def test_bytes_pass_both_ways_and_eof_is_passed_on(proxy: ChaosProxy) -> None:
    with dial(proxy) as client:
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == (5, False)


def test_cut_resets_the_open_connection_and_lets_the_next_one_in(proxy: ChaosProxy) -> None:
    with dial(proxy) as client:
        client.sendall(b"a")
        assert client.recv(1) == b"a"
        assert proxy.cut() == 1
        assert read_all(client) == (0, True)
    with dial(proxy) as client:
        client.sendall(b"b")
        assert client.recv(1) == b"b"


def test_a_stalled_connection_stays_open_and_loses_nothing(proxy: ChaosProxy) -> None:
    with dial(proxy) as client:
        proxy.stall()
        client.sendall(b"late")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(4)
        proxy.resume()
        client.settimeout(5)
        assert client.recv(4) == b"late"


@pytest.mark.parametrize("limit", [1, 65536, 100_001])
def test_drop_after_lets_exactly_that_many_bytes_through(proxy: ChaosProxy, limit: int) -> None:
    proxy.drop_after(limit)
    with dial(proxy) as client:
        client.sendall(b"!")
        count, is_reset = read_all(client)
    assert is_reset
    # A reset may discard what the receiver had not read yet; never more than `limit` can have come.
    assert count <= limit
    assert proxy.forwarded_to_client == limit
    with dial(proxy) as client:
        client.sendall(b"again")
        assert client.recv(5) == b"again"


def test_refuse_refuses_new_connections_only(proxy: ChaosProxy) -> None:
    with dial(proxy) as client:
        client.sendall(b"a")
        assert client.recv(1) == b"a"
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            dial(proxy)
        client.sendall(b"b")
        assert client.recv(1) == b"b"
    proxy.accept()
    with dial(proxy) as client:
        client.sendall(b"c")
        assert client.recv(1) == b"c"


def test_ssh_through_the_proxy_works_until_it_is_cut(sshd: LoopbackHost) -> None:
    with ChaosProxy(sshd.port) as proxy:
        ssh = ["ssh", "-F", proxy.ssh_config_for(sshd), sshd.alias]
        whole = subprocess.run([*ssh, "cat"], input=bytes(range(256)) * 1000, capture_output=True, check=True)
        assert whole.stdout == bytes(range(256)) * 1000
        with subprocess.Popen([*ssh, "echo up; cat"], stdin=-1, stdout=-1, stderr=-1) as cut_off:
            assert cut_off.stdout is not None
            assert cut_off.stdout.readline() == b"up\n"
            assert proxy.cut() == 1
            assert cut_off.wait(10) == 255
        assert proxy.connections == 2
