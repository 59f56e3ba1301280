"""Google Drive as a store, through Google's own client and the discovery document that ships with it (S9-R14, S9-R24).

One connection for each thread, because httplib2 is not made for several. Everything is asked again when the answer was a
passing fault; things are made under ids that were drawn before, so that asking again makes nothing twice.
"""

from __future__ import annotations

import hashlib
import json
import mimetypes
import os
import re
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any

import httplib2
from googleapiclient import discovery, discovery_cache
from googleapiclient.errors import HttpError
from googleapiclient.http import MediaFileUpload

from lanes.pacing import Bucket
from remote.drive.calling import Caller, Conflict, Passing, Patience
from remote.drive.store import FOLDER_MIME, Changes, DigestMismatch, Entry, NotInDrive, kind_of

ENDPOINT = "https://www.googleapis.com"
PIECE = 8 << 20  # of an upload, a multiple of 256 KiB; what one thread holds of it in memory
RANGE = 16 << 20  # of a download; httplib2 gives a body whole, so this is in memory too
PAGE = 1000
# Google allows 12,000 queries a minute, not so many a second: 5,500 at once and 100 a second stay below in every minute.
PACE = Bucket(rate_per_s=100, burst=5500)
# Parents in one query. rclone found 50 to work for years, and that Drive at times answers such a query with nothing.
GROUP = 50
FIELDS = (
    "id,name,mimeType,size,md5Checksum,version,modifiedTime,parents,trashed,driveId,resourceKey,"
    "shortcutDetails(targetId,targetMimeType,targetResourceKey),capabilities(canDownload)"
)
ALL_DRIVES = {"supportsAllDrives": True, "includeItemsFromAllDrives": True}


class _Media(MediaFileUpload):
    def has_stream(self) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]
        """No: a part is read whole before it is sent. A stream is at its end when httplib2 sends it a second time."""
        return False


class GoogleStore:
    """Drive v3. `credentials` are google-auth's; `sessions` keeps addresses of unfinished uploads, by id and checksum."""

    def __init__(
        self,
        credentials: Any,
        *,
        endpoint: str = ENDPOINT,
        patience: Patience | None = None,
        bucket: Bucket | None = None,
        sessions: MutableMapping[str, str] | None = None,
    ) -> None:
        self.name = f"drive {_mark(credentials)} {endpoint}"
        self._caller = Caller(credentials, patience or Patience(), bucket or PACE)
        self._sessions: MutableMapping[str, str] = {} if sessions is None else sessions
        self._service: Any = _service(endpoint)
        # Each of these is built from the whole document, which takes milliseconds: once is enough.
        self._files: Any = self._service.files()
        self._changes: Any = self._service.changes()

    # -- reading ---------------------------------------------------------------------------------------------------

    def use_key(self, file_id: str, resource_key: str | None) -> None:
        """Send this resource key along from now on: items shared long ago are not found without it."""
        self._caller.use_key(file_id, resource_key)

    @property
    def calls(self) -> int:
        """How many requests were sent so far, repeats too."""
        return self._caller.calls

    def list(self, folder: str) -> list[Entry]:
        """See Store."""
        found = self._search([folder])
        if not found:
            # An empty answer is also what a folder gives that is not there.
            self.metadata(folder)
        return found

    def list_many(self, folders: Sequence[str]) -> list[Entry]:
        """See Store. A group that comes back empty is asked for one by one: Drive at times answers so by mistake."""
        found: list[Entry] = []
        for start in range(0, len(folders), GROUP):
            group = folders[start : start + GROUP]
            entries = self._search(group)
            if not entries and len(group) > 1:
                entries = [entry for folder in group for entry in self._search([folder])]
            found += entries
        return found

    def metadata(self, file_id: str) -> Entry:
        """See Store."""
        request = self._files.get(fileId=file_id, fields=FIELDS, supportsAllDrives=True)
        return self._entry(self._caller.ask(request, file_id))

    def read(self, file_id: str, offset: int = 0, *, size: int | None = None) -> Iterator[bytes]:
        """See Store."""
        request = self._files.get_media(fileId=file_id, supportsAllDrives=True)
        while size is None or offset < size:
            end = offset + RANGE if size is None else min(offset + RANGE, size)
            piece = self._caller.again(lambda at=offset, to=end: self._range(request, file_id, at, to))
            if not piece:
                return
            offset += len(piece)
            yield piece
            if size is None and len(piece) < RANGE:
                return

    def start_token(self) -> str | None:
        """See Store."""
        request = self._changes.getStartPageToken(supportsAllDrives=True)
        return str(self._caller.ask(request, "the changes")["startPageToken"])

    def changes(self, token: str) -> Changes:
        """See Store."""
        found: dict[str, Entry] = {}
        gone: set[str] = set()
        while True:
            request = self._changes.list(
                pageToken=token,
                pageSize=PAGE,
                fields=f"nextPageToken,newStartPageToken,changes(fileId,removed,file({FIELDS}))",
                **ALL_DRIVES,
            )
            page = self._caller.ask(request, "the changes")
            for change in page.get("changes", []):
                # `fileId` is missing for changes of a shared drive itself.
                file_id = str(change.get("fileId", ""))
                gone.discard(file_id)
                found.pop(file_id, None)
                if change.get("removed") or "file" not in change:
                    gone.add(file_id)
                else:
                    found[file_id] = self._entry(change["file"])
            if "nextPageToken" not in page:
                return Changes(tuple(found.values()), tuple(gone - {""}), str(page["newStartPageToken"]))
            token = page["nextPageToken"]

    # -- making ----------------------------------------------------------------------------------------------------

    def new_ids(self, count: int, parent: str, names: Sequence[str]) -> list[str]:
        """See Store."""
        ids: list[str] = []
        while len(ids) < count:
            request = self._files.generateIds(count=min(PAGE, count - len(ids)), space="drive", type="files")
            ids += self._caller.ask(request, "new ids")["ids"]
        return ids

    def make_folder(self, parent: str, name: str, *, file_id: str) -> Entry:
        """See Store."""
        body = {"id": file_id, "name": name, "mimeType": FOLDER_MIME, "parents": [parent]}
        try:
            request = self._files.create(body=body, fields=FIELDS, supportsAllDrives=True)
            return self._entry(self._caller.ask(request, name))
        except Conflict:
            return self.metadata(file_id)

    def upload(self, path: str, parent: str, name: str, *, file_id: str, is_new: bool) -> Entry:
        """See Store."""
        digest = _md5_of(path)
        for _ in range(3):
            entry = self._put(path, parent, name, file_id, digest, is_new=is_new)
            if entry.md5 == digest:
                return entry
            is_new = False
        raise DigestMismatch(
            f"{name} arrived three times with other bytes than it has here",
            remedy="see whether the file is being written",
        )

    def trash(self, file_id: str) -> None:
        """See Store."""
        request = self._files.update(fileId=file_id, body={"trashed": True}, fields="id", supportsAllDrives=True)
        self._caller.ask(request, file_id)

    def account(self) -> dict[str, Any]:
        """Who is signed in, and the storage: `user.emailAddress`, `storageQuota`. For `hemma drive check`."""
        return self._caller.ask(
            self._service.about().get(fields="user(emailAddress,displayName),storageQuota"), "the account"
        )

    def close(self) -> None:
        """See Store."""
        self._caller.close()

    # -- private: uploads ------------------------------------------------------------------------------------------

    def _put(self, path: str, parent: str, name: str, file_id: str, digest: str, *, is_new: bool) -> Entry:
        size = os.path.getsize(path)
        media = _Media(
            path,
            mimetype=mimetypes.guess_type(name)[0] or "application/octet-stream",
            chunksize=PIECE,
            resumable=size > PIECE or _ends_in_return(path),
        )
        more = {"media_body": media, "fields": FIELDS, "supportsAllDrives": True}
        if is_new:
            request = self._files.create(body={"id": file_id, "name": name, "parents": [parent]}, **more)
        else:
            request = self._files.update(fileId=file_id, body={}, **more)
        try:
            # googleapiclient leaves the file open when its request is dropped: it closes with `media`.
            if not request.resumable:
                return self._entry(self._caller.ask(request, name))
            return self._entry(self._in_parts(request, f"{file_id}-{digest}", size))
        except Conflict:
            return self.metadata(file_id)
        finally:
            media.stream().close()

    def _in_parts(self, request: Any, key: str, size: int) -> dict[str, Any]:
        """A resumable upload, continued where an earlier one of the same bytes broke, even in another process."""
        known = self._sessions.get(key)
        if known:
            done = self._caller.again(lambda: self._take_up(request, known, size))
            if done is not None:
                self._sessions.pop(key, None)
                return done
        while True:
            body = self._caller.again(lambda: self._next_part(request))
            if body is not None:
                self._sessions.pop(key, None)
                return body
            if request.resumable_uri and self._sessions.get(key) != request.resumable_uri:
                self._sessions[key] = request.resumable_uri

    def _next_part(self, request: Any) -> dict[str, Any] | None:
        def send() -> dict[str, Any] | None:
            return request.next_chunk(http=self._caller.connection())[1]

        return self._caller.once(send, "an upload")

    def _take_up(self, request: Any, address: str, size: int) -> dict[str, Any] | None:
        """Where an upload stands: its result when it is done; else None, with `request` set to go on (or to begin anew)."""
        headers = {"Content-Range": f"bytes */{size}", "content-length": "0"}
        response, content = self._caller.send(address, "PUT", headers, "an upload")
        if response.status in (200, 201):
            return json.loads(content)
        if response.status == 308:
            request.resumable_uri = address
            request.resumable_progress = int(response["range"].rpartition("-")[2]) + 1 if "range" in response else 0
        elif response.status not in (404, 410):
            self._caller.refuse(HttpError(response, content), "an upload")
        return None

    # -- private: asking -------------------------------------------------------------------------------------------

    def _search(self, folders: Sequence[str]) -> list[Entry]:
        """All that lies in `folders`, page by page; an entry that two pages of a moving list both hold comes once."""
        wrong = [folder for folder in folders if not re.fullmatch(r"[A-Za-z0-9_-]+", folder)]
        if wrong:
            raise NotInDrive(f"{wrong[0]!r} is no id of Drive", remedy="give a link or an id")
        parents = " or ".join(f"'{folder}' in parents" for folder in folders)
        found: dict[str, Entry] = {}
        token: str | None = None
        while True:
            request = self._files.list(
                q=f"({parents}) and trashed = false",
                pageSize=PAGE,
                pageToken=token,
                spaces="drive",
                fields=f"nextPageToken,files({FIELDS})",
                **ALL_DRIVES,
            )
            page = self._caller.ask(request, folders[0])
            found.update((file["id"], self._entry(file)) for file in page.get("files", []))
            token = page.get("nextPageToken")
            if not token:
                return [entry for entry in found.values() if not entry.is_trashed]

    def _range(self, request: Any, file_id: str, start: int, end: int) -> bytes:
        """Bytes `start` up to `end` of a file, fewer at its end. A body that was cut short is a passing fault."""
        # Already packed content is not packed again, and lengths are those of the file.
        headers = {**self._caller.headers(), "accept-encoding": "identity", "range": f"bytes={start}-{end - 1}"}
        response, content = self._caller.send(request.uri, "GET", headers, file_id)
        if response.status == 416:
            return b""
        if response.status not in (200, 206):
            self._caller.refuse(HttpError(response, content), file_id)
        if len(content) != int(response.get("content-length", len(content))):
            raise Passing(f"{file_id}: the answer was cut short")
        return content[start:end] if response.status == 200 else content

    def _entry(self, file: dict[str, Any]) -> Entry:
        shortcut = file.get("shortcutDetails", {})
        entry = Entry(
            id=file["id"],
            name=file.get("name", ""),
            kind=kind_of(file.get("mimeType", "")),
            mime=file.get("mimeType", ""),
            size=int(file["size"]) if "size" in file else None,
            md5=file.get("md5Checksum"),
            version=str(file.get("version", "")),
            modified=file.get("modifiedTime", ""),
            parents=tuple(file.get("parents", ())),
            is_trashed=bool(file.get("trashed")),
            may_download=bool(file.get("capabilities", {}).get("canDownload", True)),
            target=shortcut.get("targetId"),
            target_kind=kind_of(shortcut.get("targetMimeType", "")) if shortcut else None,
            resource_key=shortcut.get("targetResourceKey") or file.get("resourceKey"),
            drive_id=file.get("driveId"),
        )
        self.use_key(entry.target or entry.id, entry.resource_key)
        return entry


def _service(endpoint: str) -> Any:
    """The client, made from the document that ships with it: nothing is fetched to find out how to ask."""
    document = json.loads(discovery_cache.get_static_doc("drive", "v3") or "{}")
    root = endpoint.rstrip("/") + "/"
    # Uploads go to rootUrl whatever `client_options.api_endpoint` says, so the document itself is told.
    document.update(rootUrl=root, baseUrl=root + document["servicePath"], mtlsRootUrl=root)
    return discovery.build_from_document(document, http=httplib2.Http())


def _mark(credentials: Any) -> str:
    """A word that differs from account to account and tells nothing of it: what is kept of one is not the other's."""
    names = ("service_account_email", "refresh_token", "token")
    known = next((value for name in names if (value := getattr(credentials, name, None))), "nobody")
    return hashlib.sha256(str(known).encode()).hexdigest()[:12]


def _ends_in_return(path: str) -> bool:
    """Whether the last byte is a carriage return.

    Google's client ends a part of a multipart body with a line feed alone. After such a byte a server has to guess
    whether it belongs to the content; a resumable upload has no such seam.
    """
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 1))
        return file.read() == b"\r"


def _md5_of(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
