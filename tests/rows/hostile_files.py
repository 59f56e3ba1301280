"""A run's directory that misbehaves as mounted Drives do: slow, stale, dropping writes, failing for a while; by a fixed seed."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import signal
import time
from dataclasses import dataclass, field
from typing import Any


@dataclass
class HostileFiles:
    """A `Files` in memory. Chances are per act; `lost` counts writes that were dropped, wholly or in part, without a word."""

    seed: int
    drop: float = 0.0
    stale: float = 0.0
    fail: float = 0.0
    slow_s: float = 0.0
    kept: dict[str, bytes] = field(default_factory=dict[str, bytes])
    lost: int = 0
    failed: int = 0
    _old: dict[str, bytes] = field(default_factory=dict[str, bytes])

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)

    def read(self, path: str, offset: int = 0) -> bytes:
        self._act()
        now = self.kept if self._chance.random() >= self.stale or path not in self._old else self._old
        if path not in now:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        return now[path][offset:]

    def append(self, path: str, data: bytes) -> None:
        self._act()
        before = self.kept.get(path, b"")
        if self._chance.random() < self.drop:
            self.lost += 1
            data = data[: self._chance.randrange(len(data))]
        self._old[path] = before
        self.kept[path] = before + data

    def replace(self, path: str, data: bytes) -> None:
        self._act()
        if self._chance.random() < self.drop:
            self.lost += 1
            return
        self._old[path] = self.kept.get(path, b"")
        self.kept[path] = data

    def truncate(self, path: str, size: int) -> None:
        self._act()
        self.kept[path] = self.kept[path][:size]

    def bring(self, path: str, source: str) -> None:
        with open(source, "rb") as file:
            self.replace(path, file.read())

    def sha256(self, path: str) -> str:
        return hashlib.sha256(self.read(path)).hexdigest()

    def _act(self) -> None:
        time.sleep(self.slow_s * self._chance.random())
        if self._chance.random() < self.fail:
            self.failed += 1
            raise OSError(self._chance.choice((errno.EIO, errno.ESTALE, errno.ENOTCONN)), "the mount is away")


def deadly(base: Any, fatal: int, torn: float) -> Any:
    """A `LocalFiles` whose process is killed -9 in act number `fatal`: an append first leaves this share of its data."""

    class Deadly(base):  # the slice's own LocalFiles, known only when it runs
        acts = 0

        def _count(self, path: str, data: bytes | None = None) -> None:
            Deadly.acts += 1
            if Deadly.acts == fatal:
                if data is not None:
                    super().append(path, data[: int(len(data) * torn)])
                os.kill(os.getpid(), signal.SIGKILL)

        def append(self, path: str, data: bytes) -> None:
            self._count(path, data)
            super().append(path, data)

        def replace(self, path: str, data: bytes) -> None:
            self._count(path)
            super().replace(path, data)

        def truncate(self, path: str, size: int) -> None:
            self._count(path)
            super().truncate(path, size)

    return Deadly
