"""A plain folder as a store: `drive = "folder:PATH"`, also for a Drive that is mounted (S9-R24).

Ids are paths below the folder; nothing outside it is ever read or written, not through a symbolic link either.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import hashlib
import mimetypes
import os
import shutil
import stat
from collections.abc import Iterator, Sequence

from manifests.commands import command
from remote.drive.store import (
    FOLDER_MIME,
    Changes,
    DigestMismatch,
    DriveError,
    Entry,
    NotInDrive,
    NotReadable,
)

PIECE = 4 << 20
BIN = ".hemma-bin"
ROOT = "."


class FolderStore:
    """The store at `root`. Uploads appear whole or not at all; the bin is a folder of its own in it."""

    def __init__(self, root: str) -> None:
        self.root = os.path.realpath(os.path.expanduser(root))
        self.name = f"folder:{self.root}"

    def list(self, folder: str) -> list[Entry]:
        """See Store."""
        path = self._path(folder)
        try:
            names = sorted(os.listdir(path))
        except OSError as error:
            raise _as_ours(error, folder) from error
        found: list[Entry] = []
        for name in names:
            if not _is_ours(name):
                with contextlib.suppress(NotInDrive):  # gone between listing and looking
                    found.append(self.metadata(_join(folder, name)))
        return found

    def list_many(self, folders: Sequence[str]) -> list[Entry]:
        """See Store."""
        return [entry for folder in folders for entry in self.list(folder)]

    def metadata(self, file_id: str) -> Entry:
        """See Store. `md5` is None: a folder knows no checksums until a file is read."""
        path = self._path(file_id)
        try:
            facts = os.stat(path)
        except OSError as error:
            raise _as_ours(error, file_id) from error
        name, parent = os.path.basename(path), os.path.dirname(file_id) or ROOT
        version = f"{facts.st_mtime_ns}-{facts.st_size}-{facts.st_ino}"
        modified = dt.datetime.fromtimestamp(facts.st_mtime, dt.UTC).isoformat()
        parents = () if file_id == ROOT else (parent,)
        if stat.S_ISDIR(facts.st_mode):
            # A linked folder has the id of the folder it leads to: so a circle is noticed, as one of shortcuts is.
            file_id = os.path.relpath(os.path.realpath(path), self.root)
            return Entry(file_id, name, "folder", FOLDER_MIME, None, None, version, modified, parents)
        mime = mimetypes.guess_type(name)[0] or "application/octet-stream"
        is_file = stat.S_ISREG(facts.st_mode)
        return Entry(file_id, name, "file", mime, facts.st_size, None, version, modified, parents, may_download=is_file)

    def read(self, file_id: str, offset: int = 0, *, size: int | None = None) -> Iterator[bytes]:
        """See Store."""
        try:
            # O_NONBLOCK: a pipe in the folder must not hold us up.
            handle = os.open(self._path(file_id), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        except OSError as error:
            raise _as_ours(error, file_id) from error
        with open(handle, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise NotReadable(f"{file_id} is no plain file", remedy=command("ls -la {}/{}", self.root, file_id))
            file.seek(offset)
            left = size - offset if size is not None else None
            while left is None or left > 0:
                piece = file.read(PIECE if left is None else min(PIECE, left))
                if not piece:
                    return
                yield piece
                left = None if left is None else left - len(piece)

    def upload(self, path: str, parent: str, name: str, *, file_id: str, is_new: bool) -> Entry:
        """See Store. The bytes are read back before the file appears: a mounted Drive may drop a write."""
        target = self._path(file_id)
        temporary = os.path.join(os.path.dirname(target), f".{os.path.basename(target)}.{os.getpid()}.hemma-part")
        try:
            with open(path, "rb") as source, open(temporary, "wb") as made:
                digest = hashlib.md5(usedforsecurity=False)
                while piece := source.read(PIECE):
                    digest.update(piece)
                    made.write(piece)
                made.flush()
                os.fsync(made.fileno())
            with open(temporary, "rb") as made:
                if hashlib.file_digest(made, _md5).digest() != digest.digest():
                    raise DigestMismatch(f"{name} did not arrive whole in {self.name}", remedy="try again")
            os.replace(temporary, target)
        except OSError as error:
            raise _as_ours(error, file_id) from error
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        return self.metadata(file_id)

    def make_folder(self, parent: str, name: str, *, file_id: str) -> Entry:
        """See Store."""
        try:
            os.makedirs(self._path(file_id), exist_ok=True)
        except OSError as error:
            raise _as_ours(error, file_id) from error
        return self.metadata(file_id)

    def new_ids(self, count: int, parent: str, names: Sequence[str]) -> list[str]:
        """See Store: here an id is the path that the thing will have."""
        wrong = [name for name in names if name in ("", ".", "..") or "/" in name or "\0" in name or _is_ours(name)]
        if wrong or len(names) != count:
            raise DriveError(f"{wrong[:1] or names!r} cannot be the name of a file", remedy="give it another name")
        return [_join(parent, name) for name in names]

    def trash(self, file_id: str) -> None:
        """See Store. The bin keeps everything it ever got."""
        path, place = self._path(file_id), os.path.join(self.root, BIN)
        if file_id == ROOT:
            raise DriveError("the root is never thrown away", remedy="name a file or folder in it")
        try:
            os.makedirs(place, exist_ok=True)
            number = 0
            while os.path.lexists(target := os.path.join(place, f"{os.path.basename(path)}.{number}")):
                number += 1
            shutil.move(path, target)
        except OSError as error:
            raise _as_ours(error, file_id) from error

    def start_token(self) -> str | None:
        """None: a folder is listed again."""
        return None

    def changes(self, token: str) -> Changes:
        """A folder keeps no account of its changes. Raises NotInDrive."""
        raise NotInDrive("a folder keeps no account of its changes", remedy="list it again")

    def close(self) -> None:
        """Nothing is open."""

    def _path(self, file_id: str) -> str:
        path = os.path.join(self.root, file_id.replace("\0", "//"))
        real = os.path.realpath(path)
        if "\0" in file_id or (real != self.root and not real.startswith(self.root.rstrip(os.sep) + os.sep)):
            raise NotInDrive(f"{file_id!r} leads out of {self.root}", remedy=command("ls -la {}", self.root))
        if not os.path.isdir(self.root):
            raise NotInDrive(
                f"the folder {self.root} is not there", remedy=command("mkdir -p {}   (or mount it)", self.root)
            )
        return real if file_id == ROOT else path


def _md5() -> hashlib._Hash:
    return hashlib.md5(usedforsecurity=False)


def _join(folder: str, name: str) -> str:
    return name if folder == ROOT else f"{folder}/{name}"


def _is_ours(name: str) -> bool:
    return name == BIN or (name.startswith(".") and name.endswith(".hemma-part"))


def _as_ours(error: OSError, file_id: str) -> DriveError:
    what = f"{file_id}: {error.strerror or error}"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return NotInDrive(what, remedy="look at the folder above it")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EIO, errno.ELOOP):
        return NotReadable(what, remedy="see who may read it")
    return DriveError(what, remedy="df -h; see the folder")
