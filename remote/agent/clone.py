"""Which repository a clone is of: its first commits and the address of its origin, and how two clones are related.

The same code looks at the controller's clone and at the host's. What it found is kept beside the runs (or in the cache of
the controller) under what it depends on, so that the next look starts no git. What a relation allows is decided in lanes.
"""

from __future__ import annotations

import json
import os
import zlib

from . import gitfacts

# Relations of two clones. A shared first commit proves; an address does where no history can be compared.
SAME, FORK, SAME_ORIGIN, SHARED_COMMIT = "same", "fork", "same-origin", "shared-commit"
# Nothing to compare: one side has no commit yet, and they have no two addresses.
UNBORN = "unborn"
OTHER, OTHER_ORIGIN, NO_WITNESS, UNREADABLE = "other", "other-origin", "no-witness", "unreadable"

_FORMAT = 1
_GIT_TIMEOUT_S = 120.0
# Of very many first commits or cut-off ends the first few do.
_MOST_ROOTS, _MOST_ENDS = 64, 16

_memory: dict[str, tuple[list[object], dict[str, object]]] = {}


# --- what is known of one clone --------------------------------------------------------------------------------------


def known(root: str, cache: str) -> dict[str, object] | None:
    """The facts of the clone whose top is `root` as they were found, while nothing they depend on moved; None else.

    Starts no process: reads HEAD, its ref, and the times of three files.
    """
    stamp = _stamp(root)
    if stamp is None:
        return None
    kept = _memory.get(root) or _stored(root, cache)
    if kept is None or kept[0] != stamp:
        return None
    _memory[root] = kept
    return kept[1]


def learn(root: str, cache: str, *, is_fresh: bool = False) -> dict[str, object]:
    """The facts of the clone at `root`: roots, head, origin, is_shallow, ends, said (git's words where it could not look).

    `roots` are the first commits that HEAD descends from: empty for an unborn branch, and for a shallow clone, which does
    not have them; `ends` are the commits at which a shallow history is cut off. `is_fresh` looks again in any case.
    """
    facts = None if is_fresh else known(root, cache)
    if facts is not None:
        return facts
    before = _stamp(root)
    former = None if is_fresh else _memory.get(root) or _stored(root, cache)
    facts = _read(root, former[1] if former else {})
    if before is not None and not facts["said"] and before == _stamp(root):
        keep(root, cache, facts)
    return facts


def keep(root: str, cache: str, facts: dict[str, object]) -> None:
    """Keep facts for the next look, in memory and on disk; a disk that takes nothing is no error."""
    stamp = _stamp(root)
    if stamp is None:
        return
    _memory[root] = (stamp, facts)
    place = _place(root, cache)
    temporary = "%s.%d" % (place, os.getpid())
    try:
        _make_private(cache)
        handle = os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            json.dump({"format": _FORMAT, "root": root, "stamp": stamp, "facts": facts}, file)
        os.replace(temporary, place)
    except OSError:
        pass


def forget(root: str, cache: str) -> None:
    """Drop what is kept of this clone: the next look asks git."""
    _memory.pop(root, None)
    try:
        os.unlink(_place(root, cache))
    except OSError:
        pass


def _stored(root: str, cache: str) -> tuple[list[object], dict[str, object]] | None:
    try:
        with open(_place(root, cache), "rb") as file:
            record = json.loads(file.read())
        if record["format"] == _FORMAT and record["root"] == root:
            return list(record["stamp"]), dict(record["facts"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        pass
    return None


def _place(root: str, cache: str) -> str:
    # Two folders of one name share a file at worst: it says which it is about.
    return os.path.join(cache, "%08x.json" % zlib.crc32(os.fsencode(root)))


def _make_private(path: str) -> None:
    if not os.path.isdir(path):
        _make_private(os.path.dirname(path))
        os.mkdir(path, 0o700)


def _stamp(root: str) -> list[object] | None:
    """Everything the facts depend on: HEAD and its commit, the settings, where history is cut off, the table of refs."""
    directory = gitfacts.git_dir(root)
    if directory is None:
        return None
    shared = _common(directory)
    commit, branch = gitfacts.head(root)
    names = ("config", "shallow", os.path.join("reftable", "tables.list"))
    return [directory, commit, branch, *(_time_of(os.path.join(shared, name)) for name in names)]


def _common(directory: str) -> str:
    try:
        with open(os.path.join(directory, "commondir"), encoding="utf-8", errors="surrogateescape") as file:
            return os.path.normpath(os.path.join(directory, file.readline().strip()))
    except OSError:
        return directory


def _time_of(path: str) -> list[int] | None:
    try:
        known_of = os.stat(path)
    except OSError:
        return None
    return [known_of.st_mtime_ns, known_of.st_size, known_of.st_ino]


# --- asking git ------------------------------------------------------------------------------------------------------


def _read(root: str, former: dict[str, object]) -> dict[str, object]:
    facts: dict[str, object] = {
        "roots": [],
        "head": None,
        "origin": None,
        "is_shallow": False,
        "ends": [],
        "said": None,
    }
    code, out, said = _git(root, "config", "-z", "--get-regexp", r"^remote\..*\.url$")
    if code not in (0, 1):
        return dict(facts, said=said)
    facts["origin"] = _origin(out, root)
    code, head, said = _git(root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if code not in (0, 1):
        return dict(facts, said=said)
    facts["head"] = head or None
    facts["ends"] = _ends(root)
    facts["is_shallow"] = bool(facts["ends"])
    if head and not facts["ends"]:
        code, roots, said = _roots(root, head, former)
        facts.update(roots=roots[:_MOST_ROOTS], said=None if code == 0 else said)
    return facts


def _roots(root: str, head: str, former: dict[str, object]) -> tuple[int, list[str], str]:
    """(git's exit code, the first commits of HEAD, git's words): only what is new is walked where an earlier HEAD is known."""
    before, known_roots = former.get("head"), _words(former.get("roots"))
    if isinstance(before, str) and known_roots:
        code, shared, _ = _git(root, "merge-base", before, head)
        if code == 0 and (shared == before or len(known_roots) == 1):
            code, out, said = _git(root, "rev-list", "--max-parents=0", head, "^" + before)
            if code == 0:
                return 0, sorted({*known_roots, *out.split()}), ""
    code, out, said = _git(root, "rev-list", "--max-parents=0", head)
    return code, sorted(out.split()), said


def _ends(root: str) -> list[str]:
    directory = gitfacts.git_dir(root)
    try:
        with open(os.path.join(_common(directory or root), "shallow"), encoding="ascii") as file:
            return file.read().split()[:_MOST_ENDS]
    except (OSError, ValueError):
        return []


def _origin(listing: str, root: str) -> str | None:
    """The address of `origin`, or of the only remote there is, in its normal form."""
    addresses: dict[str, str] = {}
    for entry in listing.split("\0"):
        key, newline, value = entry.partition("\n")
        if newline:
            addresses.setdefault(key[len("remote.") : -len(".url")], value)
    chosen = addresses.get("origin") or (next(iter(addresses.values())) if len(addresses) == 1 else None)
    return address(chosen, root) if chosen else None


def _git(root: str, *argv: str) -> tuple[int, str, str]:
    """(exit code, stdout, the last line of stderr); 127 where there is no git, 124 when it takes too long."""
    import subprocess

    from . import gitcall

    # A graft or a replaced commit would show another history than the one that others have.
    environ = gitcall.environment({"GIT_NO_REPLACE_OBJECTS": "1"})
    try:
        done = subprocess.run(
            ["git", *argv],
            cwd=root,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=_GIT_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 124, "", "git took longer than %d s" % _GIT_TIMEOUT_S
    except OSError as error:
        return 127, "", "git cannot be started: %s" % error.strerror
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return done.returncode, done.stdout.decode("utf-8", "surrogateescape").strip(), _fatal(said)


def _fatal(said: list[str]) -> str:
    marked = [line for line in said if line.startswith("fatal: ")]
    return (marked or said or ["git said nothing"])[0]


# --- how two clones are related --------------------------------------------------------------------------------------


def relation(here: dict[str, object], there: dict[str, object]) -> str:
    """How the clone with the facts `there` is related to the one with the facts `here`: one of the words above."""
    if here.get("said") or there.get("said"):
        return UNREADABLE
    ours, theirs = here.get("origin"), there.get("origin")
    one, other = set(_words(here.get("roots"))), set(_words(there.get("roots")))
    if one & other:
        return FORK if ours and theirs and ours != theirs else SAME
    if one and other:
        return OTHER
    if ours and theirs:
        return SAME_ORIGIN if ours == theirs else OTHER_ORIGIN
    return UNBORN if not here.get("head") or not there.get("head") else NO_WITNESS


def related(here: dict[str, object], root: str, cache: str) -> tuple[str, dict[str, object]]:
    """(relation, facts) of the clone at `root` to one with the facts `here`; a no is said only after a fresh look.

    What the facts alone do not show, git is asked: whether HEAD is on a branch without a common history while another one
    shares it and the address is the same, and whether a commit of a shallow clone is in this history.
    """
    there = learn(root, cache)
    found = relation(here, there)
    if found not in (OTHER, OTHER_ORIGIN, NO_WITNESS, UNREADABLE, UNBORN):
        return found, there
    there = learn(root, cache, is_fresh=True)
    found = relation(here, there)
    if found == OTHER and here.get("origin") and here.get("origin") == there.get("origin"):
        _, out, _ = _git(root, "rev-list", "--max-parents=0", "--branches", "--remotes", "--not", "HEAD")
        return (SAME if set(_words(here.get("roots"))) & set(out.split()) else OTHER), there
    if found in (OTHER_ORIGIN, NO_WITNESS) and (here.get("is_shallow") or there.get("is_shallow")):
        ends = [here.get("head"), *_words(here.get("ends"))]
        if any(_is_in_history(root, commit) for commit in ends if isinstance(commit, str)):
            return SHARED_COMMIT, there
    return found, there


def _is_in_history(root: str, commit: str) -> bool:
    is_id = len(commit) >= 40 and all(letter in "0123456789abcdef" for letter in commit)
    return is_id and _git(root, "merge-base", "--is-ancestor", commit, "HEAD")[0] == 0


def _words(value: object) -> list[str]:
    return [word for word in value if isinstance(word, str)] if isinstance(value, list) else []


# --- addresses -------------------------------------------------------------------------------------------------------

_USUAL_PORTS = {"ssh": "22", "https": "443", "http": "80", "git": "9418", "ftp": "21", "ftps": "990"}
# Forges whose paths are the same in any case.
_CASELESS = ("github.com", "gitlab.com", "bitbucket.org", "codeberg.org")


def address(url: str, root: str) -> str:
    """The normal form of a remote's address: host and path of one repository, whichever way leads there; no password.

    `git@host:a/b.git`, `ssh://host/a/b` and `https://me:token@host:443/a/b/` are all `host/a/b`. A path of this machine
    becomes an absolute one (from `root`); a path in somebody's home on a server keeps whose home it is.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return _scp_or_path(url, root)
    scheme = scheme.lower().replace("git+", "").replace("+git", "")
    if scheme == "file":
        return "file://" + _path(_unquoted(rest.partition("/")[1] + rest.partition("/")[2]))
    authority, _, path = rest.partition("/")
    user, _, place = authority.rpartition("@")
    host, port = _host_and_port(place)
    port = "" if port == _USUAL_PORTS.get(scheme) else port
    path = _unquoted(path.partition("?")[0].partition("#")[0])
    is_home = scheme == "ssh" and path.startswith("~/")
    user = user.partition(":")[0] if is_home else ""
    return _joined("" if user == "git" else user, host, port, path[2:] if is_home else path)


def _scp_or_path(url: str, root: str) -> str:
    before, colon, path = url.partition(":")
    # git takes it for a path when a slash comes before the colon, or nothing does.
    if not colon or "/" in before or not before or (len(before) == 1 and os.name == "nt"):
        return "file://" + _path(os.path.join(root, url))
    user, _, host = before.rpartition("@")
    if host.startswith("[") and "]" not in host:  # an IPv6 address has colons of its own
        rest, _, path = url.rpartition("]:")
        user, _, host = rest.rpartition("@")
    return _joined("" if user == "git" or path.startswith("/") else user, host.strip("[]").lower(), "", path)


def _host_and_port(place: str) -> tuple[str, str]:
    if place.startswith("["):
        host, _, rest = place[1:].partition("]")
        return host.lower(), rest.lstrip(":")
    host, _, port = place.partition(":")
    return host.lower(), port


def _joined(user: str, host: str, port: str, path: str) -> str:
    host = host.rstrip(".")
    path = "/".join(part for part in path.split("/") if part)
    path = path.removesuffix(".git")
    path = path.lower() if host in _CASELESS else path
    return "%s%s%s/%s" % (user + "@" if user else "", host, ":" + port if port else "", path)


def _path(path: str) -> str:
    path = os.path.realpath(path)
    path = path.removesuffix("/.git")
    return path.removesuffix(".git")


def _unquoted(text: str) -> str:
    if "%" not in text:
        return text
    from urllib.parse import unquote

    return unquote(text, errors="surrogateescape")
