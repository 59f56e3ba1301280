"""Rows for the trainer: by the mapping, train and eval apart by content, the same every time."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.data.conftest import MakeJob
from training.data.rendering import DatasetUnusable, from_rows, splits, to_dataset
from training.data.splitting import SPACE, Fingerprints, HoldOut, duplicates, fingerprint, shared

TURNS = [[{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}"}] for n in range(30)]


def rows_of(split: Any) -> list[dict[str, Any]]:
    """All rows of a split, none where there is no split."""
    return [] if split is None else list(split.rows())


@pytest.mark.req("S10-R13")
def test_train_and_eval_are_all_rows_and_no_row_twice(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job([{"text": f"t{n}", "id": n} for n in range(200)])
    train, held = splits(job)
    assert 5 < len(rows_of(held)) < 45
    assert sorted(row["text"] for row in rows_of(train) + rows_of(held)) == sorted(f"t{n}" for n in range(200))
    assert [set(row) for row in itertools.islice(train.rows(), 3)] == [{"text"}] * 3
    again = splits(job)
    assert [rows_of(each) for each in again] == [rows_of(train), rows_of(held)]
    assert (again[0].key, train.name) == (train.key, "train")
    assert [rows_of(each) for each in splits({**job, "seed": 8})] != [rows_of(train), rows_of(held)]


@pytest.mark.req("S10-R13")
def test_rows_that_come_later_move_no_other_row(make_job: MakeJob) -> None:
    rows = [{"text": f"t{n}"} for n in range(300)]
    before = rows_of(splits(make_job(rows[:200]))[1])
    after = rows_of(splits(make_job(rows))[1])
    assert after[: len(before)] == before


@pytest.mark.req("S5-R19")
def test_equal_rows_land_on_one_side(make_job: MakeJob) -> None:
    train, held = splits(make_job([{"text": f"t{n % 20}", "id": n} for n in range(100)]))
    kept, out = ({row["text"] for row in rows_of(split)} for split in (train, held))
    assert out
    assert not kept & out


def test_a_small_dataset_has_an_eval_row_too(make_job: MakeJob) -> None:
    train, held = splits(make_job([{"text": f"t{n}"} for n in range(4)], eval_fraction=0.001))
    assert (len(rows_of(train)), len(rows_of(held))) == (3, 1)
    assert splits(make_job([{"text": "a"}], eval_fraction=0.0))[1] is None


def test_eval_rows_may_have_a_file_of_their_own(make_job: MakeJob, tmp_path: Path) -> None:
    (tmp_path / "e.jsonl").write_text('{"text": "held"}\n', encoding="utf-8")
    train, held = splits(make_job([{"text": f"t{n}"} for n in range(5)], eval_source="e.jsonl"))
    assert len(rows_of(train)) == 5
    assert rows_of(held) == [{"text": "held"}]


@pytest.mark.req("S5-R10")
@pytest.mark.parametrize(
    ("method", "row", "columns"),
    [
        ("sft", {"text": "a", "id": 1}, ["text"]),
        ("sft", {"question": "a", "answer": "b", "id": 1}, ["prompt", "completion"]),
        ("sft", {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}, ["messages"]),
        ("dpo", {"chosen": TURNS[0], "rejected": [TURNS[0][0], TURNS[1][1]]}, ["prompt", "chosen", "rejected"]),
        ("reward", {"chosen": "a", "rejected": "b", "margin": 0.5, "id": 3}, ["chosen", "margin", "rejected"]),
        ("grpo", {"problem": "a", "answer": "4", "tests": ["x"]}, ["answer", "problem", "prompt", "tests"]),
    ],
)
def test_columns_are_those_of_the_method(
    method: str, row: dict[str, Any], columns: list[str], make_job: MakeJob, tmp_path: Path
) -> None:
    dataset = to_dataset(splits(make_job([row], method, eval_fraction=0.0))[0], tmp_path / "cache")
    assert sorted(dataset.column_names) == sorted(columns)
    assert len(dataset) == 1


def test_the_table_is_made_once_and_of_what_is_there_now(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job([{"text": f"t{n}"} for n in range(2500)])
    cache = tmp_path / "cache"
    first = to_dataset(splits(job)[0], cache)
    made = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert len(made) == 1
    assert to_dataset(splits(job)[0], cache)["text"][:] == first["text"][:]
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == made
    make_job([{"text": "other"}, {"text": "rows"}])
    assert len(to_dataset(splits(job)[0], cache)) == 1


def test_the_cache_stays_out_of_git(make_job: MakeJob, tmp_path: Path) -> None:
    splits(make_job([{"text": "a"}, {"text": "b"}]))
    assert (tmp_path / "dataset_cache/.gitignore").read_text(encoding="ascii") == "*\n"


def test_a_cache_that_is_damaged_is_made_again(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job([{"text": f"t{n}"} for n in range(30)])
    before = [rows_of(each) for each in splits(job)]
    for path in (tmp_path / "dataset_cache/processed").iterdir():
        path.write_bytes(b"{")
    assert [rows_of(each) for each in splits(job)] == before


def test_columns_that_are_filled_late_keep_their_type(make_job: MakeJob, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"prompt": f"p{n}", "answer": None} for n in range(1500)]
    rows += [{"prompt": f"q{n}", "answer": 3.5} for n in range(10)]
    dataset = to_dataset(splits(make_job(rows, "grpo", eval_fraction=0.0))[0], tmp_path / "c")
    assert dataset[1505]["answer"] == 3.5
    assert dataset[0]["answer"] is None


def test_tools_of_every_shape_are_kept(make_job: MakeJob, tmp_path: Path) -> None:
    tools = [[{"name": "a", "parameters": {"x": 1}}], [{"name": "b", "parameters": {"y": ["z"]}}], None]
    rows = [{"messages": TURNS[n], "tools": each} for n, each in enumerate(tools)]
    dataset = to_dataset(splits(make_job(rows, eval_fraction=0.0))[0], tmp_path / "c")
    assert [json.loads(each) if each else None for each in dataset["tools"]] == tools


@pytest.mark.parametrize(
    ("line", "said"), [('{"text": null}', "rows.jsonl:2: text is missing"), ("{", "rows.jsonl:2: not JSON")]
)
def test_no_row_is_left_out_silently(line: str, said: str, make_job: MakeJob, tmp_path: Path) -> None:
    rows = ['{"text": "a"}', line, '{"text": "b"}']
    with pytest.raises(DatasetUnusable, match=said):
        to_dataset(splits(make_job(rows, eval_fraction=0.0))[0], tmp_path / "c")
    assert list((tmp_path / "c").iterdir()) == []
    accepted = make_job(rows, eval_fraction=0.0, accept={"invalid-rows": "known", "unreadable-rows": "known"})
    assert len(to_dataset(splits(accepted)[0], tmp_path / "c")) == 2


def test_what_does_not_fit_says_what_is_missing(make_job: MakeJob) -> None:
    with pytest.raises(DatasetUnusable, match="does not fit dpo"):
        splits(make_job([{"text": "a"}], "dpo"))


@pytest.mark.parametrize("masks", [True, False])
def test_best_fit_packs_with_the_ids_and_labels_that_trl_makes(
    masks: bool, make_job: MakeJob, tokenizer: Any, tmp_path: Path
) -> None:
    rows = [{"prompt": f"{n} the cat ", "completion": "sees a bird " * (n % 9)} for n in range(40)]
    job = make_job(rows, packing="best-fit", eval_fraction=0.0, arguments={"completion_only_loss": masks})
    dataset = to_dataset(splits(job)[0], tmp_path / "c", tokenizer=tokenizer)
    whole = [tokenizer(f"{row['prompt']}{row['completion']}</s>").input_ids for row in rows]
    assert sorted(token for row in dataset["input_ids"] for token in row) == sorted(itertools.chain(*whole))
    labels = [label for row in dataset["labels"] for label in row]
    assert (-100 in labels) is masks
    assert max(map(len, dataset["input_ids"])) <= 16
    assert [sum(each) for each in dataset["seq_lengths"]] == [len(each) for each in dataset["input_ids"]]
    assert len(from_rows(rows, job, tokenizer=tokenizer)) == len(dataset)


# --- fingerprints --------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, SPACE - 1), max_size=300), st.floats(0.01, 0.6))
def test_a_hold_out_takes_what_it_counts(marks: list[int], fraction: float) -> None:
    found = Fingerprints()
    for mark in marks:
        found.add(mark)
    hold_out = HoldOut(fraction, found)
    assert hold_out.count(found) == sum(map(hold_out.takes, marks))
    assert not marks or hold_out.count(found) >= 1


def test_fingerprints_of_many_rows_are_sampled_evenly() -> None:
    found, other = Fingerprints(most=1000), Fingerprints(most=1000)
    for number in range(20_000):
        found.add(fingerprint([f"t{number % 15_000}"]))
    for number in range(14_000, 16_000):
        other.add(fingerprint([f"t{number}"]))
    assert found.share <= 1 / 16
    assert len(found.values()) <= 1000
    assert duplicates(found) == pytest.approx(5000, rel=0.2)
    assert shared(other, found) == pytest.approx(1000, rel=0.35)
    assert HoldOut(0.1, found).count(found) == pytest.approx(2000, rel=0.3)


def test_fingerprints_tell_columns_apart() -> None:
    assert fingerprint(["a", "b"]) != fingerprint(["ab", ""])
    assert fingerprint(["a"], 1) != fingerprint(["a"], 2)
    with pytest.raises(UnicodeEncodeError):
        fingerprint(["\ud800"])
