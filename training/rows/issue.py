"""A slice, issued in the clone that counts: gathered, scanned for secrets, written whole or not at all (S9-R30..R33).

Runs on the host, sent by value, and answers in JSON lines: `progress`, then `slice` or `refused`. The same commit, data
and manifest give the same bytes: no times, sorted names, fixed modes.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import shutil
import socket
import stat
import zipfile
from collections import Counter
from typing import Any

from lanes.redaction import redact
from lanes.slice_notebook import FLAVOURS, NotebookPlan, notebook, readme
from manifests.commands import command
from manifests.errors import HemmaError, UsageError
from manifests.files import read_json
from manifests.slices import (
    FILES_FOLDER,
    MANIFEST_FILE,
    NOTEBOOK_FILE,
    README_FILE,
    ROWS_FILE,
    SLICE_JSON,
    SOURCE_ZIP,
    SliceIndex,
    SliceManifest,
    parse_slice_manifest,
    slice_digest,
)
from training.rows import bundle
from training.rows.gather import Clone, SliceRefused, clone_at, files_of, rows_of, sources_of

_EPOCH = (1980, 1, 1, 0, 0, 0)
# A word of chance is no proof of a secret: ids and keys of rows look like that.
_ONLY_SUSPECT = frozenset({"unnamed-token"})
_PROGRESS_ROWS = 20_000
_SCAN_BYTES = 4 << 20
_SEEN_AGAIN = 4096
Contents = dict[str, bytes]
Event = dict[str, Any]


def main(path: str) -> int:
    """Issue what the request in the file `path` asks for, in the clone that is the working directory; returns the exit code."""
    try:
        _say("slice", issue(read_json(path), os.getcwd()))
    except HemmaError as error:
        _say("refused", error.as_dict())
        return error.exit_code
    except OSError as error:
        _say("refused", HemmaError(f"{error}", remedy="df -h .; ls -la .", code="slice-unwritable").as_dict())
        return 1
    return 0


def issue(request: Event, root: str) -> Event:
    """Gather a slice and, unless `dry`, write it below `out`; returns what it holds, its folder and its digest.

    `notebook`: a flavour, for the text of that notebook in the answer. Raises UsageError, SliceRefused; then nothing is
    written.
    """
    clone = clone_at(root)
    name = str(request["manifest"])
    if name not in clone.tracked:
        raise SliceRefused(f"{name} is not committed in this clone", remedy=command("git add {}; git commit", name))
    with open(os.path.join(root, name), "rb") as file:
        text = file.read()
    manifest = parse_slice_manifest(text.decode("utf-8", "replace"), name)
    rows = rows_of(clone, manifest, request.get("without") or (), _progress)
    sources, data = sources_of(clone, manifest), files_of(clone, manifest)
    warned = _demand_no_secrets(manifest, {name: text, manifest.rows.source: b"".join(rows), **sources, **data})
    engine = {path: base64.b64decode(each) for path, each in request["engine"].items()}
    contents: Contents = {
        MANIFEST_FILE: text,
        ROWS_FILE: b"".join(rows),
        SOURCE_ZIP: source_zip(_joined(engine, sources)),
        **{f"{FILES_FOLDER}/{path}": each for path, each in data.items()},
    }
    made = index_of(manifest, clone, name, len(rows), contents)
    plan = plan_of(made, manifest.task, {**engine, **sources} if _flavour(request) == "sealed" else {})
    pages = {NOTEBOOK_FILE: notebook(plan, _flavour(request)), README_FILE: readme(plan).encode("utf-8")}
    index = _with_pages(made, {**contents, **pages})
    folder = os.path.join(str(request.get("out") or "slices"), index.folder)
    state = "dry" if request.get("dry") else _written(os.path.join(root, folder), index, {**contents, **pages})
    asked = {"notebook": pages[NOTEBOOK_FILE].decode("utf-8")} if request.get("notebook") else {}
    return {"state": state, "folder": folder, "index": index.as_dict(), "warnings": warned, **asked}


def index_of(manifest: SliceManifest, clone: Clone, name: str, rows: int, contents: Contents) -> Event:
    """slice.json as data, all but the pages, with its digest."""
    index: Event = {
        "schema_version": 1,
        "kind": "hemma-slice",
        "name": manifest.name,
        "lane": "colab",
        "commit": clone.commit,
        "host": socket.gethostname(),
        "manifest": name,
        "rows": rows,
        "key": manifest.rows.key,
        **{
            key: value
            for key, value in manifest.as_dict().items()
            if key
            in {"processor", "run", "resume", "gpu", "project", "packages", "secrets", "environment", "localizable"}
        },
        "files": _listed(contents),
    }
    return {**index, "digest": slice_digest(index)}


def plan_of(index: Event, task: str, sources: Contents) -> NotebookPlan:
    """What the notebook and the page of a slice are made from; `sources` for a sealed one. Raises SliceRefused: no text."""
    return NotebookPlan(
        name=index["name"],
        digest=index["digest"],
        project=index["project"],
        rows=index["rows"],
        task=task,
        gpu=index["gpu"],
        packages={name: tuple(pins) for name, pins in index["packages"].items()},
        secrets=tuple(index["secrets"]),
        sources={path: _text(path, each) for path, each in sources.items()},
    )


def source_zip(sources: Contents) -> bytes:
    """The package source by value: one zip that Python runs; equal sources, equal bytes on every machine.

    A folder of modules without `__init__.py` is a package too, but Python finds it in a zip only by an entry of its own.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted([*sources, *_bare_packages(sources)]):
            entry = zipfile.ZipInfo(path, _EPOCH)
            entry.external_attr = (stat.S_IFDIR | 0o755) << 16 if path.endswith("/") else (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, sources.get(path, b""))
    return buffer.getvalue()


def _bare_packages(sources: Contents) -> set[str]:
    folders = {path[: at + 1] for path in sources for at, letter in enumerate(path) if letter == "/"}
    return {folder for folder in folders if f"{folder}__init__.py" not in sources}


# --- parts ----------------------------------------------------------------------------------------------------------


def _flavour(request: Event) -> Any:
    wanted = request.get("notebook") or "thin"
    if wanted not in FLAVOURS:
        raise UsageError(f"a notebook is {' or '.join(FLAVOURS)}, not {wanted!r}", remedy="--thin or --sealed")
    return wanted


def _text(path: str, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SliceRefused(f"{path} is no text, which a sealed notebook needs", remedy="--thin") from error


def _joined(engine: Contents, sources: Contents) -> Contents:
    both = sorted(set(engine) & set(sources))
    if both:
        raise SliceRefused(
            f"{both[0]} is the name of a file of the engine", remedy=command("git mv {} elsewhere", both[0])
        )
    return {**engine, **sources}


def _listed(contents: Contents) -> list[Event]:
    return [
        {"path": path, "size_bytes": len(each), "sha256": hashlib.sha256(each).hexdigest()}
        for path, each in sorted(contents.items())
    ]


def _with_pages(index: Event, contents: Contents) -> SliceIndex:
    return SliceIndex.parse({**index, "files": _listed(contents)}, SLICE_JSON)


def _demand_no_secrets(manifest: SliceManifest, contents: Contents) -> list[str]:
    """What only may be a secret, in words. Raises SliceRefused for what looks like one and was not accepted (S20-R03)."""
    blocked: list[str] = []
    suspect: list[str] = []
    for path, content in sorted(contents.items()):
        if b"\0" in content[:8192] or path in manifest.accept:
            continue
        counts = _scanned(path, content)
        sure = {kind: number for kind, number in counts.items() if kind not in _ONLY_SUSPECT}
        words = ", ".join(f"{kind} {number}" for kind, number in (sure or counts).items())
        if words:
            (blocked if sure else suspect).append(f"{path}: {words}")
    if blocked:
        raise SliceRefused(
            "it would carry what looks like a secret: " + "; ".join(blocked[:5]),
            remedy="take it out and revoke it; if it is none: accept: {PATH: why} in the manifest",
            code="secret-in-slice",
        )
    return suspect


def _scanned(path: str, content: bytes) -> Counter[str]:
    """How many of each kind of secret a file seems to hold; in pieces that end with a line."""
    counts: Counter[str] = Counter()
    start = 0
    while start < len(content):
        end = content.find(b"\n", start + _SCAN_BYTES) + 1 or len(content)
        counts.update(redact(content[start:end].decode("utf-8", "replace")).counts)
        # The last line is looked at again with the next one, for a name may lead to a value there.
        again = content.rfind(b"\n", 0, end - 1) + 1
        start = again if end < len(content) and start < again and end - again < _SEEN_AGAIN else end
        if len(content) > _SCAN_BYTES:
            _say("progress", {"scanned": path, "bytes": end, "of": len(content)})
    return counts


def _written(folder: str, index: SliceIndex, contents: Contents) -> str:
    """Write the bundle in one step; `issued`, or `there` when the very same is there already."""
    if os.path.exists(os.path.join(folder, SLICE_JSON)):
        # Immutable: what is there must be what would be written.
        bundle.verify(folder, index.digest)
        return "there"
    temporary = os.path.join(os.path.dirname(folder), f".{index.folder}.{os.getpid()}.tmp")
    try:
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        listed = {**contents, SLICE_JSON: json.dumps(index.as_dict(), indent=2).encode("ascii") + b"\n"}
        for path, content in listed.items():  # slice.json last
            _put(os.path.join(temporary, *path.split("/")), content)
        os.rename(temporary, folder)
    except OSError as error:
        raise SliceRefused(
            f"{folder} cannot be written: {error.strerror}",
            remedy=command("ls -la {}; df -h .", os.path.dirname(folder)),
        ) from error
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(temporary)
    return "issued"


def _put(path: str, content: bytes) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(path, 0o444)


def _progress(rows: int) -> None:
    if rows % _PROGRESS_ROWS == 0:
        _say("progress", {"rows": rows})


def _say(kind: str, data: Event) -> None:
    print(json.dumps({"kind": kind, "data": data}), flush=True)
