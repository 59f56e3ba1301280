"""A TCP proxy between an SSH client and sshd whose faults a test commands: cut, stall, drop after n bytes, refuse.

One thread, one event loop, plain sockets; every command returns when it has taken effect.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from remote.loopback import LoopbackHost, client_config

ADDRESS = "127.0.0.1"
CHUNK_BYTES = 65536
COMMAND_TIMEOUT_S = 10.0
# close() with a zero linger time sends a reset instead of an orderly end.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Answer = TypeVar("Answer")


@dataclass(eq=False)
class _Link:
    """One client's connection: two sockets, and the tasks that pump between them."""

    client: socket.socket
    server: socket.socket
    pumps: list[asyncio.Task[None]]

    async def reset(self) -> None:
        """Close both sides with a reset; what was in flight is lost."""
        pumps = [pump for pump in self.pumps if pump is not asyncio.current_task()]
        for pump in pumps:
            pump.cancel()
        # The loop must have let go of both sockets before their numbers can be used again.
        await asyncio.gather(*pumps, return_exceptions=True)
        for side in (self.client, self.server):
            with contextlib.suppress(OSError):
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            side.close()


class ChaosProxy:
    """Forwards `port` of this machine to `target_port`; use as a context manager."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.connections = 0
        self.cuts = 0
        self.forwarded_to_client = 0
        self._left_to_drop: int | None = None
        self._links: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._accepting: asyncio.Task[None] | None = None
        self._cutting: asyncio.Task[None] | None = None
        self._configs: list[str] = []
        self._listener = _listen(0)
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos-proxy", daemon=True)
        self._thread.start()
        self._do(self._accept())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cut(self) -> int:
        """Reset every connection that is open now; returns how many there were. New ones are accepted."""
        return self._do(self._cut())

    def stall(self) -> None:
        """Forward nothing any more, in both directions; connections stay open and new ones hang."""
        self._do(self._set_flowing(False))

    def resume(self) -> None:
        """End a stall; bytes that came meanwhile are forwarded now."""
        self._do(self._set_flowing(True))

    def drop_after(self, n_bytes: int) -> None:
        """Reset every connection once, after exactly `n_bytes` more bytes have gone to clients (all links counted)."""
        self._do(self._drop_after(n_bytes))

    def refuse(self) -> None:
        """Refuse new connections (nothing listens); open ones go on."""
        self._do(self._refuse())

    def accept(self) -> None:
        """End `refuse`: listen on the same port again."""
        self._do(self._accept())

    def wait_for(self, claim: Callable[[ChaosProxy], bool], timeout_s: float = 10.0) -> None:
        """Wait until `claim(proxy)` holds, e.g. `lambda p: p.cuts == 1`; raises TimeoutError at the ceiling."""
        deadline = time.monotonic() + timeout_s
        while not claim(self):
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {timeout_s} s: {self.connections=} {self.cuts=} {self.forwarded_to_client=}")
            time.sleep(0.005)

    def ssh_config_for(self, host: LoopbackHost) -> str:
        """Path of an ssh_config that reaches `host` (same alias) through this proxy; removed when the proxy closes."""
        known_hosts = os.path.join(host.folder, f"known_hosts.{self.port}")
        config = os.path.join(host.folder, f"ssh_config.{self.port}")
        with open(host.host_key + ".pub", encoding="utf-8") as public, open(known_hosts, "w", encoding="utf-8") as file:
            file.write(f"[{ADDRESS}]:{self.port} {public.read().strip()}\n")
        with open(config, "w", encoding="utf-8") as file:
            file.write(client_config(host, self.port, known_hosts))
        self._configs += [known_hosts, config]
        return config

    def close(self) -> None:
        """Stop listening, reset what is open and end the thread."""
        if self._thread.is_alive():
            self._do(self._refuse())
            self._do(self._cut())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(COMMAND_TIMEOUT_S)
            self._loop.close()
        for path in self._configs:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    # --- in the proxy's thread -----------------------------------------------------------------------------------

    def _do(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(COMMAND_TIMEOUT_S)

    async def _cut(self) -> int:
        links = list(self._links)
        self._links.clear()
        for link in links:
            await link.reset()
        self.cuts += len(links)
        return len(links)

    async def _set_flowing(self, flowing: bool) -> None:
        (self._flowing.set if flowing else self._flowing.clear)()

    async def _drop_after(self, n_bytes: int) -> None:
        self._left_to_drop = n_bytes

    async def _refuse(self) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._accepting
            self._accepting = None
        self._listener.close()

    async def _accept(self) -> None:
        if self._accepting is None:
            if self._listener.fileno() < 0:
                self._listener = _listen(self.port)
            self._accepting = asyncio.create_task(self._accept_all())

    async def _accept_all(self) -> None:
        while True:
            client, _ = await self._loop.sock_accept(self._listener)
            client.setblocking(False)
            self.connections += 1
            await self._connect(client)

    async def _connect(self, client: socket.socket) -> None:
        server = socket.socket()
        server.setblocking(False)
        try:
            await self._loop.sock_connect(server, (ADDRESS, self.target_port))
        except (OSError, asyncio.CancelledError) as error:
            await _Link(client, server, []).reset()
            if isinstance(error, asyncio.CancelledError):  # `refuse` came between: nobody would ever close the two
                raise
            return
        for side in (client, server):
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = _Link(client, server, [])
        self._links.add(link)
        link.pumps = [
            asyncio.create_task(self._pump(link, client, server, is_to_client=False)),
            asyncio.create_task(self._pump(link, server, client, is_to_client=True)),
        ]

    async def _pump(self, link: _Link, source: socket.socket, sink: socket.socket, *, is_to_client: bool) -> None:
        try:
            while chunk := await self._loop.sock_recv(source, CHUNK_BYTES):
                await self._flowing.wait()
                if is_to_client:
                    await self._forward_to_client(sink, chunk)
                else:
                    await self._loop.sock_sendall(sink, chunk)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            self._links.discard(link)
            await link.reset()
            return
        if all(pump is asyncio.current_task() or pump.done() for pump in link.pumps):
            self._links.discard(link)
            link.client.close()
            link.server.close()

    async def _forward_to_client(self, client: socket.socket, chunk: bytes) -> None:
        left = self._left_to_drop
        is_last = left is not None and left <= len(chunk)
        sent = chunk[:left] if is_last else chunk
        if left is not None:
            self._left_to_drop = None if is_last else left - len(sent)
        await self._loop.sock_sendall(client, sent)
        self.forwarded_to_client += len(sent)
        if is_last:
            self._cutting = self._loop.create_task(self._drain_then_cut(client))
            await self._loop.create_future()  # until the cut ends this pump

    async def _drain_then_cut(self, client: socket.socket) -> None:
        """Cut once the client's kernel has acknowledged what was sent, so that exactly n bytes arrive."""
        while _unsent(client) > 0:
            await asyncio.sleep(0.001)
        await self._cut()


def _unsent(side: socket.socket) -> int:
    import fcntl
    import termios

    try:
        return int(struct.unpack("i", fcntl.ioctl(side.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0])
    except (OSError, ValueError):
        return 0  # closed by the client, or a system that cannot tell


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((ADDRESS, port))
    listener.listen(200)
    listener.setblocking(False)
    return listener
