"""What git can do to work and to history, and which commands and options do it: tables for the judge of git commands.

Sources: git's own manual pages and builtin/*.c up to 2.5x. A flag is written once and in full; bundles (`-fd`) and
abbreviations (`--forc`) are the reader's (lanes/git_words.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from manifests.commands import Remedy

MERGE_ONLY = "merge-only"
KEEP_WORK = "keep-work"
KEEP_REFS = "keep-refs"
KEEP_OBJECTS = "keep-objects"
PLAIN_SIGHT = "plain-sight"
OWN_CALLS = "own-calls"


# What words leave open and the repository knows. FILE: is the word a file, and no commit? MOVES: does `reset WORD` take
# commits away from the branch? REF: is there such a ref already (UNLESS_CURRENT: and it is not HEAD's own)? BACK: does the
# ref, as it is, hold what the new value does not? DIRTY: do tracked files of these paths differ from HEAD or index? LAST: is
# one of these refs the only one that holds its commits? THERE: is there such an entry? AHEAD: has the branch commits that its
# upstream (or this remote and branch) has not? SEEN: whoever sees the real call (aliases expanded, a snapshot taken
# before) has nothing to fear.
FILE = "file"
MOVES = "moves"
REF = "ref"
UNLESS_CURRENT = "unless-current"
BACK = "back"
DIRTY = "dirty"
LAST = "last"
THERE = "there"
AHEAD = "ahead"
SEEN = "seen"


@dataclass(frozen=True)
class Doubt:
    """A question that decides whether a harm is one: its kind (above) and the words it is about."""

    kind: str
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Harm:
    """One way to lose something: the rule it breaks, what it does (after "`git …`"), and what to do instead.

    With a `doubt` it is one only if the answer to that question is yes.
    """

    rule: str
    does: str
    steps: tuple[Remedy, ...]
    doubt: Doubt | None = None


REWRITES = Harm(MERGE_ONLY, "rewrites commits that others may have", ("git merge <branch>", "hemma sync"))
AMENDS = Harm(MERGE_ONLY, "replaces the last commit", ("git commit --fixup HEAD", "git commit -m <message>"))
FORCES_ORIGIN = Harm(
    MERGE_ONLY,
    "can take commits away from origin",
    ("hemma sync", "git push <remote> <branch>"),
)
DELETES_AT_ORIGIN = Harm(MERGE_ONLY, "deletes or overwrites refs at origin", ("git push <remote> <branch>",))
MOVES_BACK = Harm(MERGE_ONLY, "moves the branch away from its commits", ("git revert <commit>", "git switch -c <new>"))
DISCARDS = Harm(
    KEEP_WORK,
    "throws away changes that no commit holds",
    ("git stash push --include-untracked", "git commit -m <message>"),
)
CLEANS = Harm(
    KEEP_WORK,
    "deletes files that git does not keep",
    ("git clean --dry-run", "git stash push --include-untracked"),
)
MIXES = Harm(
    KEEP_WORK,
    "mixes uncommitted changes into another branch, where a conflict eats them",
    ("git stash push --include-untracked", "git switch <branch>"),
)
OVERWRITES_REF = Harm(KEEP_REFS, "can take commits away from a branch or tag", ("git branch <new> <commit>",))
DELETES_REF = Harm(KEEP_REFS, "deletes a ref whose commits no other ref may hold", ("git branch --delete <merged>",))
DROPS_STASH = Harm(KEEP_REFS, "throws stashed work away", ("git stash list", "git stash branch <new> <stash>"))
FORGETS = Harm(KEEP_REFS, "forgets where refs have been, the way back to lost commits", ("git reflog",))
FORGETS_TREE = Harm(KEEP_REFS, "forgets work trees that are only away for now", ("git worktree list",))
FORGETS_NOTES = Harm(KEEP_REFS, "removes or overwrites notes", ("git notes list",))
FORGETS_REMOTE = Harm(
    KEEP_REFS,
    "deletes all that is known of a remote's branches",
    ("git remote rename <name> <old>",),
)
PRUNES = Harm(KEEP_OBJECTS, "deletes objects that could still be brought back", ("git gc --no-prune",))
MIRRORS = Harm(KEEP_REFS, "makes every later fetch or push overwrite refs", ("git remote add <name> <url>",))
HIDES = Harm(PLAIN_SIGHT, "hides what is to be done", ("git <command> <arguments>",))
HIDES_UPDATES = Harm(
    PLAIN_SIGHT,
    "reads what to do from its input, unseen",
    ("git branch <new> <commit>",),
    Doubt(SEEN),  # refs are in every snapshot
)
CHOOSES = Harm(
    KEEP_WORK,
    "replaces what a file holds by one side of it",
    ("git stash push --include-untracked",),
    Doubt(SEEN),  # a conflict is settled so, with the former content in the snapshot
)
UNGUARDS = Harm(
    PLAIN_SIGHT,
    "changes what later, harmless looking commands do",
    ("git config --get-regexp .", "git pull --no-rebase"),
)

# Commands (or `command subcommand`) that are refused whatever follows.
REFUSED: Mapping[str, Harm] = {
    "filter-branch": REWRITES,
    "filter-repo": REWRITES,
    "history": REWRITES,
    "replay": REWRITES,
    "lfs migrate": REWRITES,
    "svn rebase": REWRITES,
    "svn dcommit": REWRITES,
    "svn reset": MOVES_BACK,
    "p4 rebase": REWRITES,
    "p4 submit": REWRITES,
    "stash drop": DROPS_STASH,
    "stash clear": DROPS_STASH,
    "reflog drop": FORGETS,
    "remote remove": FORGETS_REMOTE,
    "remote rm": FORGETS_REMOTE,
}

# Refused unless --dry-run (-n) says that nothing is done.
REFUSED_UNLESS_DRY: Mapping[str, Harm] = {
    "clean": CLEANS,
    "prune": PRUNES,
    "reflog expire": FORGETS,
    "reflog delete": FORGETS,
    "notes prune": FORGETS_NOTES,
    "worktree prune": FORGETS_TREE,
    "sparse-checkout clean": CLEANS,
}

_PULL: Mapping[str, Harm] = {
    "-f": OVERWRITES_REF,
    "--force": OVERWRITES_REF,
    "--prune-tags": DELETES_REF,
    "-u": MOVES_BACK,
    "--update-head-ok": MOVES_BACK,
    "--stdin": HIDES,
}
_PUSH: Mapping[str, Harm] = {
    "-f": FORCES_ORIGIN,
    "--force": FORCES_ORIGIN,
    "--force-with-lease": FORCES_ORIGIN,
    "--force-if-includes": FORCES_ORIGIN,
    "-d": DELETES_AT_ORIGIN,
    "--delete": DELETES_AT_ORIGIN,
    "--mirror": DELETES_AT_ORIGIN,
    "--prune": DELETES_AT_ORIGIN,
    "--stdin": HIDES,
}
_SWITCH: Mapping[str, Harm] = {
    "-f": DISCARDS,
    "--force": DISCARDS,
    "--discard-changes": DISCARDS,
    "-C": OVERWRITES_REF,
    "--force-create": OVERWRITES_REF,
    "-m": MIXES,
    "--merge": MIXES,
    "--conflict": MIXES,
}
_CHECKOUT: Mapping[str, Harm] = {
    "-f": DISCARDS,
    "--force": DISCARDS,
    "-B": OVERWRITES_REF,
    "-m": MIXES,
    "--merge": MIXES,
    "--conflict": MIXES,
    "-p": CHOOSES,
    "--patch": CHOOSES,
    "-2": CHOOSES,
    "--ours": CHOOSES,
    "-3": CHOOSES,
    "--theirs": CHOOSES,
    "--pathspec-from-file": DISCARDS,
}
_FORCE: Mapping[str, Harm] = {"-f": DISCARDS, "--force": DISCARDS}

# Flags that make a command (or `command subcommand`) a refused one.
REFUSED_FLAGS: Mapping[str, Mapping[str, Harm]] = {
    "push": _PUSH,
    "send-pack": _PUSH,
    "http-push": {**_PUSH, "-D": DELETES_AT_ORIGIN},
    # -u is --upload-pack in `git pull` before 2.10 and nothing since: refused is right for both.
    "fetch": {**_PULL, "-P": DELETES_REF},
    "pull": {**_PULL, "-r": REWRITES},
    "fetch-pack": {"--stdin": HIDES},
    "reset": {"--hard": DISCARDS, "--merge": DISCARDS, "--keep": MOVES_BACK},
    "checkout": _CHECKOUT,
    "switch": _SWITCH,
    "restore": {"-W": DISCARDS, "--worktree": DISCARDS},
    "branch": {
        "-D": DELETES_REF,
        "-M": OVERWRITES_REF,
        "-C": OVERWRITES_REF,
        "-f": OVERWRITES_REF,
        "--force": OVERWRITES_REF,
    },
    "tag": {"-d": DELETES_REF, "--delete": DELETES_REF, "-f": OVERWRITES_REF, "--force": OVERWRITES_REF},
    "commit": {"--amend": AMENDS},
    "citool": {"--amend": AMENDS},
    "gc": {"--prune": PRUNES},
    "worktree add": {"-B": OVERWRITES_REF, "-f": OVERWRITES_REF, "--force": OVERWRITES_REF},
    "worktree remove": _FORCE,
    "worktree move": _FORCE,
    "submodule update": {**_FORCE, "--rebase": REWRITES},
    "submodule deinit": _FORCE,
    "notes add": {"-f": FORGETS_NOTES, "--force": FORGETS_NOTES},
    "notes copy": {"-f": FORGETS_NOTES, "--force": FORGETS_NOTES, "--stdin": HIDES},
    "rm": _FORCE,
    "mv": _FORCE,
    "read-tree": {"-u": DISCARDS, "--reset": DISCARDS},
    "checkout-index": _FORCE,
    "symbolic-ref": {"-d": DELETES_REF, "--delete": DELETES_REF},
    "update-ref": {"--stdin": HIDES_UPDATES, "--batch-updates": HIDES_UPDATES},
    "remote add": {"--mirror": MIRRORS},
    "fast-import": {"--force": OVERWRITES_REF},
    "subtree push": {"-f": FORCES_ORIGIN, "--force": FORCES_ORIGIN},
}

# Harmless options whose whole name begins the name of a refused one.
EXACT: Mapping[str, tuple[str, ...]] = {"fetch": ("prune",), "pull": ("prune",)}

# Options that always take a value, in every version of git: (letters, long names). An option whose value is optional
# has it attached, and is not here.
VALUES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "push": ("o", ("push-option", "repo", "receive-pack", "exec")),
    "fetch": ("jo", ("upload-pack", "depth", "deepen", "shallow-since", "shallow-exclude", "refmap", "server-option")),
    "pull": (
        "sXjo",
        (
            *("strategy", "strategy-option", "cleanup", "upload-pack", "depth", "deepen", "shallow-since"),
            *("shallow-exclude", "refmap", "server-option"),
        ),
    ),
    "reset": ("", ("pathspec-from-file",)),
    "clean": ("e", ("exclude",)),
    "checkout": ("bB", ("orphan", "conflict", "pathspec-from-file")),
    "switch": ("cC", ("create", "force-create", "orphan", "conflict")),
    "restore": ("s", ("source", "conflict", "pathspec-from-file")),
    "branch": ("u", ("set-upstream-to", "sort", "format")),
    "tag": ("mFu", ("message", "file", "local-user", "cleanup", "sort", "format")),
    "commit": (
        "mFCct",
        (
            *("message", "file", "author", "date", "reuse-message", "reedit-message", "fixup", "squash", "template"),
            *("cleanup", "trailer", "pathspec-from-file"),
        ),
    ),
    "merge": ("mFsX", ("message", "file", "strategy", "strategy-option", "cleanup")),
    "stash": ("m", ("message", "pathspec-from-file")),
    "reflog": ("", ("expire", "expire-unreachable")),
    "prune": ("", ("expire",)),
    "worktree": ("bB", ("reason", "expire")),
    "notes": ("mFCc", ("ref", "message", "file", "reuse-message", "reedit-message")),
    "submodule": ("bj", ("branch", "name", "reference", "depth", "jobs")),
    "update-ref": ("m", ()),
    "symbolic-ref": ("m", ()),
    "config": ("f", ("file", "blob", "type", "default", "comment", "value", "url")),
    "remote": ("tm", ("track", "master")),
}
