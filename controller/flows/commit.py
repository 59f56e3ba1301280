"""`hemma commit` and `hemma push`: on the host's clone, by the host's git, with trailers that say where a change ran.

S9-R02, S9-R05, S9-R17; merge only (S9-R08): nothing is amended, nothing is forced, origin only moves forward.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from controller.flows import thin
from controller.flows.files import host_path, lane_note
from controller.flows.judged import Judged
from lanes import git_failures
from lanes.merging import LOGIC_IN_CELLS
from lanes.provenance import run_of_commit
from lanes.verdict import Reason, Verdict
from manifests.commands import command
from manifests.commands import word as quoted
from manifests.errors import RepositoryError, UsageError
from remote.agent.frames import text_of
from remote.host import Host
from remote.repository import HostRepository

LANE = "hemma"
# Among the newest so many is the run of a commit.
_LOOKED_AT_RUNS = 500
# Who commits is never guessed from the names of user and machine.
_COMMIT = ("-c", "user.useConfigOnly=true", "commit")
# Names are names here: no pattern, no magic.
_LITERALLY = {"GIT_LITERAL_PATHSPECS": "1"}
_LAST = ("log", "-1", "--format=%H%n%ct%n%(trailers:key=Hemma-Run,valueonly,separator=%x2C)")
_IDENTITY = (
    'hemma run -- git config --global user.name "$(git config user.name)" && '
    'hemma run -- git config --global user.email "$(git config user.email)"'
)


@dataclass(frozen=True)
class Committed:
    """A commit that was made on the host; `said` is what its hooks printed."""

    commit: str
    branch: str | None
    subject: str
    files: tuple[str, ...]
    trailers: dict[str, str]
    notes: tuple[str, ...]
    said: str

    def as_dict(self) -> dict[str, Any]:
        """The commit as agents read it under --json."""
        facts = {"commit": self.commit, "branch": self.branch, "subject": self.subject, "files": list(self.files)}
        return {**facts, "trailers": self.trailers, "notes": list(self.notes)}


@dataclass(frozen=True)
class Pushed:
    """What a push did: `summary` in git's words, e.g. the range of commits; `said` is what hooks and origin printed."""

    remote: str
    branch: str
    is_changed: bool
    summary: str
    said: str

    def as_dict(self) -> dict[str, Any]:
        """The push as agents read it under --json."""
        return {"remote": self.remote, "branch": self.branch, "changed": self.is_changed, "summary": self.summary}


class GitFailed(RepositoryError):
    """git on the host did not do it; `said` is everything that git and its hooks printed."""

    code = "git-failed"

    def __init__(self, message: str, *, remedy: str, said: str = "", code: str | None = None) -> None:
        super().__init__(message, remedy=remedy, code=code)
        self.said = said

    def as_dict(self) -> dict[str, str | int]:
        """The error as agents read it under --json, with git's words."""
        return {**super().as_dict(), "said": self.said}


# --- commit ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Before:
    """The clone before the commit. `files` is what the commit would hold, `changed` what is changed and not staged."""

    root: str
    branch: str | None
    commit: str | None
    commit_s: int | None
    run_id: str
    files: tuple[str, ...]
    changed: int


def commit(
    settings: dict[str, Any],
    messages: Sequence[str],
    *,
    is_all: bool,
    paths: Sequence[str],
    accepted: Collection[str] = (),
) -> Committed:
    """Commit on the host what is staged there; with `is_all` every changed file; with `paths` these (new ones too) only.

    Raises GitFailed: nothing-to-commit, no-identity, or with what git or a hook said; UsageError for an empty message;
    Judged when logic would move into the cells of a notebook and `accepted` does not hold `logic-in-cells` (S9-R12).
    """
    message = "\n\n".join(_sent(part).strip("\n") for part in messages) + "\n"
    if not message.strip():
        raise UsageError("the message is empty", remedy='hemma commit -m "What changed, and why"')
    if is_all and paths:
        raise UsageError("-a takes every changed file, so paths beside it mean nothing", remedy="leave one of them out")
    names = [_sent(host_path(settings, path)) for path in paths]
    repository = HostRepository(settings["host"])
    before = _look(repository, is_all=is_all, names=names)
    if not before.files:
        raise _nothing(before, names)
    if LOGIC_IN_CELLS not in accepted:
        _refuse_logic(settings, repository, before, is_all=is_all)
    trailers = _trailers(settings, before)
    text = _with_trailers(repository, message, trailers)
    head, said = _commit(repository, before, text, is_all=is_all, names=names)
    notes = tuple(filter(None, (lane_note(settings, path) for path in before.files)))
    return Committed(head, before.branch, message.strip().partition("\n")[0], before.files, trailers, notes, said)


def _look(repository: HostRepository, *, is_all: bool, names: Sequence[str]) -> _Before:
    """What is there before; named files are staged first, so that new ones count."""
    literal = _LITERALLY if names else {}
    only = ("--", *names) if names else ()
    steps = [_step("add", "--", *names, env=literal)] if names else []
    steps += [
        _step("rev-parse", "--show-toplevel"),
        _step("symbolic-ref", "--quiet", "--short", "HEAD", may_fail=True),
        _step(*_LAST, may_fail=True),
        _step("diff", "--cached", "--name-only", "--no-renames", "-z", *only, env=literal),
        _step("diff", "--name-only", "--no-renames", "-z"),
    ]
    results = repository.steps(steps)
    if len(results) < len(steps) or results[-1]["code"]:
        raise _failed(results[-1], "nothing was committed")
    root, branch, last, staged, changed = results[-5:]
    head, time_s, run_ids = (last["stdout"].split("\n") + ["", "", ""])[:3]
    files = {*_listed(staged["stdout"]), *(_listed(changed["stdout"]) if is_all else ())}
    return _Before(
        root=root["stdout"].removesuffix("\n"),
        branch=branch["stdout"].strip() or None,
        commit=head or None,
        commit_s=int(time_s) if time_s.isdigit() else None,
        run_id=max(run_ids.split(",")),
        files=tuple(sorted(files)),
        changed=len(_listed(changed["stdout"])),
    )


def _refuse_logic(settings: dict[str, Any], repository: HostRepository, before: _Before, *, is_all: bool) -> None:
    """Raise Judged when a notebook of this commit was thin and would hold logic. Without notebooks the host is not asked."""
    notebooks = [path for path in before.files if path.endswith(".ipynb") and not lane_note(settings, path)]
    if not notebooks:
        return
    # What -a will take is not staged yet: a stash that no ref holds has it as a commit.
    kept = repository.steps([_step("stash", "create", may_fail=True)])[0]["stdout"].strip() if is_all else ""
    found = thin.logic(thin.changes(repository, "HEAD", kept or ":0", notebooks))
    if found:
        reasons = tuple(Reason(LOGIC_IN_CELLS, line) for line in thin.as_lines(found))
        steps = ("move it into a committed module", f"hemma commit --accept {LOGIC_IN_CELLS} ...")
        raise Judged(Verdict(False, reasons, steps), code=LOGIC_IN_CELLS)


def _nothing(before: _Before, names: Sequence[str]) -> GitFailed:
    if names:
        fact, remedy = "nothing is changed in these paths on the host", "hemma status"
    elif before.changed:
        files = "1 file is" if before.changed == 1 else f"{before.changed} files are"
        fact, remedy = f"nothing is staged on the host ({files} changed there)", "hemma commit -a -m MESSAGE"
    else:
        fact, remedy = "nothing is changed on the host", "new files must be named: hemma commit -m MESSAGE PATH..."
    return GitFailed(fact, remedy=remedy, code="nothing-to-commit")


def _trailers(settings: dict[str, Any], before: _Before) -> dict[str, str]:
    """Where the change ran: host, lane and, when there was one since the last commit, the run."""
    runs = Host(settings["host"]).request("list", most=_LOOKED_AT_RUNS)["runs"]
    run_id = run_of_commit(runs, before.root, before.commit_s, before.run_id)
    trailers = {"Hemma-Host": str(settings["host"]["name"]), "Hemma-Lane": LANE}
    return {**trailers, "Hemma-Run": run_id} if run_id else trailers


def _with_trailers(repository: HostRepository, message: str, trailers: dict[str, str]) -> str:
    words = [word for name, value in trailers.items() for word in ("--trailer", f"{name}: {value}")]
    argv = ("interpret-trailers", "--no-divider", "--if-exists", "replace", *words)
    results = repository.steps([_step(*argv, stdin=message)])
    if results[-1]["code"]:
        raise _failed(results[-1], "nothing was committed")
    return str(results[-1]["stdout"])


def _commit(
    repository: HostRepository, before: _Before, text: str, *, is_all: bool, names: Sequence[str]
) -> tuple[str, str]:
    """Make the commit; returns its id and what git said. A reply that was lost and asked for again is no second commit."""
    words = [*(["-a"] if is_all else []), "-F", "-", *(["--", *names] if names else [])]
    env = _LITERALLY if names else {}
    steps = [
        _step(*_COMMIT, *words, stdin=text, env=env, may_fail=True),
        _step("log", "-1", "--format=%H%n%P%n%B", may_fail=True),
    ]
    done, last = repository.steps(steps)
    head, parents, said = (last["stdout"].split("\n", 2) + ["", "", ""])[:3]
    is_made_before = parents.strip() == (before.commit or "") and said.strip() == text.strip()
    if done["code"] and not (head and head != before.commit and is_made_before):
        raise _failed(done, "nothing was committed")
    return head, done["stderr"].strip("\n")


# --- push ------------------------------------------------------------------------------------------------------------


def push(settings: dict[str, Any]) -> Pushed:
    """Push the host's branch to the branch of that name; origin only moves forward.

    Raises GitFailed: no-branch, no-remote, push-rejected (origin has more), or with what git or a hook said.
    """
    repository = HostRepository(settings["host"])
    branch, remote, is_known = _destination(repository)
    ref = f"refs/heads/{branch}"
    track = [] if is_known else ["--set-upstream"]
    (done,) = repository.steps([_step("push", "--porcelain", *track, remote, f"{ref}:{ref}")])
    flag, summary = _outcome(done["stdout"])
    if done["code"]:
        raise _not_pushed(done, f"{remote}/{branch}", flag, summary)
    return Pushed(remote, branch, flag != "=", summary, done["stderr"].strip("\n"))


def _destination(repository: HostRepository) -> tuple[str, str, bool]:
    """(branch, remote to push to, whether the branch follows one already). Raises GitFailed."""
    steps = [
        _step("symbolic-ref", "--quiet", "--short", "HEAD", may_fail=True),
        _step("remote"),
        _step(
            "config", "-z", "--get-regexp", r"^(branch\..*\.(pushremote|remote)|remote\.pushdefault)$", may_fail=True
        ),
    ]
    results = repository.steps(steps)
    if len(results) < len(steps):
        raise _failed(results[-1], "nothing was pushed")
    branch, remotes = results[0]["stdout"].removesuffix("\n"), results[1]["stdout"].split("\n")[:-1]
    if not branch:
        raise GitFailed(
            "the host's clone is on no branch (detached HEAD): nothing was pushed",
            remedy="hemma run -- git switch -c NAME",
            code="no-branch",
        )
    if not remotes:
        raise GitFailed(
            "the host's clone has no remote to push to",
            remedy="hemma run -- git remote add origin URL",
            code="no-remote",
        )
    said = dict(entry.partition("\n")[::2] for entry in results[2]["stdout"].split("\0"))
    keys = (f"branch.{branch}.pushremote", "remote.pushdefault", f"branch.{branch}.remote")
    chosen = next((said[key] for key in keys if said.get(key) in remotes), None)
    fallback = "origin" if "origin" in remotes else remotes[0]
    return branch, chosen or fallback, f"branch.{branch}.remote" in said


def _outcome(porcelain: str) -> tuple[str, str]:
    """(flag, summary) of the one ref that was pushed: ` ` moved, `*` new, `=` up to date, `!` rejected; `` when unknown."""
    for line in porcelain.split("\n"):
        fields = line.split("\t")
        if len(fields) == 3 and fields[0] in (" ", "*", "=", "!", "+"):
            return fields[0], fields[2]
    return "", ""


def _not_pushed(done: dict[str, Any], name: str, flag: str, summary: str) -> GitFailed:
    said = _said(done)
    if flag == "!" and re.search(r"\((fetch first|non-fast-forward|needs force)\)", summary):
        return GitFailed(
            f"{name} has commits that the host's clone has not: nothing was pushed",
            remedy="hemma sync",
            said=said,
            code="push-rejected",
        )
    if flag == "!":
        return GitFailed(
            f"{name} did not take it: {summary}", remedy="see what it said above", said=said, code="push-refused"
        )
    if done["code"] == 128:
        return GitFailed(
            f"{name} cannot be reached from the host: {_last_line(said)}",
            remedy="hemma sync   (it can go through this machine)",
            said=said,
            code="origin-unreachable",
        )
    return _failed(done, "nothing was pushed")


# --- git's words -----------------------------------------------------------------------------------------------------


def _failed(done: dict[str, Any], outcome: str) -> GitFailed:
    said = _said(done)
    verb = next((word for word in done["argv"] if not word.startswith("-") and "=" not in word), "")
    trouble = git_failures.explain(said)
    if trouble is not None:
        remedy = _IDENTITY if trouble.word == "no-identity" else command("hemma run --shell {}", str(trouble.remedy))
        return GitFailed(f"on the host {trouble.cause}: {outcome}", remedy=remedy, said=said, code=trouble.word)
    if m := re.search(r"^fatal: pathspec '(.*)' did not match any files$", said, re.MULTILINE):
        return GitFailed(
            f"there is no file {m[1]} on the host: {outcome}", remedy=f"hemma put {quoted(m[1])}", code="file-missing"
        )
    # 1 without a word of git's own is a hook's.
    who = "a hook on the host refused" if done["code"] == 1 and "fatal: " not in said else f"git {verb} failed"
    return GitFailed(f"{who}: {outcome} ({_last_line(said)})", remedy="mend what it says, then try again", said=said)


def _last_line(said: str) -> str:
    return next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "it said nothing")


def _said(done: dict[str, Any]) -> str:
    return "\n".join(filter(None, (done["stdout"].strip("\n"), done["stderr"].strip("\n"))))


def _listed(text: str) -> list[str]:
    return [name for name in text.split("\0") if name]


def _sent(text: str) -> str:
    return text_of(os.fsencode(text))


def _step(
    *argv: str, stdin: str | None = None, env: dict[str, str] | None = None, may_fail: bool = False
) -> dict[str, Any]:
    return {"argv": list(argv), "input": stdin, "env": env or {}, "may_fail": may_fail}
