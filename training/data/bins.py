"""Token files: a dataset tokenised once into one flat array on disk, which batches are then cut from (S10-R05..R10).

    dataset_cache/bin/<key>/tokens.bin      ids one after the other, each document ended by the end token
    dataset_cache/bin/<key>/manifest.json   tokenizer and source by digest, count, dtype, digest of the file

A folder is made under another name and renamed when it is whole, so a partial one is never accepted (S10-R07). The ids are
the tokenizer's own.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lanes.data_values import text_of
from manifests.commands import command
from manifests.errors import HemmaError
from manifests.files import read_json, write_json
from training.data.batches import BinDataset
from training.data.encoding import Encoder, IdsDiffer
from training.data.local_copy import local_file, read_locally
from training.data.readers import LARGE_BUFFER_BYTES, Row
from training.data.rendering import Split, cache_folder
from training.data.tokens import tokenizer_digest
from training.errors import NoRoom

TOKENS, MANIFEST = "tokens.bin", "manifest.json"
SCHEMA_VERSION = 1
# Enough text at a time to keep every thread of the tokenizer busy, little enough to stay in memory.
BATCH_CHARACTERS = 1 << 20
BATCH_DOCUMENTS = 1024
# A token has at least so many bytes of text, in any language that a tokenizer was made for.
LEAST_BYTES_PER_TOKEN = 1.5
OnProgress = Callable[[int, "int | None", str], None]


@dataclass(frozen=True)
class BinFile:
    """A whole token file and what its manifest says."""

    path: Path
    tokens: int
    documents: int
    dtype: str
    facts: Mapping[str, Any]

    def array(self) -> np.ndarray[Any, Any]:
        """The tokens, mapped read-only from a local disk (S10-R09)."""
        return np.memmap(local_file(self.path), dtype=self.dtype, mode="r", shape=(self.tokens,))


def dtype_for(vocabulary: int) -> str:
    """uint16 for a vocabulary below 65535, else uint32 (S10-R06)."""
    return "uint16" if vocabulary < 65535 else "uint32"


def token_source(
    split: Split, tokenizer: Any, *, length: int, rows: int, seed: int, on_progress: OnProgress | None = None
) -> BinDataset:
    """Batches of `rows` x (`length` + 1) tokens of a causal-lm job's split, tokenised on first use."""
    file = ensure_bin(split, tokenizer, on_progress)
    return BinDataset(file.array(), length=length, rows=rows, seed=seed)


def source_of_rows(some: Iterable[Row], tokenizer: Any, *, length: int, rows: int, seed: int) -> BinDataset:
    """The same from a few rows in memory, for trials; they are repeated until one batch is full."""
    made = list(itertools.chain.from_iterable(ids for ids, _ in encoded(some, tokenizer)))
    if not made:
        raise HemmaError("these rows hold no text", remedy="read evidence/data_audit.html")
    array = np.concatenate(made)
    times = -(-(rows * length + 1) // len(array))
    return BinDataset(np.tile(array, times), length=length, rows=rows, seed=seed)


def ensure_bin(split: Split, tokenizer: Any, on_progress: OnProgress | None = None) -> BinFile:
    """The token file of a split: the one that is there when it is whole and of these very inputs, else made now (S10-R07).

    Raises NoRoom before and while writing when the disk is full; nothing partial stays.
    """
    mark = tokenizer_digest(tokenizer)
    root = Path(split.job["root"])
    folder = cache_folder(root, "bin") / f"{split.key}-{split.name}-{mark[:16]}"
    found = open_bin(folder, tokenizer_sha256=mark, source=split.key)
    if found is None:
        build_bin(split, tokenizer, folder, mark, on_progress)
        found = open_bin(folder, tokenizer_sha256=mark, source=split.key)
    if found is None:
        raise HemmaError(
            f"{folder} cannot be read back as it was written",
            remedy=command("rm -r {}; df -h {}", folder, folder.parent),
        )
    return found


def open_bin(folder: Path, *, tokenizer_sha256: str, source: str, verify: bool = False) -> BinFile | None:
    """The token file in `folder` if it is whole and of these inputs, else None; `verify` reads all of it against its digest."""
    try:
        facts = read_json(str(folder / MANIFEST))
        size = (folder / TOKENS).stat().st_size
        tokens, dtype = int(facts["tokens"]), str(facts["dtype"])
        is_ours = (facts["schema_version"], facts["tokenizer_sha256"], facts["source"]) == (
            SCHEMA_VERSION,
            tokenizer_sha256,
            source,
        )
        is_whole = dtype in {"uint16", "uint32"} and size == tokens * np.dtype(dtype).itemsize > 0
    except (HemmaError, OSError, KeyError, TypeError, ValueError):
        return None
    if not is_ours or not is_whole:
        return None
    if verify and _digest_of(folder / TOKENS) != facts["tokens_sha256"]:
        return None
    return BinFile(folder / TOKENS, tokens, int(facts["documents"]), dtype, facts)


def build_bin(split: Split, tokenizer: Any, folder: Path, mark: str, on_progress: OnProgress | None = None) -> None:
    """Tokenise a split into `folder`, which then is whole; one that was there and is not of these inputs is replaced."""
    staged = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    try:
        _check_room(split, staged, dtype_for(len(tokenizer)))
        with read_locally(split.source):
            try:
                facts = _write_tokens(split, tokenizer, staged / TOKENS, on_progress)
            except IdsDiffer:
                facts = _write_tokens(split, tokenizer, staged / TOKENS, on_progress, is_fast=False)
        write_json(
            str(staged / MANIFEST),
            {"schema_version": SCHEMA_VERSION, "tokenizer_sha256": mark, "source": split.key, **facts},
        )
        shutil.rmtree(folder, ignore_errors=True)
        staged.rename(folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _check_room(split: Split, folder: Path, dtype: str) -> None:
    """Raise NoRoom when the file will hardly fit (S10-R04): an estimate on the safe side, the writing itself is exact."""
    text_bytes = sum(path.stat().st_size for path in split.source.files)
    needed = int(text_bytes / LEAST_BYTES_PER_TOKEN * np.dtype(dtype).itemsize / 2)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise NoRoom("the token file", str(folder.parent), needed_bytes=needed, free_bytes=free)


def _write_tokens(
    split: Split, tokenizer: Any, path: Path, on_progress: OnProgress | None, *, is_fast: bool = True
) -> dict[str, Any]:
    split.source.buffer_bytes = LARGE_BUFFER_BYTES
    dtype = np.dtype(dtype_for(len(tokenizer)))
    digest, tokens, documents, begun = hashlib.sha256(), 0, 0, time.monotonic()
    with path.open("wb") as file:
        for some, read in encoded(split.rows(), tokenizer, is_fast=is_fast):
            block = np.concatenate(some).astype(dtype)
            _write(file, block, path)
            digest.update(block.data)
            tokens, documents = tokens + len(block), read
            if on_progress:
                rate = tokens / max(time.monotonic() - begun, 1e-9)
                on_progress(read, None, f"documents, {tokens:,} tokens, {rate:,.0f} tokens/s")
        file.flush()
        os.fsync(file.fileno())
    if not tokens:
        raise HemmaError(f"{split.source.name} holds no text for {split.name}", remedy="read evidence/data_audit.html")
    return {"tokens": tokens, "documents": documents, "dtype": dtype.name, "tokens_sha256": digest.hexdigest()}


def _write(file: Any, block: np.ndarray[Any, Any], path: Path) -> None:
    try:
        file.write(block.data)
    except OSError as error:
        free = shutil.disk_usage(path.parent).free
        raise NoRoom("the token file", str(path.parent), needed_bytes=block.nbytes, free_bytes=free) from error


def encoded(
    rows: Iterable[Row], tokenizer: Any, *, is_fast: bool = True
) -> Iterator[tuple[list[np.ndarray[Any, Any]], int]]:
    """(ids of some documents, documents so far): the tokenizer's own ids of each text, and the end token after it.

    The next texts are tokenised, in the tokenizer's threads, while the ids of the last ones are taken over.
    """
    encoder, batches, done = Encoder(tokenizer, is_fast=is_fast), _batches(rows), 0
    with ThreadPoolExecutor(1) as beside:
        waiting = None
        for texts in itertools.chain(batches, [None]):
            coming = beside.submit(encoder.encode, texts) if texts else None
            if waiting is not None:
                found = waiting.result()
                done += len(found)
                yield [_with_end(each, tokenizer.eos_token_id) for each in found], done
            waiting = coming


def _with_end(ids: np.ndarray[Any, Any], end: int | None) -> np.ndarray[Any, Any]:
    return ids if end is None or (len(ids) and ids[-1] == end) else np.append(ids, np.uint32(end))


def _batches(rows: Iterable[Row]) -> Iterator[list[str]]:
    texts: list[str] = []
    size = 0
    for row in rows:
        text = text_of(row.get("text"))
        texts.append(text)
        size += len(text)
        if size >= BATCH_CHARACTERS or len(texts) >= BATCH_DOCUMENTS:
            yield texts
            texts, size = [], 0
    if texts:
        yield texts


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
