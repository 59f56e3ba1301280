"""What the guard and the run record need to know of a git work tree, read from its files without starting git.

Only a repository whose refs are no files (reftable) has git asked for its HEAD.
"""

from __future__ import annotations

import os
from typing import Iterator

# What stands in HEAD where refs are no files (reftable, git >= 2.45): git has to be asked.
_NO_FILE = "ref: refs/heads/.invalid"


def toplevel(path: str) -> str | None:
    """The nearest folder at or above `path` that holds a git work tree, or None."""
    here = os.path.realpath(path)
    while True:
        if git_dir(here):
            return here
        above = os.path.dirname(here)
        if above == here:
            return None
        here = above


def git_dir(folder: str) -> str | None:
    """The git directory of the work tree rooted at `folder` (a linked work tree's `.git` file is followed), or None."""
    dot_git = os.path.join(folder, ".git")
    if os.path.isfile(dot_git):
        line = _line(dot_git)
        if not line.startswith("gitdir: "):
            return None
        dot_git = os.path.join(folder, line[len("gitdir: ") :])
    return dot_git if os.path.isfile(os.path.join(dot_git, "HEAD")) else None


def head(folder: str) -> tuple[str | None, str | None]:
    """(commit, branch) checked out in the work tree rooted at `folder`; None where there is none yet or HEAD is detached."""
    directory = git_dir(folder)
    if directory is None:
        return None, None
    line = _line(os.path.join(directory, "HEAD"))
    if not line.startswith("ref: "):
        return (line or None), None
    if line == _NO_FILE:
        return _asked(folder)
    ref = line[len("ref: ") :]
    common = _line(os.path.join(directory, "commondir"))
    shared = os.path.normpath(os.path.join(directory, common)) if common else directory
    commit = _line(os.path.join(shared, ref)) or _packed(shared, ref)
    return commit, ref[len("refs/heads/") :] if ref.startswith("refs/heads/") else None


def _asked(folder: str) -> tuple[str | None, str | None]:
    from .gitcall import Repository

    repository = Repository(folder)
    commit = repository.text("rev-parse", "--verify", "--quiet", "HEAD")
    return commit or None, repository.text("symbolic-ref", "--quiet", "--short", "HEAD")


def untracked_at(root: str, path: str, tracked: set[str]) -> Iterator[str]:
    """What would have to go for `path` to be a file: itself, a file where it needs a folder, or what such a folder holds."""
    parts = path.split("/")
    for count in range(1, len(parts)):
        above = "/".join(parts[:count])
        place = os.path.join(root, above)
        if os.path.islink(place) or os.path.isfile(place):
            if above not in tracked:
                yield above
            return
    place = os.path.join(root, path)
    if not os.path.isdir(place) or os.path.islink(place):
        if os.path.lexists(place):
            yield path
        return
    for folder, _, names in os.walk(place):
        inside = [os.path.relpath(os.path.join(folder, name), root) for name in names]
        yield from (name for name in inside if name not in tracked)


def content(path: str) -> bytes:
    """The bytes of a file of the work tree; none where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.readline().strip()
    except OSError:
        return ""


def _packed(shared: str, ref: str) -> str | None:
    try:
        with open(os.path.join(shared, "packed-refs"), encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                fields = line.split()
                if len(fields) == 2 and fields[1] == ref:
                    return fields[0]
    except OSError:
        pass
    return None
