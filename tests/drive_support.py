"""What tests of the Colab lane share: a slice on disk, runs in a Drive, a store that is quick to try again."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

from google.oauth2.credentials import Credentials

from controller.flows.drive import Place
from manifests.slices import Packages, Resume, RowRun, SliceFile, SliceIndex, slice_digest
from remote.drive.calling import Patience
from remote.drive.google import GoogleStore
from tests.drive_emulator import REFRESH, Emulator

# The command line, in a process of its own.
START = """\
import sys
from controller.cli import app
sys.exit(app.main(sys.argv[1:]))
"""


def here(folder: Path, environ: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    """The command line in this process: (exit code, stdout, stderr). A process of its own costs a second more."""
    from controller.cli import app

    os.environ.clear()
    os.environ.update(environ)
    os.chdir(folder)
    output, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(output):
        code = app.main(list(arguments))
    return code, _written(output), _written(errors)


def _written(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()


QUICK = Patience(tries=12, first_s=0.001, most_s=0.01, timeout_s=5)


def credentials_for(drive: Emulator) -> Credentials:
    """A sign-in that our Drive accepts, and that can be renewed there."""
    address = f"{drive.address}/token"
    return Credentials("a-token", refresh_token=REFRESH, token_uri=address, client_id="c", client_secret="s")


def store_of(drive: Emulator, patience: Patience = QUICK, **more: Any) -> GoogleStore:
    """A store on our Drive."""
    return GoogleStore(credentials_for(drive), endpoint=drive.address, patience=patience, **more)


def place_on(drive: Emulator, root: str = "root", **more: Any) -> Place:
    """A place on our Drive; close its store."""
    return Place(store_of(drive, **more), root, root)


def make_slice(folder: Path, name: str = "clean-text", files: dict[str, bytes] | None = None) -> Path:
    """A slice as `hemma slice issue` lays it out, with these files besides its own; returns its folder."""
    content = {
        "notebook.ipynb": b'{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}\n',
        "rows.jsonl": b'{"id": "a"}\n',
        "source.zip": b"PK\x05\x06" + bytes(18),
        **(files or {}),
    }
    listed = [
        SliceFile(path=path, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        for path, data in sorted(content.items())
    ]
    facts: dict[str, Any] = {
        "schema_version": 1, "kind": "hemma-slice", "name": name, "lane": "colab", "commit": "a" * 40, "host": "gpu",
        "manifest": "manifests/slices/x.yaml", "rows": 1, "key": "id", "processor": "prep.clean:clean", "gpu": "none",
        "run": RowRun().as_dict(), "resume": Resume().as_dict(), "packages": Packages().as_dict(), "project": "hemma",
        "secrets": [], "environment": {}, "localizable": [], "files": [each.as_dict() for each in listed], "digest": "",
    }  # fmt: skip
    index = SliceIndex.parse({**facts, "digest": slice_digest(facts)}, "slice.json")
    target = folder / index.folder
    for path, data in content.items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_bytes(data)
    index.write(str(target / "slice.json"))
    return target


def status_of(run: str, *, done: int = 40, ago_s: float = 5, **more: Any) -> bytes:
    """A row engine's status.json."""
    now = dt.datetime.now(dt.UTC)
    beat = (now - dt.timedelta(seconds=ago_s)).isoformat()
    status = {
        "schema_version": 1, "kind": "rows", "run_id": run, "slice": "clean-text", "slice_digest": "a" * 64,
        "state": "running", "step": "rows", "counts": {"total": 100, "done": done, "failed": 0, "quarantined": 1},
        "rate_per_s": 2.0, "eta_s": 30.0, "attempt": 1, "host": "colab", "pid": 7, "session": "s",
        "started_at": now.isoformat(), "heartbeat_at": beat, "heartbeat_s": 10.0, **more,
    }  # fmt: skip
    return json.dumps(status).encode()


def run_files(run: str, **more: Any) -> dict[str, bytes]:
    """The eight files of a run, by path."""
    return {
        "status.json": status_of(run, **more),
        "run.json": json.dumps({"run_id": run}).encode(),
        "events.jsonl": b'{"kind": "start"}\n',
        "logs/run.log": f"log of {run}\n".encode(),
        "spool/shard-00000.jsonl": b'{"row": "a"}\n' * 3,
        "spool/shard-00001.jsonl": b"",
        "evidence/versions.json": b"{}\n",
        "artifacts/report.md": b"# Report\n",
    }


def put_run(drive: Emulator, runs: str, run: str, files: dict[str, bytes] | None = None) -> dict[str, str]:
    """Put a run below the folder `runs`; returns path -> id, the run's own folder under ``""``."""
    made = {"": drive.drive.add(run, runs)}
    for path, content in (run_files(run) if files is None else files).items():
        above, _, name = path.rpartition("/")
        if above not in made:
            made[above] = drive.drive.add(above, made[""])
        made[path] = drive.drive.add(name, made[above], content)
    return made
