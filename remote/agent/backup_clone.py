"""The clone that a backup is of: where its parts lie, and git calls that meet nothing of the user's.

No hook, alias, monitor, clean filter or editor runs, the caller's GIT_* say nothing, and a look takes no lock: a backup is
made beside whatever else works in the clone. Paths of files are bytes here, as the kernel has them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import Iterable, NamedTuple

from . import git_shim, gitfacts, store

FLAGS = (
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.quotePath=false",
    "-c",
    "core.splitIndex=false",
    "-c",
    "log.showSignature=false",
    "-c",
    "submodule.recurse=false",
    "-c",
    "gc.auto=0",
    "-c",
    "maintenance.auto=false",
)
FOLDER = b"hemma"
_AT_ONCE = 1 << 16
_FILTER = re.compile(rb"^filter\.(.*)\.(?:clean|smudge|process)$", re.DOTALL)


class Stat(NamedTuple):
    """What tells a changed file from an unchanged one, as git itself has it."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    mode: int


def stat_of(path: bytes) -> Stat | None:
    """What `lstat` says, or None when there is nothing."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return Stat(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_mode)


class Clone:
    """One work tree with its git directory and the one it shares with its siblings."""

    def __init__(self, root: bytes, git_dir: bytes, common_dir: bytes) -> None:
        self.root = root
        self.git_dir = git_dir
        self.common_dir = common_dir
        self.filters: list[str] = []

    @classmethod
    def at(cls, root: str) -> Clone | None:
        """The clone whose work tree holds the folder `root`, or None."""
        top = gitfacts.toplevel(root)
        git_dir = gitfacts.git_dir(top) if top else None
        if top is None or git_dir is None:
            return None
        common = read_bytes(os.path.join(os.fsencode(git_dir), b"commondir")).strip()
        own = os.path.realpath(os.fsencode(git_dir))
        return cls(os.fsencode(top), own, os.path.realpath(os.path.join(own, common)) if common else own)

    def place(self, path: bytes) -> bytes:
        """Where a file of the work tree lies."""
        return self.root + b"/" + path  # os.path.join takes longer than lstat

    def own(self, *names: bytes) -> bytes:
        """A place of Hemma's own in this work tree's git directory."""
        return os.path.join(self.git_dir, FOLDER, *names)

    def shared(self, *names: bytes) -> bytes:
        """A place of Hemma's own in the git directory that all work trees of the clone share."""
        return os.path.join(self.common_dir, FOLDER, *names)

    def ask(self, *argv: str | bytes) -> Question:
        """Start git with these arguments, to be heard later. Its words about an error are only known then."""
        return Question(self, argv)

    def start(
        self,
        *argv: str | bytes,
        index: bytes | None = None,
        stdin: int = subprocess.DEVNULL,
        runs_filters: bool = False,
    ) -> subprocess.Popen[bytes]:
        """Start git with these arguments in the work tree; with `index` it works on that file instead of the index."""
        environment = quiet_environment([] if runs_filters else self.filters)
        if index is not None:
            environment[b"GIT_INDEX_FILE"] = index
        # Without a folder to change to and files to close Python starts a program the quick way; its own files close themselves.
        return subprocess.Popen(
            [program(), "-C", self.root, *FLAGS, *argv],
            env=environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            close_fds=False,
        )

    def run(
        self, *argv: str | bytes, given: bytes | None = None, index: bytes | None = None, runs_filters: bool = False
    ) -> bytes:
        """What git printed. Raises store.Refused with its words when it failed."""
        stdin = subprocess.DEVNULL if given is None else subprocess.PIPE
        return finish(self.start(*argv, index=index, stdin=stdin, runs_filters=runs_filters), given)

    def try_run(
        self, *argv: str | bytes, given: bytes | None = None, index: bytes | None = None, runs_filters: bool = False
    ) -> bytes | None:
        """What git printed, or None when it failed."""
        try:
            return self.run(*argv, given=given, index=index, runs_filters=runs_filters)
        except store.Refused:
            return None


class Question:
    """A git command that only looks and works beside us: started with less ado than subprocess makes of it."""

    def __init__(self, clone: Clone, argv: tuple[str | bytes, ...]) -> None:
        self.clone = clone
        self.argv = argv
        self.handle, theirs = os.pipe()
        try:
            self.pid = os.posix_spawn(
                program(),
                ["git", "-C", clone.root, *FLAGS, *argv],
                quiet_environment(clone.filters),
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, theirs, 1),
                    (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
                ],
            )
        except OSError:
            os.close(self.handle)
            raise
        finally:
            os.close(theirs)
        # It was born on this processor; without this it waits there until we wait.
        getattr(os, "sched_yield", int)()

    def answer(self) -> bytes:
        """Wait for git and return what it printed; where it failed it is asked once more. Raises store.Refused with its words."""
        with open(self.handle, "rb", buffering=0, closefd=False) as file:
            said = file.readall()
        return self.clone.run(*self.argv) if self.end() else said

    def end(self) -> int:
        """Hear no more of it; returns what waitpid says of its end, 0 from the second time on."""
        if self.handle < 0:
            return 0
        os.close(self.handle)
        self.handle = -1
        try:
            return os.waitpid(self.pid, 0)[1]
        except ChildProcessError:  # somebody who waits for all children was quicker
            return 1


def finish(process: subprocess.Popen[bytes], given: bytes | None = None) -> bytes:
    """Wait for git and return what it printed. Raises store.Refused with its words when it failed."""
    out, err = process.communicate(given)
    if process.returncode:
        raise failure(process, err)
    return out


def failure(process: subprocess.Popen[bytes], err: bytes) -> store.Refused:
    """The refusal that says which git command failed, and its last word about why."""
    words = [os.fsdecode(word) for word in (process.args if isinstance(process.args, list) else [])]
    at = 1
    while words[at : at + 1] in (["-c"], ["-C"]):
        at += 2
    lines = err.decode("utf-8", "replace").strip().splitlines()
    said = lines[-1] if lines else "it ended with %d" % process.returncode
    return store.Refused("git-failed", "git %s: %s" % (" ".join(words[at : at + 1]), said), "git status")


_program: list[str] = []


def program() -> str:
    """The real git: the first on PATH that is no guard of ours."""
    if not _program:
        found = shutil.which("git", path=git_shim.without(os.environ.get("PATH", os.defpath)))
        if found is None:
            raise store.Refused("no-git", "there is no git on PATH", "install git")
        _program.append(found)
    return _program[0]


def quiet_environment(filters: Iterable[str] = ()) -> dict[bytes, bytes]:
    """The environment of our git calls; the clean filters named are switched off, for a look must run nobody's program."""
    kept = {name: value for name, value in os.environb.items() if not name.startswith(b"GIT_")}
    settings = [
        ("filter.%s.%s" % (name, key), value)
        for name in filters
        for key, value in (("clean", ""), ("smudge", ""), ("process", ""), ("required", "false"))
    ]
    kept.update(
        {
            b"GIT_TERMINAL_PROMPT": b"0",
            b"GIT_OPTIONAL_LOCKS": b"0",
            b"GIT_NO_LAZY_FETCH": b"1",
            b"GIT_EDITOR": b"true",
            b"GIT_AUTHOR_NAME": b"hemma",
            b"GIT_AUTHOR_EMAIL": b"hemma@localhost",
            b"GIT_COMMITTER_NAME": b"hemma",
            b"GIT_COMMITTER_EMAIL": b"hemma@localhost",
            b"LC_ALL": b"C",
            b"GIT_CONFIG_COUNT": b"%d" % len(settings),
        }
    )
    for number, (key, value) in enumerate(settings):
        kept[b"GIT_CONFIG_KEY_%d" % number] = os.fsencode(key)
        kept[b"GIT_CONFIG_VALUE_%d" % number] = value.encode()
    return kept


def filters_in(listing: bytes) -> list[str]:
    """The filter drivers in what `git config --list -z` printed."""
    keys = (entry.partition(b"\n")[0] for entry in listing.split(b"\0"))
    return sorted({os.fsdecode(match.group(1)) for match in map(_FILTER.match, keys) if match})


def read_bytes(path: bytes, most: int = 16 << 20) -> bytes:
    """The first `most` bytes of a plain file, or none when it cannot be read."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        first = os.read(handle, min(most, _AT_ONCE))
        if len(first) < _AT_ONCE:
            return first  # a little file, as most are: half the time that `open` takes
        with open(handle, "rb", closefd=False) as file:
            return first + file.read(most - len(first))
    except OSError:  # a folder
        return b""
    finally:
        os.close(handle)


def replace_file(path: bytes, content: bytes, mode: int = 0o600) -> None:
    """Put `content` in place by one rename; a folder that is made for it is private. Raises OSError."""
    store.make_private(os.fsdecode(os.path.dirname(path)))
    staged = b"%s.%d.new" % (path, os.getpid())
    handle = os.open(staged, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    os.replace(staged, path)
