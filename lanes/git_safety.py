"""May this git command run? No rewriting of history, no losing of work: merge only, in code (S9-R08, S9-R11).

`judge` refuses what can lose uncommitted work, a commit's last ref, or a commit of origin, and allows the rest: it knows
git, not the user's aliases and extensions. `ours` is for Hemma's own calls: an allow-list on top. Both see words only, so
a word that could be either (`git checkout NAME`: a branch, or a file to overwrite) is refused with the plain form.

What stays allowed and moves something: `stash pop` (the work goes back into the tree), `fetch --prune` (refs/remotes is
origin's to move), `--abort` of an unfinished operation, plain `git gc` (its two weeks of grace).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from manifests import commands
from manifests.commands import Remedy, joined, once
from manifests.errors import NeedsPerson

from lanes import git_harms as harms
from lanes.git_config import setting_harm
from lanes.git_harms import Harm
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
# Programs that start the command in their later words.
_STARTERS = frozenset((
    "chronic", "command", "doas", "env", "exec", "flock", "ionice", "nice", "nohup", "numactl", "setsid", "srun", "stdbuf",
    "sudo", "taskset", "time", "timeout", "unbuffer", "xargs",
))  # fmt: skip
_SHELLS = ("ash", "bash", "dash", "ksh", "sh", "zsh")
_SHELL_ENDS = ";&|()`\n{}"
_MOST_SHOWN = 60


def judge(argv: Sequence[str]) -> Verdict:
    """Whether the command `git *argv` may run; a *no* carries every reason and the commands to use instead. Never raises."""
    call = split(argv)
    found = list(_hidden(call.strange, call.settings))
    # `git X --help` opens the manual page and does nothing else; so does a lone -h.
    if call.command and call.arguments[:1] != ("--help",) and call.arguments != ("-h",):
        found += _command(call.command, call.arguments)
    reasons = dict.fromkeys(Reason(harm.rule, f"`git {what}` {harm.does}") for harm, what in found)
    steps = once(step for harm, _ in found for step in harm.steps)
    return Verdict(not found, tuple(reasons), steps)


def judge_shell(text: str) -> Verdict:
    """Whether a shell line may run, as far as its plain `git …` commands go. What expansions make of it is not seen."""
    verdicts = [judge(argv) for argv in _git_commands(text)]
    reasons = dict.fromkeys(reason for verdict in verdicts for reason in verdict.reasons)
    steps = once(step for verdict in verdicts for step in verdict.next_steps)
    return Verdict(not reasons, tuple(reasons), steps)


def ours(argv: Sequence[str]) -> Verdict:
    """Whether Hemma itself may run `git *argv`: what `judge` allows, and is among the few calls that Hemma needs."""
    verdict = judge(argv)
    call = split(argv)
    if not verdict.allowed or not call.command or _is_own(call.command, call.arguments):
        return verdict
    reason = Reason(harms.OWN_CALLS, f"`git {_shown(call.command, *call.arguments[:2])}` is none of Hemma's own calls")
    return Verdict(False, (reason,), ("hemma run -- git <command> <arguments>",))


def judge_command(argv: Sequence[str]) -> Verdict:
    """Whether a command of any program may run: plain git, git behind `env`, `timeout` and the like, or a shell's line."""
    for at, word in enumerate(argv):
        program = word.rpartition("/")[2]
        if program == "git":
            return judge(argv[at + 1 :])
        if program in _SHELLS:
            return judge_shell("\n".join(argv[at + 1 :]))
        if at == 0 and program not in _STARTERS:
            break
    return Verdict(allowed=True)


class GitRefused(NeedsPerson):
    """A git command that could lose work or rewrite history; `verdict` says by which rules, and what to do instead."""

    code = "git-refused"
    verdict = Verdict(allowed=False)

    def as_dict(self) -> dict[str, Any]:
        """The error as agents read it under --json, with the whole verdict."""
        return {**super().as_dict(), "verdict": self.verdict.as_dict()}


def demand(argv: Sequence[str]) -> None:
    """Raise GitRefused (75) unless `judge` allows `git *argv`."""
    _demand(judge(argv))


def demand_run(argv: Sequence[str], shell: str | None = None) -> None:
    """Raise GitRefused (75) unless the command `argv`, or the line `shell` in its stead, may run on the host (S9-R08)."""
    _demand(judge_command(argv) if shell is None else judge_shell(shell))


def _demand(verdict: Verdict) -> None:
    if not verdict.allowed:
        rules = ", ".join(dict.fromkeys(reason.rule for reason in verdict.reasons))
        facts = "; ".join(reason.fact for reason in verdict.reasons)
        refused = GitRefused(f"{facts} (rule: {rules})", remedy=joined(verdict.next_steps))
        refused.verdict = verdict
        raise refused


def _hidden(strange: str | None, settings: Sequence[tuple[str, str | None]]) -> Found:
    if strange is not None:
        yield harms.HIDES, _shown(strange)
    for name, value in settings:
        if harm := setting_harm(name, value):
            yield harm, _shown("-c", name if value is None else f"{name}={value}")


def _command(command: str, arguments: tuple[str, ...]) -> Found:
    letters, names = harms.VALUES.get(command, ("", ()))
    words = words_of(arguments, letters, names)
    # Behind an abbreviated option with a value, the second word may be the subcommand.
    for key in (command, *(f"{command} {word}" for word in words.positionals[: 1 + words.is_doubtful])):
        if harm := harms.REFUSED.get(key):
            yield harm, _shown(key)
        if (harm := harms.REFUSED_UNLESS_DRY.get(key)) and not _is_dry(words):
            yield harm, _shown(key)
        for flag, harm in harms.REFUSED_FLAGS.get(key, {}).items():
            if typed := words.typed(flag, harms.EXACT.get(command, ())):
                yield harm, _shown(key, typed)
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
            yield harms.REWRITES, _shown(command, f"--{name}" if value is None else f"--{name}={value}")
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


def _reset(command: str, words: Words, _: tuple[str, ...]) -> Found:
    # With two words the first is a commit and the rest are paths, or all are: the branch stays where it is.
    if len(words.positionals) != 1 or words.paths or words.positionals[0] in ("HEAD", "@"):
        return
    commit = words.positionals[0]
    steps = harms.MOVES_BACK.steps if words.paths is not None else (commands.command("git reset -- {}", commit),)
    yield _with(harms.MOVES_BACK, (*steps, *harms.MOVES_BACK.steps)), _shown(command, commit)


def _checkout(command: str, words: Words, _: tuple[str, ...]) -> Found:
    if words.paths:
        yield harms.DISCARDS, _shown(command, "--", *words.paths[:1])
    makes_one = words.surely("-b", "--orphan", "--detach", "-d", "--track", "-t") and not words.denies("detach")
    if len(words.positionals) > 1 or (words.positionals and words.is_doubtful):
        yield harms.DISCARDS, _shown(command, *words.positionals[:2])
    elif words.positionals and not makes_one and words.paths is None and not _is_commit(words.positionals[0]):
        name = words.positionals[0]
        does = "throws away the changes of a file of that name, if there is one"
        steps = (commands.command("git switch {}", name), "git stash push -- <file>")
        yield Harm(harms.KEEP_WORK, does, steps), _shown(command, name)


def _is_commit(word: str) -> bool:
    """Whether a word can only mean a commit: no file has such a name unless somebody means harm."""
    return word in ("-", "HEAD", "@") or (len(word) in (40, 64) and set(word) <= set("0123456789abcdef"))


def _restore(command: str, words: Words, _: tuple[str, ...]) -> Found:
    if not words.surely("-S", "--staged") or words.denies("staged"):
        yield harms.DISCARDS, _shown(command, *words.positionals[:1])


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
    elif len(given) < 3 or words.is_doubtful:
        steps = ("git update-ref <ref> <new> <old>",)
        yield _with(harms.OVERWRITES_REF, steps), _shown(command, ref)


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
    pairs = itertools.pairwise(given)
    for name, value in list(pairs)[: 1 + (given[:1] == ("set",)) + words.is_doubtful]:
        is_alias = name.lower().startswith("alias.")
        if (not _is_plain_alias(value)) if is_alias else setting_harm(name, value):
            yield (setting_harm(name, value) or harms.UNGUARDS), _shown(command, name, value)


def _is_plain_alias(value: str) -> bool:
    """Whether an alias stands for something that is allowed itself."""
    return judge_shell(value[1:]).allowed if value.startswith("!") else judge(value.split()).allowed


def _nested(command: str, _: Words, arguments: tuple[str, ...]) -> Found:
    """Commands that start other commands: `submodule foreach`, `bisect run`, `for-each-repo`."""
    plain = [at for at, word in enumerate(arguments) if not word.startswith("-")]
    if command == "for-each-repo":
        inner = [judge(arguments[at:]) for at in plain[:2]]
    elif plain and arguments[plain[0]] in ("foreach", "run"):
        inner = [judge_shell(" ".join(arguments[plain[0] + 1 :]))]
    else:
        return
    for reason, steps in ((reason, verdict.next_steps) for verdict in inner for reason in verdict.reasons):
        yield Harm(reason.rule, f"runs what is refused: {reason.fact}", steps), command


def _git_commands(text: str) -> Iterator[list[str]]:
    """The arguments of every plain `git …` in a shell line: what stands behind the word, up to the command's end."""
    for end in _SHELL_ENDS:
        text = text.replace(end, " ; ")
    words = [word.strip("\"'") for word in text.split()]
    for at, word in enumerate(words):
        if word.rpartition("/")[2] == "git":
            rest = words[at + 1 :]
            yield rest[: rest.index(";")] if ";" in rest else rest


def _with(harm: Harm, steps: Sequence[Remedy]) -> Harm:
    return Harm(harm.rule, harm.does, once(steps))


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
