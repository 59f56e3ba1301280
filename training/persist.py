"""Where a result goes so that it outlives the run: one interface, and the directory behind it (S14-R03..R05, S6-R05, C7).

A destination is concrete, resolved before the launch, and read back by digest after the push: a push log proves nothing. No
back-end ever shows half a result: it is staged under a hidden name, its list of hashes comes last, then one rename.
Standard library only. `training/persist_host.py` is a second host over ssh, `training/persist_hub.py` the Hugging Face hub.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, cast

from manifests.commands import command
from manifests.errors import HemmaError
from manifests.files import atomic_write
from training.errors import NoRoom

MANIFEST = "hemma-hashes.json"
_BLOCK = 4 << 20
_SPARE_BYTES = 1 << 20
_PLACEHOLDER = re.compile(r"your[-_ ]|[<>{}$…*?]|\b(todo|tbd|changeme|placeholder|example)\b|[\0-\x1f]", re.IGNORECASE)

Receipt = dict[str, Any]
Facts = dict[str, Any]
Progress = Callable[[int, int | None, str], None]


class DestinationRefused(HemmaError):
    """The destination is no concrete place, cannot be reached or written, or holds something else already."""

    code = "destination-refused"


class Backend(Protocol):
    """A place for results. Every call may be repeated: what is there already, byte for byte, is not sent again."""

    def resolve(self) -> Facts:
        """Where it is in full (`destination`, `url`) and what was found there. Raises DestinationRefused."""
        ...

    def put(self, folder: Path, on_progress: Progress | None = None) -> Receipt:
        """Put the files of `folder` there; the receipt names destination, url, sha256 and every file. Raises NoRoom."""
        ...

    def verify(self, receipt: Receipt) -> Facts:
        """Read it again there: the sha256 of what it holds now, and `differences` from the receipt in words."""
        ...


@dataclass(frozen=True)
class Held:
    """One file by size and content."""

    sha256: str
    size: int


Listing = dict[str, Held]


def concrete(destination: str) -> str:
    """`destination` if it names one place. Raises DestinationRefused for a placeholder, a pattern or nothing (S6-R05)."""
    if not destination.strip() or _PLACEHOLDER.search(destination) or ".." in destination.split("/"):
        raise DestinationRefused(
            f"{destination!r} is no concrete place",
            remedy="name the folder, host:folder or namespace/name in the manifest",
        )
    return destination


# --- what a result is ----------------------------------------------------------------------------------------------


def listing_of(folder: Path, on_progress: Progress | None = None) -> Listing:
    """Every file of `folder` by name, without a list of hashes of our own. Raises DestinationRefused when there is none."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MANIFEST]
    if not paths:
        raise DestinationRefused(
            f"{folder} holds no file to keep", remedy=command("ls -la {}", folder), code="nothing-to-keep"
        )
    found: Listing = {}
    for number, path in enumerate(paths, 1):
        found[path.relative_to(folder).as_posix()] = Held(sha256_of(path), path.stat().st_size)
        if on_progress:
            on_progress(number, len(paths), f"hash {path.name}")
    return found


def digest_of(listing: Mapping[str, Held]) -> str:
    """One sha256 over names and contents; the same as training.content.tree gives for the folder."""
    digest = hashlib.sha256()
    for name in sorted(listing, key=PurePosixPath):
        digest.update(f"{name}\0{listing[name].sha256}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def sha256_of(path: Path) -> str:
    """The sha256 of a file, read from the disk and not from memory where the system lets us ask for that."""
    with path.open("rb") as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifest_bytes(listing: Mapping[str, Held], name: str) -> bytes:
    """The list of hashes that lies beside the files, last of all."""
    files = {path: {"sha256": held.sha256, "size_bytes": held.size} for path, held in sorted(listing.items())}
    value = {"schema_version": 1, "name": name, "sha256": digest_of(listing), "files": files}
    return json.dumps(value, indent=1).encode("ascii") + b"\n"


def listed_in(raw: bytes, where: str) -> Listing:
    """The listing that a list of hashes holds. Raises DestinationRefused when it is broken."""
    try:
        files = cast("dict[str, dict[str, Any]]", json.loads(raw)["files"])
        return {name: Held(str(each["sha256"]), int(each["size_bytes"])) for name, each in files.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise DestinationRefused(
            f"{where} is no list of hashes: {error}", remedy="push the result again", code="digest-mismatch"
        ) from error


def receipt_of(kind: str, destination: str, url: str, listing: Listing, **more: Any) -> Receipt:
    """What a push leaves: where, and the digest of every file."""
    return {
        "kind": kind,
        "destination": destination,
        "url": url,
        "sha256": digest_of(listing),
        "size_bytes": sum(held.size for held in listing.values()),
        "files": {name: {"sha256": held.sha256, "size_bytes": held.size} for name, held in listing.items()},
        **more,
    }


def compared(receipt: Receipt, there: Mapping[str, Held]) -> Facts:
    """What is there now beside what the receipt says: the digest, and each difference in words."""
    wanted = listed_in(json.dumps(receipt).encode(), "the receipt")
    differences = [f"{name} is missing" for name in wanted if name not in there]
    differences += [f"{name} is new" for name in there if name not in wanted]
    differences += [f"{name} is changed" for name in wanted if name in there and there[name] != wanted[name]]
    return {"sha256": digest_of(there), "destination": receipt["destination"], "differences": sorted(differences)}


# --- a directory ---------------------------------------------------------------------------------------------------


class Directory:
    """A directory of this machine, or one that is mounted here."""

    def __init__(self, base: Path, name: str) -> None:
        """Results go to `base`/`name`."""
        self._base, self._name = base, name
        self._final = base / name
        self._staged = self._final.with_name(f".{self._final.name}.staged")

    def resolve(self) -> Facts:
        """Where it is, and how much room there is; tried by writing there, for a mode proves nothing on a network disk."""
        probe = self._final.parent / f".hemma-probe-{os.getpid()}"
        try:
            self._final.parent.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise DestinationRefused(
                f"{self._base} cannot be written: {error.strerror}", remedy=command("ls -ld {}", self._base)
            ) from error
        free = shutil.disk_usage(self._final.parent).free
        return {**self._facts(), "free_bytes": free, "is_there": self._final.exists()}

    def put(self, folder: Path, on_progress: Progress | None = None) -> Receipt:
        """Copy `folder` there. An earlier push that was cut goes on where it stopped; nothing shows before all is there."""
        self.resolve()
        listing = listing_of(folder, on_progress)
        if self._final.exists():
            self._refuse_other(listing)
            return receipt_of("directory", **self._facts(), listing=listing, is_new=False)
        try:
            self._stage(folder, listing, on_progress)
            os.rename(self._staged, self._final)
            sync_folder(self._final.parent)
        except OSError as error:
            raise self._failed(error, listing) from error
        return receipt_of("directory", **self._facts(), listing=listing, is_new=True)

    def verify(self, receipt: Receipt) -> Facts:
        """Read every file there again. Raises DestinationRefused when it is not there at all."""
        place = Path(receipt["destination"])
        if not place.is_dir():
            raise DestinationRefused(f"{place} is not there", remedy="push the result again", code="digest-mismatch")
        return compared(receipt, listing_of(place))

    def _facts(self) -> dict[str, str]:
        place = Path(os.path.abspath(self._final))
        return {"destination": str(place), "url": place.as_uri()}

    def _refuse_other(self, listing: Listing) -> None:
        """Never write over a result: the same one is fine, another is for a person to look at."""
        if listing_of(self._final) != listing:
            raise DestinationRefused(
                f"{self._final} holds another result already",
                remedy=command("ls -la {}", self._final),
                code="destination-taken",
            )

    def _stage(self, folder: Path, listing: Listing, on_progress: Progress | None) -> None:
        self._staged.mkdir(mode=0o755, exist_ok=True)
        kept = self._keep_staged(listing)
        wanted = sum(held.size for name, held in listing.items() if name not in kept)
        self._demand_room(wanted)
        done = 0
        for name, held in listing.items():
            if name not in kept:
                _copy(folder / name, self._staged / name, held)
                done += held.size
                if on_progress:
                    on_progress(done, wanted, f"copy {name}")
        atomic_write(str(self._staged / MANIFEST), manifest_bytes(listing, self._name), mode=None)
        for each in {(self._staged / name).parent for name in listing} | {self._staged}:
            sync_folder(each)

    def _keep_staged(self, listing: Listing) -> set[str]:
        """Names of files that an earlier push left whole; everything else it left is removed."""
        kept: set[str] = set()
        for path in [each for each in self._staged.rglob("*") if not each.is_dir() or each.is_symlink()]:
            name = path.relative_to(self._staged).as_posix()
            held = listing.get(name)
            is_whole = held is not None and not path.is_symlink() and path.stat().st_size == held.size
            if held is not None and is_whole and sha256_of(path) == held.sha256:
                kept.add(name)
            else:
                path.unlink()
        return kept

    def _demand_room(self, wanted: int) -> None:
        free = shutil.disk_usage(self._staged).free
        if wanted + _SPARE_BYTES > free:
            shutil.rmtree(self._staged, ignore_errors=True)
            raise NoRoom("the result", str(self._base), needed_bytes=wanted + _SPARE_BYTES, free_bytes=free)

    def _failed(self, error: OSError, listing: Listing) -> HemmaError:
        """A full disk gets its room back at once; what another trouble left staged is gone on with next time."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            shutil.rmtree(self._staged, ignore_errors=True)
            needed = sum(held.size for held in listing.values())
            free = shutil.disk_usage(self._final.parent).free
            return NoRoom("the result", str(self._base), needed_bytes=needed, free_bytes=free)
        return DestinationRefused(
            f"{self._final} cannot be written: {error.strerror}", remedy=command("ls -ld {}", self._base)
        )


def _copy(source: Path, target: Path, held: Held) -> None:
    """Copy one file beside its place and move it there; what was copied must be what was listed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name[:200]}.part")
    digest = hashlib.sha256()
    try:
        with source.open("rb") as reader, part.open("wb") as writer:
            while block := reader.read(_BLOCK):
                digest.update(block)
                writer.write(block)
            writer.flush()
            os.fsync(writer.fileno())
        if digest.hexdigest() != held.sha256:
            raise DestinationRefused(
                f"{source} changed while it was copied", remedy="push again when nothing writes to it"
            )
        part.replace(target)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
