"""Tokenising, packing, batches and the data audit beside datasets.map, TRL, nanoGPT's get_batch and DataLoader.

    <python of the training environment> benchmarks/training_data.py [--json FILE] [--quick]

Same machine, same data (the sources of the installed packages), taken in turn, medians. The audit is measured twice: without a
tokenizer against loading the file, and with one against loading and tokenising it. Notes: benchmarks/NOTES.md.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import datasets
import numpy as np
import torch
from harness import table
from harness.table import Row
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from training.data.audit import audit
from training.data.batches import BinDataset
from training.data.bins import BinFile, ensure_bin
from training.data.packing import pack_dataset
from training.data.rendering import splits

warnings.simplefilter("ignore")
LENGTH, ROWS = 1024, 16
CHARACTERS_PER_DOCUMENT = 12_000
SPECIAL = {"eos_token": "</s>", "pad_token": "<pad>"}


@dataclass(frozen=True)
class Counts:
    """How often, and how much."""

    rounds: int = 3
    characters: int = 32_000_000
    batches: int = 3000
    audit_copies: int = 6


QUICK = Counts(rounds=1, characters=2_000_000, batches=200, audit_copies=1)


def main() -> None:
    """Measure and print."""
    options = table.parser_for(__doc__ or "").parse_args()
    counts = QUICK if options.quick else Counts()
    datasets.disable_progress_bars()
    folder = Path(tempfile.mkdtemp(prefix="hemma-bench-"))
    try:
        tokenizer = corpus(folder, counts)
        tokens, file = tokenise(folder, tokenizer, counts)
        rows = [
            *tokens,
            *packing(file, tokenizer, counts),
            *memmap(file, folder, counts),
            *auditing(folder, tokenizer, counts),
        ]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    table.show("Training data", rows, options.json, conditions=conditions())


def corpus(folder: Path, counts: Counts) -> Any:
    """Write text.jsonl and train a tokenizer of 16k entries on a part of it."""
    texts = list(documents(counts.characters))
    with (folder / "text.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": text, "id": number}) + "\n" for number, text in enumerate(texts))
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=16_000, special_tokens=list(SPECIAL.values()), initial_alphabet=alphabet, show_progress=False
    )
    trained.train_from_iterator(texts[::8], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=trained, **SPECIAL)


def documents(characters: int) -> Iterator[str]:
    """Source files of the installed packages, long ones in parts, so many characters in all."""
    left = characters
    for path in sorted(Path(sysconfig.get_paths()["purelib"]).rglob("*.py")):
        text = path.read_text(encoding="utf-8", errors="ignore")
        for at in range(0, len(text), CHARACTERS_PER_DOCUMENT):
            part = text[at : at + CHARACTERS_PER_DOCUMENT]
            if left > 0 and len(part) > 100:
                left -= len(part)
                yield part


def in_turn(rounds: int, *works: Callable[[], object]) -> list[float]:
    """The median seconds of each, taken in turn."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for own, work in zip(times, works, strict=True):
            begun = time.perf_counter()
            work()
            own.append(time.perf_counter() - begun)
    return [statistics.median(own) for own in times]


def job_of(folder: Path, method: str) -> dict[str, Any]:
    """A job over the corpus."""
    spec = {"source": "text.jsonl", "eval_fraction": 0.0, "mapping": {}}
    return {
        "method": method,
        "root": str(folder),
        "dataset": spec,
        "sequence_length": LENGTH,
        "packing": "bfd_split",
        "seed": 1,
    }


def tokenise(folder: Path, tokenizer: Any, counts: Counts) -> tuple[list[Row], BinFile]:
    """JSONL to token file, against the quickest of three settings of datasets.map; ids must be the same."""
    split = splits(job_of(folder, "causal-lm"))[0]
    raw = datasets.load_dataset(
        "json", data_files=str(folder / "text.jsonl"), split="train", cache_dir=str(folder / "hf")
    )
    made: list[Any] = []

    def ours() -> None:
        shutil.rmtree(folder / "dataset_cache/bin", ignore_errors=True)
        made[:] = [ensure_bin(split, tokenizer)]

    def theirs(**setting: Any) -> Callable[[], object]:
        def ids(batch: dict[str, list[str]]) -> dict[str, Any]:
            return {"ids": tokenizer(batch["text"])["input_ids"]}

        return lambda: raw.map(
            ids, batched=True, remove_columns=raw.column_names, load_from_cache_file=False, **setting
        )

    settings: list[dict[str, Any]] = [{}, {"batch_size": 200}, {"num_proc": 2}]
    own, *others = in_turn(counts.rounds, ours, *(theirs(**each) for each in settings))
    file = made[0]
    want = theirs()()
    flat = np.concatenate([[*row, tokenizer.eos_token_id] for row in want["ids"]])  # type: ignore[index]
    assert np.array_equal(flat, file.array()), "the ids differ"
    best = min(others)
    name = ["batches of 1000", "batches of 200", "num_proc=2"][others.index(best)]
    scale = file.tokens / 1e6
    return [
        Row("tokenise, ids identical", scale / own, scale / best, "Mtok/s", ">= 1.5", f"datasets.map, {name}")
    ], file


def packing(file: BinFile, tokenizer: Any, counts: Counts) -> list[Row]:
    """Tokenised documents into rows of 1024, against TRL's lossless strategy and its default one."""
    trl: Any = importlib.import_module("trl")
    ids = file.array()
    ends = np.flatnonzero(ids == tokenizer.eos_token_id) + 1
    rows = [row.astype(np.int64) for row in np.split(ids, ends[:-1])]
    dataset = datasets.Dataset.from_dict({"input_ids": rows, "labels": rows})
    made: dict[str, Any] = {}

    def theirs(strategy: str) -> Callable[[], object]:
        setting = {"load_from_cache_file": False}
        return lambda: made.update({strategy: trl.pack_dataset(dataset, LENGTH, strategy, setting)})

    own, split, cut = in_turn(
        counts.rounds,
        lambda: made.update(ours=pack_dataset(dataset, LENGTH)),
        theirs("bfd_split"),
        theirs("bfd"),
    )
    kept = {name: sum(map(sum, each["seq_lengths"])) for name, each in made.items()}
    fill = {name: 100 * kept[name] / (len(each) * LENGTH) for name, each in made.items()}
    lost = {name: 100 * (1 - count / len(ids)) for name, count in kept.items()}
    scale = len(ids) / 1e6
    return [
        Row("packing", scale / own, scale / split, "Mtok/s", ">= 1.0", "TRL bfd_split"),
        Row("packing: fill", fill["ours"], 99.0, "%", ">= 1.0", f"must (TRL bfd_split {fill['bfd_split']:.2f})"),
        Row("packing: tokens lost", lost["ours"], lost["bfd"], "%", "<= 0", "TRL bfd, its default"),
        Row("packing, for information", scale / own, scale / cut, "Mtok/s", None, "TRL bfd"),
    ]


def memmap(file: BinFile, folder: Path, counts: Counts) -> list[Row]:
    """Batches of 16 x 1024 as int64 tensors, inputs and targets, per second."""
    source = BinDataset(file.array(), length=LENGTH, rows=ROWS, seed=1)
    path, dtype = file.path, np.dtype(file.dtype)

    def get_batch() -> tuple[Any, Any]:
        """As nanoGPT's train.py does it: map again, random offsets, a copy for each row, stack."""
        data = np.memmap(path, dtype=dtype, mode="r")
        at = torch.randint(len(data) - LENGTH, (ROWS,))
        inputs = torch.stack([torch.from_numpy(data[i : i + LENGTH].astype(np.int64)) for i in at])
        targets = torch.stack([torch.from_numpy(data[i + 1 : i + 1 + LENGTH].astype(np.int64)) for i in at])
        return inputs, targets

    whole = file.array()[: len(file.array()) // LENGTH * LENGTH].reshape(-1, LENGTH).astype(np.int64)
    rows = datasets.Dataset.from_dict({"input_ids": whole}).with_format("torch")
    rows.save_to_disk(str(folder / "rows"))
    mapped = datasets.load_from_disk(str(folder / "rows")).with_format("torch")
    loader: Any = torch.utils.data.DataLoader(mapped, batch_size=ROWS, shuffle=True)  # type: ignore[arg-type]

    def loaded() -> Iterator[Any]:
        while True:
            yield from loader

    stream, number = loaded(), iter(range(10**9))
    works = (lambda: source.tensors(next(number)), get_batch, lambda: next(stream))
    own, nano, torch_loader = (1 / each for each in in_turn(counts.batches, *works))
    return [
        Row("memmap batch 16 x 1024", own, nano, "batches/s", ">= 6", "nanoGPT get_batch"),
        Row("memmap batch 16 x 1024", own, torch_loader, "batches/s", ">= 3", "DataLoader, torch format"),
    ]


PEAK = """
import json, sys
sys.path.insert(0, {repository!r})
from pathlib import Path
from training.data.audit import audit
audit(json.loads(sys.argv[1]), Path({folder!r}))
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def auditing(folder: Path, tokenizer: Any, counts: Counts) -> list[Row]:
    """The whole audit, against loading the same file; with tokens, against loading and tokenising it."""
    job = job_of(folder, "sft")
    text = (folder / "text.jsonl").read_bytes()
    with (folder / "large.jsonl").open("wb") as file:
        for _ in range(counts.audit_copies):
            file.write(text)
    large = {**job, "dataset": {**job["dataset"], "source": "large.jsonl"}}

    def load(name: str) -> Any:
        shutil.rmtree(folder / "loaded", ignore_errors=True)
        return datasets.load_dataset(
            "json", data_files=str(folder / name), split="train", cache_dir=str(folder / "loaded")
        )

    def ids(rows: dict[str, list[str]]) -> Any:
        return tokenizer(rows["text"])

    def tokenised() -> object:
        return load("text.jsonl").map(ids, batched=True, load_from_cache_file=False)

    own, theirs = in_turn(counts.rounds, lambda: audit(large, folder / "run"), lambda: load("large.jsonl"))
    counted, mapped = in_turn(max(1, counts.rounds // 2), lambda: audit(job, folder / "run", tokenizer), tokenised)
    code = PEAK.format(repository=str(Path(__file__).resolve().parent.parent), folder=str(folder / "run"))
    told = subprocess.run([sys.executable, "-c", code, json.dumps(large)], capture_output=True, text=True, check=True)
    size = (folder / "large.jsonl").stat().st_size / 1e6
    return [
        Row(f"audit of {size:.0f} MB, no tokens counted", own, theirs, "s", "<= 1.5", "datasets load"),
        Row("audit, every token counted", counted, mapped, "s", "<= 1.5", "datasets load + map"),
        Row("audit: peak memory", int(told.stdout) / 1024, 300.0, "MB", "<= 1.0", "must"),
    ]


def conditions() -> str:
    """Versions and cores: figures without them are worth nothing."""
    names = ("torch", "transformers", "trl", "datasets", "tokenizers", "numpy")
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores, load {load:.1f} · Python {platform.python_version()} · {packages}"


if __name__ == "__main__":
    main()
