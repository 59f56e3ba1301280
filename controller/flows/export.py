"""`hemma export`: what this clone knows, as one package and, when asked for, as training text (S10-R14, S5-R16, S5-R17)."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.flows import work_tree
from lanes.redaction import secret_values
from manifests.errors import NotARepository, UsageError
from manifests.export import ExportPackage
from training.export import MAX_BYTES, Progress, Wanted, gather
from training.export_text import SHAPES, Shape, read_package, write_text


@dataclass(frozen=True)
class Request:
    """What was asked for: where to look, and what to write."""

    folder: str
    out: str | None = None
    text: str | None = None
    shape: str = "text"
    taken_from: str | None = None
    logs: Sequence[str] = ()
    chats: Sequence[str] = ()
    max_bytes: int = MAX_BYTES


def export(request: Request, environ: Mapping[str, str], on_progress: Progress | None = None) -> dict[str, Any]:
    """Gather (or read) a package and write what was asked for; returns the counts and the files that were written.

    Values of the environment that are secrets are masked wherever they stand. Raises UsageError, HemmaError.
    """
    shape = _shape(request)
    if request.taken_from is not None:
        package = read_package(Path(request.taken_from))
    else:
        package = gather(_wanted(request, environ), dt.datetime.now(dt.UTC), on_progress)
    written: dict[str, Any] = {}
    if request.out is not None:
        package.write(request.out)
        written["package"] = {"path": request.out, "size_bytes": os.path.getsize(request.out)}
    if request.text is not None:
        made = write_text(package, Path(request.text), shape)
        written["text"] = {"path": request.text, "shape": shape, "size_bytes": os.path.getsize(request.text), **made}
    return {**_summary(package), "written": written}


def _shape(request: Request) -> Shape:
    for shape in SHAPES:
        if shape == request.shape:
            if request.taken_from is not None and request.text is None:
                raise UsageError("--from reads a package; say what to make of it", remedy="add --text FILE")
            return shape
    raise UsageError(f"--shape {request.shape!r} is none", remedy="one of: " + ", ".join(SHAPES))


def _wanted(request: Request, environ: Mapping[str, str]) -> Wanted:
    return Wanted(
        root=Path(_top(request.folder)),
        logs=_places(request.folder, request.logs),
        chats=_places(request.folder, request.chats),
        secrets=secret_values(environ),
        max_bytes=request.max_bytes,
    )


def _top(folder: str) -> str:
    try:
        return work_tree.top(folder)
    except NotARepository:  # pages and logs are worth something without git; its source says why it gave nothing
        return folder


def _places(folder: str, names: Sequence[str]) -> list[Path]:
    return [Path(folder, os.path.expanduser(name)) for name in names]


def _summary(package: ExportPackage) -> dict[str, Any]:
    return {
        "patterns": len(package.patterns),
        "sources": [record.as_dict() for record in package.sources],
        "redacted": package.redacted,
        "commit": package.commit,
        "patterns_sha256": package.patterns_sha256,
    }
