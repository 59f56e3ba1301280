"""The rows of a job as trainers take them: all of them, a tiny real slice for the smoke, the longest ones for the preflight."""

from __future__ import annotations

import heapq
import itertools
import json
from pathlib import Path
from typing import Any

from training.checkpoint_writer import available_memory
from training.data.rendering import Split, from_rows, splits, to_dataset
from training.models import load_tokenizer

__all__ = ["available_memory", "longest", "tiny", "whole"]

EVAL_ROWS_OF_A_TRIAL = 8
# By characters first: tokenizing every row to find the longest would take as long as the training.
CANDIDATES = 64


def whole(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """All rows: {"train": Dataset, "eval": Dataset or None}, their tables below the run's own folder."""
    train, held_out = splits(job)
    cache = folder / "work" / "datasets"
    return {"train": to_dataset(train, cache), "eval": None if held_out is None else to_dataset(held_out, cache)}


def tiny(job: dict[str, Any], rows: int) -> dict[str, Any]:
    """The first `rows` rows, for one step; without a held-out part the same rows serve for the eval step (S6-R07)."""
    train, held_out = splits(job)
    first = list(itertools.islice(train.rows(), rows))
    return {"train": from_rows(first), "eval": from_rows(_first(held_out, rows) or first)}


def longest(job: dict[str, Any], rows: int) -> tuple[dict[str, Any], int]:
    """The `rows` longest rows of the whole data, and the tokens of the longest one (S7-R17)."""
    train, held_out = splits(job)
    tokenizer = load_tokenizer(job)
    # The number keeps rows of equal size from being compared with each other.
    sized = ((len(json.dumps(row, default=str)), -number, row) for number, row in enumerate(train.rows()))
    kept = [row for _, _, row in heapq.nlargest(max(rows, CANDIDATES), sized)]
    counted = sorted(((_tokens(tokenizer, row), -number, row) for number, row in enumerate(kept)), reverse=True)
    chosen = [row for _, _, row in counted[:rows]]
    while chosen and len(chosen) < rows:
        chosen.append(chosen[len(chosen) % len(counted)])
    evaluated = _first(held_out, EVAL_ROWS_OF_A_TRIAL) or chosen[:EVAL_ROWS_OF_A_TRIAL]
    return {"train": from_rows(chosen), "eval": from_rows(evaluated)}, counted[0][0] if counted else 0


def _first(split: Split | None, rows: int) -> list[dict[str, Any]]:
    return [] if split is None else list(itertools.islice(split.rows(), rows))


def _tokens(tokenizer: Any, row: dict[str, Any]) -> int:
    texts = [value if isinstance(value, str) else json.dumps(value, default=str) for value in row.values()]
    return sum(len(tokenizer(text).input_ids) for text in texts)
