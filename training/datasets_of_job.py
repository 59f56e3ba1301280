"""The rows of a job as trainers take them: all of them, a tiny real slice for the smoke, the longest ones for the preflight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.checkpoint_writer import available_memory

__all__ = ["available_memory"]


def whole(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """placeholder"""
    raise NotImplementedError


def tiny(job: dict[str, Any], folder: Path, rows: int) -> dict[str, Any]:
    """placeholder"""
    raise NotImplementedError


def longest(job: dict[str, Any], folder: Path, rows: int) -> tuple[dict[str, Any], int]:
    """placeholder"""
    raise NotImplementedError
