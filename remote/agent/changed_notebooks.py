"""Notebooks that were changed on the host and not staged, with both their sides, so that the controller can compare them."""

from __future__ import annotations

import base64
import os
import subprocess
from typing import Callable

from . import gitfacts

ONE_BYTES = 8 << 20
# Of all together; one that finds no room is a change like any other.
ALL_BYTES = 12 << 20


def sides(root: str, start: Callable[..., subprocess.Popen[bytes]], entries: object) -> dict[str, object]:
    """Both sides of every tracked notebook that was changed but not staged: as in the index, and as it lies there."""
    found: dict[str, object] = {}
    room = ALL_BYTES
    for entry in entries if isinstance(entries, list) else []:
        path = str(entry["path"])
        if (
            not path.endswith(".ipynb")
            or entry["kind"] != "changed"
            or entry["index"] != "."
            or entry["worktree"] != "M"
        ):
            continue
        # With the filters and line ends of a checkout: it is compared with, and may be put back into, the work tree.
        before = start("cat-file", "--filters", ":0:" + path)
        out, _ = before.communicate()
        after = gitfacts.content(os.path.join(root, path))
        size = len(out) + len(after)
        if before.returncode == 0 and size <= min(ONE_BYTES, room):
            room -= size
            found[path] = {"before_base64": _base64(out), "after_base64": _base64(after)}
    return found


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
