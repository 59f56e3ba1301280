"""What a store of files can do, whichever it is: Google Drive, or a plain folder (a mounted Drive is one).

Facts come back as they are; what they mean is decided in lanes/. Every error is one of these:

    DriveError 1
    |- NotInDrive             no such file or folder, or not for this account
    |- NotReadable            it can be seen and its content cannot be had
    |- NotSignedIn 75         no credentials, or they are no longer accepted
    |- QuotaUsedUp            storage or daily quota; waiting a moment does not help
    |- DigestMismatch         the bytes are not those that the checksum names, also after more tries
    `- DriveUnreachable 255   no answer within all tries
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from manifests.errors import HemmaError, Unreachable

FOLDER_MIME = "application/vnd.google-apps.folder"
SHORTCUT_MIME = "application/vnd.google-apps.shortcut"
_NATIVE = "application/vnd.google-apps."

Kind = Literal["folder", "file", "shortcut", "document"]


class DriveError(HemmaError):
    """Drive, or the folder in its place, could not do what was asked."""

    code = "drive"


class NotInDrive(DriveError):
    """No such file or folder, or this account may not know of it."""

    code = "drive-not-found"


class NotReadable(DriveError):
    """The file can be seen, its content cannot be had."""

    code = "drive-not-readable"


class NotSignedIn(DriveError):
    """No credentials, or they are no longer accepted."""

    exit_code = 75
    code = "drive-not-signed-in"
    remedy = "hemma drive login"


class QuotaUsedUp(DriveError):
    """A quota that a short wait does not bring back."""

    code = "drive-quota"


class DigestMismatch(DriveError):
    """Bytes that are not what their checksum says."""

    code = "drive-digest"


class DriveUnreachable(Unreachable):
    """Drive gave no answer within all tries."""

    code = "drive-unreachable"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file or folder as its metadata says.

    `size` in bytes and `md5` in hex are None where there is none (folders, documents of Google's own kind).
    `version` changes with content or metadata. `target` is where a shortcut leads.
    """

    id: str
    name: str
    kind: Kind
    mime: str = ""
    size: int | None = None
    md5: str | None = None
    version: str = ""
    modified: str = ""
    parents: tuple[str, ...] = ()
    is_trashed: bool = False
    may_download: bool = True
    target: str | None = None
    target_kind: Kind | None = None
    resource_key: str | None = None
    drive_id: str | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed since a token: entries as they are now, ids that are gone, and the token to ask with next time."""

    entries: tuple[Entry, ...]
    gone: tuple[str, ...]
    token: str


def kind_of(mime: str) -> Kind:
    """The kind behind a MIME type; documents of Google's own have no bytes to read."""
    if mime == FOLDER_MIME:
        return "folder"
    if mime == SHORTCUT_MIME:
        return "shortcut"
    return "document" if mime.startswith(_NATIVE) else "file"


class Store(Protocol):
    """A store of files. Ids are opaque; several threads may use one store at the same time."""

    name: str

    def list(self, folder: str) -> list[Entry]:
        """Everything in `folder` that is not in the bin; two may have the same name. Raises NotInDrive."""
        ...

    def list_many(self, folders: Sequence[str]) -> list[Entry]:
        """Everything in any of `folders`, in as few calls as possible; each entry's `parents` tells where it is."""
        ...

    def metadata(self, file_id: str) -> Entry:
        """One entry, also one in the bin. Raises NotInDrive."""
        ...

    def read(self, file_id: str, offset: int = 0, *, size: int | None = None) -> Iterator[bytes]:
        """The content from `offset` on, in pieces of some MiB; with `size` (as metadata says) never past it.

        Raises NotInDrive, NotReadable. What came is not compared with any checksum: the caller does that.
        """
        ...

    def upload(self, path: str, parent: str, name: str, *, file_id: str, is_new: bool) -> Entry:
        """Bring the file at `path` in as `file_id`: new in `parent`, or as the next revision of what is there.

        Doing it again with the same id makes no second file; a break is continued where it broke.
        Raises DigestMismatch when the store ends up with other bytes.
        """
        ...

    def make_folder(self, parent: str, name: str, *, file_id: str) -> Entry:
        """A folder with this id; one that is there with this id is returned."""
        ...

    def new_ids(self, count: int, parent: str, names: Sequence[str]) -> list[str]:
        """Ids for things to be made: kept by the caller before it makes them, so that a repeat makes nothing twice."""
        ...

    def trash(self, file_id: str) -> None:
        """Into the bin, from which a person can take it back."""
        ...

    def start_token(self) -> str | None:
        """A token to ask `changes` with later; None when this store knows none (listing it again is cheap)."""
        ...

    def changes(self, token: str) -> Changes:
        """What changed since `token`. Raises NotInDrive when the token has become too old."""
        ...

    def close(self) -> None:
        """End all connections."""
        ...
