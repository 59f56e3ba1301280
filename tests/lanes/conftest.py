"""Purity: a test in this folder fails when code of lanes/ opens a file, starts a process, dials or looks around."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

LANES = str(Path(__file__).resolve().parents[2] / "lanes") + os.sep
IMPURE = (
    "open",
    "os.",
    "subprocess.",
    "socket.",
    "shutil.",
    "tempfile.",
    "glob.",
    "urllib.",
    "pty.",
    "fcntl.",
    "time.",
)

_seen: list[str] | None = None


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is None or not event.startswith(IMPURE):
        return
    # Loading a module (of lanes itself, or what it imports) opens files, and is not the module's doing.
    frame, culprit = sys._getframe(1), ""
    while frame is not None:
        if "importlib" in frame.f_code.co_filename:
            return
        if not culprit and frame.f_code.co_filename.startswith(LANES):
            culprit = f"{frame.f_code.co_filename.removeprefix(LANES)}:{frame.f_lineno}"
        frame = frame.f_back
    if culprit:
        _seen.append(f"lanes/{culprit} did {event} {arguments[:1]}")


sys.addaudithook(_watch)


@pytest.fixture(autouse=True)
def lanes_stay_pure() -> Iterator[list[str]]:
    """Records every audit event whose stack passes through lanes/; yields the list so that its own test can see it."""
    global _seen  # noqa: PLW0603 - an audit hook cannot be removed, only told to look away
    mine: list[str] = []
    _seen = mine
    yield mine
    _seen = None
    assert not mine, "lanes decides, it does not act: " + "; ".join(mine)
