"""A dataset as the trainer takes it: rows by the recorded mapping, train and held-out rows apart, on disk and mapped.

The same job always gives the same rows in the same order: the split is a function of content and seed (S10-R13). What takes
a pass over the data is remembered under a name made of all that it depends on (S10-R11).
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lanes.data_audit import judge_format, kept_columns, row_fault
from lanes.data_values import Kind
from manifests.errors import HemmaError
from manifests.files import read_json, write_json
from training.data.local_copy import local_file
from training.data.packing import pack_dataset
from training.data.readers import Row
from training.data.row_audit import Rendering
from training.data.scanning import Scan
from training.data.sources import Source, open_eval_source, open_source
from training.data.splitting import Fingerprints, HoldOut, fingerprint
from training.data.tokens import TokenCounter, tokenizer_digest

CACHE = "dataset_cache"
BATCH_ROWS = 1000
# Change it when the same inputs would give other rows.
EDITION = 1


class DatasetUnusable(HemmaError):
    """Rows that the trainer could not read, or a format that does not fit the method; the audit says all of it."""

    code = "dataset-unusable"
    remedy = "hemma train --until data-audit, then read evidence/data_audit.html"


@dataclass(frozen=True)
class Split:
    """One split of a job's data: `rows()` are those that the trainer gets, rendered by the mapping, in a fixed order.

    `key` names its content: the same for the same source, mapping, seed and acceptances.
    """

    name: str
    key: str
    job: Mapping[str, Any]
    source: Source
    rendering: Rendering
    kept: tuple[str, ...]
    hold_out: HoldOut | None = None

    def rows(self) -> Iterator[Row]:
        """Every usable row of this split. Raises DatasetUnusable at one that is not, unless the manifest accepts those."""
        is_eval = self.name == "eval"
        for mark, row in self.marked_rows():
            if self.hold_out is None or self.hold_out.takes(mark) is is_eval:
                yield row

    def marked_rows(self) -> Iterator[tuple[int, Row]]:
        """(fingerprint, row) of every usable row of the source, held out or not."""
        seed, shape = int(self.job.get("seed") or 0), self.rendering.shape
        for at, row in self.source.rows():
            made = self.rendering(row)
            fault = row_fault(made, shape, is_chat=self.rendering.is_chat)
            if fault is not None:
                self._refuse("invalid-rows", f"{self.source.place(at)}: {fault}")
                continue
            mark = fingerprint([made.get(name) for name in shape], seed)
            yield mark, {**{name: _plain(name, row.get(name)) for name in self.kept if name not in made}, **made}
        if self.source.faults.first:
            self._refuse("unreadable-rows", self.source.faults.first[0])

    def _refuse(self, check: str, fact: str) -> None:
        if check not in (self.job.get("accept") or {}):
            raise DatasetUnusable(f"{fact}; the manifest does not accept {check}")


def splits(job: Mapping[str, Any]) -> tuple[Split, Split | None]:
    """(train, eval or None) of a job. Raises SourceMissing and DatasetUnusable.

    What takes a pass over the data (the kinds of its columns, the least fingerprint) is kept in the dataset cache.
    """
    root = Path(job["root"])
    source, own_eval = open_source(job["dataset"], root), open_eval_source(job["dataset"], root)
    train = _split(job, source, "train")
    if own_eval is not None:
        return train, _split(job, own_eval, "eval")
    fraction = float(job["dataset"].get("eval_fraction") or 0.0)
    if not fraction:
        return train, None
    hold_out = HoldOut(fraction, _least(train))
    parted = replace(train, hold_out=hold_out, key=_digest([train.key, fraction]))
    return parted, replace(parted, name="eval")


def to_dataset(split: Split, cache: Path, *, tokenizer: Any = None) -> Any:
    """The split as a `datasets.Dataset`, mapped from an Arrow file below `cache` that is written once, whole or not at all.

    Columns are those of the method's shape, what else its trainer reads, and for GRPO all that a reward may want. With
    `packing: best-fit` rows are tokenised and packed already (`input_ids`, `labels`, `seq_lengths`), with the job's own
    tokenizer unless one is given. Raises DatasetUnusable for a split without rows.
    """
    from datasets import Dataset

    path = cache / f"{split.key}-{split.name}.arrow"
    _once(path, lambda staged: _write_rows(split, staged))
    dataset = Dataset.from_file(str(local_file(path)))
    if not _is_packed(split.job):
        return dataset
    tokenizer = _tokenizer(split.job, tokenizer)
    said = [split.key, tokenizer_digest(tokenizer), split.job["sequence_length"], split.job.get("arguments") or {}]
    path = cache / f"{_digest(said)}-{split.name}-packed.arrow"
    _once(path, lambda staged: _write_table(_packed(split.job, dataset, tokenizer), staged))
    return Dataset.from_file(str(local_file(path)))


def _once(path: Path, write: Callable[[Path], None]) -> None:
    """Have `path` written unless it is there: beside its place first, whole or not at all."""
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(staged)
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def from_rows(rows: list[Row], job: Mapping[str, Any] | None = None, *, tokenizer: Any = None) -> Any:
    """A few rows as a `datasets.Dataset` in memory; with the `job`, packed where it says `best-fit`."""
    import pyarrow as pa
    from datasets import Dataset

    dataset = Dataset(pa.Table.from_pylist(rows))
    if job is None or not _is_packed(job):
        return dataset
    return _packed(job, dataset, _tokenizer(job, tokenizer))


def _split(job: Mapping[str, Any], source: Source, name: str) -> Split:
    spec = job["dataset"]
    said = [
        EDITION,
        job["method"],
        spec.get("mapping") or {},
        job.get("seed"),
        sorted(job.get("accept") or {}),
        source.digest(),
    ]
    key = _digest(said)
    kinds: dict[str, Kind] = _remembered(job, f"{key}-kinds", lambda: _kinds(source))
    verdict = judge_format(job["method"], kinds, spec.get("mapping"))
    if not verdict.is_usable:
        raise DatasetUnusable(f"{source.name} does not fit {job['method']}: {'; '.join(verdict.reasons)}")
    kept = tuple(kept_columns(job["method"], verdict.shape, kinds))
    return Split(name, key, job, source, Rendering(verdict, kinds), kept)


def _kinds(source: Source) -> dict[str, Kind]:
    scan, rows = Scan(), source.rows()
    while some := list(itertools.islice(rows, BATCH_ROWS)):
        scan.add([row for _, row in some])
    return scan.kinds()


def _least(split: Split) -> Fingerprints:
    """How many rows there are and the least fingerprint: all that a hold-out asks for."""

    def count() -> dict[str, int]:
        found = Fingerprints(most=1)
        for mark, _ in split.marked_rows():
            found.add(mark)
        return {"rows": found.rows, "smallest": found.smallest}

    facts = _remembered(split.job, f"{split.key}-least", count)
    found = Fingerprints()
    found.rows, found.smallest = facts["rows"], facts["smallest"]
    return found


def _remembered(job: Mapping[str, Any], name: str, find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `find` gives, kept in dataset_cache/processed; a cache that cannot be written costs time only."""
    path = Path(job["root"]) / CACHE / "processed" / f"{name}.json"
    with contextlib.suppress(OSError, HemmaError):
        return read_json(str(path))
    found = find()
    with contextlib.suppress(OSError, HemmaError):
        cache_folder(Path(job["root"]), "processed")
        write_json(str(path), found)
    return found


def _digest(said: list[Any]) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:24]


def cache_folder(root: Path, *parts: str) -> Path:
    """A folder of the dataset cache; the cache itself is kept out of git from the first moment."""
    cache = root / CACHE
    cache.mkdir(exist_ok=True)
    ignore = cache / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="ascii")
    folder = cache.joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _plain(name: str, value: Any) -> Any:
    """A further column's value as Arrow can hold it whatever the rows: tools are schemas of every shape, so JSON."""
    return json.dumps(value) if name == "tools" and value is not None and not isinstance(value, str) else value


def _write_rows(split: Split, path: Path) -> None:
    """Write a split as one Arrow stream."""
    import pyarrow as pa

    rows = split.rows()
    first = list(itertools.islice(rows, BATCH_ROWS))
    if not first:
        raise DatasetUnusable(f"{split.source.name} has no row for the {split.name} split")
    schema = _schema(first, split)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
        for some in itertools.chain([first], iter(lambda: list(itertools.islice(rows, BATCH_ROWS)), [])):
            stream.write_batch(pa.RecordBatch.from_pylist(some, schema))


def _schema(first: list[Row], split: Split) -> Any:
    """The schema of all rows together. Texts need no look at the rest; another column may hold something else further down."""
    import pyarrow as pa

    if all(isinstance(value, str) for row in first for value in row.values()) and not split.kept:
        return pa.schema([(name, pa.string()) for name in first[0]])
    found, rows = None, split.rows()
    while some := list(itertools.islice(rows, BATCH_ROWS)):
        try:
            schema = pa.Table.from_pylist(some).schema
            found = schema if found is None else pa.unify_schemas([found, schema], promote_options="permissive")
        except pa.ArrowException as error:
            raise DatasetUnusable(f"a column holds values of two kinds: {str(error).splitlines()[0]}") from error
    return found


def _is_packed(job: Mapping[str, Any]) -> bool:
    """Whether rows are packed here; the other strategies are the trainer's own."""
    return job["method"] == "sft" and job.get("packing") == "best-fit"


def _tokenizer(job: Mapping[str, Any], given: Any) -> Any:
    if given is not None:
        return given
    from training.models import load_tokenizer

    return load_tokenizer(dict(job))


def _write_table(dataset: Any, path: Path) -> None:
    import pyarrow as pa

    table = dataset.data.table
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=BATCH_ROWS)


def _packed(job: Mapping[str, Any], dataset: Any, tokenizer: Any) -> Any:
    return pack_dataset(_tokenised(job, dataset, tokenizer), int(job["sequence_length"]))


def _tokenised(job: Mapping[str, Any], dataset: Any, tokenizer: Any) -> Any:
    """The rows as `input_ids` and `labels`, as TRL would tokenise them; prompts are masked unless the job says otherwise."""
    import numpy as np
    import pyarrow as pa
    from datasets import Dataset

    shape = next(
        each for each in (("prompt", "completion"), ("messages",), ("text",)) if each[0] in dataset.column_names
    )
    counter = TokenCounter(tokenizer, "sft", shape)
    masks = (job.get("arguments") or {}).get("completion_only_loss") is not False
    rows, tables = dataset.with_format("arrow"), []
    for at in range(0, len(dataset), BATCH_ROWS):
        encoded = counter.encode(rows[at : at + BATCH_ROWS].to_pylist())
        ids = [np.asarray(row, dtype=np.int32) for row, _ in encoded]
        starts = [prompt if masks else 0 for _, prompt in encoded]
        labels = [np.where(np.arange(len(row)) < start, -100, row) for row, start in zip(ids, starts, strict=True)]
        tables.append(pa.table({"input_ids": ids, "labels": labels}))
    return Dataset(pa.concat_tables(tables))
