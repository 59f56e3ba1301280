"""The judge of git calls on the host: what the repository answers to the questions of lanes.git_guard, and what is saved first.

It acts for the run's clone, its work trees and its submodules. Other clones are whoever made them's own: pip, pre-commit and
CMake reset theirs all day. Whatever it asks git itself skips the guard, reads no stdin and takes no lock.
"""

from __future__ import annotations

import os
import shlex
import subprocess

from lanes import git_guard, git_harms
from lanes.git_words import split

from . import frames, git_shim, gitfacts, store

_ALIASES = 10
_ORIGIN_S = 10.0


class Caller:
    """Who calls git: with which git, where, in which environment. `where` are the global words that choose the repository."""

    def __init__(self, real: str, cwd: str, env: dict[str, str], where: list[str]) -> None:
        self.real = real
        self.cwd = cwd
        self.env = env
        self.where = where

    def ask(self, *argv: str, timeout_s: float | None = None) -> tuple[int, str]:
        """(exit code, stdout less its last line end) of the real git, as this caller's own call would be understood."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        quiet = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
        environment = {**kept, **self.env, **quiet}
        environment["PATH"] = git_shim.without(environment.get("PATH", os.defpath))
        try:
            done = subprocess.run(
                [self.real, *self.where, *argv],
                cwd=self.cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                check=False,
                timeout=timeout_s,
                start_new_session=timeout_s is not None,  # no terminal to ask for a password at
            )
        except subprocess.TimeoutExpired:
            return 124, ""
        return done.returncode, os.fsdecode(done.stdout).rstrip("\n")

    def says(self, *argv: str) -> str:
        """What git printed; nothing where it failed."""
        code, text = self.ask(*argv)
        return "" if code else text

    def folder(self) -> str:
        """The working directory after every `-C`."""
        here = self.cwd
        for at, word in enumerate(self.where):
            if word == "-C":
                here = os.path.join(here, self.where[at + 1])
        return here


def answer(question: list[str], run_folder: str) -> tuple[str, list[str]]:
    """The judge's word on a call (see git_ask.ask): what to say, and the arguments of git or nothing. May take a while."""
    count = int(question[2])
    env = dict(_pair(text) for text in question[3 : 3 + count])
    argv = question[3 + count :]
    caller = Caller(question[0], question[1], env, _globals(argv))
    record = store.read(run_folder, "run.json") or {}
    top = _guarded_top(caller, str(record.get("root") or ""))
    if top is None:
        return "exec", ["", *argv]
    judged, line = _expanded(caller, argv)
    if line is not None:  # an alias for a shell: the calls in it come back here, and what else it does is not git's
        return "exec", ["", *caller.where, "-c", line, *argv[len(caller.where) :]]
    caller.where = _globals(judged)
    decision = git_guard.decide(judged, {doubt: _is_harmful(caller, doubt) for doubt in git_guard.doubts(judged)})
    verb = split(judged).command
    if decision.act is git_guard.Act.REFUSE:
        store.add_event(run_folder, "git-refused", verb=verb, rules=sorted({r.rule for r in decision.verdict.reasons}))
        return "refuse", [_refusal(decision)]
    said = ""
    if decision.act is git_guard.Act.SAVE:
        said = _saved(caller, top, verb, decision.taken, run_folder)
    return "exec", [said, *(_with_guard_inside(caller, judged) or argv)]


def _globals(argv: list[str]) -> list[str]:
    """The words before the command."""
    call = split(argv)
    return argv[: len(argv) - len(call.arguments) - 1] if call.command else []


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _refusal(decision: git_guard.Decision) -> str:
    rules = ", ".join(dict.fromkeys(reason.rule for reason in decision.verdict.reasons))
    facts = "; ".join(reason.fact for reason in decision.verdict.reasons)
    return "refused  %s (rule: %s)\ndo       %s" % (facts, rules, "   or   ".join(decision.verdict.next_steps))


# -- what is called ------------------------------------------------------------------------------------------------------


def _expanded(caller: Caller, argv: list[str]) -> tuple[list[str], str | None]:
    """(the call with its aliases expanded, a setting to start git with where it ends in an alias for a shell).

    In that setting the guard is first on PATH: git puts its own folder, which holds a git, before everything else.
    """
    judged = list(argv)
    for _ in range(_ALIASES):
        call = split(judged)
        if call.strange is not None or not call.command or call.command in git_guard.BUILT_IN:
            break
        at = len(judged) - len(call.arguments) - 1
        value = caller.says("config", "--get", "alias." + judged[at])
        if value.startswith("!"):
            inner = "PATH=%s:$PATH; export PATH; %s" % (shlex.quote(_guard_of(caller)), value[1:])
            return judged, "alias.%s=!%s" % (judged[at], inner)
        try:
            words = shlex.split(value)
        except ValueError:
            words = []
        if not words:
            break
        judged = judged[:at] + words + judged[at + 1 :]
    return judged, None


def _guard_of(caller: Caller) -> str:
    """The folder of the guard that the caller met."""
    parts = caller.env.get("PATH", "").split(os.pathsep)
    return next((part for part in parts if os.path.basename(part) == git_shim.FOLDER), "")


def _with_guard_inside(caller: Caller, judged: list[str]) -> list[str] | None:
    """`submodule foreach LINE` and `bisect run COMMAND` with the guard first on PATH again; None for any other call."""
    call = split(judged)
    arguments = list(call.arguments)
    plain = [at for at, word in enumerate(arguments) if not word.startswith("-")]
    if call.command not in ("submodule", "bisect") or not plain or arguments[plain[0]] not in ("foreach", "run"):
        return None
    at = plain[0] + 1
    while at < len(arguments) and arguments[at] in ("--recursive", "-q", "--quiet", "--"):
        at += 1
    head, rest = judged[: len(judged) - len(arguments)] + arguments[:at], arguments[at:]
    path = caller.env.get("PATH", "")
    if call.command == "submodule" and len(rest) == 1:
        return [*head, "PATH=%s; export PATH; %s" % (shlex.quote(path), rest[0])]
    return [*head, "env", "PATH=" + path, *rest]


# -- what the repository knows -------------------------------------------------------------------------------------------


def _guarded_top(caller: Caller, root: str) -> str | None:
    """The top of the work tree that the call is about, when it is the run's clone's; None for any other repository."""
    said = caller.ask("rev-parse", "--git-common-dir", "--show-toplevel")[1].split("\n")
    if not said[0] or not root:
        return None
    common = os.path.realpath(os.path.join(caller.folder(), said[0]))
    guarded = _common_dir(root)
    if common != guarded and not common.startswith(os.path.join(guarded, "modules") + os.sep):
        return None
    top = said[1] if len(said) > 1 else ""
    return top if top and gitfacts.git_dir(top) else root


def _common_dir(root: str) -> str:
    """The common git directory of the run's clone, read from its files."""
    directory = gitfacts.git_dir(root) or os.path.join(root, ".git")
    try:
        with open(os.path.join(directory, "commondir"), encoding="utf-8", errors="surrogateescape") as file:
            return os.path.realpath(os.path.join(directory, file.readline().strip()))
    except OSError:
        return os.path.realpath(directory)


def _is_harmful(caller: Caller, doubt: git_harms.Doubt) -> bool:
    words = doubt.words
    if doubt.kind == git_harms.FILE:
        if _commit(caller, words[0]):
            return False
        is_remote = caller.says("for-each-ref", "--count=1", "--format=x", "refs/remotes/*/" + words[0])
        is_file = not is_remote or os.path.lexists(os.path.join(caller.folder(), words[0]))
        return is_file and _is_dirty(caller, words)
    if doubt.kind == git_harms.DIRTY:
        return _is_dirty(caller, words)
    if doubt.kind == git_harms.LAST:
        return any(_is_last(caller, ref, words) for ref in words)
    if doubt.kind == git_harms.THERE:
        name = "stash@{%s}" % words[0] if words[0].isdigit() else words[0]
        return caller.ask("rev-parse", "--quiet", "--verify", name)[0] == 0
    if doubt.kind == git_harms.AHEAD:
        upstream = "refs/remotes/" + "/".join(words) if words else "@{upstream}"
        return caller.says("rev-list", "--count", upstream + "..HEAD") != "0"
    if doubt.kind == git_harms.MOVES:
        commit, head = _commit(caller, words[0]), _commit(caller, "HEAD")
        return bool(commit) and commit != head and not _holds(caller, commit, head)
    if doubt.kind == git_harms.REF:
        if git_harms.UNLESS_CURRENT in words[1:] and caller.says("symbolic-ref", "--quiet", "HEAD") == words[0]:
            return False
        return caller.ask("show-ref", "--verify", "--quiet", words[0])[0] == 0
    if doubt.kind == git_harms.BACK:
        now, new = caller.says("rev-parse", "--quiet", "--verify", words[0]), _commit(caller, words[1])
        return bool(now) and not _holds(caller, new, now)
    return True


def _is_dirty(caller: Caller, paths: tuple[str, ...]) -> bool:
    """Whether tracked files there are changed or staged; a word that is a commit and no path finds none."""
    code, said = caller.ask("status", "--porcelain", "-z", "--untracked-files=no", "--", *paths)
    return code != 0 or bool(said)


def _is_last(caller: Caller, ref: str, going: tuple[str, ...]) -> bool:
    """Whether something is known by this ref alone, the others of `going` not counted."""
    oid = caller.says("rev-parse", "--quiet", "--verify", ref)
    if not oid:
        return False  # git itself says that there is none
    if _commit(caller, ref) == oid:
        said = caller.says("for-each-ref", "--contains", oid, "--format=%(refname)").split()
        return not [name for name in said if name not in going and not name.startswith("refs/hemma/")]
    # An annotated tag is an object of its own; origin may have it.
    if not ref.startswith("refs/tags/"):
        return True
    code, told = caller.ask("ls-remote", "--tags", "origin", ref, timeout_s=_ORIGIN_S)
    return code != 0 or told.split()[:2] != [oid, ref]


def _commit(caller: Caller, name: str) -> str:
    return caller.says("rev-parse", "--quiet", "--verify", name + "^{commit}") if name[:1] != "-" else ""


def _holds(caller: Caller, commit: str, other: str) -> bool:
    return bool(commit and other) and caller.ask("merge-base", "--is-ancestor", other, commit)[0] == 0


# -- what is saved -------------------------------------------------------------------------------------------------------


def _saved(caller: Caller, top: str, verb: str, taken: git_guard.Taken, run_folder: str) -> str:
    """Save the work tree before the call; returns what to say about it, which is nothing when all went well."""
    from . import snapshot

    began_s = os.stat(os.path.join(run_folder, git_shim.FOLDER)).st_ctime
    # From here on git is asked as the agent asks it, not as the caller would.
    os.environ["PATH"] = git_shim.without(os.environ.get("PATH", os.defpath))
    try:
        paths = [frames.text_of(os.fsencode(path)) for path in _at_risk(caller, top, taken)]
        made = snapshot.take(
            top, reason="git " + verb, run_id=os.path.basename(run_folder), extra=paths, since_s=began_s
        )
    except Exception as error:
        # A full disk is no reason to hold up somebody's work, only to say so.
        store.add_event(run_folder, "git-not-saved", verb=verb, error=repr(error)[:200])
        return "hemma: nothing was saved before this git %s: %s" % (verb, error)
    if made is not None:
        store.add_event(run_folder, "git-saved", verb=verb, ref=made.ref)
    return ""


def _at_risk(caller: Caller, top: str, taken: git_guard.Taken) -> list[str]:
    """Paths from the top of files that git ignores and that the call could take: it guards untracked ones, not these."""
    here = Caller(caller.real, top, {}, [])
    if taken.is_all:
        listed = here.says("ls-files", "--others", "--ignored", "--exclude-standard", "-z")
        return [path for path in listed.split("\0") if path]
    found = {}
    tracked: set[str] = set()
    for word in taken.words:
        place = os.path.abspath(os.path.join(caller.folder(), word))
        if os.path.isfile(place) and place.startswith(top.rstrip("/") + "/"):
            found[os.path.relpath(place, top)] = True
        for name in (word, "origin/" + word):
            commit = _commit(caller, name)
            if not commit:
                continue
            coming = here.says("diff-index", "--cached", "--name-only", "--no-renames", "--diff-filter=D", "-z", commit)
            for path in coming.split("\0"):
                if path:
                    tracked = tracked or set(here.says("ls-files", "-z").split("\0"))
                    found.update(dict.fromkeys(gitfacts.untracked_at(top, path, tracked), True))
            break
    return sorted(found)
