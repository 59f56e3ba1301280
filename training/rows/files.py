"""The files of a run's directory, as the engine needs them: few acts, each of which a bad file system may get wrong.

On a mounted Drive a write may be slow, come back stale, or be lost without an error. `Files` is what the engine is given;
everything above it verifies what it wrote.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Generator
from typing import BinaryIO, Protocol


class Files(Protocol):
    """A folder of files by relative path. Every act may raise OSError; none of them is believed unseen."""

    def read(self, path: str, offset: int = 0) -> bytes:
        """The content from `offset` on. Raises FileNotFoundError, OSError."""
        ...

    def append(self, path: str, data: bytes) -> None:
        """Put `data` at the end of the file, made if it is not there, and sync it."""
        ...

    def replace(self, path: str, data: bytes) -> None:
        """Put `data` in place of the file in one step: readers see the old or the new one."""
        ...

    def truncate(self, path: str, size: int) -> None:
        """Cut the file to `size` bytes."""
        ...

    def bring(self, path: str, source: str) -> None:
        """Put a copy of the local file `source` in place of the file in one step, however large it is."""
        ...

    def sha256(self, path: str) -> str:
        """The digest of the file as it is read now."""
        ...


class LocalFiles:
    """The files below a folder of this machine or of a mount."""

    def __init__(self, root: str) -> None:
        self._root = root

    def read(self, path: str, offset: int = 0) -> bytes:
        """See `Files.read`."""
        with open(self._at(path), "rb") as file:
            file.seek(offset)
            return file.read()

    def append(self, path: str, data: bytes) -> None:
        """See `Files.append`. Closed after each batch: a mounted Drive sends a file when it is closed."""
        with open(self._made(path), "ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def replace(self, path: str, data: bytes) -> None:
        """See `Files.replace`. No fsync of the folder: FUSE mounts refuse it, and the reader checks anyway."""
        with self._replaced(path) as file:
            file.write(data)

    def truncate(self, path: str, size: int) -> None:
        """See `Files.truncate`."""
        os.truncate(self._at(path), size)

    def bring(self, path: str, source: str) -> None:
        """See `Files.bring`."""
        with open(source, "rb") as whole, self._replaced(path) as file:
            shutil.copyfileobj(whole, file, 1 << 20)

    @contextlib.contextmanager
    def _replaced(self, path: str) -> Generator[BinaryIO]:
        """A file to write, which takes the place of the one at `path` when the block has ended well."""
        target = self._made(path)
        temporary = f"{target}.{os.getpid()}.tmp"
        try:
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)

    def sha256(self, path: str) -> str:
        """See `Files.sha256`."""
        with open(self._at(path), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _at(self, path: str) -> str:
        return os.path.join(self._root, *path.split("/"))

    def _made(self, path: str) -> str:
        target = self._at(path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        return target
