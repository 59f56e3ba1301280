"""What becomes of a git call whose real words are known: it runs, something is saved first, or it is refused.

One judge for all who ask: `hemma run` before anything starts, the guard on the host where git is called, hooks. The rules are
lanes.git_safety's; here the answers of the repository settle what words leave open, and what is no rewriting, forcing or
deleting but still moves files, index or refs is saved first. Pure, and travels with the agent: Python 3.9.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lanes import git_harms as harms
from lanes.git_harms import Doubt
from lanes.git_safety import harms_of, verdict_of
from lanes.git_words import split, words_of
from lanes.verdict import Verdict

# Git's own commands that no alias can hide and that change neither files, index nor refs in a way that takes something away.
HARMLESS = frozenset((
    "add", "annotate", "blame", "cat-file", "check-attr", "check-ignore", "check-mailmap", "check-ref-format", "cherry",
    "clone", "column", "commit", "commit-tree", "config", "count-objects", "credential", "describe", "diff-files",
    "fast-export", "fetch-pack", "for-each-ref", "fsck", "gc", "get-tar-commit-id", "grep", "hash-object", "help",
    "index-pack", "init", "interpret-trailers", "ls-files", "ls-remote", "ls-tree", "maintenance", "merge-base",
    "merge-tree", "mktag", "mktree", "multi-pack-index", "name-rev", "pack-objects", "pack-refs", "patch-id", "push",
    "range-diff", "receive-pack", "remote", "repack", "rev-list", "rev-parse", "send-pack", "show-branch", "show-index",
    "show-ref", "status", "stripspace", "unpack-objects", "update-server-info", "upload-archive", "upload-pack", "var",
    "verify-commit", "verify-pack", "verify-tag", "version", "whatchanged", "write-tree",
))  # fmt: skip
# Those that write a file when they are told to, and are harmless else.
WRITERS = frozenset(("archive", "bundle", "diff", "diff-index", "diff-tree", "format-patch", "log", "shortlog", "show"))
# Those that are harmless with these subcommands ("" is the command alone).
HARMLESS_SUBCOMMANDS: Mapping[str, tuple[str, ...]] = {
    "notes": ("", "list", "show"),
    "reflog": ("", "exists", "list", "show"),
    "rerere": ("diff", "status"),
    "sparse-checkout": ("list",),
    "stash": ("create", "export", "list", "show", "store"),
    "submodule": ("", "status", "summary"),
    "worktree": ("list", "lock", "unlock"),
}
# The rest of git's own. A command that is in none of these lists is an alias or a program beside git.
_MOVERS = frozenset((
    "am", "apply", "bisect", "branch", "checkout", "checkout-index", "cherry-pick", "citool", "clean", "difftool",
    "fast-import", "fetch", "filter-branch", "for-each-repo", "gui", "history", "hook", "http-push", "merge", "merge-file",
    "mergetool", "mv", "prune", "pull", "read-tree", "rebase", "replace", "replay", "reset", "restore", "revert", "rm",
    "switch", "symbolic-ref", "tag", "unpack-file", "update-index", "update-ref",
))  # fmt: skip
BUILT_IN = HARMLESS | WRITERS | _MOVERS | frozenset(HARMLESS_SUBCOMMANDS)
# Listing branches and tags; with any other word one may be made, moved or deleted.
_LISTING = frozenset((
    "-a", "-l", "-r", "-v", "-vv", "--all", "--list", "--remotes", "--show-current", "--verbose", "-n", "--no-column",
))  # fmt: skip
# Commands that put files of a commit into the work tree, over ignored ones in silence.
_TAKERS = frozenset((
    "am", "apply", "bisect", "checkout", "checkout-index", "cherry-pick", "merge", "pull", "read-tree", "rebase", "reset",
    "restore", "revert", "sparse-checkout", "stash", "submodule", "switch", "worktree",
))  # fmt: skip


class Act(enum.Enum):
    """What becomes of a call."""

    RUN = "run"
    SAVE = "save"
    REFUSE = "refuse"


@dataclass(frozen=True)
class Taken:
    """The ignored files that a call may write over or delete: all of them, or those that `words` name or, as commits, hold."""

    is_all: bool = False
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decision:
    """What becomes of a call, the verdict behind it, and what must be saved beside what every snapshot holds."""

    act: Act
    verdict: Verdict
    taken: Taken = Taken()


def judge_early(argv: Sequence[str]) -> Verdict:
    """The verdict on `git *argv` before anything is known of the repository: refused only what is refused in each."""
    return verdict_of([(harm, what) for harm, what in harms_of(argv) if harm.doubt is None])


def doubts(argv: Sequence[str]) -> tuple[Doubt, ...]:
    """The questions that a repository must answer before `decide`; none is asked where words are enough."""
    found = [harm for harm, _ in harms_of(argv)]
    if any(harm.doubt is None for harm in found):
        return ()
    return tuple(dict.fromkeys(harm.doubt for harm in found if harm.doubt and harm.doubt.kind != harms.SEEN))


def decide(argv: Sequence[str], known: Mapping[Doubt, bool]) -> Decision:
    """What becomes of `git *argv`, aliases expanded. `known` says of each doubt whether it is harmful; unanswered ones are."""
    found = [
        (harm, what)
        for harm, what in harms_of(argv)
        if harm.doubt is None or (harm.doubt.kind != harms.SEEN and known.get(harm.doubt, True))
    ]
    verdict = verdict_of(found)
    if not verdict.allowed:
        return Decision(Act.REFUSE, verdict)
    call = split(argv)
    if not call.command or _is_harmless(call.command, call.arguments):
        return Decision(Act.RUN, verdict)
    return Decision(Act.SAVE, verdict, _taken(call.command, call.arguments))


def _is_harmless(command: str, arguments: tuple[str, ...]) -> bool:
    if arguments[:1] == ("--help",) or arguments == ("-h",) or command in HARMLESS:
        return True
    words = words_of(arguments, *harms.VALUES.get(command, ("", ())))
    if command in WRITERS:
        return command not in ("archive", "bundle", "format-patch") and not words.typed("--output")
    if command in HARMLESS_SUBCOMMANDS:
        first = words.positionals[0] if words.positionals else ""
        return first in HARMLESS_SUBCOMMANDS[command] and not (words.is_doubtful or words.typed("--output"))
    if command in ("branch", "tag"):
        return _LISTING.issuperset(arguments) or _only_makes(words.positionals, arguments)
    if command == "fetch":  # a word with a colon writes a branch
        return not any(":" in word for word in (*words.positionals, *(words.paths or ())) if "//" not in word)
    if command in ("symbolic-ref", "update-index"):
        return len(words.positionals) < 2 and (
            command == "symbolic-ref" or arguments in (("--refresh",), ("-q", "--refresh"))
        )
    return False


def _only_makes(positionals: tuple[str, ...], arguments: tuple[str, ...]) -> bool:
    """Whether `branch` or `tag` only makes a new one: git itself refuses a name that is there."""
    return bool(positionals) and positionals == arguments


def _taken(command: str, arguments: tuple[str, ...]) -> Taken:
    words = words_of(arguments, *harms.VALUES.get(command, ("", ())))
    if command == "clean" or (command == "stash" and (words.typed("-a") or words.typed("--all"))):
        return Taken(is_all=True)
    attached = [value for _, value in words.longs if value]
    # `-oFILE`, `-bNAME START`: what stands behind a letter in the same word.
    attached += [word[2:] for word in arguments if word[:1] == "-" and word[1:2] not in ("", "-") and len(word) > 2]
    given = [*words.positionals, *(words.paths or ()), *attached]
    given += [word for word in arguments if not word.startswith("-")]  # values of options as well
    if command in _TAKERS:
        given += ["@{-1}"] if command in ("switch", "checkout") and "-" in arguments else []
        given += ["@{upstream}", "FETCH_HEAD"] if command in ("merge", "pull", "rebase") else []
        given += ["stash@{0}"] if command == "stash" else []
        given += [side for word in given for side in word.split("..") if ".." in word]
    return Taken(words=tuple(dict.fromkeys(word for word in given if word)))
