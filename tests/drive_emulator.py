"""A Drive of our own: Drive v3 over HTTP on this machine, held to the discovery document, with faults by a seeded plan.

    python tests/drive_emulator.py --tree FILE [--latency-ms N]     prints its address, serves until stdin ends

Not Google's: what it does not know it answers 501, so that no test passes by accident. `violations` lists every request
and answer that the document does not allow; tests assert that it is empty.
"""

from __future__ import annotations

import argparse
import base64
import datetime as dt
import hashlib
import itertools
import json
import random
import re
import socket
import ssl
import sys
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from google.auth import jwt

from tests.drive_contract import Contract, mask_of, masked, unknown_fields
from tests.drive_query import matcher

FOLDER = "application/vnd.google-apps.folder"
SHORTCUT = "application/vnd.google-apps.shortcut"
BLOCK = 1 << 20
CLIENT = ("a-client-id", "a-client-secret")
REFRESH = "a-refresh-token"
AUDIENCE = "https://oauth2.googleapis.com/token"
BEARER = 'Bearer realm="https://accounts.google.com/", error="invalid_token"'


class Drawn:
    """Content of any size that takes no memory: one block again and again, each with its number in front."""

    def __init__(self, size: int, seed: int = 0) -> None:
        self.size = size
        self.block = random.Random(seed).randbytes(BLOCK - 8)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, span: slice) -> bytes:
        start, stop, _ = span.indices(self.size)
        first = start // BLOCK
        pieces = [number.to_bytes(8, "big") + self.block for number in range(first, (stop + BLOCK - 1) // BLOCK)]
        return b"".join(pieces)[start - first * BLOCK : stop - first * BLOCK]

    def md5(self) -> str:
        """The checksum of all of it."""
        digest = hashlib.md5(usedforsecurity=False)
        for start in range(0, self.size, BLOCK):
            digest.update(self[start : start + BLOCK])
        return digest.hexdigest()


@dataclass
class Faults:
    """Which requests go wrong: a share of them, by chance from a seed; or exactly those in `next`, first come."""

    rate: float = 0.0
    seed: int = 0
    kinds: tuple[str, ...] = (
        "userRateLimitExceeded", "429", "500", "503", "hang-up", "truncated", "done-but-500", "expired", "stale", "twice",
        "wrong-bytes", "wrong-checksum",
    )  # fmt: skip
    next: list[str] = field(default_factory=list[str])
    choose: Callable[[set[str]], str] | None = None
    seen: Counter[str] = field(default_factory=Counter[str])

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.lock = threading.Lock()

    def draw(self, possible: set[str]) -> str:
        """The fault of one request among those that can befall it, or none."""
        if self.choose:
            return self.choose(possible)
        with self.lock:
            if self.next:
                chosen = self.next[0]
                if chosen not in possible:
                    return ""
                del self.next[0]
            elif self.random.random() < self.rate:
                fitting = [kind for kind in self.kinds if kind in possible]
                chosen = self.random.choice(fitting) if fitting else ""
            else:
                return ""
            self.seen[chosen] += 1
            return chosen


class Refusal(Exception):
    """An error answer: status, reason, and headers."""

    def __init__(self, status: int, reason: str, message: str = "", **headers: str) -> None:
        super().__init__(reason)
        self.status, self.reason, self.message, self.headers = status, reason, message or reason, headers


class Drive:
    """The files, and every act on them. One lock for all."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.files: dict[str, dict[str, Any]] = {}
        self.content: dict[str, bytes | Drawn] = {}
        self.log: list[str] = []
        self.sessions: dict[str, dict[str, Any]] = {}
        self.numbers = itertools.count(1)
        self.random = random.Random(7)
        self.page_size = 1000
        self.scopes = "https://www.googleapis.com/auth/drive"
        self.tokens = {"a-token"}
        # The public key (PEM) of a service account that may come in; empty: every assertion is taken.
        self.account_key = b""
        self.files["root"] = self._made("My Drive", FOLDER, [], "root")
        self.expire_tokens_issued = 0

    def new_id(self) -> str:
        """An id as Drive draws them: 33 letters."""
        letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
        return "1" + "".join(self.random.choices(letters, k=32))

    def _made(self, name: str, mime: str, parents: list[str], file_id: str) -> dict[str, Any]:
        moment = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {
            "kind": "drive#file", "id": file_id, "name": name, "mimeType": mime, "parents": parents, "trashed": False,
            "version": str(next(self.numbers)), "modifiedTime": moment, "createdTime": moment,
            "capabilities": {"canDownload": mime not in (FOLDER, SHORTCUT)},
        }  # fmt: skip

    def add(
        self, name: str, parent: str = "root", content: bytes | Drawn | None = None, *, mime: str = "", **more: Any
    ) -> str:
        """Put a file (or with content None a folder) there, as somebody else would; returns its id."""
        with self.lock:
            file_id = more.pop("id", None) or self.new_id()
            kind = mime or (FOLDER if content is None else "application/octet-stream")
            self.files[file_id] = self._made(name, kind, [parent], file_id)
            if content is not None:
                self.fill(file_id, content)
            self.files[file_id].update(more)
            self.log.append(file_id)
            return file_id

    def fill(self, file_id: str, content: bytes | Drawn) -> None:
        """Give a file this content, as its next revision."""
        with self.lock:
            md5 = (
                content.md5() if isinstance(content, Drawn) else hashlib.md5(content, usedforsecurity=False).hexdigest()
            )
            file = self.files[file_id]
            moment = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            file.update(size=str(len(content)), md5Checksum=md5, version=str(next(self.numbers)), modifiedTime=moment)
            self.content[file_id] = content
            self.log.append(file_id)

    def named(self, *names: str) -> list[dict[str, Any]]:
        """Files at a path below My Drive, not in the bin; several when a name is there twice."""
        found = [self.files["root"]]
        for name in names:
            ids = {file["id"] for file in found}
            found = [
                f for f in self.files.values() if f["name"] == name and ids & set(f["parents"]) and not f["trashed"]
            ]
        return found

    def below(self, parent: str) -> list[dict[str, Any]]:
        """All files below a folder at any depth, not in the bin."""
        children = [f for f in self.files.values() if parent in f["parents"] and not f["trashed"]]
        return [f for child in children for f in (child, *self.below(child["id"]))]


class Emulator(ThreadingHTTPServer):
    """The server. `address` is the endpoint; `counts` what was asked how often; `violations` what broke the contract."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *, latency_s: float = 0.0, faults: Faults | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.drive = Drive()
        self.latency_s = latency_s
        self.faults = faults or Faults()
        self.contract = Contract()
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self.group_is_blind = False
        self.refusals: list[Refusal] = []
        self.moments: list[float] = []
        self.tls: ssl.SSLContext | None = None
        self.open: set[socket.socket] = set()

    @property
    def address(self) -> str:
        """http://127.0.0.1:PORT"""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error; anything else is a violation of our own."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            self.violations.append(f"the emulator itself: {error!r}")


class Handler(BaseHTTPRequestHandler):
    """One request after the other on a connection that stays."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    server: Emulator  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        """Quiet."""

    def setup(self) -> None:
        """Remember the connection, so that closing the server ends it; speak TLS when the client begins so."""
        if self.server.tls and self.request.recv(1, socket.MSG_PEEK) == b"\x16":
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        super().setup()
        self.server.open.add(self.connection)

    def do_CONNECT(self) -> None:
        """Be the proxy and Google at once: for clients whose address of Drive is fixed."""
        if not self.server.tls:
            self.send_error(501)
            return
        self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        self.wfile.flush()
        self.server.open.discard(self.connection)
        self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        super().setup()
        self.server.open.add(self.connection)
        self.close_connection = False

    def finish(self) -> None:
        """The connection is over."""
        self.server.open.discard(self.connection)
        super().finish()

    def do_GET(self) -> None:
        """Any request."""
        length = int(self.headers.get("content-length") or 0)
        self.body = self.rfile.read(length)
        if self.headers.get("transfer-encoding", "") == "chunked":
            self.body = self._chunked()
        verb = self.headers.get("x-http-method-override", self.command)
        parsed = urllib.parse.urlsplit(self.path)
        text = self.body.decode() if verb != self.command else parsed.query
        pairs = urllib.parse.parse_qsl(text, keep_blank_values=True)
        self.query = dict(pairs)
        try:
            answer = self._dispatch(verb, parsed.path)
        except Refusal as refusal:
            error = {"domain": "global", "reason": refusal.reason, "message": refusal.message}
            body = {"error": {"code": refusal.status, "message": refusal.message, "errors": [error]}}
            content = refusal.message.encode() if isinstance(refusal, PageInstead) else json.dumps(body).encode()
            self._send(refusal.status, content, refusal.headers)
        else:
            if answer is not None:
                status, content, headers = answer
                self._send(status, content, headers)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def _chunked(self) -> bytes:
        pieces: list[bytes] = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None, *, cut: int = 0) -> None:
        self.send_response_only(status)
        for name, value in {"Content-Type": "application/json; charset=UTF-8", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) - cut])
        self.wfile.flush()
        if cut:
            self.close_connection = True

    # -- which method ----------------------------------------------------------------------------------------------

    def _dispatch(self, verb: str, path: str) -> tuple[int, bytes, dict[str, str]] | None:
        if path.startswith(("/_control", "/token", "/o/oauth2/auth", "/auth")):
            return self._sign_in_or_control(path)
        if self.server.latency_s:
            time.sleep(self.server.latency_s)
        if path.startswith("/drive/v2/"):
            return self._version_two(verb, path.removeprefix("/drive/v2/"))
        is_upload = path.startswith(("/upload/", "/resumable/upload/"))
        short = re.sub(r"^(?:/resumable)?(?:/upload)?/drive/v3/", "", path)
        method, where = self.server.contract.method_for(verb, short)
        if is_upload and "upload_id" in self.query and verb == "PUT":
            self._authorize()
            return self._part()
        if method is None:
            raise Refusal(501, "notImplemented", f"{verb} {path}")
        self.server.counts[method["id"]] += 1
        self._authorize()
        wrong = self.server.contract.wrong_parameters(method, self.query, is_upload=is_upload)
        return self._with_faults(method, where, wrong, is_upload=is_upload)

    def _with_faults(
        self, method: dict[str, Any], where: dict[str, str], wrong: list[str], *, is_upload: bool
    ) -> tuple[int, bytes, dict[str, str]] | None:
        is_media = self.query.get("alt") == "media"
        fault = self._faulted(method, is_media=is_media)
        act = getattr(self, "_" + method["id"].replace("drive.", "").replace(".", "_"), None)
        if act is None:
            raise Refusal(501, "notImplemented", method["id"])
        with self.server.drive.lock:
            result = act(where, is_upload) if method["id"] in UPLOADS else act(where)
        if isinstance(result, tuple):
            return self._media(result, fault)
        if fault == "done-but-500":
            raise Refusal(500, "backendError")
        wrong += self._wrong_answer(method, result)
        self.server.violations += wrong
        if fault == "wrong-checksum" and "md5Checksum" in result:
            result = {**result, "md5Checksum": "0" * 32}
        content = json.dumps(result).encode()
        if fault == "truncated":
            self._send(200, content, cut=len(content) // 2)
            return None
        return 200, content, {}

    def _wrong_answer(self, method: dict[str, Any], result: dict[str, Any]) -> list[str]:
        return self.server.contract.wrong_value(method["response"], result, method["id"])

    def _faulted(self, method: dict[str, Any], *, is_media: bool) -> str:
        possible = {"userRateLimitExceeded", "429", "500", "503", "hang-up", "truncated", "expired", "slow", "page"}
        possible |= {"stale", "twice"} if method["id"] == "drive.files.list" else set()
        possible |= {"wrong-bytes"} if is_media else set()
        possible |= {"done-but-500", "wrong-checksum"} if method["id"] in UPLOADS else set()
        self.server.moments.append(time.monotonic())
        if self.server.refusals:
            raise self.server.refusals.pop(0)
        fault = self.server.faults.draw(possible)
        if fault == "userRateLimitExceeded":
            raise Refusal(403, fault, "User Rate Limit Exceeded")
        if fault == "429":
            raise Refusal(429, "rateLimitExceeded", **{"Retry-After": "0"})
        if fault in ("500", "503"):
            raise Refusal(int(fault), "backendError")
        if fault == "expired":
            raise Refusal(401, "authError", "Invalid Credentials")
        if fault == "hang-up":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            raise ConnectionAbortedError
        if fault == "slow":
            time.sleep(1.0)
        if fault == "page":
            raise PageInstead
        self.fault = fault
        return fault

    def _authorize(self) -> None:
        sent = self.headers.get("authorization", "").removeprefix("Bearer ")
        if sent not in self.server.drive.tokens:
            raise Refusal(401, "authError", "Invalid Credentials", **{"WWW-Authenticate": BEARER})

    # -- sign-in and control -----------------------------------------------------------------------------------------

    def _sign_in_or_control(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        drive = self.server.drive
        if path == "/_control/counts":
            return 200, json.dumps(dict(self.server.counts)).encode(), {}
        if path == "/_control/reset":
            self.server.counts.clear()
            return 200, b"{}", {}
        if path == "/_control/fill":
            drive.fill(self.query["id"], self.body)
            return 200, b"{}", {}
        if path == "/_control/violations":
            return 200, json.dumps(self.server.violations).encode(), {}
        if path.endswith("auth"):
            target = f"{self.query['redirect_uri']}?code=a-code&state={self.query.get('state', '')}&scope={self.query['scope']}"
            self.server.counts["scope " + self.query["scope"]] += 1
            return 302, b"", {"Location": target.replace(" ", "%20")}
        sent = dict(urllib.parse.parse_qsl(self.body.decode()))
        self.server.counts["token"] += 1
        is_known = (sent.get("grant_type"), sent.get("refresh_token") or sent.get("code") or "") in {
            ("refresh_token", REFRESH),
            ("authorization_code", "a-code"),
        }
        if not is_known and not self._is_signed(sent):
            return 400, b'{"error": "invalid_grant", "error_description": "Token has been expired or revoked."}', {}
        token = f"token-{next(drive.numbers)}"
        drive.tokens.add(token)
        answer = {"access_token": token, "expires_in": 3599, "token_type": "Bearer", "scope": drive.scopes}
        if sent.get("grant_type") == "authorization_code":
            answer["refresh_token"] = REFRESH
        return 200, json.dumps(answer).encode(), {}

    def _is_signed(self, sent: dict[str, str]) -> bool:
        """Whether it is a service account's own assertion, signed with the key that we know and meant for Google."""
        if "assertion" not in sent or not self.server.drive.account_key:
            return "assertion" in sent
        try:
            claims = jwt.decode(sent["assertion"], certs=self.server.drive.account_key, audience=AUDIENCE)
        except ValueError:
            return False
        self.server.counts["scope " + str(claims["scope"])] += 1
        return sent["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"

    # -- v3: reading -------------------------------------------------------------------------------------------------

    def _file(self, file_id: str) -> dict[str, Any]:
        file = self.server.drive.files.get(file_id)
        if file is not None and "resourceKey" in file:
            sent = self.headers.get("x-goog-drive-resource-keys", "").split(",")
            if f"{file_id}/{file['resourceKey']}" not in sent:
                file = None
        if file is None:
            raise Refusal(404, "notFound", f"File not found: {file_id}.")
        return file

    def _shown(self, file: dict[str, Any], method: str = "File") -> dict[str, Any]:
        fields = self.query.get("fields", "id,name,mimeType,kind")
        return self._masked(file, fields, {"$ref": method})

    def _masked(self, value: Any, fields: str, schema: dict[str, Any]) -> Any:
        try:
            mask = mask_of(fields)
        except ValueError as error:
            raise Refusal(400, "invalidParameter", str(error)) from error
        unknown = unknown_fields(self.server.contract, schema, mask, str(schema))
        self.server.violations += unknown
        if unknown:
            raise Refusal(400, "invalidParameter", unknown[0])
        return masked(value, mask)

    def _about_get(self, where: dict[str, str]) -> dict[str, Any]:
        if "fields" not in self.query:
            raise Refusal(400, "required", "The 'fields' parameter is required for this method.")
        user = {"kind": "drive#user", "displayName": "A Person", "emailAddress": "person@example.invalid", "me": True}
        about = {"kind": "drive#about", "user": user, "storageQuota": {"limit": "16106127360", "usage": "1024"}}
        return self._masked(about, self.query["fields"], {"$ref": "About"})

    def _files_get(self, where: dict[str, str]) -> Any:
        file = self._file(where["fileId"])
        if self.query.get("alt") != "media":
            return self._shown(file)
        if not file["capabilities"]["canDownload"]:
            reason = (
                "fileNotDownloadable" if file["mimeType"].startswith("application/vnd.google") else "cannotDownloadFile"
            )
            raise Refusal(403, reason, "This file cannot be downloaded by the user.")
        return self.server.drive.content.get(where["fileId"], b""), self.headers.get("range", "")

    def _media(self, result: tuple[bytes | Drawn, str], fault: str) -> tuple[int, bytes, dict[str, str]] | None:
        content, wanted = result
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)
        start = int(found[1]) if found else 0
        stop = min(len(content), int(found[2]) + 1) if found and found[2] else len(content)
        headers = {"Content-Type": "application/octet-stream"}
        if found and start >= len(content):
            return 416, b"", {"Content-Range": f"bytes */{len(content)}"}
        piece = content[start:stop]
        if found:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        if fault == "wrong-bytes" and piece:
            piece = bytes([piece[0] ^ 1]) + piece[1:]
        if fault == "truncated":
            self._send(206 if found else 200, piece, headers, cut=max(1, len(piece) // 2))
            return None
        return (206 if found else 200), piece, headers

    def _files_list(self, where: dict[str, str]) -> dict[str, Any]:
        try:
            test = matcher(self.query.get("q", ""))
        except ValueError as error:
            raise Refusal(400, "invalid", str(error)) from error
        drive = self.server.drive
        found = [
            file for file in drive.files.values() if file["id"] != "root" and test(file) and self._is_visible(file)
        ]
        if self.server.group_is_blind and self.query.get("q", "").count("in parents") > 1:
            found = []
        if self.fault == "stale":
            found = found[:-1]
        size = min(int(self.query.get("pageSize", 100)), drive.page_size)
        start = int(self.query.get("pageToken", "0").rpartition("-")[2] or 0)
        page = found[start : start + size]
        if self.fault == "twice" and page:
            page = [*page, page[0]]
        answer: dict[str, Any] = {"kind": "drive#fileList", "incompleteSearch": False, "files": page}
        if start + size < len(found):
            answer["nextPageToken"] = f"page-{start + size}"
        return self._masked(answer, self.query.get("fields", "files(id,name,mimeType,kind)"), {"$ref": "FileList"})

    def _is_visible(self, file: dict[str, Any]) -> bool:
        return "driveId" not in file or self.query.get("includeItemsFromAllDrives") == "true"

    def _files_generateIds(self, where: dict[str, str]) -> dict[str, Any]:  # noqa: N802
        count = int(self.query.get("count", 10))
        return {
            "kind": "drive#generatedIds",
            "space": "drive",
            "ids": [self.server.drive.new_id() for _ in range(count)],
        }

    def _changes_getStartPageToken(self, where: dict[str, str]) -> dict[str, Any]:  # noqa: N802
        return {"kind": "drive#startPageToken", "startPageToken": str(len(self.server.drive.log))}

    def _changes_list(self, where: dict[str, str]) -> dict[str, Any]:
        drive = self.server.drive
        start, size = int(self.query["pageToken"]), int(self.query.get("pageSize", 100))
        if start > len(drive.log):
            raise Refusal(404, "notFound", "Page token not found")
        end = min(start + size, len(drive.log))
        changes: list[dict[str, Any]] = []
        for file_id in dict.fromkeys(drive.log[start:end]):
            base = {"kind": "drive#change", "changeType": "file", "type": "file", "fileId": file_id}
            file = drive.files.get(file_id)
            changes.append({**base, "removed": file is None, **({"file": file} if file else {})})
        answer: dict[str, Any] = {"kind": "drive#changeList", "changes": changes}
        answer["nextPageToken" if end < len(drive.log) else "newStartPageToken"] = str(end)
        return self._masked(answer, self.query.get("fields", "*"), {"$ref": "ChangeList"})

    # -- v3: making --------------------------------------------------------------------------------------------------

    def _files_create(self, where: dict[str, str], is_upload: bool) -> Any:
        meta, content = self._parts_of_body(is_upload)
        drive = self.server.drive
        file_id = meta.get("id") or drive.new_id()
        if file_id in drive.files:
            raise Refusal(409, "fileIdInUse", "A file already exists with the provided ID.")
        for parent in meta.get("parents", ["root"]):
            self._file(parent)
        if is_upload and self.query.get("uploadType") == "resumable":
            return self._begin(meta, file_id, is_new=True)
        self._make(meta, file_id, content)
        return self._shown(drive.files[file_id])

    def _files_update(self, where: dict[str, str], is_upload: bool) -> Any:
        file = self._file(where["fileId"])
        meta, content = self._parts_of_body(is_upload)
        if is_upload and self.query.get("uploadType") == "resumable":
            return self._begin(meta, file["id"], is_new=False)
        file.update({name: value for name, value in meta.items() if name in ("name", "trashed", "mimeType")})
        file["version"] = str(next(self.server.drive.numbers))
        self.server.drive.log.append(file["id"])
        if content is not None:
            self.server.drive.fill(file["id"], content)
        return self._shown(file)

    def _make(self, meta: dict[str, Any], file_id: str, content: bytes | None) -> None:
        mime = meta.get("mimeType", "application/octet-stream")
        body = content if content is not None or mime in (FOLDER, SHORTCUT) else b""
        more = {name: meta[name] for name in ("shortcutDetails", "appProperties") if name in meta}
        parent = meta.get("parents", ["root"])[0]
        self.server.drive.add(meta.get("name", "Untitled"), parent, body, mime=mime, id=file_id, **more)

    def _parts_of_body(self, is_upload: bool) -> tuple[dict[str, Any], bytes | None]:
        """The metadata, and the content of a multipart or media upload."""
        kind, content = self.headers.get("content-type", ""), None
        upload_type = self.query.get("uploadType") if is_upload else None
        if upload_type == "multipart":
            message = message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + self.body)
            parts: Any = message.get_payload()
            meta_part, media_part = parts
            meta = json.loads(meta_part.get_payload(decode=True))
            content = self._media_part(kind, media_part)
        elif upload_type == "media":
            meta, content = {}, self.body
        else:
            meta = json.loads(self.body or b"{}")
        self.server.violations += self.server.contract.wrong_value({"$ref": "File"}, meta, "the body")
        return meta, content

    def _media_part(self, kind: str, part: Any) -> bytes:
        """The media as it was sent: the parser of mail would change line ends."""
        if part.get("Content-Transfer-Encoding") == "base64":
            return base64.b64decode(part.get_payload())
        found = re.search(r'boundary="?([^";]+)', kind)
        mark = b"--" + (found[1] if found else "").encode()
        last = self.body.split(mark)[2]
        _, _, content = re.split(rb"(\r?\n\r?\n)", last, maxsplit=1)
        return content[: -2 if content.endswith(b"\r\n") else -1]

    def _begin(self, meta: dict[str, Any], file_id: str, *, is_new: bool) -> None:
        """Open a resumable session."""
        number = f"session-{next(self.server.drive.numbers)}"
        total = int(self.headers.get("x-upload-content-length", 0))
        self.server.drive.sessions[number] = {"meta": meta, "id": file_id, "new": is_new, "got": b"", "total": total,
                                              "fields": self.query.get("fields", "id")}  # fmt: skip
        raise Opened(f"{self.server.address}/upload/drive/v3/files?uploadType=resumable&upload_id={number}")

    def _part(self) -> tuple[int, bytes, dict[str, str]]:
        """A part of a resumable upload, or the question how far it is."""
        self.server.counts["upload part"] += 1
        drive = self.server.drive
        session = drive.sessions.get(self.query["upload_id"])
        if session is None:
            raise Refusal(404, "notFound", "no such upload")
        fault = self._faulted({"id": "part"}, is_media=False)
        found = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)", self.headers.get("content-range", ""))
        if not found:
            self.server.violations.append(f"content-range {self.headers.get('content-range')}")
            raise Refusal(400, "badRequest")
        with drive.lock:
            start = int(found[1]) if found[1] is not None else None
            if start is not None and start <= len(session["got"]):
                if len(self.body) % (256 << 10) and int(found[2]) + 1 != int(found[3]):
                    self.server.violations.append("a part is no multiple of 256 KiB")
                # Only half of it may have arrived.
                piece = (
                    self.body[: (len(self.body) // 2) // (256 << 10) * (256 << 10)]
                    if fault == "truncated"
                    else self.body
                )
                session["got"] = session["got"][:start] + piece
            if len(session["got"]) < int(found[3]):
                if fault == "truncated":
                    raise Refusal(503, "backendError")
                end = len(session["got"]) - 1
                return 308, b"", {"Range": f"bytes=0-{end}"} if end >= 0 else {}
            if session.get("done") is None:
                session["done"] = True
                if session["new"]:
                    self._make(session["meta"], session["id"], session["got"])
                else:
                    drive.fill(session["id"], session["got"])
            answer = masked(drive.files[session["id"]], mask_of(session["fields"]))
        return 200, json.dumps(answer).encode(), {}

    # -- v2, as much as PyDrive2 uses ----------------------------------------------------------------------------------

    def _base(self) -> str:
        scheme = "https" if isinstance(self.connection, ssl.SSLSocket) else "http"
        return f"{scheme}://{self.headers['host']}"

    def _version_two(self, verb: str, path: str) -> tuple[int, bytes, dict[str, str]] | None:
        self.server.counts["v2 " + path.partition("/")[0]] += 1
        self._authorize()
        drive = self.server.drive
        if path == "about":
            return 200, json.dumps({"rootFolderId": "root", "user": {}}).encode(), {}
        if path == "files":
            test = matcher(self.query.get("q", ""))
            with drive.lock:
                found = [
                    _as_v2(file, self._base()) for file in drive.files.values() if file["id"] != "root" and test(file)
                ]
            size, start = int(self.query.get("maxResults", 100)), int(self.query.get("pageToken") or 0)
            answer: dict[str, Any] = {"kind": "drive#fileList", "items": found[start : start + size]}
            if start + size < len(found):
                answer["nextPageToken"] = str(start + size)
            return 200, json.dumps(answer).encode(), {}
        file_id = path.removeprefix("files/")
        if self.query.get("alt") == "media":
            self.fault = ""
            return self._media((drive.content[file_id], self.headers.get("range", "")), "")
        return 200, json.dumps(_as_v2(self._file(file_id), self._base())).encode(), {}


class Opened(Refusal):
    """A resumable session is open: its address is in Location."""

    def __init__(self, address: str) -> None:
        super().__init__(200, "opened", "", Location=address)


class PageInstead(Refusal):
    """A proxy between us answers with a page of its own."""

    def __init__(self) -> None:
        super().__init__(502, "<html>", "<html><body>Bad gateway</body></html>")


UPLOADS = {"drive.files.create", "drive.files.update"}


def _as_v2(file: dict[str, Any], base: str) -> dict[str, Any]:
    more = {"fileSize": file["size"], "md5Checksum": file["md5Checksum"]} if "size" in file else {}
    if more:
        more["downloadUrl"] = f"{base}/drive/v2/files/{file['id']}?alt=media"
    parents = [{"id": parent} for parent in file["parents"]]
    names = {"id": file["id"], "title": file["name"], "mimeType": file["mimeType"], "parents": parents}
    return {"kind": "drive#file", **names, "labels": {"trashed": file["trashed"]}, **more}


@contextmanager
def serving(*, latency_s: float = 0.0, faults: Faults | None = None) -> Generator[Emulator]:
    """An emulator that runs until the block ends; every thread of it is gone then."""
    server = Emulator(latency_s=latency_s, faults=faults)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        for connection in list(server.open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        server.server_close()


def main() -> None:
    """Serve a tree from a file: [[name, parent id, id, text | size | null], …]."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tree", required=True)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--tls", help="a certificate with its key: also speak TLS, and be the proxy of those who ask")
    options = parser.parse_args()
    with serving(latency_s=options.latency_ms / 1000) as server:
        if options.tls:
            server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            server.tls.load_cert_chain(options.tls)
        for name, parent, file_id, content in json.loads(Path(options.tree).read_text(encoding="utf-8")):
            filled = Drawn(content) if isinstance(content, int) else content.encode() if content is not None else None
            server.drive.add(name, parent, filled, id=file_id)
        print(server.address, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
