"""Git on the host: its whole state as facts in one trip, and lists of git commands run in order under one lock.

Which commands may run is decided on the controller (lanes.git_safety); here they are run as they come, without prompts,
editors or the user's language. Nothing of a request ever meets a shell.
"""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
import time
from typing import Generator, Iterator

from . import gitfacts, launch, store
from .git_environment import environment

# What git prints of a conflict or a refusal, not of a clone: of more than this the end is kept, unless a step asks for more.
_KEPT_BYTES = 1 << 20
_MOST_KEPT_BYTES = 8 << 20
_FETCH_TIMEOUT_S = 60.0
_OVERTAKEN_S = 0.1
_LISTED = 2000
_NOTEBOOK_BYTES = 8 << 20
_OPERATIONS = (
    ("rebase-merge", "rebase"),
    ("rebase-apply/applying", "am"),
    ("rebase-apply", "rebase"),
    ("MERGE_HEAD", "merge"),
    ("CHERRY_PICK_HEAD", "cherry-pick"),
    ("REVERT_HEAD", "revert"),
    ("BISECT_LOG", "bisect"),
)


def _without_questions(root: str) -> dict[str, str]:
    """ssh that never asks, for the commands that dial; a user's own ssh command stays, wherever it was set."""
    if any(os.environ.get(name) for name in ("GIT_SSH_COMMAND", "GIT_SSH")):
        return {}
    if Repository(root).text("config", "--get", "core.sshCommand"):
        return {}
    return {"GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o ConnectTimeout=10"}


class Repository:
    """One work tree on this machine."""

    def __init__(self, root: str) -> None:
        self.root = root

    def start(self, *argv: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start git with these arguments; several may look at the same time."""
        return subprocess.Popen(
            ["git", "-c", "core.quotepath=false", *argv],
            cwd=self.root,
            env=environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def text(self, *argv: str, timeout_s: float = 120.0) -> str | None:
        """What git printed, without its last line end; None when it failed."""
        return _output(self.start(*argv), timeout_s)

    def complaint(self, *argv: str) -> str:
        """What git prints on stderr where it fails, its end; an empty string where it does not."""
        _, err = self.start(*argv).communicate()
        return err.decode("utf-8", "replace").strip()[-2000:]


def _output(process: subprocess.Popen[bytes], timeout_s: float = 120.0) -> str | None:
    try:
        out, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None
    return None if process.returncode else out.decode("utf-8", "surrogateescape").rstrip("\n")


def state(request: dict[str, object]) -> dict[str, object]:
    """Everything a plan needs to know of the clone, in one reply (see `controller/flows/clones.py` for its reading).

    `fetch` asks origin first, `know` lists commits to compare HEAD with, `notebooks` adds both sides of changed ones.
    """
    guard = launch.guard_facts(_text(request.get("root")), None)
    if not guard["is_toplevel"]:
        return {"guard": guard}
    root = str(guard["root"])
    repository = Repository(root)
    fetched = _fetch(repository) if request.get("fetch") else {"is_asked": False}
    status = repository.start("status", "--porcelain=v2", "--branch", "--show-stash", "-z", "--untracked-files=all")
    facts: dict[str, object] = {"guard": guard, "root": root, "fetch": fetched, "origin_url": _origin(repository)}
    facts.update(_kind(repository, root))
    facts.update(_status(_output(status)))
    if not facts["is_readable"]:
        facts["unreadable"] = repository.complaint("status", "--porcelain=v2")
    branch = facts.get("branch")
    facts.update(_against_origin(repository, str(branch)) if branch else {"origin_head": None})
    facts["counts"] = {str(commit): _counts(repository, str(commit)) for commit in _list(request.get("know"))}
    facts["holding"] = _holding(root, _text(request.get("state_dir")))
    if request.get("notebooks"):
        facts["notebooks"] = _notebooks(repository, facts["entries"])
    return facts


def _fetch(repository: Repository) -> dict[str, object]:
    for last in (False, False, True):
        process = repository.start("fetch", "--quiet", "--no-tags", "origin", env=_without_questions(repository.root))
        try:
            _, err = process.communicate(timeout=_FETCH_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return {"is_asked": True, "is_ok": False, "error": "origin did not answer in %d s" % _FETCH_TIMEOUT_S}
        if last or not _is_overtaken(err):
            break
        time.sleep(_OVERTAKEN_S)
    said = err.decode("utf-8", "replace").strip()[-500:]
    return {"is_asked": True, "is_ok": process.returncode == 0, "error": said if process.returncode else None}


def _is_overtaken(stderr: bytes) -> bool:
    """Whether a fetch failed because another one moved the same ref at the same moment: origin itself did answer."""
    return b"cannot lock ref 'refs/remotes/" in stderr


def _origin(repository: Repository) -> str | None:
    """The address of origin, without a password that may stand in it."""
    url = repository.text("remote", "get-url", "origin")
    if url and "://" in url and "@" in url.split("://", 1)[1].split("/", 1)[0]:
        scheme, _, rest = url.partition("://")
        return scheme + "://" + rest.partition("@")[2]
    return url


def _kind(repository: Repository, root: str) -> dict[str, object]:
    git_dir = gitfacts.git_dir(root) or os.path.join(root, ".git")
    common = repository.text("rev-parse", "--path-format=absolute", "--git-common-dir") or git_dir
    operation = next((word for name, word in _OPERATIONS if os.path.exists(os.path.join(git_dir, name))), None)
    attributes = os.path.join(root, ".gitattributes")
    return {
        "operation": operation,
        "is_index_locked": os.path.exists(os.path.join(git_dir, "index.lock")),
        "is_shallow": os.path.exists(os.path.join(common, "shallow")),
        "is_sparse": os.path.exists(os.path.join(git_dir, "info", "sparse-checkout")),
        "has_submodules": os.path.exists(os.path.join(root, ".gitmodules")),
        "uses_lfs": os.path.isfile(attributes) and b"filter=lfs" in _bytes(attributes),
    }


def _status(text: str | None) -> dict[str, object]:
    """The facts of `git status --porcelain=v2 --branch --show-stash -z`; an error where git could not say."""
    entries: list[dict[str, str]] = []
    found: dict[str, object] = {"head": None, "branch": None, "upstream": None, "stash_count": 0}
    fields = iter(text.split("\0") if text is not None else [])
    for field in fields:
        if field.startswith("# "):
            _header(field, found)
        elif field[:2] in ("1 ", "2 ", "u ", "? "):
            entries.append(_entry(field, fields))
    found["is_unborn"] = found["head"] is None
    found["is_readable"] = text is not None
    found["entry_count"] = len(entries)
    found["entries"] = entries[:_LISTED]
    found["conflicted"] = [entry["path"] for entry in entries if entry["kind"] == "conflicted"]
    return found


def _header(field: str, found: dict[str, object]) -> None:
    name, _, value = field[2:].partition(" ")
    if name == "branch.oid":
        found["head"] = None if value == "(initial)" else value
    elif name == "branch.head":
        found["branch"] = None if value == "(detached)" else value
    elif name == "branch.upstream":
        found["upstream"] = value
    elif name == "stash":
        found["stash_count"] = int(value)


def _entry(field: str, rest: Iterator[str]) -> dict[str, str]:
    if field[0] == "?":
        return {"kind": "untracked", "path": field[2:], "index": "?", "worktree": "?"}
    columns = {"1": 8, "2": 9, "u": 10}[field[0]]
    parts = field.split(" ", columns)
    kind = "conflicted" if field[0] == "u" else "changed"
    entry = {"kind": kind, "path": parts[columns], "index": parts[1][0], "worktree": parts[1][1]}
    if field[0] == "2":
        entry["from"] = next(rest, "")
    if field[0] != "u" and entry["worktree"] == "M" and parts[4] != parts[5]:
        entry["worktree"] = "m"  # its mode too, which no content tells
    if parts[2][:1] == "S":
        entry["kind"] = "submodule"
    return entry


def _against_origin(repository: Repository, branch: str) -> dict[str, object]:
    remote = "refs/remotes/origin/" + branch
    nothing: dict[str, object] = {"origin_head": None, "unpushed": [], "unpulled": [], "incoming": [], "outgoing": []}
    head = repository.text("rev-parse", "--verify", "--quiet", remote)
    if head is None:
        return nothing
    mine = repository.start("rev-list", "--max-count=%d" % _LISTED, remote + "..HEAD")
    theirs = repository.start("rev-list", "--max-count=%d" % _LISTED, "HEAD.." + remote)
    incoming = repository.start("diff", "--name-only", "--no-renames", "-z", "HEAD..." + remote)
    outgoing = repository.start("diff", "--name-only", "--no-renames", "-z", remote + "...HEAD")
    return {
        "origin_head": head,
        "unpushed": (_output(mine) or "").split(),
        "unpulled": (_output(theirs) or "").split(),
        "incoming": [path for path in (_output(incoming) or "").split("\0") if path],
        "outgoing": [path for path in (_output(outgoing) or "").split("\0") if path],
    }


def _counts(repository: Repository, commit: str) -> list[int] | None:
    """[commits of HEAD that are not in `commit`, commits of `commit` that are not in HEAD]; None when it is not here."""
    said = repository.text("rev-list", "--left-right", "--count", "HEAD..." + commit, "--")
    return [int(number) for number in said.split()] if said else None


def _holding(root: str, state_dir: str | None) -> list[dict[str, object]]:
    """The live runs whose working directory lies in this tree."""
    found: list[dict[str, object]] = []
    for facts in store.list_facts(store.runs_folder(state_dir)):
        record = facts["record"]
        alive = facts["supervisor_alive"] or facts["command_alive"]
        status = facts["status"]
        is_over = isinstance(status, dict) and status.get("state") == "finished" and not facts["command_alive"]
        if alive and not is_over and isinstance(record, dict) and record.get("root") == root:
            words = record.get("shell") or " ".join(str(word) for word in record.get("argv") or [])
            found.append({"run_id": facts["run_id"], "command": words, "created_at": record.get("created_at")})
    return found


def _notebooks(repository: Repository, entries: object) -> dict[str, object]:
    """Both sides of every tracked notebook that was changed but not staged: as in the index, and as it lies there."""
    found: dict[str, object] = {}
    for entry in entries if isinstance(entries, list) else []:
        path = str(entry["path"])
        if (
            not path.endswith(".ipynb")
            or entry["kind"] != "changed"
            or entry["index"] != "."
            or entry["worktree"] != "M"
        ):
            continue
        # With the filters and line ends of a checkout: it is compared with, and may be put back into, the work tree.
        before = repository.start("cat-file", "--filters", ":0:" + path)
        out, _ = before.communicate()
        after = _bytes(os.path.join(repository.root, path))
        if before.returncode == 0 and len(out) + len(after) <= _NOTEBOOK_BYTES:
            found[path] = {"before_base64": _base64(out), "after_base64": _base64(after)}
    return found


def steps(request: dict[str, object]) -> dict[str, object]:
    """Run git commands one after another under the repository's lock; stops at the first that fails.

    Each step is {"argv", "input"?, "env"?, "may_fail"?, "taking"?, "keep_bytes"?}; the reply has one result per step that
    ran. A step `taking` a commit is not run, and has the files as `in_the_way`, when that would write over untracked ones.
    """
    guard = launch.guard_facts(_text(request.get("root")), None)
    if not guard["is_toplevel"]:
        return {"guard": guard, "results": [], "stopped_at": 0}
    root = str(guard["root"])
    results: list[dict[str, object]] = []
    with locked(root):
        for number, step in enumerate(_list(request.get("steps"))):
            done = _run(root, step if isinstance(step, dict) else {})
            results.append(done)
            if done["code"] and not (isinstance(step, dict) and step.get("may_fail")):
                return {"results": results, "stopped_at": number}
    return {"results": results, "stopped_at": None}


@contextlib.contextmanager
def locked(root: str) -> Generator[None, None, None]:
    """One controller at a time changes a clone through us; the lock goes with its process."""
    directory = gitfacts.git_dir(root) or os.path.join(root, ".git")
    import fcntl  # not there on Windows, where only a controller's own clone is ever handled

    handle = os.open(os.path.join(directory, "hemma.lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _in_the_way(root: str, commit: str) -> list[str]:
    """Files that merging `commit` would write over and git does not know: it guards untracked ones, never ignored ones."""
    repository = Repository(root)
    coming = repository.start("diff", "--name-only", "--no-renames", "--diff-filter=d", "-z", "HEAD..." + commit)
    tracked = set((repository.text("ls-files", "-z") or "").split("\0"))
    paths = [path for path in (_output(coming) or "").split("\0") if path and path not in tracked]
    return sorted({found for path in paths for found in gitfacts.untracked_at(root, path, tracked)})


def _run(root: str, step: dict[str, object]) -> dict[str, object]:
    words = [str(word) for word in _list(step.get("argv"))]
    taking = _text(step.get("taking"))
    in_the_way = _in_the_way(root, taking) if taking else []
    if in_the_way:
        said = "error: files that git does not track would be overwritten"
        return {"argv": words, "code": 1, "stdout": "", "stderr": said, "in_the_way": in_the_way[:_LISTED]}
    argv = [os.fsencode(word) for word in words]
    extra = {str(name): str(value) for name, value in _items(step.get("env"))}
    if {"fetch", "push", "ls-remote"} & set(words):
        extra = {**_without_questions(root), **extra}
    given, asked = step.get("input"), step.get("keep_bytes")
    kept = min(asked, _MOST_KEPT_BYTES) if isinstance(asked, int) and asked > 0 else _KEPT_BYTES
    done = subprocess.run(
        [b"git", b"-c", b"core.quotepath=false", *argv],
        cwd=root,
        env=environment(extra),
        input=str(given).encode("utf-8", "surrogateescape") if given is not None else b"",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        check=False,
    )
    return {
        "argv": words,
        "code": done.returncode,
        "stdout": done.stdout[-kept:].decode("utf-8", "surrogateescape"),
        "stderr": done.stderr[-_KEPT_BYTES:].decode("utf-8", "surrogateescape"),
    }


def _bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else []


def _items(value: object) -> list[tuple[object, object]]:
    return list(value.items()) if isinstance(value, dict) else []


def _text(value: object) -> str | None:
    return str(value) if value is not None else None
