"""Paths on the host, as a person types them here: our own shell may have put this machine's home in front (principle 3)."""

from __future__ import annotations

import os


def on_host(path: str | None) -> str | None:
    """`path` with this machine's home folder turned back into `~`: unquoted, `~/work` was expanded before we saw it."""
    home = os.path.expanduser("~").rstrip(os.sep)
    if not path or not home:
        return path
    if path == home:
        return "~"
    return "~" + path.removeprefix(home) if path.startswith(home + os.sep) else path
