"""What the header and language checks of `hemma verify` read: how files begin, now and then, and the whole of them.

Off unless [tool.hemma.verify] asks for it (S6-R13, S6-R21, C18).
"""

from __future__ import annotations

import ast
import os
import subprocess
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from controller.flows import toml_edit
from lanes.wiring_graph import Source
from lanes.wiring_headers import Headers
from lanes.wiring_language import Said
from manifests.verify import VerifySettings
from remote.agent import gitcall

_ENOUGH_BYTES = 8192


def read(
    root: str, settings: VerifySettings, pyproject: Mapping[str, Any], sources: Iterable[Source], since: str | None
) -> Headers | None:
    """What there is to judge; None when no header is asked for: then no file is opened for it."""
    if not settings.header:
        return None
    paths = [source.path for source in sources if source.role == "module" and source.path.endswith(".py")]
    name = toml_edit.value_at(pyproject, ("project", "name"))
    now = {path: _beginning(os.path.join(root, path)) for path in paths}
    before = {} if since is None else _at(root, since.partition("..")[0] or "HEAD", paths)
    return Headers(settings.header, str(name or os.path.basename(root)), settings.header_exempt, now, before)


def read_whole(root: str, settings: VerifySettings, sources: Iterable[Source]) -> dict[str, Said] | None:
    """The files whose language is to be judged, by path; None when no language is asked for (S6-R21)."""
    if not settings.language:
        return None
    found: dict[str, Said] = {}
    for source in sources:
        if source.role == "module" and source.path.endswith(".py") and not source.facts.broken:
            text = _beginning(os.path.join(root, source.path), -1)
            with warnings.catch_warnings(), suppress(SyntaxError, ValueError, RecursionError, MemoryError):
                warnings.simplefilter("ignore")  # escapes in strings of theirs: nothing to tell here
                found[source.path] = (text, ast.parse(text))
    return found


def _beginning(path: str, size: int = _ENOUGH_BYTES) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(size).decode("utf-8", "replace")
    except OSError:  # gone since it was listed, or unreadable: another finding says so
        return ""


def _at(root: str, revision: str, paths: Iterable[str]) -> dict[str, str]:
    """How the files began at `revision`, through one process of git; those that were not there are left out."""
    asked = [path for path in paths if "\n" not in path]
    told = subprocess.run(
        gitcall.argv("-C", root, "cat-file", "--batch"),
        input=b"".join(os.fsencode(f"{revision}:./{path}\n") for path in asked),
        capture_output=True,
        check=False,
    ).stdout
    found: dict[str, str] = {}
    at = 0
    for path in asked:
        end = told.find(b"\n", at)
        head = told[at:end].split()
        at = end + 1
        if len(head) == 3 and head[1] == b"blob":
            size = int(head[2])
            found[path] = told[at : at + min(size, _ENOUGH_BYTES)].decode("utf-8", "replace")
            at += size + 1
    return found
