"""The judge of git commands against git itself: whatever it allows, run for real, loses nothing.

Options come from git's own help pages, so a git that learns a new one is asked about it too.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lanes.git_safety import judge

COMMANDS = (
    *(
        "add",
        "am",
        "apply",
        "bisect",
        "branch",
        "bundle",
        "checkout",
        "checkout-index",
        "cherry-pick",
        "clean",
        "commit",
    ),
    *("config", "fetch", "gc", "merge", "mv", "notes", "prune", "pull", "push", "read-tree", "rebase", "reflog"),
    *("remote", "repack", "replace", "reset", "restore", "revert", "rm", "sparse-checkout", "stash", "switch"),
    *("symbolic-ref", "tag", "update-index", "update-ref", "worktree"),
)
OPERANDS = (
    *(
        "main",
        "topic",
        "merged",
        "HEAD",
        "HEAD~1",
        "ORIG_HEAD",
        "origin",
        "origin/main",
        "v1",
        "stash@{0}",
        "new",
        "@{-1}",
    ),
    *(
        "a.py",
        "b.py",
        "s.py",
        "u.txt",
        ".",
        "..",
        "src",
        "../linked",
        "--",
        "--end-of-options",
        "-",
        "x",
        "now",
        "HEAD@{1}",
    ),
    *("refs/heads/topic", "refs/heads/main", "main:topic", "topic:main", "+topic:main", ":topic", "+HEAD:topic", ":"),
    *("refs/heads/*:refs/heads/*", "+refs/heads/*:refs/heads/*", "drop", "clear", "pop", "push", "apply", "expire"),
    *(
        "delete",
        "add",
        "remove",
        "prune",
        "set",
        "run",
        "start",
        "update",
        "move",
        "list",
        "pull.rebase",
        "true",
        "all",
    ),
)
PRECIOUS = {
    "a.py": "an edit that nobody committed\n",
    "s.py": "a new file that is only staged\n",
    "u.txt": "a file that git does not know\n",
    "src/c.py": "an edit in a folder\n",
}
STASHED = "an edit that lies in the stash\n"


def run(folder: Path, *argv: str, check: bool = True, stdin: str = "") -> str:
    """Run git without editor, pager or questions; returns its stdout."""
    quiet = {"GIT_EDITOR": "true", "GIT_SEQUENCE_EDITOR": "true", "GIT_PAGER": "cat", "GIT_MERGE_AUTOEDIT": "no"}
    options = ["-c", "gc.autoDetach=false", "-c", "maintenance.auto=false"]
    done = subprocess.run(
        ["git", *options, *argv],
        cwd=folder,
        env={**os.environ, **quiet},
        input=stdin.encode(),
        capture_output=True,
        check=check,
        timeout=60,
    )
    return done.stdout.decode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class World:
    """A clone with everything that can be lost, its origin, and a second work tree."""

    folder: Path

    @property
    def clone(self) -> Path:
        """The work tree in which commands run."""
        return self.folder / "clone"

    def lost(self) -> list[str]:
        """The precious texts that no file, no index and no object behind a ref, HEAD or stash entry holds any more."""
        stashes = run(self.clone, "log", "-g", "--format=%H", "refs/stash", "--", check=False).split()
        listed = run(self.clone, "rev-list", "--objects", "--all", "HEAD", *stashes, check=False)
        staged = run(self.clone, "ls-files", "-s")
        names = [line.split()[0] for line in listed.splitlines()] + [line.split()[1] for line in staged.splitlines()]
        held = run(self.clone, "cat-file", "--batch", "--buffer", stdin="\n".join(names) + "\n")
        held += "".join(path.read_text("utf-8", "replace") for path in self._files())
        return [text for text in (*PRECIOUS.values(), STASHED) if text not in held]

    def _files(self) -> Iterator[Path]:
        for top in (self.clone, self.folder / "linked"):
            yield from (path for path in top.rglob("*") if path.is_file() and ".git" not in path.parts)

    def commits(self) -> set[str]:
        """Every commit that a ref or a HEAD leads to, in the clone."""
        heads = re.findall(r"^HEAD ([0-9a-f]+)", run(self.clone, "worktree", "list", "--porcelain"), re.MULTILINE)
        return set(run(self.clone, "rev-list", "--exclude=refs/stash", "--all", *heads, check=False).split())

    def origin_refs(self) -> dict[str, str]:
        """The refs of origin."""
        lines = run(self.folder / "origin.git", "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        return {name: commit for name, _, commit in (line.partition(" ") for line in lines)}


def commit(folder: Path, name: str, text: str) -> None:
    """Write a file and commit it."""
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    run(folder, "add", name)
    run(folder, "commit", "-qm", f"{name}: {text.strip()}")


@functools.cache
def template(folder: Path) -> Path:
    """A world to copy: main is ahead of origin and behind it, topic is in no other branch, work lies everywhere."""
    made = folder / "template"
    made.mkdir()
    run(made, "init", "-q", "--bare", "origin.git")
    run(made, "clone", "-q", "origin.git", "clone")
    clone = made / "clone"
    run(clone, "config", "remote.origin.url", "../origin.git")
    for name in ("a.py", "b.py", "src/c.py"):
        commit(clone, name, "first\n")
    run(clone, "push", "-qu", "origin", "main")
    run(clone, "branch", "merged")
    run(clone, "tag", "-am", "one", "v1")
    run(clone, "switch", "-qc", "theirs")
    commit(clone, "d.py", "theirs\n")
    run(clone, "push", "-q", "origin", "theirs:main", "theirs:shared")
    run(clone, "switch", "-qc", "topic", "main")
    commit(clone, "t.py", "only in topic\n")
    run(clone, "switch", "-q", "main")
    run(clone, "branch", "-qD", "theirs")
    commit(clone, "b.py", "second\n")
    (clone / "b.py").write_text(STASHED)
    run(clone, "stash", "push", "-q")
    run(clone, "worktree", "add", "-q", "--detach", "../linked", "topic")
    commit(made / "linked", "l.py", "on a detached HEAD\n")
    for name, text in PRECIOUS.items():
        (clone / name).write_text(text)
    run(clone, "add", "s.py")
    return made


def options_of(command: str) -> list[str]:
    """Every option that git's help names for a command, and the abbreviations of the dangerous kind."""
    text = subprocess.run(["git", command, "-h"], capture_output=True, text=True, check=False, timeout=60)
    told = text.stdout + text.stderr
    longs = set(re.findall(r"(--[a-z][a-z-]+)", told))
    shorts = set(re.findall(r"(?<![\w-])(-[A-Za-z0-9])(?![\w-])", told))
    return sorted({"-q"} | longs | shorts | {name[: (len(name) + 4) // 2] for name in longs})


@functools.cache
def command_lines() -> st.SearchStrategy[list[str]]:
    """Strategy: a command, options from its help page (alone, or with a value), and operands, in any order."""
    operands = st.sampled_from(OPERANDS)

    def words(command: str) -> st.SearchStrategy[list[str]]:
        options = st.sampled_from(options_of(command))
        word = operands | options | st.builds("{}={}".format, options, operands) | st.just("-mx")
        return st.lists(word, max_size=5).map(lambda found: [command, *found])

    return st.sampled_from(COMMANDS).flatmap(words)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all worlds of this module."""
    return tmp_path_factory.mktemp("worlds")


@pytest.mark.req("S9-R08")
@settings(max_examples=60)  # each one copies a repository and runs git in it
@given(data=st.data())
def test_an_allowed_command_loses_no_work_and_no_commit(folder: Path, data: st.DataObject) -> None:
    argv = data.draw(command_lines())
    assume(judge(argv).allowed)
    world = World(folder / "world")
    shutil.copytree(template(folder), world.folder, symlinks=True)
    try:
        run(world.clone, "worktree", "repair", "../linked")
        commits, origin = world.commits(), world.origin_refs()
        run(world.clone, *argv, check=False)
        assert not world.lost(), argv
        # A remote-tracking ref is origin's: what only it led to is still there.
        assert commits - world.commits() <= set(run(world.folder / "origin.git", "rev-list", "--all").split()), argv
        for name, commit_id in world.origin_refs().items():
            if name in origin:
                run(world.folder / "origin.git", "merge-base", "--is-ancestor", origin[name], commit_id)
        assert origin.keys() <= world.origin_refs().keys(), argv
    finally:
        shutil.rmtree(world.folder)


@pytest.mark.parametrize(
    "argv",
    [
        ["reset", "--har"],
        ["checkout", "--forc", "topic"],
        ["checkout", "a.py"],
        ["clean", "-f", "-e", "-n"],
        ["clean", "-f", "--excl", "-n"],
        ["stash", "drop", "-q"],
        ["restore", "-sHEAD", "a.py"],
    ],
    ids=" ".join,
)
def test_the_watch_sees_a_loss(folder: Path, argv: list[str]) -> None:
    """The check of the test above, on commands that are refused."""
    assert not judge(argv).allowed
    world = World(folder / "seen")
    shutil.copytree(template(folder), world.folder, symlinks=True)
    try:
        run(world.clone, *argv, check=False)
        assert world.lost()
    finally:
        shutil.rmtree(world.folder)
