"""`hemma commit`: on the host's clone, by the host's git, with trailers that say where a change ran.

S9-R02, S9-R05, S9-R17; merge only (S9-R08): nothing is amended, nothing is forced, origin only moves forward.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from controller.flows import thin
from controller.flows.files import host_path, lane_note
from controller.flows.git_on_host import GitFailed, failure, step
from controller.flows.judged import Judged
from lanes.merging import LOGIC_IN_CELLS
from lanes.provenance import run_of_commit
from lanes.verdict import Reason, Verdict
from manifests.commands import command
from manifests.errors import UsageError
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
    steps = [step("add", "--", *names, env=literal)] if names else []
    steps += [
        step("rev-parse", "--show-toplevel"),
        step("symbolic-ref", "--quiet", "--short", "HEAD", may_fail=True),
        step(*_LAST, may_fail=True),
        step("diff", "--cached", "--name-only", "--no-renames", "-z", *only, env=literal),
        step("diff", "--name-only", "--no-renames", "-z"),
    ]
    results = repository.steps(steps)
    if len(results) < len(steps) or results[-1]["code"]:
        raise failure(results[-1], "nothing was committed")
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
    kept = repository.steps([step("stash", "create", may_fail=True)])[0]["stdout"].strip() if is_all else ""
    found = thin.logic(thin.changes(repository, "HEAD", kept or ":0", notebooks))
    if found:
        reasons = tuple(Reason(LOGIC_IN_CELLS, line) for line in thin.as_lines(found))
        steps = ("move it into a committed module", command("hemma commit --accept {} ...", LOGIC_IN_CELLS))
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
    results = repository.steps([step(*argv, stdin=message)])
    if results[-1]["code"]:
        raise failure(results[-1], "nothing was committed")
    return str(results[-1]["stdout"])


def _commit(
    repository: HostRepository, before: _Before, text: str, *, is_all: bool, names: Sequence[str]
) -> tuple[str, str]:
    """Make the commit; returns its id and what git said. A reply that was lost and asked for again is no second commit."""
    words = [*(["-a"] if is_all else []), "-F", "-", *(["--", *names] if names else [])]
    env = _LITERALLY if names else {}
    steps = [
        step(*_COMMIT, *words, stdin=text, env=env, may_fail=True),
        step("log", "-1", "--format=%H%n%P%n%B", may_fail=True),
    ]
    done, last = repository.steps(steps)
    head, parents, said = (last["stdout"].split("\n", 2) + ["", "", ""])[:3]
    is_made_before = parents.strip() == (before.commit or "") and said.strip() == text.strip()
    if done["code"] and not (head and head != before.commit and is_made_before):
        raise failure(done, "nothing was committed")
    return head, done["stderr"].strip("\n")


def _listed(text: str) -> list[str]:
    return [name for name in text.split("\0") if name]


def _sent(text: str) -> str:
    return text_of(os.fsencode(text))
