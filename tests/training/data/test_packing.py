"""Packing loses no token, fills rows to 99 %, and TRL trains on what comes out."""

from __future__ import annotations

import importlib
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.support import TINY
from training.data.packing import gather, pack_dataset, plan_rows, position_ids

SHAPES: dict[str, Any] = {
    "long documents": np.random.default_rng(0).lognormal(6.5, 1.2, 3000).astype(int) + 1,
    "short documents": np.random.default_rng(1).lognormal(3, 1, 20_000).astype(int) + 1,
    "just over half a row": np.full(3000, 600),
    "just over a row": np.full(3000, 1025),
    "of all sizes": np.random.default_rng(2).integers(1, 1025, 20_000),
}


@pytest.mark.parametrize("lengths", SHAPES.values(), ids=SHAPES.keys())
def test_rows_are_at_least_99_percent_full(lengths: Any) -> None:
    plan = plan_rows(lengths, 1024)
    assert plan.fill >= 0.99
    assert plan.length.sum() == lengths.sum()


def test_documents_that_fit_stay_whole_where_rows_are_full_enough() -> None:
    lengths = SHAPES["short documents"]
    assert plan_rows(lengths, 1024).cuts == (lengths > 1024).sum()
    # Of documents that waste 40 % of each row, as few are cut as needed.
    assert plan_rows(SHAPES["just over half a row"], 1024).cuts < 1800


@given(st.lists(st.integers(0, 70), max_size=60), st.integers(1, 33))
def test_every_token_is_in_one_place(lengths: list[int], capacity: int) -> None:
    plan = plan_rows(lengths, capacity)
    offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))).astype(np.int64)
    values = np.arange(offsets[-1])
    packed = gather(plan, values, offsets)
    assert sorted(packed.tolist()) == values.tolist()
    rows = np.split(packed, np.cumsum(plan.row_lengths)[:-1]) if len(values) else []
    assert all(1 <= len(row) <= capacity for row in rows)
    # Pieces are runs of one document's own tokens.
    for document, start, piece in zip(
        plan.document, plan.start, np.split(packed, np.cumsum(plan.length)[:-1]), strict=False
    ):
        first = offsets[document] + start
        assert piece.tolist() == list(range(first, first + len(piece)))
        assert first + len(piece) <= offsets[document + 1]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=200), st.integers(20, 40))
def test_no_more_rows_than_one_by_one_best_fit_would_make(lengths: list[int], capacity: int) -> None:
    rooms: list[int] = []
    for size in sorted(lengths, reverse=True):
        fitting = [room for room in rooms if room >= size]
        room = min(fitting) if fitting else capacity
        if fitting:
            rooms.remove(room)
        rooms.append(room - size)
    assert len(plan_rows(lengths, capacity).rows) - 1 <= len(rooms) + 1


def test_both_ways_of_gathering_give_the_same() -> None:
    for lengths in ([5] * 100, [500] * 100):
        plan = plan_rows(lengths, 64)
        offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
        packed = gather(plan, np.arange(offsets[-1]), offsets)
        want = [np.arange(n) + offsets[d] + s for d, s, n in zip(plan.document, plan.start, plan.length, strict=True)]
        assert packed.tolist() == np.concatenate(want).tolist()


def test_positions_begin_anew_with_each_piece() -> None:
    assert position_ids(np.array([3, 1, 2])).tolist() == [0, 1, 2, 0, 0, 1]


@pytest.mark.parametrize("is_shuffled", [False, True])
def test_all_columns_of_a_dataset_go_along(is_shuffled: bool) -> None:
    from datasets import Dataset

    rows = [list(range(n * 100, n * 100 + size)) for n, size in enumerate([3, 0, 17, 9, 1, 8, 25])]
    dataset = Dataset.from_dict({"input_ids": rows, "labels": [[-each for each in row] for row in rows]})
    packed = pack_dataset(dataset.shuffle(seed=1) if is_shuffled else dataset, 8)
    assert sorted(itertools.chain(*packed["input_ids"])) == sorted(itertools.chain(*rows))
    assert list(itertools.chain(*packed["labels"])) == [-each for each in itertools.chain(*packed["input_ids"])]
    assert [sum(each) for each in packed["seq_lengths"]] == [len(each) for each in packed["input_ids"]]


def test_trl_trains_on_packed_rows_as_on_its_own(tokenizer: Any, tmp_path: Path) -> None:
    """Where every document fits, ours and TRL's bfd_split give the same mean loss: attention stays inside a document."""
    from datasets import Dataset
    from transformers import AutoConfig, AutoModelForCausalLM

    trl: Any = importlib.import_module("trl")
    texts = [f"{number} the cat sees a bird " * (number % 4 + 1) for number in range(80)] + [
        f"{n} it" for n in range(60)
    ]
    ids = [tokenizer(f"{text}</s>").input_ids for text in texts]
    settings: dict[str, Any] = {**TINY, "vocab_size": len(tokenizer), "attention_dropout": 0.0}
    AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings)).save_pretrained(tmp_path / "m")

    def loss(dataset: Any, **more: Any) -> float:
        common: dict[str, Any] = {"report_to": "none", "use_cpu": True, "bf16": False, "shuffle_dataset": False}
        args = trl.SFTConfig(output_dir=str(tmp_path), per_device_eval_batch_size=256, **common, **more)
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
        trainer = trl.SFTTrainer(
            model=model, args=args, train_dataset=dataset, eval_dataset=dataset, processing_class=tokenizer
        )
        return trainer.evaluate()["eval_loss"]

    lengths = [len(each) for each in ids]
    length = next(each for each in range(max(lengths), 128) if plan_rows(lengths, each).cuts == 0)
    packed = pack_dataset(Dataset.from_dict({"input_ids": ids, "labels": ids}), length)
    ours = loss(packed, padding_free=True, max_length=None)
    theirs = loss(Dataset.from_dict({"text": texts}), packing=True, packing_strategy="bfd_split", max_length=length)
    plain = loss(Dataset.from_dict({"text": texts}), max_length=length)
    assert ours == pytest.approx(theirs, abs=1e-4)
    assert ours == pytest.approx(plain, abs=1e-4)
