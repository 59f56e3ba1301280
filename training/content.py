"""What a stage looked at, by digest: script, config, dataset and environment (S7-R18). No torch here: it is asked often."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from manifests.evidence import Hashes

# What of a job is not its config: who asks, when, from which commit, and how often it may be tried.
_NOT_CONFIG = frozenset(
    {"run_id", "root", "commit", "who", "manifest", "task", "references", "until", "resume", "is_mapping_found"}
)


def hashes(job: dict[str, Any], root: Path, payload_digest: str) -> Hashes:
    """The digests of all four contents as they are now; a content that cannot be read has none, which no gate accepts."""
    return Hashes(
        script=script(job, root, payload_digest),
        config=config(job),
        dataset=dataset(job, root),
        environment=environment(),
    )


def config(job: dict[str, Any]) -> str:
    """The digest of what the request says: the same for the same settings, whatever their order."""
    said = {key: value for key, value in job.items() if key not in _NOT_CONFIG}
    # What may be spent decides whether there is a result, not which: a raised cap repeats nothing that is proven.
    said["resources"] = {"gpu": (job.get("resources") or {}).get("gpu")}
    if job.get("is_mapping_found"):
        # Found by the audit from the dataset, which has a digest of its own; no setting that a person made.
        said["dataset"] = {**said["dataset"], "mapping": {}}
    return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def script(job: dict[str, Any], root: Path, payload_digest: str) -> str:
    """The digest of the code that will run: ours as it was sent and, for a reward function, the user's module."""
    named = str(job["dataset"].get("reward") or "").partition(":")[0]
    if not named:
        return payload_digest
    own = root.joinpath(*named.split(".")).with_suffix(".py")
    body = own.read_bytes() if own.is_file() else b""
    return hashlib.sha256(payload_digest.encode() + b"\0" + body).hexdigest()


def dataset(job: dict[str, Any], root: Path) -> str | None:
    """The digest of the dataset's files by name and content; of a hub id, of the id and revision. None: nothing is there."""
    spec = job["dataset"]
    digest = hashlib.sha256()
    for name in (spec["source"], spec.get("eval_source")):
        if name is None:
            continue
        place = root / os.path.expanduser(name)
        if place.exists():
            _add_tree(digest, place)
        elif spec.get("format") == "hub" or (spec.get("format") is None and name.count("/") == 1):
            digest.update(f"hub:{name}@{spec.get('revision') or ''}\0".encode())
        else:
            return None
    return digest.hexdigest()


def tree(place: Path) -> str:
    """The digest of a file, or of a folder's files by name and content."""
    digest = hashlib.sha256()
    _add_tree(digest, place)
    return digest.hexdigest()


def environment() -> str:
    """The digest of the interpreter and of every installed distribution with its version."""
    return _environment_as_it_was(tuple(_changed_at(place) for place in sys.path))


@functools.cache
def _environment_as_it_was(_changed: tuple[int, ...]) -> str:
    """Read once, and again only when something was installed: every gate asks."""
    names = sorted({f"{each.name}=={each.version}" for each in metadata.distributions()}, key=str.lower)
    said = [sys.version, platform.machine(), *names]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()


def _changed_at(place: str) -> int:
    """When names in this folder changed last: an installation adds or removes a folder of metadata there."""
    try:
        return os.stat(place or ".").st_mtime_ns
    except OSError:
        return 0


def versions(names: Iterable[str]) -> dict[str, str | None]:
    """The installed version of each distribution, None where it is missing."""
    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def _add_tree(digest: Any, place: Path) -> None:
    files = sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]
    for path in files:
        name = str(path.relative_to(place)) if place.is_dir() else ""
        digest.update(f"{name}\0{_file(path)}\0".encode("utf-8", "surrogateescape"))


def _file(path: Path) -> str:
    """The digest of a file; read again only when its size or time is another, for gates ask before every stage."""
    facts = path.stat()
    return _file_as_it_was(path, facts.st_size, facts.st_mtime_ns, facts.st_ino)


@functools.cache
def _file_as_it_was(path: Path, _size: int, _time_ns: int, _inode: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
