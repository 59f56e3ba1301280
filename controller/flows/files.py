"""Files to and from the host's clone: which path is meant, to whom it belongs, and the transfers (S9-R02, S9-R03)."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from controller.flows import run as run_flow
from manifests.commands import command
from manifests.errors import UsageError
from manifests.places import private_dir, state_dir
from remote import files
from remote.agent.frames import text_of
from remote.agent.gitfacts import toplevel
from remote.session import HostRefused

# (name, bytes so far, bytes in all)
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Moved:
    """One file that was put or got: `path` on the host (from the root), `local` here; `kept`: where the former one is."""

    path: str
    local: str
    size: int
    digest: str
    is_new: bool
    is_changed: bool
    kept: str | None
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The transfer as agents read it under --json; bytes outside UTF-8 are surrogate escapes."""
        return {**dataclasses.asdict(self), "local": text_of(os.fsencode(self.local))}


def host_path(settings: dict[str, Any], name: str) -> str:
    """The path on the host that `name` means: in a local clone the same file there, elsewhere as given (from the root).

    A slash at its end stays; an absolute path outside the clone is one on the host.
    """
    base = _local_root(settings)
    here = os.path.realpath(os.getcwd())
    if base is None or not _is_inside(here, base):
        return name
    path = os.path.normpath(os.path.join(here, name))
    if os.path.isabs(name) and not _is_inside(path, base):
        return name
    found = os.path.relpath(path, base)
    return found + "/" if name.endswith("/") and found != "." else found


def lane_note(settings: dict[str, Any], path: str) -> str:
    """What to say when the host's `path` is one whose edits belong to the local lane; empty otherwise."""
    from lanes.classification import classify_path
    from lanes.rules import rules_from

    base, project = _local_root(settings), settings.get("project_root")
    name = os.path.relpath(os.path.join(base, path), os.path.realpath(project)) if base and project else path
    decision = classify_path(name, rules_from(settings["lanes"]))
    if decision.owner != "local":
        return ""
    return f"{path} belongs to the local lane (rule {decision.rule}): edit and commit it here, then `hemma sync`"


def put(
    settings: dict[str, Any], locals_: Sequence[str], remote: str | None, *, parents: bool, progress: Progress
) -> list[Moved]:
    """Put local files on the host: into the folder, or as the file `remote`; None is the same place as in the local clone.

    What differs there is replaced and kept aside on the host. All names are looked at before the first byte is sent.
    Raises UsageError, HemmaError.
    """
    for local in locals_:
        _refuse_unless_file(local)
    spec = settings["host"]
    moved: list[Moved] = []
    with guard_judged():
        pairs = _targets(settings, locals_, remote)
        for local, path in pairs:
            may_make = parents or remote is None
            done = _put_one(spec, local, path, may_make, _named(progress, local))
            moved.append(_moved(done, local, lane_note(settings, done.path)))
    return moved


def get(settings: dict[str, Any], remotes: Sequence[str], local: str | None, *, progress: Progress) -> list[Moved]:
    """Bring the host's files here: into the folder, or as the file `local`; None is the same place in the local clone.

    A local file that differs is replaced and kept aside. Raises UsageError, HemmaError.
    """
    spec = settings["host"]
    is_folder = local is not None and (os.path.isdir(local) or local.endswith(os.sep))
    if len(remotes) > 1 and not is_folder:
        raise UsageError(
            f"{local} is no folder, and several files cannot become one", remedy=command("mkdir {}", str(local))
        )
    moved: list[Moved] = []
    with guard_judged():
        for remote in remotes:
            path = host_path(settings, remote)
            target = _local_target(settings, path, local, is_folder=is_folder)
            _refuse_way_out(target, _local_root(settings), local if is_folder else None)
            aside = private_dir(os.path.join(state_dir(), "replaced"))
            done = files.get(spec, path, target, keep_in=aside, progress=_named(progress, remote))
            moved.append(_moved(done, target))
    return moved


@contextmanager
def guard_judged() -> Generator[None]:
    """Within this, a refusal that carries the guard's facts becomes the guard's own error (66, 67, 68)."""
    try:
        yield
    except HostRefused as refused:
        raise run_flow.judged(refused) from None


# --- which file ------------------------------------------------------------------------------------------------------


def _local_root(settings: dict[str, Any]) -> str | None:
    """The top of the local clone that these settings are about, or None outside of one."""
    return toplevel(settings.get("project_root") or os.getcwd())


def _is_inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _refuse_unless_file(local: str) -> None:
    if os.path.isdir(local):
        raise UsageError(
            f"{local} is a folder", remedy=command("name its files, or: tar -cf - {} | hemma run -- tar -xf -", local)
        )
    if not os.path.exists(local):
        raise UsageError(f"{local} does not exist here", remedy="name a local file")


def _targets(settings: dict[str, Any], locals_: Sequence[str], remote: str | None) -> list[tuple[str, str]]:
    """(local file, path on the host) for each."""
    if remote is None:
        return [(local, _same_place(settings, local)) for local in locals_]
    path = host_path(settings, remote)
    is_folder = path.endswith("/") or files.look(settings["host"], path).kind == "folder"
    if len(locals_) > 1 and not is_folder:
        raise UsageError(
            f"{remote} is no folder on the host, and several files cannot become one",
            remedy=command("hemma put --parents FILES... {}/", remote),
        )
    return [
        (each, os.path.join(path, os.path.basename(os.path.abspath(each))) if is_folder else path) for each in locals_
    ]


def _same_place(settings: dict[str, Any], local: str) -> str:
    base = _local_root(settings)
    path = os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(local))), os.path.basename(local))
    if base is None or not _is_inside(path, base):
        raise UsageError(
            f"{local} is in no local clone, so its place on the host is unknown",
            remedy=command("hemma put {} PATH", local),
        )
    return os.path.relpath(path, base)


def _local_target(settings: dict[str, Any], path: str, local: str | None, *, is_folder: bool) -> str:
    if local is None:
        base = _local_root(settings)
        if base is None or os.path.isabs(path):
            raise UsageError("outside a local clone the local place must be named", remedy="hemma get PATH LOCAL")
        return os.path.join(base, path)
    return os.path.join(local, os.path.basename(path.rstrip("/"))) if is_folder else local


def _refuse_way_out(target: str, clone: str | None, folder: str | None) -> None:
    """Refuse a place that a link moves out of the clone, or out of the folder that was named, it seems to lie in.

    A file system knows no such borders: what a link in a checkout leads to is written through it. A place outside that was
    named as it is, the folder too, is what was asked for.
    """
    seeming = os.path.normpath(os.path.join(os.getcwd(), target))
    real = os.path.realpath(target)
    for border in (clone, os.path.normpath(os.path.join(os.getcwd(), folder)) if folder is not None else None):
        if border is None or not _is_inside(seeming, border):
            continue
        if not _is_inside(real, os.path.realpath(border)):
            raise UsageError(
                f"{target} leads through a link to {real}, out of {border}: nothing was written",
                remedy=command("hemma get PATH {}", real),
                code="outside-root",
            )


# --- transfers -------------------------------------------------------------------------------------------------------


def _put_one(
    spec: dict[str, Any], local: str, path: str, may_make: bool, progress: files.Progress
) -> files.Transferred:
    """Send one file, unless a big one is there already byte for byte."""
    size = os.stat(local).st_size
    if size > files.PART_BYTES:
        there = files.look(spec, path)
        there = files.look(spec, path, with_digest=True) if there.size == size else there
        if there.digest is not None and there.digest == files.digest_of(local):
            return files.Transferred(there.path, size, there.digest, is_changed=False)
    return files.put(spec, local, path, parents=may_make, keep=True, progress=progress)


def _moved(done: files.Transferred, local: str, note: str = "") -> Moved:
    return Moved(local=local, note=note, **dataclasses.asdict(done))


def _named(progress: Progress, name: str) -> files.Progress:
    return lambda done, size: progress(name, done, size)


def no_progress(_name: str, _done: int, _size: int) -> None:
    """For transfers that nobody watches."""
