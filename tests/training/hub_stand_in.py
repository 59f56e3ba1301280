"""As much of the Hugging Face hub's HTTP interface as one push and one look need, served on a free local port.

Written after what huggingface_hub 2.4 asks for: whoami, repository, preupload, LFS batch and upload, commit, tree, resolve.
It stands in for the hub's shape, not for its limits, scans or Xet storage.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

TOKEN = "hf" + "_" + "stand-in"


class StandIn:
    """What the hub holds: repositories, the files of each commit, and LFS objects by sha256."""

    def __init__(self) -> None:
        self.url = ""
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.commits: dict[str, dict[str, bytes]] = {}
        self.large: dict[str, bytes] = {}
        self.large_names: set[str] = set()
        self.fails: set[str] = set()

    def commit(self, name: str, lines: list[dict[str, Any]]) -> str:
        """Take a commit as the client sends it; returns its id."""
        files = dict(self.repositories[name])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.large[value["oid"]]
                self.large_names.add(value["path"])
        self.repositories[name] = files
        oid = hashlib.sha1(json.dumps(sorted(files)).encode(), usedforsecurity=False).hexdigest()
        self.commits[oid] = files
        return oid

    def tree(self, revision: str) -> list[dict[str, Any]]:
        """The files of a commit as the hub lists them."""
        found: list[dict[str, Any]] = []
        for path, content in self.commits[revision].items():
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
            entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": blob}
            if path in self.large_names:
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 134}
            found.append(entry)
        return found


class _Handler(BaseHTTPRequestHandler):
    hub: StandIn

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer who, what is there, and contents."""
        path = unquote(self.path.partition("?")[0])
        if path == "/api/whoami-v2":
            is_known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            self._answer(200 if is_known else 401, {"name": "me", "orgs": [{"name": "team"}]})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            self._answer(200, self.hub.tree(found[2]))
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/.*)?", path):
            is_there = found[1] in self.hub.repositories
            error = None if is_there else "RepoNotFound"
            self._answer(200 if is_there else 404, {"id": found[1], "siblings": [], "tags": []}, error=error)
        elif found := re.fullmatch(r"/[^/]+/[^/]+/resolve/([0-9a-f]+)/(.+)", path):
            self._content(found[1], found[2])
        else:
            self._answer(404, {})

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        """Take a repository, a plan of uploads, a commit."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(self.path.partition("?")[0])
        if path in self.hub.fails:
            self._answer(500, {})
        elif path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            self.hub.repositories.setdefault(name, {})
            self._answer(200, {"url": f"{self.hub.url}/{name}", "id": name})
        elif path.endswith("/preupload/main"):
            files = [
                {"path": each["path"], "shouldIgnore": False, "uploadMode": "lfs" if each["path"].endswith(".safetensors") else "regular"}
                for each in json.loads(body)["files"]
            ]  # fmt: skip
            self._answer(200, {"files": files})
        elif path.endswith("/info/lfs/objects/batch"):
            self._batch(json.loads(body))
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
            oid = self.hub.commit(found[1], [json.loads(line) for line in body.splitlines()])
            self._answer(
                200, {"commitUrl": f"{self.hub.url}/{found[1]}/commit/{oid}", "commitOid": oid, "success": True}
            )
        else:
            self._answer(404, {})

    def do_PUT(self) -> None:
        """Take a large file."""
        self.hub.large[self.path.rpartition("/")[2]] = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200, {})

    def _batch(self, asked: dict[str, Any]) -> None:
        objects = [
            {**each, "authenticated": True, "actions": {"upload": {"href": f"{self.hub.url}/put/{each['oid']}"}}}
            for each in asked["objects"]
        ]
        self._answer(200, {"transfer": "basic", "objects": objects})

    def _content(self, revision: str, name: str) -> None:
        content = self.hub.commits[revision].get(name, b"")
        etag = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": revision})

    def _answer(self, code: int, value: Any, error: str | None = None) -> None:
        self._send(code, json.dumps(value).encode(), {"X-Error-Code": error} if error else {})

    def _send(self, code: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(BrokenPipeError):
                self.wfile.write(content)


@contextlib.contextmanager
def serving() -> Generator[StandIn]:
    """A stand-in on a free port, ended with the block."""
    hub = StandIn()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
