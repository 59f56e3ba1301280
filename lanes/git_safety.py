"""May this git command run? No rewriting of history, no losing of work: merge only, in code (S9-R08, S9-R11).

`judge` refuses what can lose uncommitted work, a commit's last ref, or a commit of origin, and allows the rest: it knows
git, not the user's aliases and extensions. `ours` is for Hemma's own calls: an allow-list on top. Both see words only, so
a word that could be either (`git checkout NAME`: a branch, or a file to overwrite) is refused with the plain form; who can
ask the repository hands the answers to lanes.git_guard. These files travel with the agent: standard library, Python 3.9.

What stays allowed and moves something: `stash pop` (the work goes back into the tree), `fetch --prune` (refs/remotes is
origin's to move), `--abort` of an unfinished operation, plain `git gc` (its two weeks of grace).
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence

from manifests import commands
from manifests.commands import Remedy, once

from lanes import git_harms as harms
from lanes.git_config import setting_harm
from lanes.git_harms import Doubt, Harm
from lanes.git_words import Words, split, words_of
from lanes.verdict import Reason, Verdict

Found = Iterator[tuple[Harm, str]]

# Hemma's own calls. Whole commands whose every form that `judge` allows is ours to use:
OWN = frozenset((
    "add", "apply", "cat-file", "check-attr", "check-ignore", "check-ref-format", "commit", "commit-tree", "config",
    "count-objects", "describe", "diff", "diff-files", "diff-index", "diff-tree", "for-each-ref", "hash-object",
    "index-pack", "interpret-trailers", "log", "ls-files", "ls-remote", "ls-tree", "merge-base", "merge-file",
    "merge-tree", "mktree", "name-rev", "pack-objects", "push", "rev-list", "rev-parse", "show", "show-ref", "status",
    "unpack-objects", "update-ref", "upload-pack", "var", "version", "write-tree",
))  # fmt: skip
# and commands of which only these subcommands are ("" is the command alone).
OWN_SUBCOMMANDS: Mapping[str, tuple[str, ...]] = {
    "bundle": ("create", "list-heads", "unbundle", "verify"),
    "remote": ("", "get-url"),
    "sparse-checkout": ("list",),
    "stash": ("apply", "create", "list", "push", "show", "store"),
    "submodule": ("", "status"),
    "worktree": ("list",),
}
_SHELL_SIGNS = frozenset("\\;&|()<>$`{}*?[]~#!\n\r")
_MOST_SHOWN = 60


def judge(argv: Sequence[str]) -> Verdict:
    """Whether the command `git *argv` may run; a *no* carries every reason and the commands to use instead. Never raises."""
    return verdict_of(harms_of(argv))


def harms_of(argv: Sequence[str]) -> list[tuple[Harm, str]]:
    """Everything that `git *argv` may do wrong, each with the words that show it; those in doubt too."""
    call = split(argv)
    found = list(_hidden(call.strange, call.settings))
    # `git X --help` opens the manual page and does nothing else; so does a lone -h.
    if call.command and call.arguments[:1] != ("--help",) and call.arguments != ("-h",):
        found += _command(call.command, call.arguments)
    return found


def verdict_of(found: Sequence[tuple[Harm, str]]) -> Verdict:
    """The verdict that these harms make: allowed when there is none."""
    reasons = dict.fromkeys(Reason(harm.rule, f"`git {what}` {harm.does}") for harm, what in found)
    steps = once(step for harm, _ in found for step in harm.steps)
    return Verdict(not found, tuple(reasons), steps)


def ours(argv: Sequence[str]) -> Verdict:
    """Whether Hemma itself may run `git *argv`: what `judge` allows, and is among the few calls that Hemma needs."""
    verdict = judge(argv)
    call = split(argv)
    if not verdict.allowed or not call.command or _is_own(call.command, call.arguments):
        return verdict
    reason = Reason(harms.OWN_CALLS, f"`git {_shown(call.command, *call.arguments[:2])}` is none of Hemma's own calls")
    return Verdict(False, (reason,), ("hemma run -- git <command> <arguments>",))


def _hidden(strange: str | None, settings: Sequence[tuple[str, str | None]]) -> Found:
    if strange is not None:
        yield harms.HIDES, _shown(strange)
    for name, value in settings:
        if harm := setting_harm(name, value):
            is_alias = name.lower().startswith("alias.")
            harm = dataclasses.replace(harm, doubt=Doubt(harms.SEEN)) if is_alias else harm
            yield harm, _shown("-c", name if value is None else f"{name}={value}")


def _command(command: str, arguments: tuple[str, ...]) -> Found:
    letters, names = harms.VALUES.get(command, ("", ()))
    words = words_of(arguments, letters, names)
    # Behind an abbreviated option with a value, the second word may be the subcommand.
    for key in (command, *(f"{command} {word}" for word in words.positionals[: 1 + words.is_doubtful])):
        if harm := harms.REFUSED.get(key):
            yield _in_doubt(key, harm, words), _shown(key)
        if (harm := harms.REFUSED_UNLESS_DRY.get(key)) and not _is_dry(words):
            yield harm, _shown(key)
        for flag, harm in harms.REFUSED_FLAGS.get(key, {}).items():
            if typed := words.typed(flag, harms.EXACT.get(command, ())):
                named = (
                    _if_there(key, words, arguments) if harm is harms.OVERWRITES_REF else _in_doubt(key, harm, words)
                )
                yield named, _shown(key, typed)
    if closer := _CLOSER.get(command):
        yield from closer(command, words, arguments)


def _is_dry(words: Words) -> bool:
    return words.surely("-n", "--dry-run") and not words.denies("dry-run")


def _is_own(command: str, arguments: tuple[str, ...]) -> bool:
    words = words_of(arguments, *harms.VALUES.get(command, ("", ())))
    if command in OWN_SUBCOMMANDS:
        first = words.positionals[0] if words.positionals else ""
        return first in OWN_SUBCOMMANDS[command] and not words.is_doubtful
    if command == "merge":  # a strategy of one side, or that prefers one, drops the other's work without a conflict
        return not any(words.typed(flag) for flag in ("-s", "--strategy", "-X", "--strategy-option"))
    if command == "fetch":
        return not any(words.typed(flag) for flag in ("-p", "--prune"))
    if command == "branch":
        return arguments == ("--show-current",)
    if command == "symbolic-ref":
        return len(words.positionals) == 1 and words.paths is None
    return command in OWN


def _rebase(command: str, _: Words, arguments: tuple[str, ...]) -> Found:
    # The three ways out of a rebase that somebody began: none of them rewrites anything more.
    if arguments not in (("--abort",), ("--quit",), ("--show-current-patch",)):
        yield harms.REWRITES, _shown(command, *arguments[:1])


def _pull(command: str, words: Words, _: tuple[str, ...]) -> Found:
    for name, value in words.longs:
        is_off = name == "rebase" and value in ("false", "no", "off", "0")
        if "rebase".startswith(name) and not is_off:
            is_plain = value in (None, "true", "merges")
            harm = _in_doubt(command, harms.REWRITES, words) if is_plain else harms.REWRITES
            yield harm, _shown(command, f"--{name}" if value is None else f"--{name}={value}")
    yield from _fetch(command, words, ())


def _fetch(command: str, words: Words, _: tuple[str, ...]) -> Found:
    given = (*words.positionals, *(words.paths or ()))
    prunes = bool(words.typed("-p") or words.typed("--prune"))
    # The first word is the repository, unless an abbreviated option's value stands before it.
    checked = [*((refspec, False) for refspec in (*given[:1], *words.values_of("refmap")))]
    checked += [(refspec, prunes) for refspec in given[1:]]
    for refspec, deletes in checked:
        destination = refspec.partition(":")[2]
        if not destination or (destination.startswith(("refs/remotes/", "refs/hemma/")) and ".." not in destination):
            continue
        if refspec.startswith("+"):
            yield harms.OVERWRITES_REF, _shown(command, refspec)
        elif deletes:
            yield harms.DELETES_REF, _shown(command, "--prune", refspec)


def _push(command: str, words: Words, _: tuple[str, ...]) -> Found:
    for refspec in (*words.positionals, *(words.paths or ())):
        if refspec.startswith("+"):
            yield harms.FORCES_ORIGIN, _shown(command, refspec)
        elif refspec.startswith(":") and refspec != ":":
            yield harms.DELETES_AT_ORIGIN, _shown(command, refspec)


def _in_doubt(key: str, harm: Harm, words: Words) -> Harm:
    """The harm with the question that tells whether there is anything to lose, where the words are certain enough to ask it."""
    given, doubt = words.positionals, None
    if words.is_doubtful or any(word.startswith("-") for word in given):
        return harm
    if harm is harms.DELETES_REF and key in ("branch", "tag") and given and not {"r", "a"} & set(words.shorts):
        folder = "refs/heads/" if key == "branch" else "refs/tags/"
        doubt = Doubt(harms.LAST, tuple(folder + name for name in given)) if not words.typed("--remotes") else None
    elif harm is harms.DROPS_STASH:
        doubt = Doubt(harms.THERE, given[1:2] or ("refs/stash",))
    elif harm is harms.REWRITES and key == "pull" and len(given) in (0, 2) and ":" not in "".join(given):
        doubt = Doubt(harms.AHEAD, given)
    elif harm is harms.DISCARDS and key in ("checkout", "restore"):
        paths = (*given, *(words.paths or ()))
        is_told = not words.typed("--pathspec-from-file") and not words.typed("-p") and not words.typed("--patch")
        doubt = Doubt(harms.DIRTY, paths) if paths and is_told else None
    return dataclasses.replace(harm, doubt=doubt) if doubt else harm


def _if_there(key: str, words: Words, arguments: tuple[str, ...]) -> Harm:
    """A forced branch or tag overwrites only one that is there; which one it is must be certain, or it stays refused."""
    given = words.positionals
    name = None
    if key in ("checkout", "switch", "worktree add"):
        flags = {"checkout": ("-B",), "switch": ("-C", "--force-create"), "worktree add": ("-B",)}[key]
        name = next((value for flag, value in _pairs(arguments) if flag in flags), None)
    elif key == "branch" and given and not {"d", "D"} & set(words.shorts) and not words.typed("--delete"):
        name = given[-1] if {"M", "C", "m", "c"} & set(words.shorts) else given[0]
    elif key == "tag" and given and not {"d"} & set(words.shorts):
        name = given[0]
    if name is None or words.is_doubtful or words.paths or name.startswith("-"):
        return harms.OVERWRITES_REF
    if key == "branch":  # git itself moves no branch so that is checked out
        return dataclasses.replace(
            harms.OVERWRITES_REF, doubt=Doubt(harms.REF, ("refs/heads/" + name, harms.UNLESS_CURRENT))
        )
    ref = ("refs/tags/" if key == "tag" else "refs/heads/") + name
    return dataclasses.replace(harms.OVERWRITES_REF, doubt=Doubt(harms.REF, (ref,)))


def _reset(command: str, words: Words, _: tuple[str, ...]) -> Found:
    # With two words the first is a commit and the rest are paths, or all are: the branch stays where it is.
    if len(words.positionals) != 1 or words.paths or words.positionals[0] in ("HEAD", "@"):
        return
    commit = words.positionals[0]
    steps = harms.MOVES_BACK.steps if words.paths is not None else (commands.command("git reset -- {}", commit),)
    harm = _with(harms.MOVES_BACK, (*steps, *harms.MOVES_BACK.steps))
    yield dataclasses.replace(harm, doubt=Doubt(harms.MOVES, (commit,))), _shown(command, commit)


def _checkout(command: str, words: Words, _: tuple[str, ...]) -> Found:
    if any(words.typed(flag) for flag, harm in harms.REFUSED_FLAGS[command].items() if harm is harms.CHOOSES):
        return  # the flag has said it
    if words.paths:
        yield _in_doubt(command, harms.DISCARDS, words), _shown(command, "--", *words.paths[:1])
    makes_one = words.surely("-b", "--orphan", "--detach", "-d", "--track", "-t") and not words.denies("detach")
    if len(words.positionals) > 1 or (words.positionals and words.is_doubtful):
        yield _in_doubt(command, harms.DISCARDS, words), _shown(command, *words.positionals[:2])
    elif words.positionals and not makes_one and words.paths is None and not _is_commit(words.positionals[0]):
        name = words.positionals[0]
        does = "throws away the changes of a file of that name, if there is one"
        steps = (commands.command("git switch {}", name), "git stash push -- <file>")
        yield Harm(harms.KEEP_WORK, does, steps, Doubt(harms.FILE, (name,))), _shown(command, name)


def _is_commit(word: str) -> bool:
    """Whether a word can only mean a commit: no file has such a name unless somebody means harm."""
    return word in ("-", "HEAD", "@") or (len(word) in (40, 64) and set(word) <= set("0123456789abcdef"))


def _restore(command: str, words: Words, _: tuple[str, ...]) -> Found:
    if not words.surely("-S", "--staged") or words.denies("staged"):
        yield _in_doubt(command, harms.DISCARDS, words), _shown(command, *words.positionals[:1])


def _branch(command: str, words: Words, _: tuple[str, ...]) -> Found:
    # git asks nothing before it deletes a remote-tracking branch.
    if words.typed("-r") or words.typed("--remotes"):
        for flag in ("-d", "--delete"):
            if typed := words.typed(flag):
                yield harms.DELETES_REF, _shown(command, "-r", typed)


def _update_ref(command: str, words: Words, _: tuple[str, ...]) -> Found:
    given = (*words.positionals, *(words.paths or ()))
    ref = given[0] if given else ""
    if not given or (ref.startswith("refs/hemma/") and ".." not in ref):
        return
    if words.typed("-d"):
        yield harms.DELETES_REF, _shown(command, "-d", ref)
    elif len(given) < 2 or words.is_doubtful:
        yield harms.OVERWRITES_REF, _shown(command, ref)
    elif len(given) < 3 or (set(given[2]) - {"0"} and not (ref.startswith("refs/remotes/") and ".." not in ref)):
        # An old value guards against others who move the ref too; it says nothing of where the ref goes to.
        steps = ("git merge --ff-only <commit>", *harms.OVERWRITES_REF.steps)
        harm = Harm(harms.KEEP_REFS, harms.OVERWRITES_REF.does, steps, Doubt(harms.BACK, given[:2]))
        yield harm, _shown(command, ref)


def _symbolic_ref(command: str, words: Words, _: tuple[str, ...]) -> Found:
    given = (*words.positionals, *(words.paths or ()))
    is_pointer = given[:1] == ("HEAD",) or (given[:1] != () and given[0].startswith("refs/remotes/"))
    if len(given) > 1 and not is_pointer:
        yield harms.OVERWRITES_REF, _shown(command, given[0])


def _replace(command: str, words: Words, _: tuple[str, ...]) -> Found:
    wants_list = words.surely("-l", "--list") and not {"d", "f", "e", "g"} & set(words.shorts)
    if (words.positionals or words.paths or words.longs or words.shorts) and not wants_list:
        yield harms.REWRITES, _shown(command, *words.positionals[:1])


def _repack(command: str, words: Words, _: tuple[str, ...]) -> Found:
    if words.typed("-a") and not words.surely("-k", "--keep-unreachable"):
        yield harms.PRUNES, _shown(command, "-a")
    for flag in ("--cruft-expiration", "--unpack-unreachable"):
        if typed := words.typed(flag):
            yield harms.PRUNES, _shown(command, typed)


def _config(command: str, words: Words, _: tuple[str, ...]) -> Found:
    if words.surely("-l", "--list", "--get", "--get-all", "--get-regexp", "--get-urlmatch", "--unset", "--unset-all"):
        return
    given = (*words.positionals, *(words.paths or ()))
    # The former form is `config NAME VALUE`, the new one `config set NAME VALUE`.
    for name, value in _pairs(given)[: 1 + (given[:1] == ("set",)) + words.is_doubtful]:
        if name.lower().startswith("alias."):
            if not _is_plain_alias(value):
                yield dataclasses.replace(harms.HIDES, doubt=Doubt(harms.SEEN)), _shown(command, name, value)
        elif setting_harm(name, value):
            yield (setting_harm(name, value) or harms.UNGUARDS), _shown(command, name, value)


def _is_plain_alias(value: str) -> bool:
    """Whether an alias stands for something that is allowed itself."""
    words = plain_words(value[1:]) if value.startswith("!") else ["git", *value.split()]
    return bool(words) and (words[0] != "git" or judge(words[1:]).allowed)


def plain_words(line: str) -> list[str]:
    """The words of a line that a shell takes as they stand: one command, nothing expanded; none where that is not so."""
    if set(line) & _SHELL_SIGNS:
        return []
    try:
        return shlex.split(line)
    except ValueError:
        return []


def _nested(command: str, _: Words, arguments: tuple[str, ...]) -> Found:
    """Commands that start other commands: `submodule foreach`, `bisect run`, `for-each-repo`."""
    plain = [at for at, word in enumerate(arguments) if not word.startswith("-")]
    doubt = None
    if command == "for-each-repo":
        inner = [judge(arguments[at:]) for at in plain[:2]]
    elif plain and arguments[plain[0]] in ("foreach", "run"):
        started: list[str] = []
        for word in arguments[plain[0] + 1 :]:
            if not (words := plain_words(word)):
                break
            started += words
        at = next((at for at, word in enumerate(started) if not word.startswith("-")), len(started))
        is_git = at < len(started) and started[at].rpartition("/")[2] == "git"
        inner = [judge(started[at + 1 :])] if is_git else []
        doubt = Doubt(harms.SEEN)  # the guard sees the inner calls as well
    else:
        return
    for reason, steps in ((reason, verdict.next_steps) for verdict in inner for reason in verdict.reasons):
        yield Harm(reason.rule, f"runs what is refused: {reason.fact}", steps, doubt), command


def _pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    return [(words[at], words[at + 1]) for at in range(len(words) - 1)]  # itertools.pairwise is Python 3.10


def _with(harm: Harm, steps: Sequence[Remedy]) -> Harm:
    return dataclasses.replace(harm, steps=once(steps))


def _shown(*words: str) -> str:
    """The words as a message may hold them: one line, no control characters, not endless."""
    text = " ".join(words)
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text)
    return safe if len(safe) <= _MOST_SHOWN else safe[: _MOST_SHOWN - 1] + "…"


_CLOSER: Mapping[str, Callable[[str, Words, tuple[str, ...]], Found]] = {
    "rebase": _rebase,
    "pull": _pull,
    "fetch": _fetch,
    "push": _push,
    "send-pack": _push,
    "http-push": _push,
    "reset": _reset,
    "checkout": _checkout,
    "restore": _restore,
    "branch": _branch,
    "update-ref": _update_ref,
    "symbolic-ref": _symbolic_ref,
    "replace": _replace,
    "repack": _repack,
    "config": _config,
    "submodule": _nested,
    "bisect": _nested,
    "for-each-repo": _nested,
}
