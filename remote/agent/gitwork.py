"""Git on the host: its whole state as facts in one trip, and lists of git commands run in order under one lock.

Which commands may run is decided on the controller (lanes.git_safety); here they are run as they come, without prompts,
editors or the user's language. Nothing of a request ever meets a shell.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import Generator, Iterator

from . import changed_notebooks, frames, gitcall, gitfacts, gitnet, launch, listing, origin, store
from .gitcall import Repository, output

# What git prints of a conflict or a refusal, not of a clone: of more than this the end is kept, unless a step asks for more.
_KEPT_BYTES = 1 << 20
_MOST_KEPT_BYTES = 8 << 20
_LISTED = 2000
# After so much of git's words a reply ends, and the rest is asked for again.
_REPLY_LETTERS = 2 << 20
_OPERATIONS = (
    ("rebase-merge", "rebase"),
    ("rebase-apply/applying", "am"),
    ("rebase-apply", "rebase"),
    ("MERGE_HEAD", "merge"),
    ("CHERRY_PICK_HEAD", "cherry-pick"),
    ("REVERT_HEAD", "revert"),
    ("BISECT_LOG", "bisect"),
)


def state(request: dict[str, object]) -> dict[str, object]:
    """Everything a plan needs to know of the clone, in one reply (see `controller/flows/clones.py` for its reading).

    `fetch` asks origin first, `know` lists commits to compare HEAD with, `notebooks` adds both sides of changed ones.
    """
    guard = launch.guard_facts(_text(request.get("root")), None)
    if not guard["is_toplevel"]:
        return {"guard": guard}
    root = str(guard["root"])
    repository = Repository(root)
    silence_s = _silence_s(request)
    branch = repository.text("symbolic-ref", "--quiet", "--short", "HEAD")
    way = origin.route(repository, branch)
    before = origin.refs_of(repository, way, branch)
    fetched: dict[str, object] = {"is_asked": False}
    if request.get("fetch"):
        fetched = origin.fetch(repository, way, silence_s)
    status = repository.start("status", "--porcelain=v2", "--branch", "--show-stash", "-z", "--untracked-files=all")
    facts: dict[str, object] = {
        "guard": guard,
        "root": root,
        "fetch": fetched,
        "origin_url": _url(repository, way.remote),
    }
    facts.update(_kind(repository, root))
    facts.update(_status(output(status)))
    if not facts["is_readable"]:
        facts["unreadable"] = repository.complaint("status", "--porcelain=v2")
    told = {"remote": way.remote, "push_remote": way.push_remote, "push_key": way.push_key, "origin_head": None}
    is_still = branch is not None and facts["branch"] == branch
    facts.update(origin.facts(repository, way, branch or "", before, fetched) if is_still else told)
    facts["counts"] = {str(commit): _counts(repository, str(commit)) for commit in _list(request.get("know"))}
    facts["holding"] = _holding(root, _text(request.get("state_dir")))
    if request.get("backups"):
        from . import backups  # only `hemma status` asks

        facts["backups"] = backups.summary(root)
    if request.get("notebooks"):
        facts["notebooks"] = changed_notebooks.sides(repository.root, repository.start, facts["entries"])
    return facts


def _silence_s(request: dict[str, object]) -> float:
    """For how long origin may say nothing."""
    asked = request.get("silence_s")
    return float(asked) if isinstance(asked, (int, float)) and asked > 0 else gitnet.SILENCE_S


def _url(repository: Repository, remote: str) -> str | None:
    """The address of origin, without a password that may stand in it."""
    url = repository.text("remote", "get-url", remote)
    if url and "://" in url and "@" in url.split("://", 1)[1].split("/", 1)[0]:
        scheme, _, rest = url.partition("://")
        return scheme + "://" + rest.partition("@")[2]
    return url


def _kind(repository: Repository, root: str) -> dict[str, object]:
    git_dir = gitfacts.git_dir(root) or os.path.join(root, ".git")
    common = repository.text("rev-parse", "--path-format=absolute", "--git-common-dir") or git_dir
    operation = next((word for name, word in _OPERATIONS if os.path.exists(os.path.join(git_dir, name))), None)
    if operation is None and os.path.isdir(os.path.join(common, "reftable")):
        operation = next((word for name, word in _OPERATIONS if _is_ref(repository, name)), None)
    attributes = os.path.join(root, ".gitattributes")
    return {
        "operation": operation,
        "is_index_locked": os.path.exists(os.path.join(git_dir, "index.lock")),
        "is_shallow": os.path.exists(os.path.join(common, "shallow")),
        "is_sparse": os.path.exists(os.path.join(git_dir, "info", "sparse-checkout")),
        "has_submodules": os.path.exists(os.path.join(root, ".gitmodules")),
        "uses_lfs": os.path.isfile(attributes) and b"filter=lfs" in gitfacts.content(attributes),
    }


def _is_ref(repository: Repository, name: str) -> bool:
    """Whether this mark of an operation is a ref, as it is where refs are no files (reftable)."""
    return name.endswith("_HEAD") and repository.text("rev-parse", "--verify", "--quiet", name) is not None


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


def _counts(repository: Repository, commit: str) -> list[int] | None:
    """[commits of HEAD that are not in `commit`, commits of `commit` that are not in HEAD]; None when it is not here."""
    said = repository.text("rev-list", "--left-right", "--count", "HEAD..." + commit, "--")
    return [int(number) for number in said.split()] if said else None


def _holding(root: str, state_dir: str | None) -> list[dict[str, object]]:
    """The live runs whose working directory lies in this tree."""
    found: list[dict[str, object]] = []
    runs = store.runs_folder(state_dir)
    for folder in (os.path.join(runs, run_id) for run_id in store.ids_in(runs)):
        if not listing.may_live(folder):
            continue
        facts = store.facts(folder)
        record = facts["record"]
        alive = facts["supervisor_alive"] or facts["command_alive"]
        status = facts["status"]
        is_over = isinstance(status, dict) and status.get("state") == "finished" and not facts["command_alive"]
        if alive and not is_over and isinstance(record, dict) and record.get("root") == root:
            words = record.get("shell") or " ".join(str(word) for word in record.get("argv") or [])
            found.append({"run_id": facts["run_id"], "command": words, "created_at": record.get("created_at")})
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
    room = _REPLY_LETTERS
    with locked(root):
        for number, step in enumerate(_list(request.get("steps"))):
            done = _run(root, step if isinstance(step, dict) else {}, _silence_s(request))
            results.append(done)
            if done["code"] and not (isinstance(step, dict) and step.get("may_fail")):
                return {"results": results, "stopped_at": number}
            room -= len(str(done["stdout"])) + len(str(done["stderr"]))
            if room < 0:
                return {"results": results, "stopped_at": None, "is_partial": True}
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


def in_the_way(root: str, base: str, commit: str) -> list[str]:
    """Files that would be written over on the way from `base` to `commit`, and git does not know, ignored ones too.

    git itself guards untracked files, never ignored ones.
    """
    repository = Repository(root)
    coming = repository.start("diff", "--name-only", "--no-renames", "--diff-filter=d", "-z", base, commit, "--")
    tracked = set((repository.text("ls-files", "-z") or "").split("\0"))
    paths = [path for path in (output(coming) or "").split("\0") if path and path not in tracked]
    return sorted({found for path in paths for found in gitfacts.untracked_at(root, path, tracked)})


def _base(root: str, commit: str) -> str:
    """Where HEAD and `commit` parted: what a merge brings is what changed since then. HEAD where they share nothing."""
    return Repository(root).text("merge-base", "HEAD", commit) or "HEAD"


def _run(root: str, step: dict[str, object], silence_s: float) -> dict[str, object]:
    words = [str(word) for word in _list(step.get("argv"))]
    taking = _text(step.get("taking"))
    found = in_the_way(root, _base(root, taking), taking) if taking else []
    if found:
        said = "error: files that git does not track would be overwritten"
        refused: dict[str, object] = {"argv": words, "code": 1, "stdout": "", "stderr": said}
        return dict(refused, in_the_way=found[:_LISTED], in_the_way_count=len(found))
    argv = [os.fsencode(word) for word in words]
    extra = {str(name): str(value) for name, value in _items(step.get("env"))}
    given, asked = step.get("input"), step.get("keep_bytes")
    kept = min(asked, _MOST_KEPT_BYTES) if isinstance(asked, int) and asked > 0 else _KEPT_BYTES
    data = str(given).encode("utf-8", "surrogateescape") if given is not None else b""
    if dials(words):
        spoken = gitnet.speak(root, argv, extra, data, silence_s)
        stderr = "\n".join(filter(None, (spoken.text, "error: " + spoken.why if spoken.why else "")))
        code = 128 if spoken.code is None else spoken.code
        return {"argv": words, "code": code, "stdout": frames.text_of(spoken.out[-kept:]), "stderr": stderr}
    done = subprocess.run(
        [b"git", *map(os.fsencode, gitcall.CONFIG), *argv],
        cwd=root,
        env=gitcall.environment(extra),
        input=data,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        check=False,
    )
    return {
        "argv": words,
        "code": done.returncode,
        "stdout": frames.text_of(done.stdout[-kept:]),
        "stderr": frames.text_of(done.stderr[-_KEPT_BYTES:]),
    }


def dials(words: list[str]) -> bool:
    """Whether these arguments make git talk to another repository, which may be slow or never answer."""
    rest = iter(words)
    for word in rest:
        if word in ("-c", "-C"):
            next(rest, None)
        elif not word.startswith("-"):
            return word in ("fetch", "push", "ls-remote")
    return False


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else []


def _items(value: object) -> list[tuple[object, object]]:
    return list(value.items()) if isinstance(value, dict) else []


def _text(value: object) -> str | None:
    return str(value) if value is not None else None
