"""Writes checkpoints beside the training: a copy in host memory, then files, hashes, fsync and rename in a thread (S11-R10..R12).

The training stands still only while its state is copied. One copy is under way at a time: a second save waits for the first.
Where host memory has no room for a copy, the state is written straight away and the training waits. State that is not
finite never becomes a checkpoint (S11-R22); a full disk is seen before the first byte.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

from training.checkpoints import Checkpoint, prune, publish, seal, stage
from training.errors import NoRoom, NotFinite
from training.events import free_bytes

# Config, tokenizer, manifest and the file system's own: what a checkpoint takes beside its tensors, until one was written.
SMALL_FILES_BYTES = 48 << 20
SMALL_FILES_MARGIN = 1.5
# Share of the memory that is available which a copy may take, and up to which it is page-locked for a GPU.
COPY_SHARE, PINNED_SHARE = 0.6, 0.25


@dataclass
class Capture:
    """The whole state of a training at one step, its tensors still in place. File names map to what they hold; `texts` are
    data for JSON that nobody changes any more: a long history is written by the thread, not while the training waits.

    `write_model(folder, weights)` writes the model's own files from the (copied) weights; `finite` names those weights
    that must be finite beside the optimizer's.
    """

    step: int
    weights: dict[str, torch.Tensor]
    write_model: Callable[[Path, dict[str, torch.Tensor]], None]
    tensors: dict[str, Any] = field(default_factory=dict[str, Any])
    texts: dict[str, Any] = field(default_factory=dict[str, Any])
    finite: frozenset[str] = frozenset()
    best_step: int | None = None


@dataclass(frozen=True)
class Saved:
    """A checkpoint that is whole: how long the training stood still for it, how long it took, how much it holds."""

    checkpoint: Checkpoint
    stall_s: float
    write_s: float
    size_bytes: int


class HostCopy:
    """Copies of tensors in host memory, in buffers that are used again while the shapes stay the same."""

    def __init__(self) -> None:
        self._buffers: dict[int, torch.Tensor] = {}
        self._may_pin = False

    def take(self, tree: Any) -> Any:
        """`tree` with every tensor copied; equal tensors (tied weights) stay one. Returns when the copy is complete."""
        # Page-locked memory is twice as fast from a GPU, and is taken from everybody: only a small share of it.
        self._may_pin = torch.cuda.is_initialized() and size_of(tree) < PINNED_SHARE * available_memory()
        seen: dict[tuple[Any, ...], torch.Tensor] = {}
        copied = self._copied(tree, seen, iter(range(1 << 30)))
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        return copied

    def drop(self) -> None:
        """Give the memory back."""
        self._buffers.clear()
        gc.collect()

    def _copied(self, tree: Any, seen: dict[tuple[Any, ...], torch.Tensor], numbers: Iterator[int]) -> Any:
        if isinstance(tree, torch.Tensor):
            key = (tree.data_ptr(), tree.dtype, tuple(tree.shape), tree.stride(), tree.device)
            if not tree.numel() or key not in seen:
                seen[key] = self._buffer(next(numbers), tree).copy_(tree.detach(), non_blocking=True)
            return seen[key]
        if isinstance(tree, dict):
            items = cast("dict[Any, Any]", tree).items()
            return {name: self._copied(each, seen, numbers) for name, each in items}
        if isinstance(tree, list | tuple):
            values = [self._copied(each, seen, numbers) for each in cast("list[Any]", tree)]
            return values if isinstance(tree, list) else tuple(values)
        return copy.deepcopy(tree)

    def _buffer(self, number: int, like: torch.Tensor) -> torch.Tensor:
        known = self._buffers.get(number)
        if known is None or known.dtype != like.dtype or known.shape != like.shape:
            is_pinned = self._may_pin and like.device.type == "cuda"
            known = torch.empty(like.shape, dtype=like.dtype, device="cpu", pin_memory=is_pinned)
            self._buffers[number] = known
        return known


class CheckpointWriter:
    """Saves captures below `folder` in order. `on_saved` and `on_failed` are called from the writing thread."""

    def __init__(
        self,
        folder: Path,
        *,
        keep: int = 3,
        on_saved: Callable[[Saved], None] | None = None,
        on_failed: Callable[[int, Exception], None] | None = None,
        memory: Callable[[], int] | None = None,
    ) -> None:
        self.folder = folder
        self.keep = keep
        self.stalls_s: list[float] = []
        self._on_saved, self._on_failed = on_saved, on_failed
        self._memory = memory or available_memory
        self._copy = HostCopy()
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._size = 0
        self._small = SMALL_FILES_BYTES

    def save(self, capture: Capture) -> None:
        """Take the state as it is now; the checkpoint becomes valid later, or `wait` raises.

        Raises what an earlier save failed with, and NoRoom before anything of this one is written.
        """
        begun = time.monotonic()
        self.wait()
        size = size_of([capture.weights, capture.tensors])
        self._make_room(size, capture.best_step)
        held, self._size = self._size, size
        if size > COPY_SHARE * (self._memory() + held):
            self._copy.drop()
            self._write(capture, begun, None)
            self.wait()
            return
        capture.weights, capture.tensors = self._copy.take([capture.weights, capture.tensors])
        stall_s = time.monotonic() - begun
        self._thread = threading.Thread(target=self._write, args=(capture, begun, stall_s), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Wait until nothing is under way. Raises what the last save failed with, once."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def close(self) -> None:
        """Wait, and give the memory back."""
        try:
            self.wait()
        finally:
            self._copy.drop()
            self._size = 0

    def _make_room(self, size: int, best_step: int | None) -> None:
        needed = size + self._small
        self.folder.mkdir(parents=True, exist_ok=True)
        if free_bytes(self.folder) < needed:
            # Older ones than the two that must stay are worth less than the next one.
            prune(self.folder, 0, best_step, is_deep=True)
        if free_bytes(self.folder) < needed:
            raise NoRoom("a checkpoint", str(self.folder), needed_bytes=needed, free_bytes=free_bytes(self.folder))

    def _write(self, capture: Capture, begun: float, stall_s: float | None) -> None:
        staged: Path | None = None
        try:
            _refuse_poison(capture)
            staged = stage(self.folder, capture.step)
            capture.write_model(staged, capture.weights)
            for name, value in capture.tensors.items():
                torch.save(value, staged / name)
            for name, value in capture.texts.items():
                (staged / name).write_text(json.dumps(value, default=str), encoding="utf-8")
            size = seal(staged, capture.step)
            self._small = max(1 << 20, int((size - self._size) * SMALL_FILES_MARGIN))
            checkpoint = publish(staged, capture.step)
            prune(self.folder, self.keep, capture.best_step)
        except Exception as error:  # noqa: BLE001 - it goes to the training thread, whatever it is
            self._error = self._told(capture.step, staged, error)
            return
        write_s = time.monotonic() - begun
        self.stalls_s.append(write_s if stall_s is None else stall_s)
        if self._on_saved:
            self._on_saved(Saved(checkpoint, self.stalls_s[-1], write_s, size))

    def _told(self, step: int, staged: Path | None, error: Exception) -> Exception:
        """Clean up after a failure; a full disk is told as what it is, whatever the library made of it."""
        needed, free = self._size + self._small, free_bytes(self.folder)
        if staged is not None:
            shutil.rmtree(staged, ignore_errors=True)
        if not isinstance(error, NoRoom | NotFinite) and _is_full(error, free):
            full = NoRoom("a checkpoint", str(self.folder), needed_bytes=needed, free_bytes=free)
            full.__cause__ = error
            error = full
        if self._on_failed:
            self._on_failed(step, error)
        return error


def size_of(tree: Any) -> int:
    """Bytes of all tensors in nested dicts, lists and tuples; tied ones count once."""
    return sum(each.numel() * each.element_size() for each in {t.data_ptr(): t for t in tensors_of(tree)}.values())


def tensors_of(tree: Any) -> Iterator[torch.Tensor]:
    """Every tensor in nested dicts, lists and tuples."""
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for each in cast("Mapping[Any, Any]", tree).values():
            yield from tensors_of(each)
    elif isinstance(tree, list | tuple):
        for each in cast("list[Any]", tree):
            yield from tensors_of(each)


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether a tensor holds neither NaN nor an infinity; one pass, no copy."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    # 8-bit floats have no minimum of their own.
    low, high = torch.aminmax(tensor.detach() if tensor.element_size() > 1 else tensor.detach().float())
    return bool(torch.isfinite(low) & torch.isfinite(high))


def available_memory() -> int:
    """Bytes of memory that this machine, or our control group, still has: the smaller of both."""
    found = [_meminfo()]
    with contextlib.suppress(OSError, ValueError):
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))
        found.append(max(0, limit - int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii"))))
    return min(found)


def _meminfo() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _refuse_poison(capture: Capture) -> None:
    for name in sorted(capture.finite & capture.weights.keys()):
        if not is_finite(capture.weights[name]):
            raise NotFinite(f"weight {name}", capture.step, "not finite")
    for name, value in capture.tensors.items():
        if name.startswith("optimizer") and not all(is_finite(each) for each in tensors_of(value)):
            raise NotFinite("optimizer state", capture.step, "not finite")


def _is_full(error: Exception, free: int) -> bool:
    # A zip or safetensors writer on a full disk speaks of positions and rusts of its own; the disk itself tells.
    return getattr(error, "errno", None) in (28, 122) or "No space left" in str(error) or free < (1 << 20)
