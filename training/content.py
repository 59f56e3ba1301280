"""What a stage looked at, by digest: script, config, dataset, model and environment (S7-R18). No torch here: it is asked often."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from manifests.evidence import Hashes

# Longer than a tick of any file system's clock.
_SETTLED_NS = 2_000_000_000
# What of a job is not its config: who asks, when, from which commit, and how often it may be tried.
_NOT_CONFIG = frozenset(
    {"run_id", "root", "commit", "who", "manifest", "task", "references", "until", "resume", "is_mapping_found"}
)


def hashes(job: dict[str, Any], root: Path, payload_digest: str, modules: Iterable[str] = ()) -> Hashes:
    """The digests of all contents as they are now; a content that cannot be read has none, which no gate accepts.

    `modules` are the repository's own source files that a trial was seen to import.
    """
    return Hashes(
        script=script(job, root, payload_digest, modules),
        config=config(job),
        dataset=dataset(job, root),
        model=model(job, root),
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


def script(job: dict[str, Any], root: Path, payload_digest: str, modules: Iterable[str] = ()) -> str:
    """The digest of the code that will run: ours as it was sent and, for a reward function, the user's own.

    The user's is the module that is named (a file, or a package's `__init__`) and `modules`, what a trial imported beside it.
    """
    named = str(job["dataset"].get("reward") or "").partition(":")[0]
    if not named:
        return payload_digest
    place = root.joinpath(*named.split("."))
    files = {root / each for each in modules} | {place.with_suffix(".py"), place / "__init__.py"}
    digest = hashlib.sha256(payload_digest.encode())
    for each in sorted(files):
        digest.update(
            f"\0{each.relative_to(root)}\0{_file(each) if each.is_file() else ''}".encode("utf-8", "surrogateescape")
        )
    return digest.hexdigest()


def imported(root: Path) -> list[str]:
    """The source files of the repository at `root` that this process has imported, by their path in it; no installed ones."""
    outside = {os.path.realpath(each) for each in (sys.prefix, sys.base_prefix)}
    found: set[str] = set()
    for module in list(sys.modules.values()):
        path = os.path.realpath(str(getattr(module, "__file__", None) or ""))
        if not path.startswith(f"{os.path.realpath(root)}{os.sep}") or f"{os.sep}site-packages{os.sep}" in path:
            continue
        if not any(path.startswith(f"{each}{os.sep}") for each in outside):
            found.add(os.path.relpath(path, os.path.realpath(root)))
    return sorted(found)


def model(job: dict[str, Any], root: Path) -> str | None:
    """The digest of model and tokenizer, chat template and all: of their files, or of the commit that a hub id resolves to here.

    None: a path that names nothing. A hub id that was never fetched to this host counts by its name and revision.
    """
    spec = job["model"]
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True, separators=(",", ":")).encode())
    for name in (spec.get("id"), spec.get("tokenizer")):
        if not name:
            continue
        place = root / os.path.expanduser(name)
        digest.update(f"\0{name}\0".encode("utf-8", "surrogateescape"))
        if place.exists():
            _add_tree(digest, place)
        elif name.count("/") <= 1 and not name.startswith((".", "/", "~")):
            digest.update(_hub_commit("models", name, spec.get("revision") or "main").encode())
        else:
            return None
    return digest.hexdigest()


def _hub_commit(kind: str, name: str, revision: str) -> str:
    """The commit that a revision of the hub stands for in this host's cache; the revision itself where it is not there."""
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    cache = os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")
    ref = Path(os.path.expanduser(cache)) / f"{kind}--{name.replace('/', '--')}" / "refs" / revision
    try:
        return ref.read_text(encoding="ascii").strip() or revision
    except (OSError, ValueError):
        return revision


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
    """The digest of the interpreter, of every installed distribution with its version (CUDA's among them), and of the driver."""
    return _environment_as_it_was(tuple(_changed_at(place) for place in sys.path))


@functools.cache
def _environment_as_it_was(_changed: tuple[tuple[int, int], ...]) -> str:
    """Read once, and again only when something was installed: every gate asks."""
    names = sorted({f"{each.name}=={each.version}" for each in metadata.distributions()}, key=str.lower)
    said = [sys.version, platform.machine(), _driver(), *names]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()


def _driver() -> str:
    """What the NVIDIA driver says of itself; empty where there is none."""
    try:
        return Path("/proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _changed_at(place: str) -> tuple[int, int]:
    """When names in this folder changed last: an installation adds or removes a folder of metadata there."""
    try:
        facts = os.stat(place or ".")
    except OSError:
        return 0, 0
    return facts.st_mtime_ns, facts.st_ctime_ns


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
    """The digest of a file; read again unless nothing of it can have changed, for gates ask before every stage.

    The time of its last change of any kind (ctime) cannot be set back as mtime can. A file that changed within the last
    seconds is always read: it may change once more within the same tick of the clock.
    """
    facts = path.stat()
    stamp = (facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino, facts.st_dev)
    if time.time_ns() - max(facts.st_mtime_ns, facts.st_ctime_ns) < _SETTLED_NS:
        return _read(path)
    return _file_as_it_was(path, stamp)


@functools.cache
def _file_as_it_was(path: Path, _stamp: tuple[int, ...]) -> str:
    return _read(path)


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
