"""The person's editor: which it is, running it, and whether it came back before the person was done with the file."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass

from manifests.commands import command as commands
from manifests.errors import UsageError

# Programs that hand the file to a window and come back at once, and what makes them wait; none: nothing does.
_WAITS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("code", "code-insiders", "codium", "vscodium", "cursor", "windsurf"), ("--wait", "-w")),
    **dict.fromkeys(("subl", "atom", "zed", "mate", "gedit", "gnome-text-editor"), ("--wait", "-w")),
    **dict.fromkeys(("idea", "pycharm", "clion", "goland", "webstorm"), ("--wait",)),
    **dict.fromkeys(("gvim", "mvim"), ("-f", "--nofork")),
    "kate": ("--block", "-b"),
    "open": ("-W", "--wait-apps"),
    **dict.fromkeys(("xdg-open", "gio", "gnome-open", "kde-open"), ()),
}
_COMES_BACK = {"emacsclient": ("-n", "--no-wait")}
# Who has read, judged and left a text within this time has not seen it.
_AT_ONCE_S = 1.0
_MARK = "EDITED_FOR_HEMMA"


@dataclass(frozen=True)
class Ended:
    """How the editor ended. `may_be_open`: it came back so soon, or left a process behind, that the file may still be open."""

    code: int
    may_be_open: bool


def editor(environ: Mapping[str, str]) -> str:
    """The editor's command line: $VISUAL, else $EDITOR, else vi where there is one.

    Raises UsageError where there is none, and for one that is known to come back before the file is saved.
    """
    command = environ.get("VISUAL") or environ.get("EDITOR") or shutil.which("vi")
    if not command:
        raise UsageError("no editor is set", remedy="export EDITOR=nano")
    try:
        program, *options = shlex.split(command) or [""]
    except ValueError:
        return command  # the shell will say what is wrong with it
    name = os.path.basename(program)
    ways = _WAITS.get(name)
    if (ways is not None and not set(ways) & set(options)) or set(_COMES_BACK.get(name, ())) & set(options):
        remedy = commands("export EDITOR={}", f"{name} {ways[0]}") if ways else commands("export EDITOR=nano")
        raise UsageError(f"the editor `{command}` comes back before the file is saved", remedy=remedy)
    return command


def run_editor(command: str, path: str) -> Ended:
    """Run the editor on the file, as git does: `command` is shell text, the file one argument. Raises UsageError."""
    argv = ["sh", "-c", f'{command} "$@"', command, path] if os.name == "posix" else [command, path]
    token, begun = os.urandom(8).hex(), time.monotonic()
    try:
        child = subprocess.Popen(argv, env={**os.environ, _MARK: token})
    except OSError as error:
        raise UsageError(f"the editor cannot be started: {error}", remedy="export EDITOR=nano") from error
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the editor's
    try:
        code = child.wait()
    finally:
        signal.signal(signal.SIGINT, before)
    return Ended(code, time.monotonic() - begun < _AT_ONCE_S or _has_left_behind(token))


def _has_left_behind(token: str) -> bool:
    """Whether a process that the editor started still runs; False where no /proc tells."""
    wanted = f"{_MARK}={token}".encode()
    for entry in os.listdir("/proc") if os.path.isdir("/proc/self") else []:
        try:
            with open(f"/proc/{entry}/environ", "rb") as file:
                if entry.isdigit() and wanted in file.read().split(b"\0"):
                    return True
        except OSError:
            continue
    return False
