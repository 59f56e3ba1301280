"""`hemma edit`: the host's file in the editor here, written back only in place of the file that was opened (S9-R02)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from controller.flows.files import guard_judged, host_path, lane_note
from manifests.commands import word as quoted
from manifests.errors import HemmaError, NeedsPerson, UsageError
from manifests.places import private_dir, state_dir
from remote import files

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
    `say` gets notes before the editor opens.
    """
    command = editor(environ)
    with guard_judged():
        path, is_new = _judged_path(settings, name, may_create=may_create)
    note = lane_note(settings, path)
    if note:
        say(note)
    folder = private_dir(os.path.join(state_dir(), "edits", os.urandom(6).hex()))
    copy = os.path.join(folder, os.path.basename(path))
    is_spent = True
    try:
        digest = _fetch(settings, path, copy, is_new=is_new)
        start = files.digest_of(copy)
        is_spent = False
        code = run_editor(command, copy)
        is_spent = _is_unchanged(copy, start)
        if code != 0:
            raise _editor_failed(code, None if is_spent else copy, path)
        if is_spent:
            return Edited(path, is_changed=False, is_new=False)
        done = _put_back(settings, copy, path, digest)
        is_spent = True
        return Edited(done.path, is_changed=done.is_changed, is_new=done.is_new)
    finally:
        if is_spent:
            shutil.rmtree(folder, ignore_errors=True)


def editor(environ: Mapping[str, str]) -> str:
    """The editor's command line: $VISUAL, else $EDITOR, else vi where there is one. Raises UsageError."""
    command = environ.get("VISUAL") or environ.get("EDITOR") or shutil.which("vi")
    if not command:
        raise UsageError("no editor is set", remedy="export EDITOR=nano")
    return command


def run_editor(command: str, path: str) -> int:
    """Run the editor on the file, as git does: `command` is shell text, the file one argument. Returns its exit code."""
    argv = ["sh", "-c", f'{command} "$@"', command, path] if os.name == "posix" else [command, path]
    try:
        child = subprocess.Popen(argv)
    except OSError as error:
        raise UsageError(f"the editor cannot be started: {error}", remedy="export EDITOR=nano") from error
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the editor's
    try:
        return child.wait()
    finally:
        signal.signal(signal.SIGINT, before)


def _judged_path(settings: dict[str, Any], name: str, *, may_create: bool) -> tuple[str, bool]:
    path = host_path(settings, name)
    place = files.look(settings["host"], path)
    if place.kind == "folder" or path.endswith("/"):
        raise UsageError(f"{name} is a folder", remedy="name a file in it")
    if place.kind == "other":
        raise UsageError(f"{name} is no ordinary file on the host", remedy="name another one")
    if place.kind == "missing" and not may_create:
        raise HemmaError(
            f"{name} does not exist on the host", remedy=f"hemma edit --create {quoted(name)}", code="file-missing"
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
    kept = f"what was saved is kept: hemma put {quoted(copy)} {quoted(path)}" if copy else "try again"
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
        again = f"hemma put {quoted(copy)} {quoted(path)}"
        if error.code == "changed-meanwhile":
            raise NeedsPerson(
                f"{path} {'was made' if is_new else 'has changed'} on the host meanwhile: nothing was written, "
                f"your text is kept in {copy}",
                remedy=f"hemma run -- cat {quoted(path)} | diff - {quoted(copy)}   (yours instead: {again})",
                code=error.code,
            ) from error
        raise HemmaError(
            f"{error.message}; your text is kept in {copy}",
            remedy=f"{error.remedy}; then: {again}" if error.remedy else again,
            exit_code=error.exit_code,
            code=error.code,
        ) from error
