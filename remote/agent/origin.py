"""Origin as a clone sees it: which remote it is, what it has now, and what it had before and has no longer.

What origin once had is known from the remote-tracking ref before a fetch, from that ref's reflog, and from what was written
under refs/hemma/origin/ when a clone was last seen in order: a ref, so that git keeps the commits. Nothing here decides.
"""

from __future__ import annotations

import os
import re
import time

from . import gitnet
from .gitcall import Repository, output

SEEN = "refs/hemma/origin"
LISTED = 2000
_SHOWN = 5
_REFLOG_ENTRIES = 200
_OVERTAKEN_S = 0.1
# ` = [up to date]      main       -> origin/main`, with a reason behind it where git took it not.
_TAKEN = re.compile(r"^ [ *+=t!] \S.* -> (\S+)(?:  (\(.*\)))?$", re.MULTILINE)


class Route:
    """Where a branch comes from and goes to, as git itself reads the settings; `is_fetched`: a refspec brings the branch."""

    def __init__(self, config: dict[str, list[str]], branch: str | None) -> None:
        found = [key[len("remote.") : -len(".url")] for key in config if re.match(r"remote\..+\.url$", key, re.DOTALL)]
        self.remotes = list(dict.fromkeys(found))
        own = "branch.%s." % branch
        fallback = "origin" if "origin" in self.remotes or not self.remotes else self.remotes[0]
        named = _last(config, own + "remote")
        self.remote = named if named in self.remotes else fallback
        mapped = _mapped(config.get("remote.%s.fetch" % self.remote, []), branch) if branch else None
        self.is_fetched = mapped is not None
        self.tracking = mapped or "refs/remotes/%s/%s" % (self.remote, branch)
        keys = (own + "pushremote", "remote.pushdefault")
        self.push_key = next((key for key in keys if _last(config, key)), None)
        self.push_remote = _last(config, self.push_key) if self.push_key else self.remote
        self.has_upstream = named == self.remote and _last(config, own + "merge") == "refs/heads/%s" % branch
        self.has_push_url = bool(config.get("remote.%s.pushurl" % self.remote))

    @property
    def is_known(self) -> bool:
        """Whether the remote that is pushed to is one, not an address that was written in its stead."""
        return self.push_remote in self.remotes


def parse_config(text: str) -> dict[str, list[str]]:
    """What `git config -z --get-regexp` printed: each key's values in order."""
    found: dict[str, list[str]] = {}
    for entry in text.split("\0"):
        key, _, value = entry.partition("\n")
        if key:
            found.setdefault(key, []).append(value)
    return found


CONFIG_ASKED = ("config", "-z", "--get-regexp", r"^(remote|branch)\.")


def route(repository: Repository, branch: str | None) -> Route:
    """The way of `branch` in this clone."""
    return Route(parse_config(repository.text(*CONFIG_ASKED) or ""), branch)


def _last(config: dict[str, list[str]], key: str) -> str | None:
    return (config.get(key) or [None])[-1]  # type: ignore[list-item]


def _mapped(refspecs: list[str], branch: str) -> str | None:
    """The ref that holds what a remote's `branch` was, by the remote's fetch refspecs."""
    ref, found = "refs/heads/" + branch, None
    for refspec in refspecs:
        source, _, target = refspec.lstrip("+^").partition(":")
        before, star, after = source.partition("*")
        middle = ref[len(before) : len(ref) - len(after)]
        is_match = ref == source if not star else ref.startswith(before) and ref.endswith(after) and bool(middle)
        if is_match and refspec.startswith("^"):
            return None
        if is_match and target and found is None:
            found = target.replace("*", middle, 1) if star else target
    return found


def refs_of(repository: Repository, way: Route, branch: str | None) -> dict[str, str]:
    """What is known of origin's branch without asking it: {"tracking": commit, "seen": commit}, each if there is one."""
    if not branch:
        return {}
    names = {way.tracking: "tracking", "%s/%s/%s" % (SEEN, way.remote, branch): "seen"}
    said = repository.words("for-each-ref", "--format=%(refname) %(objectname)", *names)
    return {names[name]: commit for name, commit in zip(said[::2], said[1::2]) if name in names}


def fetch(repository: Repository, way: Route, silence_s: float) -> dict[str, object]:
    """Ask origin. `kind` says how it went: ok, silent, locked or rejected (origin answered), or unreachable.

    `has_branch` is whether origin has the branch now; None where that cannot be told.
    """
    argv = [b"fetch", b"--verbose", b"--progress", b"--no-tags", os.fsencode(way.remote)]
    for last in (False, False, True):
        spoken = gitnet.speak(repository.root, argv, {}, silence_s=silence_s)
        if last or not is_overtaken(spoken.text):
            break
        time.sleep(_OVERTAKEN_S)
    if spoken.code == 0:
        name = way.tracking.replace("refs/remotes/", "", 1)
        taken = {found[0] for found in _TAKEN.findall(spoken.text)}
        has_branch = name in taken if way.is_fetched else None
        return {
            "is_asked": True,
            "is_ok": True,
            "error": None,
            "kind": "ok",
            "has_branch": has_branch,
            "any": bool(taken),
        }
    kind = "unreachable"
    if spoken.why:
        kind = "silent"
    elif is_overtaken(spoken.text):
        kind = "locked"
    elif " ! [rejected] " in spoken.text:
        kind = "rejected"
    lines = spoken.text.split("\n")
    marked = [line for line in lines if line.startswith(("error: ", "fatal: ", " ! ["))]
    error = spoken.why or "\n".join(marked or lines)[:1000]
    return {"is_asked": True, "is_ok": False, "error": error, "kind": kind, "has_branch": None, "any": False}


def is_overtaken(said: str) -> bool:
    """Whether a fetch failed because another one moved the same ref at the same moment: origin itself did answer."""
    return "cannot lock ref 'refs/remotes/" in said


def facts(
    repository: Repository, way: Route, branch: str, before: dict[str, str], fetched: dict[str, object]
) -> dict[str, object]:
    """How HEAD stands to origin's branch, and what origin had and has no longer (`lost`, `gone`)."""
    now, tracking = refs_of(repository, way, branch) if fetched["is_asked"] else before, way.tracking
    was_there = bool(before) or bool(now.get("seen")) or (way.has_upstream and bool(fetched.get("any")))
    is_gone = fetched.get("has_branch") is False and was_there
    head = now.get("tracking") if fetched.get("has_branch") is not False else None
    found: dict[str, object] = {
        "remote": way.remote,
        "tracking": tracking,
        "push_remote": way.push_remote,
        "push_key": way.push_key,
        "origin_head": head,
        "origin_before": before.get("tracking"),
        "lost": None,
        "gone": _gone(repository, way, tracking, before, now) if is_gone else None,
        **_against(repository, head),
    }
    unpushed = found["unpushed"]
    if head is None or not isinstance(unpushed, list):
        return found
    if unpushed:
        past = [commit for commit in (before.get("tracking"), before.get("seen"), now.get("seen")) if commit]
        found["lost"] = _lost(repository, tracking, head, past, [str(commit) for commit in unpushed])
    if found["lost"] is None and fetched.get("is_ok") and now.get("seen") != head:
        repository.text("update-ref", "%s/%s/%s" % (SEEN, way.remote, branch), head)
    return found


def _against(repository: Repository, origin: str | None) -> dict[str, object]:
    if origin is None:
        return {"unpushed": [], "unpulled": [], "incoming": [], "outgoing": []}
    mine = repository.start("rev-list", "--max-count=%d" % LISTED, origin + "..HEAD")
    theirs = repository.start("rev-list", "--max-count=%d" % LISTED, "HEAD.." + origin)
    incoming = repository.start("diff", "--name-only", "--no-renames", "-z", "HEAD..." + origin)
    outgoing = repository.start("diff", "--name-only", "--no-renames", "-z", origin + "...HEAD")
    unpushed, unpulled = (output(mine) or "").split(), (output(theirs) or "").split()
    return {
        "unpushed": unpushed,
        "unpushed_count": _count(repository, unpushed, origin + "..HEAD"),
        "unpulled": unpulled,
        "unpulled_count": _count(repository, unpulled, "HEAD.." + origin),
        "incoming": [path for path in (output(incoming) or "").split("\0") if path],
        "outgoing": [path for path in (output(outgoing) or "").split("\0") if path],
    }


def _count(repository: Repository, listed: list[str], commits: str) -> int:
    """How many these are in all, where no more than LISTED were named."""
    told = repository.text("rev-list", "--count", commits) if len(listed) >= LISTED else None
    return int(told) if told else len(listed)


def _lost(
    repository: Repository, tracking: str, now: str, past: list[str], ahead: list[str]
) -> dict[str, object] | None:
    """The commits of HEAD that origin had and has no longer, newest first; None when there are none."""
    logged = repository.words("rev-list", "--walk-reflogs", "--max-count=%d" % _REFLOG_ENTRIES, tracking, "--")
    tips = list(dict.fromkeys([*past, *logged]))
    once = set(repository.words("rev-list", "--ignore-missing", *tips, "^" + now, "--"))
    lost = [commit for commit in ahead if commit in once]
    if not lost:
        return None
    own = [commit for commit in ahead if commit not in once]
    merges = repository.words("rev-list", "--merges", "--max-count=%d" % LISTED, now + "..HEAD", "--")
    changes = repository.text("diff", "--name-only", "--no-renames", "-z", "HEAD", now, "--") or ""
    return {
        "commits": lost,
        "own": own[::-1],
        "own_has_merges": bool(set(merges) & set(own)),
        "shown": subjects(repository, lost[:_SHOWN]),
        "changes": [path for path in changes.split("\0") if path],
        **_movers(repository, tracking, now),
    }


def subjects(repository: Repository, commits: list[str]) -> list[str]:
    """`1a2b3c4 its subject` of each commit, in order."""
    if not commits:
        return []
    said = repository.text("log", "--no-walk=unsorted", "--format=%h %s", *commits, "--") or ""
    return [line for line in said.split("\n") if line]


def _movers(repository: Repository, tracking: str, now: str) -> dict[str, object]:
    """What is known of who moved origin: who pushed that from this very clone, and who made its new commits."""
    asked = ("log", "--walk-reflogs", "--max-count=20", "--format=%H%x00%gs%x00%gn", tracking, "--")
    entries = [line.split("\0") for line in (repository.text(*asked) or "").split("\n")]
    pushed = [entry[2] for entry in entries if len(entry) == 3 and entry[0] == now and entry[1] == "update by push"]
    said = repository.text("log", "--max-count=%d" % LISTED, "--format=%cn <%ce>", "HEAD.." + now, "--") or ""
    makers = list(dict.fromkeys(line for line in said.split("\n") if line))
    return {"pushed_here_by": pushed[0] if pushed else None, "made_by": makers[:_SHOWN]}


def _gone(
    repository: Repository, way: Route, tracking: str, before: dict[str, str], now: dict[str, str]
) -> dict[str, object]:
    """A branch that origin had: its last commit there, and which commits of HEAD no branch of origin has now."""
    others = [
        name
        for name in repository.words("for-each-ref", "--format=%(refname)", "refs/remotes/%s" % way.remote)
        if name != tracking and not name.endswith("/HEAD")
    ]
    alone = repository.words("rev-list", "--max-count=%d" % LISTED, "HEAD", "--not", *others, "--")
    prefix = "refs/remotes/%s/" % way.remote
    default = repository.text("symbolic-ref", "--quiet", prefix + "HEAD")
    main = default or next((prefix + name for name in ("main", "master") if prefix + name in others), None)
    return {
        "last": before.get("tracking") or before.get("seen") or now.get("seen"),
        "alone": alone,
        "shown": subjects(repository, alone[:_SHOWN]),
        "elsewhere": main[len(prefix) :] if main and main != tracking else None,
    }
