"""Which checkpoints are whole, and how one becomes so: staged under a hidden name, hashed, manifest last, one rename (S11-R10..R15).

A checkpoint counts only with a manifest that lists every file with size and sha256 and carries its own digest. What a crash
leaves is a hidden folder that no reader looks at. The layout is the Trainer's own plus two files, so stock tools read it too.
Standard library only: the executor asks without loading torch.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import datetime as dt
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

MANIFEST = "manifest.json"
STATE = "hemma_state.json"
# Of the Trainer, and of the source workflow; anything else is ignored, with a word (C25).
_NAME = re.compile(r"(?:checkpoint-|step)([0-9]{1,12})")
# How hand-written loops name theirs: step9.pt, model_step50.pt, ckpt-100.safetensors.
_ONE_FILE = re.compile(
    r"[\w.-]*?(?:step|ckpt|checkpoint|epoch|iter)[-_]?[0-9]{1,12}\.(?:pt|pth|bin|ckpt|safetensors|tar)"
)
_STAGED, _REPLACED = ".staged-", ".replaced-"
_BLOCK = 4 << 20
_MIN_KEPT = 2

Kind = Literal[
    "no-manifest",
    "manifest-broken",
    "missing",
    "empty",
    "truncated",
    "grown",
    "changed",
    "unreadable",
    "unknown-name",
    "one-file",
]


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint by its folder and the optimizer step it was taken after."""

    path: Path
    step: int


@dataclass(frozen=True)
class Damage:
    """What is wrong with one checkpoint: the first thing found in each file."""

    path: Path
    kind: Kind
    fact: str

    def as_dict(self) -> dict[str, str]:
        """The damage as an event's data."""
        return {"checkpoint": self.path.name, "damage": self.kind, "fact": self.fact}


OnDamage = Callable[[Damage], None]


def step_of(name: str) -> int | None:
    """The step in a checkpoint's name, `checkpoint-12` or `step12`; None for any other name (S11-R13)."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None


def listed(folder: Path, on_damage: OnDamage | None = None) -> list[Checkpoint]:
    """Every checkpoint folder by its name, newest step first (numerically), whole or not."""
    found: list[Checkpoint] = []
    with contextlib.suppress(FileNotFoundError):
        for path in folder.iterdir():
            step = step_of(path.name)
            if step is not None and path.is_dir():
                found.append(Checkpoint(path, step))
            elif on_damage and path.is_dir() and not path.name.startswith("."):
                on_damage(Damage(path, "unknown-name", "no step in its name; ignored"))
            elif on_damage and _ONE_FILE.fullmatch(path.name):
                fact = "a checkpoint of one file, not written by Hemma: weights without optimizer, data and random state; ignored"
                on_damage(Damage(path, "one-file", fact))
    return sorted(found, key=lambda each: (-each.step, each.path.name))


def valid_checkpoints(folder: Path, on_damage: OnDamage | None = None) -> list[Checkpoint]:
    """Checkpoints whose every byte is as it was written, newest first; damage of the others goes to `on_damage`."""
    return [each for each in listed(folder, on_damage) if not _told(damage_of(each.path), on_damage)]


def newest_valid(folder: Path, on_damage: OnDamage | None = None) -> Checkpoint | None:
    """The newest checkpoint that is whole; older ones are looked at only when newer ones are damaged (S11-R15)."""
    return next((each for each in listed(folder, on_damage) if not _told(damage_of(each.path), on_damage)), None)


def damage_of(path: Path, *, is_deep: bool = True) -> list[Damage]:
    """What is wrong with the checkpoint at `path`; an empty list: nothing. `is_deep` reads every byte again."""
    try:
        manifest = read_manifest(path)
    except FileNotFoundError:
        return [Damage(path, "no-manifest", f"{MANIFEST} is missing: it was never finished, or is not ours")]
    except ValueError as error:
        return [Damage(path, "manifest-broken", str(error))]
    files: dict[str, dict[str, Any]] = manifest["files"]
    found = [damage for name, facts in files.items() if (damage := _wrong_size(path, name, int(facts["size"])))]
    if found or not is_deep:
        return found
    try:
        digests = hashed(path, list(files))
    except OSError as error:  # a disk that cannot give the bytes back has lost them
        return [Damage(path, "unreadable", str(error))]
    wrong = [name for name, facts in files.items() if digests[name] != facts["digest"]]
    return [Damage(path, "changed", f"{name} has other bytes than were written") for name in wrong]


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint. Raises FileNotFoundError, or ValueError when it is not as it was written."""
    text = (path / MANIFEST).read_bytes()
    value: object = json.loads(text) if text else None
    if not isinstance(value, dict) or not isinstance(cast("dict[str, Any]", value).get("files"), dict):
        raise ValueError(f"{MANIFEST} is no manifest")  # noqa: TRY004 - one kind of fault for its callers
    manifest = cast("dict[str, Any]", value)
    if manifest.get("digest") != _digest_of(manifest):
        raise ValueError(f"{MANIFEST} has other bytes than were written")
    return manifest


def read_state(path: Path) -> dict[str, Any]:
    """Our own part of a checkpoint's state: cursors, best metric, versions, content hashes (S11-R12)."""
    return cast("dict[str, Any]", json.loads((path / STATE).read_bytes()))


def stage(folder: Path, step: int) -> Path:
    """A hidden folder to write checkpoint `step` into; nothing looks at it until `publish`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{_STAGED}checkpoint-{step}.{os.getpid()}"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    return path


def seal(path: Path, step: int, facts: Mapping[str, Any] | None = None) -> int:
    """Hash every file below `path`, sync them, and write the manifest last. Returns the bytes of all files."""
    names = sorted(str(each.relative_to(path)) for each in path.rglob("*") if each.is_file() and each.name != MANIFEST)
    digests = hashed(path, names, is_synced=True)
    files = {name: {"size": (path / name).stat().st_size, "digest": digests[name]} for name in names}
    manifest: dict[str, Any] = {"schema_version": 1, "step": step, "created_at": dt.datetime.now(dt.UTC).isoformat()}
    manifest |= {"files": files, **(facts or {})}
    manifest["digest"] = _digest_of(manifest)
    with open(path / MANIFEST, "w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    for each in {path, *((path / name).parent for name in names)}:
        sync_folder(each)
    return sum(int(facts["size"]) for facts in files.values())


def publish(staged: Path, step: int) -> Checkpoint:
    """Give the sealed folder its name; an older folder of that name makes way and goes once the new one is durable."""
    final = staged.parent / f"checkpoint-{step}"
    old = staged.parent / f"{_REPLACED}{final.name}"
    if final.exists():
        shutil.rmtree(old, ignore_errors=True)
        final.rename(old)
    staged.rename(final)
    sync_folder(final.parent)
    shutil.rmtree(old, ignore_errors=True)
    return Checkpoint(final, step)


def tidy(folder: Path) -> list[str]:
    """After a crash: finish what was sealed but not named, put back what was moved away, drop what was half-written.

    For the one process that trains in this folder, before it starts. Returns what was done, in words.
    """
    done: list[str] = []
    for path in sorted(folder.glob(f"{_REPLACED}*")):
        target = folder / path.name.removeprefix(_REPLACED)
        done.append(f"{path.name}: {'dropped' if target.exists() else 'put back'}")
        shutil.rmtree(path) if target.exists() else path.rename(target)
    for path in sorted(folder.glob(f"{_STAGED}*")):
        step = step_of(path.name.removeprefix(_STAGED).partition(".")[0])
        if step is not None and not damage_of(path):
            publish(path, step)
            done.append(f"{path.name}: was whole, named checkpoint-{step}")
        else:
            shutil.rmtree(path)
            done.append(f"{path.name}: half-written, dropped")
    return done


def prune(folder: Path, keep: int, best_step: int | None, *, is_deep: bool = False) -> list[int]:
    """Remove old checkpoints but for the newest `keep` (never fewer than two) whole ones and the best; returns their steps.

    Nothing is removed that would leave fewer than two whole ones. `is_deep` reads them all again first.
    """
    every = listed(folder)
    whole = [each for each in every if not damage_of(each.path, is_deep=is_deep)]
    kept = whole[: max(keep, _MIN_KEPT)]
    if len(kept) < _MIN_KEPT:
        return []
    oldest = kept[-1].step
    gone = [each for each in every if each.step < oldest and each.step != best_step]
    for each in gone:
        # The manifest goes first: what a crash leaves of the rest is no checkpoint.
        (each.path / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(each.path, ignore_errors=True)
    return [each.step for each in gone]


def hashed(path: Path, names: list[str], *, is_synced: bool = False) -> dict[str, str]:
    """`sha256:<hex>` of each of these files below `path`, two at a time; with `is_synced` each is on the disk after."""

    def one(name: str) -> str:
        digest, block = hashlib.sha256(), bytearray(_BLOCK)
        with open(path / name, "rb", buffering=0) as file:
            while size := file.readinto(block):
                digest.update(memoryview(block)[:size])
            if is_synced:
                os.fsync(file.fileno())
        return f"sha256:{digest.hexdigest()}"

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return dict(zip(names, pool.map(one, names), strict=True))


def sync_folder(path: Path) -> None:
    """Make renames in a folder durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _wrong_size(path: Path, name: str, size: int) -> Damage | None:
    try:
        found = (path / name).stat().st_size
    except OSError:
        return Damage(path, "missing", f"{name} is missing")
    if found == size:
        return None
    kind: Kind = "empty" if not found else "truncated" if found < size else "grown"
    return Damage(path, kind, f"{name} has {found} of {size} bytes")


def _told(damages: list[Damage], on_damage: OnDamage | None) -> list[Damage]:
    for damage in damages if on_damage else ():
        cast("OnDamage", on_damage)(damage)
    return damages


def _digest_of(manifest: Mapping[str, Any]) -> str:
    body = {key: value for key, value in manifest.items() if key != "digest"}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
