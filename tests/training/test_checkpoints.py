"""Which checkpoints are whole: damage of every kind is seen, names sort by number, crashes between steps leave the old ones."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from training.checkpoints import (
    MANIFEST,
    Damage,
    damage_of,
    listed,
    newest_valid,
    prune,
    publish,
    read_manifest,
    seal,
    stage,
    step_of,
    tidy,
    valid_checkpoints,
)

FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")


def make(folder: Path, step: int, *, name: str | None = None) -> Path:
    """A checkpoint of a few small files, as the writer makes them."""
    staged = stage(folder, step)
    for file in FILES:
        (staged / file).write_bytes(f"{file} {step} ".encode() * 100)
    (staged / "extra").mkdir()
    (staged / "extra/deep.bin").write_bytes(os.urandom(500))
    seal(staged, step)
    made = publish(staged, step).path
    return made.rename(folder / name) if name else made


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def _grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


# The eight classes of facts-training.md 3.4, and what else a disk or a person can do.
DAMAGES: dict[str, Callable[[Path], object]] = {
    "model cut": lambda path: _half(path / "model.safetensors"),
    "optimizer cut": lambda path: _half(path / "optimizer.pt"),
    "trainer state missing": lambda path: (path / "trainer_state.json").unlink(),
    "optimizer missing": lambda path: (path / "optimizer.pt").unlink(),
    "scheduler missing": lambda path: (path / "scheduler.pt").unlink(),
    "generators missing": lambda path: (path / "rng_state.pth").unlink(),
    "one bit of the weights": lambda path: _flip(path / "model.safetensors"),
    "empty file": lambda path: (path / "optimizer.pt").write_bytes(b""),
    "manifest missing": lambda path: (path / MANIFEST).unlink(),
    "manifest cut": lambda path: _half(path / MANIFEST),
    "manifest empty": lambda path: (path / MANIFEST).write_bytes(b""),
    "one bit of the manifest": lambda path: _flip(path / MANIFEST),
    "manifest of another": lambda path: (path / MANIFEST).write_text('{"files": {}}'),
    "file grown": lambda path: _grow(path / "scheduler.pt"),
    "file in a folder missing": lambda path: (path / "extra/deep.bin").unlink(),
    "file is a folder": lambda path: ((path / "rng_state.pth").unlink(), (path / "rng_state.pth").mkdir()),
}


@pytest.mark.req("S11-R15")
@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_seen_and_the_next_older_is_used(tmp_path: Path, kind: str) -> None:
    make(tmp_path, 2)
    older = make(tmp_path, 9)
    newest = make(tmp_path, 10)
    DAMAGES[kind](newest)
    told: list[Damage] = []
    found = newest_valid(tmp_path, told.append)
    assert found is not None
    assert (found.path, found.step) == (older, 9)
    assert {damage.path for damage in told} == {newest}
    assert json.dumps([damage.as_dict() for damage in told])


@pytest.mark.req("S11-R13")
def test_steps_sort_as_numbers_in_both_spellings(tmp_path: Path) -> None:
    for step, name in ((9, None), (100, None), (20, "step20"), (3, "step3")):
        make(tmp_path, step, name=name)
    assert [each.step for each in listed(tmp_path)] == [100, 20, 9, 3]
    assert [each.step for each in valid_checkpoints(tmp_path)] == [100, 20, 9, 3]


def test_other_names_are_ignored_with_a_word(tmp_path: Path) -> None:
    make(tmp_path, 1)
    for name in ("checkpoint-best", "checkpoint-1.bak", "step", ".staged-checkpoint-7.1", "checkpoint-٣"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-8").write_text("a file")
    one_file = {"step9.pt", "model_step50.pt", "ckpt-100.safetensors", "epoch_3.ckpt"}
    for name in one_file | {"notes.txt", "step.pt", "vocab.bin"}:
        (tmp_path / name).write_text("a file")
    told: list[Damage] = []
    assert [each.step for each in listed(tmp_path, told.append)] == [1]
    assert {each.path.name for each in told if each.kind == "one-file"} == one_file
    told = [each for each in told if each.kind != "one-file"]
    assert {each.path.name for each in told} == {"checkpoint-best", "checkpoint-1.bak", "step", "checkpoint-٣"}
    assert {each.kind for each in told} == {"unknown-name"}


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert newest_valid(tmp_path / "none") is None
    assert listed(tmp_path / "none") == []


def test_a_stock_checkpoint_without_manifest_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-4").mkdir()
    (tmp_path / "checkpoint-4/model.safetensors").write_bytes(b"x")
    told: list[Damage] = []
    assert newest_valid(tmp_path, told.append) is None
    assert [damage.kind for damage in told] == ["no-manifest"]


def test_manifest_names_every_file_and_itself(tmp_path: Path) -> None:
    manifest = read_manifest(make(tmp_path, 5))
    assert set(manifest["files"]) == {*FILES, "extra/deep.bin"}
    assert manifest["step"] == 5
    assert all(facts["digest"].startswith("sha256:") for facts in manifest["files"].values())


@pytest.mark.req("S11-R10")
def test_nothing_is_seen_before_it_is_published(tmp_path: Path) -> None:
    staged = stage(tmp_path, 3)
    (staged / "model.safetensors").write_bytes(b"half")
    assert listed(tmp_path) == []
    seal(staged, 3)
    assert listed(tmp_path) == []
    publish(staged, 3)
    assert [each.step for each in valid_checkpoints(tmp_path)] == [3]


def test_writing_a_step_again_replaces_it(tmp_path: Path) -> None:
    first = make(tmp_path, 3)
    _flip(first / "optimizer.pt")
    make(tmp_path, 3)
    assert damage_of(first) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-3"]


@pytest.mark.req("S11-R10")
def test_what_a_crash_left_is_finished_put_back_or_dropped(tmp_path: Path) -> None:
    make(tmp_path, 1)
    half = stage(tmp_path, 2)
    (half / "model.safetensors").write_bytes(b"half")
    whole = stage(tmp_path, 3)
    (whole / "model.safetensors").write_bytes(b"whole")
    seal(whole, 3)
    # Between moving the old one away and naming the new one.
    make(tmp_path, 4).rename(tmp_path / ".replaced-checkpoint-4")
    done = tidy(tmp_path)
    assert [each.step for each in valid_checkpoints(tmp_path)] == [4, 3, 1]
    assert len(done) == 3
    assert not list(tmp_path.glob(".*"))
    assert tidy(tmp_path) == []


def test_pruning_keeps_the_newest_whole_ones_and_the_best(tmp_path: Path) -> None:
    for step in range(1, 9):
        make(tmp_path, step)
    assert prune(tmp_path, 3, best_step=2) == [5, 4, 3, 1]
    assert [each.step for each in listed(tmp_path)] == [8, 7, 6, 2]


def test_pruning_never_leaves_fewer_than_two_whole_ones(tmp_path: Path) -> None:
    for step in range(1, 6):
        path = make(tmp_path, step)
        if step >= 3:
            (path / "optimizer.pt").unlink()
    assert prune(tmp_path, 0, None) == []
    assert [each.step for each in valid_checkpoints(tmp_path)] == [2, 1]
    make(tmp_path, 6)
    assert prune(tmp_path, 1, None) == [1]
    assert [each.step for each in valid_checkpoints(tmp_path)] == [6, 2]


def test_silent_damage_counts_when_room_is_needed(tmp_path: Path) -> None:
    for step in range(1, 5):
        make(tmp_path, step)
    _flip(tmp_path / "checkpoint-4" / "model.safetensors")
    assert prune(tmp_path, 2, None, is_deep=True) == [1]
    assert [each.step for each in valid_checkpoints(tmp_path)] == [3, 2]


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("checkpoint-12", 12),
        ("step7", 7),
        ("checkpoint-007", 7),
        ("checkpoint-", None),
        ("xcheckpoint-1", None),
        ("step1x", None),
    ],
)
def test_a_step_is_read_from_the_name(name: str, step: int | None) -> None:
    assert step_of(name) == step
