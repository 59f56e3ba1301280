"""Files of a run's own directory, for those who look at it from afar: several in one reply (S9-R14)."""

from __future__ import annotations

import base64
import os

from . import store

MAX_BYTES = 8 << 20


def read(request: dict[str, object]) -> dict[str, object]:
    """The content of each of `paths` below the run's directory from its offset in `offsets` on; None where there is none.

    With `having`, `last` is the newest run whose directory holds that file. At most MAX_BYTES in all; `size` tells how much there is. Links that lead out of the directory are not followed.
    """
    state_dir = request.get("state_dir")
    runs = store.runs_folder(str(state_dir) if state_dir else None)
    folder = store.find(runs, _named(runs, str(request["run"]), str(request.get("having") or "")))
    paths, offsets = request.get("paths"), request.get("offsets")
    known = dict(offsets) if isinstance(offsets, dict) else {}
    left = MAX_BYTES
    found: dict[str, object] = {}
    for name in [str(path) for path in paths] if isinstance(paths, list) else []:
        offset = known.get(name)
        piece = _piece(folder, name, offset if isinstance(offset, int) and offset > 0 else 0, left)
        left -= len(str(piece.get("content_base64"))) * 3 // 4 if piece else 0
        found[name] = piece
    return {"run_id": os.path.basename(folder), "folder": folder, "files": found}


def _named(runs: str, name: str, having: str) -> str:
    if name != "last" or not having:
        return name
    found = (each for each in reversed(store.ids_in(runs)) if os.path.exists(os.path.join(runs, each, having)))
    return next(found, name)


def _piece(folder: str, name: str, offset: int, most: int) -> dict[str, object] | None:
    path = os.path.realpath(os.path.join(folder, name))
    if not path.startswith(os.path.realpath(folder) + os.sep):
        return None
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(min(offset, size))
            content = file.read(max(0, most))
    except OSError:
        return None
    return {"content_base64": base64.b64encode(content).decode("ascii"), "offset": min(offset, size), "size": size}
