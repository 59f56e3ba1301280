"""The rows of a job as trainers take them: all of them, a tiny real slice for the smoke, the longest ones for the preflight.

Every row is a real one (C20). Splits, mapping and packing are training/data's; here is only which rows a stage gets.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from training.data.batches import BinDataset
from training.data.bins import source_of_rows, token_source
from training.data.rendering import Split, cache_folder, from_rows, splits, to_dataset
from training.data.tokens import TokenCounter
from training.errors import TrainingError
from training.models import load_tokenizer
from training.native_config import NativeConfig

Row = Mapping[str, Any]
# The longest texts are nearly the longest in tokens: the longest of so many times as many as are wanted.
SHORTLIST = 8
EVAL_ROWS = 8


def whole(job: dict[str, Any], _folder: Path) -> dict[str, Any]:
    """Both splits of the whole dataset, `eval` None where none is held out."""
    train, held_out = splits(job)
    if job["method"] == "causal-lm":
        return {"train": _tokens_of(job, train), "eval": _tokens_of(job, held_out, is_eval=True)}
    cache = cache_folder(Path(job["root"]), "processed")
    return {"train": to_dataset(train, cache), "eval": to_dataset(held_out, cache) if held_out else None}


def tiny(job: dict[str, Any], rows: int) -> dict[str, Any]:
    """The first rows of both splits; where none is held out the same rows serve for the eval step (S6-R07)."""
    train, held_out = splits(job)
    first = _first(train, rows)
    if job["method"] == "causal-lm":
        return {"train": _few_tokens(job, first, 1), "eval": _few_tokens(job, _first(held_out, rows) or first, 1)}
    return {"train": from_rows(first, job), "eval": from_rows(_first(held_out, rows) or first, job)}


def longest(job: dict[str, Any], rows: int) -> tuple[dict[str, Any], int]:
    """The `rows` longest rows of the dataset, and the tokens of the longest, at most the frozen length (S7-R17)."""
    train, held_out = splits(job)
    if job["method"] == "causal-lm":
        # Every batch is of the frozen length: any will do.
        source = _few_tokens(job, _first(train, rows), _batch(job))
        return {"train": source, "eval": source}, int(job["sequence_length"])
    counter = TokenCounter(load_tokenizer(job), job["method"], train.rendering.shape)
    numbered = ((_size(row), number, row) for number, row in enumerate(train.rows()))
    candidates = [row for _, _, row in heapq.nlargest(rows * SHORTLIST, numbered)]
    lengths = [_tokens(counted.sequences) for counted in counter.count(candidates)]
    order = sorted(range(len(candidates)), key=lambda at: -lengths[at])[:rows]
    most = min(lengths[order[0]], int(job["sequence_length"])) if order else 0
    # A small dataset is gone through more than once: a batch has to be full.
    chosen = [candidates[at] for at in _enough(job, [lengths[at] for at in order], order, rows)]
    evaluated = _first(held_out, EVAL_ROWS) or chosen[:EVAL_ROWS]
    return {"train": from_rows(chosen, job), "eval": from_rows(evaluated, job)}, most


def _enough(job: dict[str, Any], lengths: list[int], order: list[int], rows: int) -> list[int]:
    """`order` over and over until there are enough for `rows` rows: as many of them or, packed, as many tokens."""
    if not order:
        return []
    if job["method"] != "sft" or (job.get("packing") or "none") == "none":
        return list(itertools.islice(itertools.cycle(order), rows))
    chosen: list[int] = []
    # One row more: the last one may not be full.
    left = (rows + 1) * int(job["sequence_length"])
    for at, length in itertools.cycle(zip(order, lengths, strict=True)):
        if left <= 0 and len(chosen) >= rows:
            return chosen
        chosen.append(at)
        # `bfd` throws away what is beyond the length, so it fills no further row.
        left -= max(1, min(length, int(job["sequence_length"])))
    raise AssertionError("a cycle has no end")  # pragma: no cover


def _first(split: Split | None, rows: int) -> list[Any]:
    return list(itertools.islice(split.rows(), rows)) if split else []


def _tokens(sequences: tuple[tuple[int, int], ...]) -> int:
    return max((whole for whole, _ in sequences), default=0)


def _size(value: object) -> int:
    """Characters of all texts in a row."""
    return sum(len(text) for text in _texts(value))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():  # pyright: ignore[reportUnknownVariableType] - JSON
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:  # pyright: ignore[reportUnknownVariableType] - JSON
            yield from _texts(each)


def _tokens_of(job: dict[str, Any], split: Split | None, *, is_eval: bool = False) -> BinDataset | None:
    """The split as batches of tokens; None for a held-out part that is shorter than one row."""
    if split is None:
        return None
    length, rows = int(job["sequence_length"]), _batch(job, is_eval=is_eval)
    try:
        return token_source(
            split, load_tokenizer(job), length=length, rows=rows, seed=int(job["seed"]), on_progress=progress()
        )
    except ValueError as error:
        if is_eval:
            return None
        raise TrainingError(f"the dataset is too small: {error}", remedy="more data, or another request") from error


def _few_tokens(job: dict[str, Any], some: list[Any], rows: int) -> BinDataset:
    length, seed = int(job["sequence_length"]), int(job["seed"])
    return source_of_rows(some, load_tokenizer(job), length=length, rows=rows, seed=seed)


def _batch(job: dict[str, Any], *, is_eval: bool = False) -> int:
    name = "per_device_eval_batch_size" if is_eval else "per_device_train_batch_size"
    return int((job.get("arguments") or {}).get(name, getattr(NativeConfig, name)))


def progress(every_s: float = 5.0) -> Callable[[int, int | None, str], None]:
    """Prints how far a long loop is, now and then (S10-R08)."""
    last = [time.monotonic()]

    def tell(done: int, total: int | None, what: str) -> None:
        if time.monotonic() >= last[0] + every_s:
            last[0] = time.monotonic()
            print(f"{done}/{total} {what}" if total else f"{done} {what}", flush=True)

    return tell
