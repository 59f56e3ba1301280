"""Writing checkpoints beside the training: nothing torn, nothing poisoned, full disks seen and survived (S11-R10..R12, F3, F4)."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.training.test_events import fill, needs_root, small_disk
from training.checkpoint_writer import Capture, CheckpointWriter, HostCopy, Saved, is_finite, size_of, tensors_of
from training.checkpoints import listed, newest_valid, valid_checkpoints
from training.errors import NoRoom, NotFinite

MIB = 1 << 20


def write_model(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """What a model writes: its weights, and a small file."""
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")


def capture(step: int, *, numel: int = 1000, write: Callable[..., None] = write_model, **more: Any) -> Capture:
    """A state of two weights and an optimizer whose values are the step."""
    weights = {"a": torch.full((numel,), float(step)), "b": torch.full((10, 10), float(step))}
    optimizer = {
        "state": {0: {"exp_avg": torch.full((numel,), float(step)), "step": torch.tensor(float(step))}},
        "lr": 0.1,
    }
    tensors = {"optimizer.pt": optimizer, "rng_state.pth": {"cpu": torch.random.get_rng_state()}}
    fields: dict[str, Any] = {
        "tensors": tensors,
        "texts": {"trainer_state.json": {}},
        "finite": frozenset(weights),
        **more,
    }
    return Capture(step=step, weights=weights, write_model=write, **fields)


def value_of(folder: Path) -> float:
    """The step that a checkpoint's weights say."""
    return load_file(folder / "model.safetensors")["a"][0].item()


def test_a_checkpoint_holds_the_state_of_its_moment(tmp_path: Path) -> None:
    saved: list[Saved] = []
    gate = threading.Event()

    def slow(folder: Path, weights: dict[str, torch.Tensor]) -> None:
        gate.wait(10)
        write_model(folder, weights)

    writer = CheckpointWriter(tmp_path, on_saved=saved.append)
    taken = capture(1, write=slow)
    live = taken.weights["a"]
    writer.save(taken)
    live.fill_(99)  # the training goes on
    assert listed(tmp_path) == []
    gate.set()
    writer.close()
    assert value_of(tmp_path / "checkpoint-1") == 1
    state = torch.load(tmp_path / "checkpoint-1/optimizer.pt", weights_only=True)
    assert state["state"][0]["exp_avg"][0].item() == 1
    assert state["lr"] == 0.1
    assert [each.checkpoint.step for each in saved] == [1]
    assert saved[0].stall_s < saved[0].write_s


def test_buffers_are_used_again_without_mixing_steps(tmp_path: Path) -> None:
    writer = CheckpointWriter(tmp_path, keep=5)
    for step in range(1, 6):
        writer.save(capture(step))
    writer.close()
    assert {each.step: value_of(each.path) for each in valid_checkpoints(tmp_path)} == {
        n: float(n) for n in range(1, 6)
    }


def test_tied_weights_stay_one() -> None:
    weight = torch.ones(100)
    copied = HostCopy().take({"a": weight, "b": weight, "c": weight[:50], "n": (1, [weight])})
    assert copied["a"] is copied["b"] is copied["n"][1][0]
    assert copied["c"] is not copied["a"]
    assert size_of({"a": weight, "b": weight}) == 400
    assert len(list(tensors_of(copied))) == 4


def test_without_memory_for_a_copy_it_is_written_at_once(tmp_path: Path) -> None:
    threads: list[str] = []

    def where(folder: Path, weights: dict[str, torch.Tensor]) -> None:
        threads.append(threading.current_thread().name)
        write_model(folder, weights)

    writer = CheckpointWriter(tmp_path, memory=lambda: 1000)
    writer.save(capture(1, write=where))
    assert threads == [threading.main_thread().name]
    assert [each.step for each in valid_checkpoints(tmp_path)] == [1]
    writer.close()


@pytest.mark.req("S11-R22")
@pytest.mark.parametrize("where", ["weight", "optimizer"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_poison_never_becomes_a_checkpoint(tmp_path: Path, where: str, value: float) -> None:
    failed: list[tuple[int, Exception]] = []
    writer = CheckpointWriter(tmp_path, on_failed=lambda step, error: failed.append((step, error)))
    writer.save(capture(1))
    poisoned = capture(2)
    if where == "weight":
        poisoned.weights["b"][3, 3] = value
    else:
        poisoned.tensors["optimizer.pt"]["state"][0]["exp_avg"][7] = value
    writer.save(poisoned)
    with pytest.raises(NotFinite, match=where):
        writer.wait()
    assert [step for step, _ in failed] == [2]
    assert [each.step for each in listed(tmp_path)] == [1]
    assert not list(tmp_path.glob(".*"))
    writer.save(capture(3))
    writer.close()
    assert newest_valid(tmp_path) is not None


def test_a_buffer_that_may_be_infinite_is_no_poison(tmp_path: Path) -> None:
    taken = capture(1)
    taken.weights["mask"] = torch.tensor([0.0, float("-inf")])
    writer = CheckpointWriter(tmp_path)
    writer.save(taken)
    writer.close()
    assert [each.step for each in valid_checkpoints(tmp_path)] == [1]


@pytest.mark.parametrize(
    "kind", [torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.int8, torch.bool]
)
def test_every_kind_of_number_is_looked_at(kind: torch.dtype) -> None:
    assert is_finite(torch.zeros(8).to(kind))
    if kind.is_floating_point:
        assert not is_finite(torch.tensor([1.0, float("nan")]).to(kind))
    assert is_finite(torch.zeros(0, dtype=kind))


@needs_root
@pytest.mark.parametrize("left_kib", [0, 1, 5, 60, 500, 1000, 1100, 1900, 2000, 2040])
def test_disk_that_fills_while_writing_costs_the_new_one_only(tmp_path: Path, left_kib: int) -> None:
    with small_disk(tmp_path / "disk", 64 << 10) as disk:
        folder, filler = disk / "checkpoints", disk / "filler"

        def crowded(target: Path, weights: dict[str, torch.Tensor]) -> None:
            fill(disk)
            os.truncate(filler, filler.stat().st_size - left_kib * 1024)
            write_model(target, weights)

        writer = CheckpointWriter(folder)
        size = MIB // 4  # 1 MiB of weights, 1 MiB of optimizer state
        writer.save(capture(1, numel=size))
        writer.save(capture(2, numel=size, write=crowded))
        with pytest.raises(NoRoom) as told:
            writer.wait()
        assert told.value.needed_bytes > 2 * MIB
        assert [each.step for each in valid_checkpoints(folder)] == [1]
        assert not list(folder.glob(".*"))
        filler.unlink()
        writer.save(capture(3, numel=size))
        writer.close()
        assert [each.step for each in valid_checkpoints(folder)] == [3, 1]


@needs_root
def test_disk_without_room_is_seen_before_the_first_byte(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 80 << 10) as disk:
        folder = disk / "checkpoints"
        written: list[int] = []
        writer = CheckpointWriter(folder, keep=9)
        for step in range(1, 12):
            count = functools.partial(_counted, written, step)
            writer.save(capture(step, numel=2 * MIB, write=count))
        writer.wait()
        # Room for four: the oldest made way, two whole ones always stayed.
        assert written == list(range(1, 12))
        assert len(valid_checkpoints(folder)) >= 2
        with pytest.raises(NoRoom) as told:
            writer.save(capture(12, numel=10 * MIB, write=functools.partial(_counted, written, 12)))
        assert written == list(range(1, 12))
        assert told.value.needed_bytes > 80 * MIB > told.value.free_bytes
        assert newest_valid(folder) is not None
        writer.close()


def _counted(written: list[int], step: int, folder: Path, weights: dict[str, torch.Tensor]) -> None:
    written.append(step)
    write_model(folder, weights)
