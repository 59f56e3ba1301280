"""A dataset as the trainer takes it: rows by the recorded mapping, train and held-out rows apart, on disk and mapped.

The same job always gives the same rows in the same order: the split is a function of content and seed (S10-R13). What was
rendered lies in dataset_cache/processed under a name made of all that it depends on (S10-R11), staged and then renamed.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lanes.data_audit import FormatVerdict, judge_format, kept_columns, row_fault
from lanes.data_values import Kind
from manifests.errors import HemmaError
from training.data.packing import pack_dataset
from training.data.readers import Row
from training.data.row_audit import Rendering
from training.data.scanning import Scan
from training.data.sources import Source, open_eval_source, open_source
from training.data.splitting import Fingerprints, HoldOut, fingerprint
from training.data.tokens import TokenCounter

CACHE = "dataset_cache"
BATCH_ROWS = 1000
# Change it when the same inputs would give other rows.
EDITION = 1


class DatasetUnusable(HemmaError):
    """Rows that the trainer could not read, or a format that does not fit the method; the audit says all of it."""

    code = "dataset-unusable"
    remedy = "hemma train --until data-audit, then read evidence/data_audit.html"


@dataclass(frozen=True)
class _Prepared:
    """A split's source, how its rows are rendered, and what of them is kept."""

    source: Source
    rendering: Rendering
    kept: tuple[str, ...]
    accepts: frozenset[str]
    seed: int

    def rows(self) -> Iterator[tuple[int, Row]]:
        """(fingerprint, row for the trainer) of every row that can be used."""
        for at, row in self.source.rows():
            made = self.rendering(row)
            fault = row_fault(made, self.rendering.shape, is_chat=self.rendering.is_chat)
            if fault is not None:
                self._refuse("invalid-rows", f"{self.source.place(at)}: {fault}")
                continue
            mark = fingerprint([made.get(name) for name in self.rendering.shape], self.seed)
            yield mark, {**{name: _plain(name, row.get(name)) for name in self.kept if name not in made}, **made}
        if self.source.faults.first:
            self._refuse("unreadable-rows", self.source.faults.first[0])

    def _refuse(self, check: str, fact: str) -> None:
        if check not in self.accepts:
            raise DatasetUnusable(f"{fact}; the manifest does not accept {check}")


def to_dataset(job: Mapping[str, Any], split: str, *, tokenizer: Any = None) -> Any:
    """The `datasets.Dataset` of a job's "train" or "eval" split; None where there are no eval rows.

    Columns are those of the method's shape, what else its trainer reads, and for GRPO all that a reward may want. With
    `packing: best-fit` it is tokenised and packed already (`input_ids`, `labels`, `seq_lengths`); that needs a tokenizer,
    by default the job's own. Raises SourceMissing and DatasetUnusable.
    """
    from datasets import Dataset

    root = Path(job["root"])
    own = open_eval_source(job["dataset"], root)
    source = own if split == "eval" and own is not None else open_source(job["dataset"], root)
    folder = root / CACHE / "processed" / _key(job, source, own is not None)
    if not (folder / "train.arrow").is_file():
        _write(job, source, folder, holds_out=own is None)
    path = folder / ("eval.arrow" if split == "eval" and own is None else "train.arrow")
    if not path.is_file():
        return None
    dataset = Dataset.from_file(str(path))
    if job["method"] == "sft" and job.get("packing") == "best-fit":
        dataset = pack_dataset(_tokenised(job, dataset, tokenizer), int(job["sequence_length"]))
    return dataset


def _key(job: Mapping[str, Any], source: Source, has_eval_source: bool) -> str:
    spec = job["dataset"]
    said = {
        "edition": EDITION,
        "method": job["method"],
        "mapping": spec.get("mapping") or {},
        "held_out": None if has_eval_source else [spec.get("eval_fraction"), job.get("seed")],
        "accept": sorted(job.get("accept") or {}),
        "source": source.digest(),
    }
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


def _write(job: Mapping[str, Any], source: Source, folder: Path, *, holds_out: bool) -> None:
    """Render the split into `folder`: train.arrow and, where rows are held out, eval.arrow; all of it or nothing."""
    prepared = _prepared(job, source)
    fraction = float(job["dataset"].get("eval_fraction") or 0.0) if holds_out else 0.0
    found = Fingerprints()
    for mark, _ in prepared.rows() if fraction else ():
        found.add(mark)
    hold_out = HoldOut(fraction, found)
    staged = cache_folder(folder.parent.parent.parent, "processed") / f".{folder.name}.{os.getpid()}"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    try:
        for name, is_eval in (("train", False), ("eval", True)) if fraction else (("train", False),):
            rows = (row for mark, row in prepared.rows() if hold_out.takes(mark) is is_eval)
            _write_rows(rows, staged / f"{name}.arrow", lambda: (row for _, row in prepared.rows()))
        if not (staged / "train.arrow").is_file():
            raise DatasetUnusable(f"{source.name} has no row left to train on")
        if not folder.exists():
            staged.rename(folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _prepared(job: Mapping[str, Any], source: Source) -> _Prepared:
    scan = Scan()
    rows = source.rows()
    while some := list(itertools.islice(rows, BATCH_ROWS)):
        scan.add([row for _, row in some])
    kinds = scan.kinds()
    verdict = _verdict(job, kinds, source.name)
    kept = [*kept_columns(job["method"], verdict.shape, kinds), *(set(verdict.mapping) - set(verdict.shape))]
    return _Prepared(
        source=source,
        rendering=Rendering(verdict, kinds),
        kept=tuple(kept),
        accepts=frozenset(job.get("accept") or {}),
        seed=int(job.get("seed") or 0),
    )


def _verdict(job: Mapping[str, Any], kinds: Mapping[str, Kind], name: str) -> FormatVerdict:
    verdict = judge_format(job["method"], kinds, job["dataset"].get("mapping"))
    if not verdict.is_usable:
        raise DatasetUnusable(f"{name} does not fit {job['method']}: {'; '.join(verdict.reasons)}")
    return verdict


def _plain(name: str, value: Any) -> Any:
    """A further column's value as Arrow can hold it whatever the rows: tools are schemas of every shape, so JSON."""
    return json.dumps(value) if name == "tools" and value is not None and not isinstance(value, str) else value


def _write_rows(rows: Iterator[Row], path: Path, all_rows: Any) -> None:
    """Write rows as one Arrow stream; nothing is written for no rows. Its schema is that of all rows together."""
    import pyarrow as pa

    first = list(itertools.islice(rows, BATCH_ROWS))
    if not first:
        return
    schema = _schema(first, all_rows)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
        for some in itertools.chain([first], iter(lambda: list(itertools.islice(rows, BATCH_ROWS)), [])):
            stream.write_batch(pa.RecordBatch.from_pylist(some, schema))


def _schema(first: list[Row], all_rows: Any) -> Any:
    """Columns of text need no look at the rest; any other column may hold something else further down."""
    import pyarrow as pa

    if all(isinstance(value, str) for row in first for value in row.values()):
        return pa.schema([(name, pa.string()) for name in first[0]])
    found = None
    rows = all_rows()
    while some := list(itertools.islice(rows, BATCH_ROWS)):
        try:
            schema = pa.Table.from_pylist(some).schema
            found = schema if found is None else pa.unify_schemas([found, schema], promote_options="permissive")
        except pa.ArrowException as error:
            raise DatasetUnusable(f"a column holds values of two kinds: {str(error).splitlines()[0]}") from error
    return found


def _tokenised(job: Mapping[str, Any], dataset: Any, tokenizer: Any) -> Any:
    """The rows as `input_ids` and `labels`, as TRL would tokenise them; prompts are masked unless the job says otherwise."""
    import numpy as np
    import pyarrow as pa
    from datasets import Dataset, concatenate_datasets

    if tokenizer is None:
        from training.models import load_tokenizer

        tokenizer = load_tokenizer(job)
    shape = next(each for each in (("prompt", "completion"), ("messages",), ("text",)) if each[0] in dataset.column_names)
    counter = TokenCounter(tokenizer, "sft", shape)
    masks = (job.get("arguments") or {}).get("completion_only_loss") is not False
    tables: list[Any] = []
    for at in range(0, len(dataset), BATCH_ROWS):
        ids: list[Any] = []
        labels: list[Any] = []
        for row, prompt in counter.encode(dataset[at : at + BATCH_ROWS].to_pylist() if False else _rows_of(dataset, at)):
            ids.append(np.asarray(row, dtype=np.int32))
            labels.append(np.where(np.arange(len(row)) < (prompt if masks else 0), -100, ids[-1]))
        tables.append(pa.table({"input_ids": ids, "labels": labels}))
    return concatenate_datasets([Dataset(table) for table in tables])


def _rows_of(dataset: Any, at: int) -> list[Row]:
    return [dataset[index] for index in range(at, min(at + BATCH_ROWS, len(dataset)))]
