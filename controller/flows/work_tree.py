"""What git says about the work tree in which we stand: its top folder and what is changed. Reads only, locks nothing."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

from lanes.lane_steps import State
from manifests import commands
from manifests.errors import HemmaError, NotARepository, UsageError
from remote.agent import gitcall

_CONFLICTS = ("DD", "AU", "UD", "UA", "DU", "AA", "UU")


@dataclass(frozen=True)
class ChangedFile:
    """One changed file: its path from the top of the work tree, git's two letters for it, and what they come to.

    Bytes outside UTF-8 are surrogate escapes. A nested repository that git does not track ends with a slash.
    """

    path: str
    letters: str
    state: State


def top(folder: str) -> str:
    """The top folder of the work tree around `folder`. Raises NotARepository when there is none."""
    return os.fsdecode(_git(folder, "rev-parse", "--show-toplevel").removesuffix(b"\n"))


def changed(folder: str) -> list[ChangedFile]:
    """Every changed, untracked or conflicted file of the work tree whose top is `folder`; ignored ones are left out.

    A rename comes as both its names: they may belong to different lanes. A branch without a commit is no error.
    """
    asked = ("status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames")
    return parse_status(_git(folder, *asked))


def changed_since(folder: str, revision: str) -> list[str]:
    """Paths that differ between `revision` (or A..B) and the work tree (or each other); both names of a rename.

    Untracked files are in no revision and do not count. Raises UsageError for a revision that git does not know.
    """
    asked = ("diff", "--no-renames", "--name-only", "-z", "--end-of-options", revision, "--")
    try:
        raw = _git(folder, *asked)
    except HemmaError as error:
        raise UsageError(
            f"git knows no revision {revision!r}: {error.message}", remedy="git log --oneline --all   (or: hemma where)"
        ) from error
    return [os.fsdecode(name) for name in raw.split(b"\0") if name]


def parse_status(raw: bytes) -> list[ChangedFile]:
    """What `git status --porcelain=v1 -z --no-renames` printed, one entry per path, sorted by path."""
    found: dict[str, ChangedFile] = {}
    for entry in raw.split(b"\0"):
        letters, path = os.fsdecode(entry[:2]), os.fsdecode(entry[3:])
        if path:
            # A file taken out of the index and still there comes twice, last as untracked: that is what it is.
            found[path] = ChangedFile(path, letters, _state(letters))
    return sorted(found.values(), key=lambda each: each.path)


def _state(letters: str) -> State:
    if letters == "??":
        return "untracked"
    if letters in _CONFLICTS:
        return "conflicted"
    if letters == "AD":
        return "gone"
    if "D" in letters:
        return "removed" if letters == "D " else "deleted"
    return "added" if "A" in letters else "changed"


def _git(folder: str, *arguments: str) -> bytes:
    # Git's words are read below, hence English; no lock: somebody else may be at work in this tree.
    environ = {**os.environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    command = gitcall.argv("-C", folder, *arguments)
    try:
        done = subprocess.run(command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise HemmaError("git is not installed here", remedy="sudo apt-get install git", code="git-missing") from error
    if done.returncode == 0:
        return done.stdout
    said = done.stderr.decode("utf-8", "backslashreplace")
    fatal = next((line for line in said.splitlines() if line.startswith("fatal: ")), said.strip() or "git failed")
    text = fatal.removeprefix("fatal: ")
    if text.startswith("not a git repository"):
        raise NotARepository(f"{folder} is not in a git repository", remedy="cd into your clone   (or: git init)")
    if "must be run in a work tree" in text:
        raise NotARepository(
            f"{folder} is in a git repository without a work tree", remedy="cd into a clone that has one"
        )
    raise HemmaError(
        f"git {arguments[0]}: {text}", remedy=commands.command("git -C {} {}", folder, arguments[0]), code="git-failed"
    )
