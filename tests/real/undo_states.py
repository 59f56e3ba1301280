"""Random states of a clone, random ways to lose them, and everything that can be observed of one: for the tests of undo."""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.support import RepositoryOnHost

NAMES = ["a.py", "b.py", "dir/c.py", "dir/d.txt", "dir/sub/e.bin", "wide name.txt", "-dash", "ümlaut", "x"]
OPERATIONS = ("rebase-merge", "MERGE_HEAD", "MERGE_MSG", "CHERRY_PICK_HEAD", "REVERT_HEAD")


class Observed(NamedTuple):
    """All of a clone that an undo is to give back."""

    files: dict[str, tuple[int, bytes]]
    entries: str
    marks: str
    refs: dict[str, str]
    head: str
    stash: list[str]
    operation: dict[str, bytes]
    held_by_git: frozenset[str]  # files whose permissions git knows only by the executable bit


def git(root: Path, *arguments: str, check: bool = True) -> str:
    """Run git in the clone; returns its stdout. Never asks, never edits."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=root,
        check=check,
        capture_output=True,
        env={**os.environ, "GIT_EDITOR": "true", "GIT_SEQUENCE_EDITOR": "true"},
    )
    return os.fsdecode(done.stdout)


def observed(root: Path) -> Observed:
    """Files (permissions and bytes, or a link's target), index, refs, HEAD, stashes, and the operation under way."""
    refs = dict(
        line.split(" ", 1)[::-1] for line in git(root, "for-each-ref", "--format=%(objectname) %(refname)").splitlines()
    )
    folder = root / ".git"
    operation = {
        str(path.relative_to(folder)): path.read_bytes()
        for name in OPERATIONS
        for path in ([folder / name] if (folder / name).is_file() else sorted((folder / name).rglob("*")))
        if path.is_file()
    }
    return Observed(
        files_of(root),
        "\0".join(_entries(root)),
        "\0".join(line for line in git(root, "ls-files", "-v", "-z").split("\0") if line[2:] not in _unheld(root)),
        {name: oid for name, oid in refs.items() if not name.startswith("refs/hemma/")},
        (folder / "HEAD").read_text(),
        git(root, "reflog", "show", "--format=%H %gs", "refs/stash", check=False).splitlines()
        if "refs/stash" in refs
        else [],
        operation,
        frozenset(_clean(root)),
    )


def _entries(root: Path) -> list[str]:
    return [
        line for line in git(root, "ls-files", "-s", "-z").split("\0") if line.partition("\t")[2] not in _unheld(root)
    ]


def _unheld(root: Path) -> set[str]:
    """Paths of `git add -N` whose file is gone: git shows them as any deleted empty file, and there is nothing to lose."""
    lines = [line for line in git(root, "ls-files", "-s", "-z").split("\0") if " e69de29bb2d1" in line]
    return {path for path in (line.partition("\t")[2] for line in lines) if not os.path.lexists(root / path)}


def _clean(root: Path) -> set[str]:
    status = git(root, "status", "--porcelain=v2", "-z", "--no-renames", "-uall").split("\0")
    columns = {"1": 8, "u": 10, "?": 1}
    changed = {line.split(" ", columns[line[0]])[-1] for line in status if line[:1] in columns and line[3:4] != "."}
    return set(git(root, "ls-files", "-z").split("\0")) - changed


def files_of(root: Path) -> dict[str, tuple[int, bytes]]:
    """Every file and link of the work tree."""
    found: dict[str, tuple[int, bytes]] = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name != ".git"]
        for name in [*names, *(each for each in folders if os.path.islink(os.path.join(folder, each)))]:
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            content = os.fsencode(os.readlink(path)) if stat.S_ISLNK(mode) else Path(path).read_bytes()
            found[os.path.relpath(path, root)] = (0 if stat.S_ISLNK(mode) else stat.S_IMODE(mode), content)
    return found


def write(root: Path, name: str, chance: random.Random) -> None:
    """A file of some bytes, or a link, with some permissions; what stands in its way goes."""
    path = root / name
    for above in [*reversed(path.relative_to(root).parents)][1:]:
        if (root / above).is_symlink() or (root / above).is_file():
            (root / above).unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if chance.random() < 0.1:
        path.symlink_to(chance.choice(["a.py", "nowhere", "dir"]))
        return
    path.write_bytes(chance.choice([b"", b"text\n", b"crlf\r\n"]) + chance.randbytes(chance.randrange(60)))
    path.chmod(chance.choice([0o644, 0o644, 0o755, 0o600, 0o750]))


def make_state(made: RepositoryOnHost, chance: random.Random) -> None:
    """Commits on several branches, tags, stashes, then staged, changed, deleted, untracked and precious files."""
    root = made.path
    (root / ".gitignore").write_text("*.ign\nignored/\n")
    for number in range(chance.randrange(2, 5)):
        for name in chance.sample(NAMES, 4):
            write(root, name, chance)
        git(root, "add", "-A")
        git(root, "commit", "-q", "--allow-empty", "-m", f"commit {number}")
        if chance.random() < 0.5:
            git(root, "branch", f"side{number}")
        if chance.random() < 0.4:
            git(root, "tag", *(["-a", "-m", "tag"] if chance.random() < 0.5 else []), f"v{number}")
        if chance.random() < 0.4:
            git(root, "checkout", "-q", "-b", f"line{number}", check=False)
    for _ in range(chance.randrange(3)):
        write(root, chance.choice(NAMES), chance)
        git(root, "stash", "push", "-q", *(["-u"] if chance.random() < 0.5 else []), check=False)
    if chance.random() < 0.3:
        begin_operation(root, chance)
    for name in chance.sample(NAMES, 3):
        write(root, name, chance)
        if chance.random() < 0.5:
            git(root, "add", *(["-N"] if chance.random() < 0.3 else []), "--", name, check=False)
            if chance.random() < 0.5:
                write(root, name, chance)
    tracked = [name for name in git(root, "ls-files", "-z").split("\0") if name and os.path.lexists(root / name)]
    for name in chance.sample(tracked, min(2, len(tracked))):
        (root / name).unlink(missing_ok=True)
    for name in ("key.ign", "ignored/deep/model.ign"):
        write(root, name, chance)
    if chance.random() < 0.2:
        git(root, "checkout", "-q", "--detach", check=False)


def begin_operation(root: Path, chance: random.Random) -> None:
    """A merge or a rebase that stops at a conflict."""
    git(root, "checkout", "-q", "-f", "-B", "ours", "HEAD")
    git(root, "clean", "-q", "-fd")
    for branch, text in (("theirs", b"theirs\n"), ("ours", b"ours\n")):
        git(root, "checkout", "-q", "-f", "-B", branch, "ours")
        write(root, "fight", chance)
        (root / "fight").unlink()
        (root / "fight").write_bytes(text)
        git(root, "add", "fight")
        git(root, "commit", "-q", "-m", branch)
    git(root, chance.choice(["merge", "rebase", "cherry-pick"]), "theirs", check=False)


def destroy(root: Path, chance: random.Random) -> str:
    """One way to lose something; returns what was done."""
    branches = git(root, "for-each-ref", "--format=%(refname:short)", "refs/heads").split()
    refs = [name for name in git(root, "for-each-ref", "--format=%(refname)").split() if "refs/hemma/" not in name]
    branch, ref = chance.choice([*branches, "main"]), chance.choice([*refs, "refs/heads/main"])
    ways: list[list[str]] = [
        ["reset", "-q", "--hard"],
        ["reset", "-q", "--hard", "HEAD~1"],
        ["checkout", "-q", "-f", branch],
        ["checkout", "-q", "--", "."],
        ["clean", "-q", "-fdx"],
        ["branch", "-D", branch],
        ["stash", "drop"],
        ["stash", "drop", "stash@{1}"],
        ["stash", "clear"],
        ["rebase", "-q", "--autostash", branch],
        ["rebase", "--abort"],
        ["merge", "--abort"],
        ["commit", "-q", "--amend", "-a", "-m", "amended", "--allow-empty"],
        ["update-ref", "-d", ref],
        ["update-ref", ref, branch],
        ["tag", "-d", "v1"],
        ["branch", "-f", "side0", "HEAD"],
        ["rm", "-q", "-r", "-f", "dir"],
        ["mv", "-f", "a.py", "moved.py"],
        ["checkout", "-q", "--orphan", "orphan"],
        ["read-tree", "--empty"],
        ["add", "-A"],
        ["switch", "-q", "-c", "made-since"],
        ["stash", "push", "-q", "-u"],
        ["symbolic-ref", "refs/heads/side0", "refs/heads/main"],
    ]
    choice = chance.randrange(len(ways) + 5)
    if choice < len(ways):
        git(root, *ways[choice], check=False)
        return "git " + " ".join(ways[choice])
    name = chance.choice(NAMES)
    if choice == len(ways):
        shutil.rmtree(root / "dir", ignore_errors=True)
        return "rm -r dir"
    if choice == len(ways) + 1:  # a folder where a file was, with a file of its own
        (root / name).unlink(missing_ok=True) if not (root / name).is_dir() else None
        write(root, f"{name}/inside", chance)
        return f"a folder at {name}"
    if choice == len(ways) + 2:  # a link out of the tree where a folder was
        shutil.rmtree(root / "dir", ignore_errors=True)
        (root / "dir").unlink(missing_ok=True)
        (root / "dir").symlink_to(root.parent)
        return "a link at dir"
    write(root, name, chance)
    return f"written {name}"


def differences(then: Observed, now: Observed) -> dict[str, object]:
    """What of `then` is not so `now`; files, refs and stashes that came since do not count."""
    found: dict[str, object] = {
        "files": {
            name: (want, now.files.get(name)) for name, want in then.files.items() if not _is_same(then, now, name)
        },
        "refs": {
            name: (oid, now.refs.get(name))
            for name, oid in then.refs.items()
            if name != "refs/stash" and now.refs.get(name) != oid
        },
        "operation": {n: (c, now.operation.get(n)) for n, c in then.operation.items() if now.operation.get(n) != c},
    }
    for name in ("entries", "marks", "head"):
        if getattr(then, name) != getattr(now, name):
            found[name] = (getattr(then, name), getattr(now, name))
    if now.stash[: len(then.stash)] != then.stash:
        found["stash"] = (then.stash, now.stash)
    if set(now.operation) - set(then.operation):
        found["more"] = sorted(set(now.operation) - set(then.operation))
    return {name: value for name, value in found.items() if value}


def _is_same(then: Observed, now: Observed, name: str) -> bool:
    (mode, content), (mode_now, content_now) = then.files[name], now.files.get(name, (-1, b""))
    if name in then.held_by_git and mode and mode_now > 0:
        mode, mode_now = mode & 0o100, mode_now & 0o100
    return (mode, content) == (mode_now, content_now)
