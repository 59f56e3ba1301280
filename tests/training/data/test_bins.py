"""Token files: the tokenizer's own ids, whole or not there, and batches that are a function of seed and number."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.errors import HemmaError
from tests.training.data.conftest import MakeJob
from tests.training.support import sentence
from training.data.batches import BinDataset, permuted
from training.data.bins import (
    BinFile,
    dtype_for,
    ensure_bin,
    open_bin,
    source_of_rows,
    token_source,
    tokenizer_digest,
)
from training.data.rendering import splits
from training.errors import NoRoom

REPOSITORY = Path(__file__).parents[3]


def texts(count: int = 60) -> list[dict[str, Any]]:
    """Rows of text in several scripts, some empty."""
    chance = random.Random(5)
    odd = ["", "猫は鳥を見る 🐈", "  blanks  \n\n\ttabs", "a" * 3000, "<|end|> inside", "naïve café"]
    return [{"text": each} for each in [*odd, *(f"{n} {sentence(chance, 30)}" for n in range(count))]]


def made(job: dict[str, Any], tokenizer: Any) -> BinFile:
    """The train split's token file."""
    return ensure_bin(splits(job)[0], tokenizer)


@pytest.mark.req("S10-R06")
def test_ids_are_the_tokenizer_s_own(make_job: MakeJob, tokenizer: Any) -> None:
    rows = texts()
    file = made(make_job(rows, "causal-lm", eval_fraction=0.0), tokenizer)
    want = list(
        itertools.chain.from_iterable([*tokenizer(row["text"]).input_ids, tokenizer.eos_token_id] for row in rows)
    )
    assert file.array().tolist() == want
    assert (file.dtype, file.documents, file.tokens) == ("uint16", len(rows), len(want))
    assert not file.array().flags.writeable


@pytest.mark.req("S10-R06")
def test_the_type_follows_the_vocabulary() -> None:
    assert [dtype_for(size) for size in (400, 65534, 65535, 200_000)] == ["uint16", "uint16", "uint32", "uint32"]


def test_an_end_token_is_not_added_twice(make_job: MakeJob, tokenizer: Any) -> None:
    file = made(make_job([{"text": "a</s>"}, {"text": "b"}], "causal-lm", eval_fraction=0.0), tokenizer)
    assert file.array().tolist().count(tokenizer.eos_token_id) == 2


@pytest.mark.req("S10-R06")
@pytest.mark.req("S10-R07")
def test_a_whole_file_is_kept_and_any_other_made_again(make_job: MakeJob, tokenizer: Any) -> None:
    job = make_job(texts(), "causal-lm")
    file = made(job, tokenizer)
    folder, before = file.path.parent, file.path.stat().st_mtime_ns
    assert made(job, tokenizer).path.stat().st_mtime_ns == before
    good = file.path.read_bytes()
    for spoil in (
        lambda: file.path.write_bytes(good[:-2]),
        lambda: file.path.write_bytes(good + b"\0\0"),
        lambda: file.path.write_bytes(b""),
        file.path.unlink,
        (folder / "manifest.json").unlink,
        lambda: (folder / "manifest.json").write_text('{"schema_version": 1}'),
        lambda: (folder / "manifest.json").write_bytes(b"\xff"),
    ):
        spoil()
        again = made(job, tokenizer)
        assert again.path.read_bytes() == good


@pytest.mark.req("S10-R07")
def test_another_tokenizer_or_source_is_another_file(make_job: MakeJob, tokenizer: Any) -> None:
    job = make_job(texts(), "causal-lm")
    first = made(job, tokenizer)
    digest = tokenizer_digest(tokenizer)
    tokenizer.add_tokens(["the cat"])
    assert tokenizer_digest(tokenizer) != digest
    second = made(job, tokenizer)
    assert second.path != first.path
    assert second.array().tolist() != first.array().tolist()
    third = made(make_job([*texts(), {"text": "more"}], "causal-lm"), tokenizer)
    assert third.path not in {first.path, second.path}
    manifest = json.loads((first.path.parent / "manifest.json").read_bytes())
    assert open_bin(first.path.parent, tokenizer_sha256="other", source=manifest["source"]) is None
    assert open_bin(first.path.parent, tokenizer_sha256=digest, source="other") is None


@pytest.mark.req("S10-R07")
def test_a_flipped_bit_is_found_when_asked_for(make_job: MakeJob, tokenizer: Any) -> None:
    file = made(make_job(texts(), "causal-lm"), tokenizer)
    kept = {"tokenizer_sha256": file.facts["tokenizer_sha256"], "source": file.facts["source"]}
    assert open_bin(file.path.parent, **kept, verify=True) is not None
    data = bytearray(file.path.read_bytes())
    data[len(data) // 2] ^= 1
    file.path.write_bytes(data)
    assert open_bin(file.path.parent, **kept) is not None
    assert open_bin(file.path.parent, **kept, verify=True) is None


KILLED = """
import json, sys
sys.path.insert(0, {repository!r})
from pathlib import Path
from transformers import AutoTokenizer
from training.data.bins import ensure_bin
from training.data.rendering import splits
job = json.loads(Path({folder!r}, "job.json").read_text())
tokenizer = AutoTokenizer.from_pretrained({tokenizer!r})
print("go", flush=True)
while True:
    for path in Path({folder!r}, "dataset_cache/bin").glob("*/manifest.json"):
        path.unlink()
    ensure_bin(splits(job)[0], tokenizer)
"""


@pytest.mark.req("S10-R07")
def test_a_kill_at_any_moment_leaves_a_whole_file_or_none(
    make_job: MakeJob, tokenizer: Any, tokenizer_folder: Path, tmp_path: Path
) -> None:
    job = make_job(texts(400), "causal-lm")
    want = made(job, tokenizer).path.read_bytes()
    (tmp_path / "job.json").write_text(json.dumps(job), encoding="utf-8")
    code = KILLED.format(repository=str(REPOSITORY), folder=str(tmp_path), tokenizer=str(tokenizer_folder))
    chance = random.Random(2)
    for _ in range(20 if os.environ.get("HEMMA_FULL") == "1" else 2):
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        with child:
            child.stdout.readline()
            time.sleep(chance.uniform(0.0, 0.4))
            child.send_signal(signal.SIGKILL)
        for folder in (tmp_path / "dataset_cache/bin").glob("[!.]*"):
            if (folder / "manifest.json").exists():
                assert (folder / "tokens.bin").read_bytes() == want
    assert made(job, tokenizer).path.read_bytes() == want


@pytest.mark.req("S10-R04")
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="needs root, for a small tmpfs")
def test_a_full_disk_is_said_before_and_leaves_nothing(make_job: MakeJob, tokenizer: Any, tmp_path: Path) -> None:
    cache = tmp_path / "dataset_cache"
    cache.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(cache)], check=False)
    if mounted.returncode:
        pytest.skip("no tmpfs may be mounted here")
    try:
        with pytest.raises(NoRoom) as caught:
            made(make_job(texts(4000), "causal-lm", eval_fraction=0.0), tokenizer)
        assert caught.value.needed_bytes > caught.value.free_bytes
        with pytest.raises(NoRoom):
            # Shorter than the estimate asks for, longer than there is room: found while writing.
            made(make_job([{"text": "🐈" * 60} for _ in range(280)], "causal-lm", eval_fraction=0.0), tokenizer)
        assert [path for path in (cache / "bin").rglob("*") if path.is_file()] == []
    finally:
        subprocess.run(["umount", str(cache)], check=True)


def test_a_split_without_text_is_an_error(make_job: MakeJob, tokenizer: Any) -> None:
    tokenizer.eos_token = None
    with pytest.raises(HemmaError, match="holds no text"):
        made(make_job([{"text": ""}, {"text": ""}], "causal-lm", eval_fraction=0.0), tokenizer)


@pytest.mark.req("S10-R08")
def test_progress_tells_tokens_and_their_rate(make_job: MakeJob, tokenizer: Any) -> None:
    said: list[str] = []
    ensure_bin(splits(make_job(texts(), "causal-lm"))[0], tokenizer, lambda _done, _total, what: said.append(what))
    assert "tokens/s" in said[-1]


# --- batches -------------------------------------------------------------------------------------------------------


@pytest.mark.req("S10-R13")
@given(st.integers(1, 3000), st.integers(0, 2**40), st.integers(0, 1000))
def test_an_order_has_every_row_once(count: int, seed: int, epoch: int) -> None:
    assert sorted(permuted(np.arange(count), count, seed, epoch).tolist()) == list(range(count))


@pytest.mark.req("S10-R10")
def test_the_order_is_no_order() -> None:
    found = permuted(np.arange(5000), 5000, 1, 0)
    assert abs(np.corrcoef(np.arange(5000), found)[0, 1]) < 0.05
    assert (np.abs(np.diff(found)) < 5).mean() < 0.02
    assert not np.array_equal(found, permuted(np.arange(5000), 5000, 1, 1))
    assert not np.array_equal(found, permuted(np.arange(5000), 5000, 2, 0))


@pytest.mark.req("S10-R13")
@pytest.mark.parametrize(("tokens", "length", "rows"), [(10_000, 16, 4), (17, 16, 4), (200, 16, 7), (100_000, 3, 5000)])
def test_a_batch_is_a_function_of_its_number(tokens: int, length: int, rows: int) -> None:
    data = np.arange(tokens, dtype=np.uint32)
    source = BinDataset(data, length=length, rows=rows, seed=3)
    forward = [source.batch(number) for number in range(9)]
    other = BinDataset(data, length=length, rows=rows, seed=3)
    for number in reversed(range(9)):
        assert np.array_equal(other.batch(number), forward[number])
    assert {batch.shape for batch in forward} == {(rows, length + 1)}
    assert all((np.diff(batch, axis=1) == 1).all() for batch in forward)
    assert not np.array_equal(BinDataset(data, length=length, rows=rows, seed=4).batch(0), forward[0]) or tokens == 17


@pytest.mark.req("S10-R10")
def test_one_pass_sees_every_row_once_and_the_next_is_cut_elsewhere() -> None:
    source = BinDataset(np.arange(1607, dtype=np.uint16), length=16, rows=4, seed=1)
    starts = [int(row[0]) for number in range(2 * len(source)) for row in source.batch(number)]
    first, second = (starts[epoch * source.row_count : (epoch + 1) * source.row_count] for epoch in range(2))
    assert len(set(first)) == len(first) == source.row_count
    assert {begin % 16 for begin in first} != {begin % 16 for begin in second}


def test_inputs_and_targets_are_one_apart(make_job: MakeJob, tokenizer: Any) -> None:
    train, _ = splits(make_job(texts(), "causal-lm"))
    source = token_source(train, tokenizer, length=32, rows=4, seed=1)
    inputs, targets = source.tensors(0)
    assert inputs.shape == targets.shape == (4, 32)
    assert inputs[:, 1:].equal(targets[:, :-1])
    assert str(inputs.dtype) == "torch.int64"


def test_a_few_rows_make_a_batch_for_a_trial(tokenizer: Any) -> None:
    source = source_of_rows([{"text": "the cat"}], tokenizer, length=64, rows=8, seed=1)
    assert source.batch(0).shape == (8, 65)
    with pytest.raises(ValueError, match="not enough"):
        BinDataset(np.arange(5), length=8, rows=1)
