"""`hemma edit`: the host's file in the editor here, written back only in place of the file that was opened (S9-R02)."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from controller.flows.editors import editor, run_editor
from controller.flows.files import guard_judged, host_path, lane_note
from manifests.commands import Command, command
from manifests.errors import HemmaError, NeedsPerson, UsageError
from manifests.files import atomic_write
from manifests.places import private_dir, state_dir
from remote import files

# An unchanged copy of which an editor may still hold the only text is kept this long.
KEPT_S = 86400.0
_UNCHANGED = ".unchanged"
# What a new file may at most be open to; the host's umask takes from it.
_NEW_MODE = 0o666


@dataclass(frozen=True)
class Edited:
    """What came of an edit: `path` on the host from its root."""

    path: str
    is_changed: bool
    is_new: bool


def edit(
    settings: dict[str, Any],
    name: str,
    *,
    may_create: bool,
    environ: Mapping[str, str],
    say: Callable[[str], None],
) -> Edited:
    """Open the host's file in the editor and put the result back in one rename; without a change nothing is written.

    The copy lies in Hemma's state folder, 0600, and stays there whenever it could not be written back: NeedsPerson
    (changed-meanwhile) when the host's file is another by then, HemmaError (editor-failed, or what the host said).
    `say` gets notes, before the editor opens and when it may still be open.
    """
    command = editor(environ)
    with guard_judged():
        path, is_new = _judged_path(settings, name, may_create=may_create)
    note = lane_note(settings, path)
    if note:
        say(note)
    edits = private_dir(os.path.join(state_dir(), "edits"))
    _forget_unchanged(edits)
    folder = private_dir(os.path.join(edits, os.urandom(6).hex()))
    copy = os.path.join(folder, os.path.basename(path))
    is_spent = True
    try:
        digest = _fetch(settings, path, copy, is_new=is_new)
        start = files.digest_of(copy)
        is_spent = False
        ended = run_editor(command, copy)
        is_spent = _is_unchanged(copy, start)
        if ended.code != 0:
            raise _editor_failed(ended.code, None if is_spent else copy, path)
        if is_spent:
            if ended.may_be_open and os.path.isfile(copy):
                is_spent = False
                _keep_unchanged(folder, start)
                say(f"the editor came back at once; if it still has the file open: save, then {_again(copy, path)}")
            return Edited(path, is_changed=False, is_new=False)
        done = _put_back(settings, copy, path, digest)
        is_spent = True
        return Edited(done.path, is_changed=done.is_changed, is_new=done.is_new)
    finally:
        if is_spent:
            shutil.rmtree(folder, ignore_errors=True)


def _again(copy: str, path: str) -> Command:
    return command("hemma put {} {}", copy, path)


def _keep_unchanged(folder: str, digest: str) -> None:
    """Leave the copy for an editor that may still have it; the digest beside it tells later that it was never changed."""
    atomic_write(folder + _UNCHANGED, digest.encode("ascii"))


def _forget_unchanged(edits: str) -> None:
    """Remove the copies that `_keep_unchanged` left and that nobody has changed since."""
    for name in os.listdir(edits):
        mark = os.path.join(edits, name)
        if not name.endswith(_UNCHANGED) or time.time() - os.stat(mark).st_mtime < KEPT_S:
            continue
        folder = mark.removesuffix(_UNCHANGED)
        with open(mark, encoding="ascii") as file:
            digest = file.read()
        copies = [os.path.join(folder, each) for each in os.listdir(folder)] if os.path.isdir(folder) else []
        if all(os.path.isfile(each) and files.digest_of(each) == digest for each in copies):
            shutil.rmtree(folder, ignore_errors=True)
        os.unlink(mark)


def _judged_path(settings: dict[str, Any], name: str, *, may_create: bool) -> tuple[str, bool]:
    path = host_path(settings, name)
    place = files.look(settings["host"], path)
    if place.kind == "folder" or path.endswith("/"):
        raise UsageError(f"{name} is a folder", remedy="name a file in it")
    if place.kind == "other":
        raise UsageError(f"{name} is no ordinary file on the host", remedy="name another one")
    if place.kind == "missing" and not may_create:
        raise HemmaError(
            f"{name} does not exist on the host", remedy=command("hemma edit --create {}", name), code="file-missing"
        )
    return place.path, place.kind == "missing"


def _fetch(settings: dict[str, Any], path: str, copy: str, *, is_new: bool) -> str:
    """Make the copy; returns the digest that the host's file must still have when it is written back."""
    if is_new:
        os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        return files.ABSENT
    with guard_judged():
        digest = files.get(settings["host"], path, copy).digest
    os.chmod(copy, 0o600)
    return digest


def _is_unchanged(copy: str, start: str) -> bool:
    # Some editors remove the file when there is nothing to save.
    return not os.path.isfile(copy) or files.digest_of(copy) == start


def _editor_failed(code: int, copy: str | None, path: str) -> HemmaError:
    kept = command("what was saved is kept: {}", _again(copy, path)) if copy else "try again"
    return HemmaError(
        f"the editor ended with exit code {code}: nothing was written to the host", remedy=kept, code="editor-failed"
    )


def _put_back(settings: dict[str, Any], copy: str, path: str, digest: str) -> files.Transferred:
    is_new = digest == files.ABSENT
    try:
        with guard_judged():
            return files.put(
                settings["host"], copy, path, expected_digest=digest, create_mode=_NEW_MODE, parents=is_new
            )
    except HemmaError as error:
        again = _again(copy, path)
        if error.code == "changed-meanwhile":
            raise NeedsPerson(
                f"{path} {'was made' if is_new else 'has changed'} on the host meanwhile: nothing was written, "
                f"your text is kept in {copy}",
                remedy=command("hemma run -- cat {} | diff - {}   (yours instead: {})", path, copy, again),
                code=error.code,
            ) from error
        raise HemmaError(
            f"{error.message}; your text is kept in {copy}",
            remedy=command("{}; then: {}", error.remedy, again) if error.remedy else again,
            exit_code=error.exit_code,
            code=error.code,
        ) from error
