"""Git hooks in a clone, here or on the host: put there, taken away, looked at; and what the pre-commit hook asks.

The same sh script does it on both sides (remote/hook_scripts.py). On the host it is a run like any other: guarded, recorded.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from controller.flows import lane, work_tree
from controller.flows import run as run_flow
from controller.flows.notebook_filters import own_command
from lanes.classification import Decision, change_of, classify_path
from lanes.lane_steps import Edit
from lanes.local_edits import OVERRIDE, judge_commit
from lanes.verdict import Verdict
from manifests.commands import Command
from manifests.errors import HemmaError
from remote.agent import gitcall
from remote.hook_scripts import INSTALLER

Verb = Literal["install", "remove", "status"]
_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Hook:
    """One hook: `state` is installed, outdated (reinstall it), replaced (by somebody else's) or missing."""

    name: str
    state: str
    calls_former: bool


@dataclass(frozen=True)
class Report:
    """A clone's hooks as they are now, and what was changed on the way. `folder` is where git looks for them."""

    place: str
    folder: str
    hooks: tuple[Hook, ...]
    pull_rebase: str
    role: str
    changes: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def are_in_force(self) -> bool:
        """Whether every hook is there as it should be, and pull merges."""
        return all(hook.state == "installed" for hook in self.hooks) and self.pull_rebase == "false"


def here(top: str, verb: Verb) -> Report:
    """Do `verb` to the clone whose work tree is `top`. Raises HemmaError, code `hooks-refused`, with the fact and the mend."""
    command = own_command()
    # What git gives a hook (GIT_DIR, GIT_INDEX_FILE) names the repository of that hook, not this one.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or "CONFIG" in name}
    argv = ["sh", "-s", verb, "local", command[0], shlex.join(command)]
    done = subprocess.run(
        argv, cwd=top, env=environ, input=INSTALLER.encode(), capture_output=True, check=False, timeout=_TIMEOUT_S
    )
    return _report("local", done.stdout, done.stderr, done.returncode)


def on_host(settings: dict[str, Any], verb: Verb) -> Report:
    """Do `verb` to the host's clone. Raises what a run raises, and HemmaError, code `hooks-refused`."""
    options: dict[str, Any] = {"stdin": True, "timeout_s": _TIMEOUT_S, "lease_s": _TIMEOUT_S}
    request = run_flow.request_of(settings, options, ["sh", "-s", verb, "host"])
    out, err = bytearray(), bytearray()
    reader, writer = os.pipe()
    try:
        os.write(writer, INSTALLER.encode())  # it is smaller than what a pipe takes without a reader
        os.close(writer)
        session = run_flow.session_for(settings, request, (out.extend, err.extend), stdin=reader)
        code = run_flow.exit_code_of(run_flow.follow(session), session.run_id)
    finally:
        os.close(reader)
    return _report("host", bytes(out), bytes(err), code)


def _report(place: str, out: bytes, err: bytes, code: int) -> Report:
    facts: dict[str, list[str]] = {}
    # The folder comes last and may hold anything, line ends too.
    told, _, folder = os.fsdecode(out).partition("\nfolder\t")
    for line in told.split("\n"):
        name, _, fact = line.partition("\t")
        facts.setdefault(name, []).append(fact)
    if code:
        said = err.decode("utf-8", "replace").strip().splitlines()
        raise HemmaError(
            f"{place}: {facts.get('refused', said[-1:] or ['the hooks could not be looked at'])[0]}",
            remedy=Command(facts.get("do", ["git status"])[0]) if place == "local" else "hemma run -- git status",
            code="hooks-refused",
        )
    return Report(
        place=place,
        folder=folder.removesuffix("\n"),
        hooks=tuple(_hook(fact) for fact in facts.get("hook", ())),
        pull_rebase=facts.get("pull.rebase", [""])[0],
        role=facts.get("role", [""])[0],
        changes=tuple(facts.get("changed", ())),
        notes=tuple(facts.get("note", ())),
    )


def _hook(fact: str) -> Hook:
    name, state, former = fact.split(" ")
    return Hook(name, state, former == "calls-former")


# --- what the pre-commit hook asks -----------------------------------------------------------------------------------


def may_commit(start: str, environ: Mapping[str, str]) -> Verdict:
    """Whether what is staged in the local clone `start` (the top of its work tree) may be committed here (S9-R02, S9-R03).

    Always where the last commit names no host yet, and for the end of a merge, whose files come from elsewhere. Raises
    UsageError for broken settings.
    """
    if environ.get(OVERRIDE) == "1" or _is_merge(start) or not _names_host(start):
        return Verdict(allowed=True)
    staged = set(_git(start, "diff", "--cached", "--no-renames", "--name-only", "-z").split("\0")) - {""}
    if not staged:
        return Verdict(allowed=True)
    where = lane.ground(start, environ)
    prefix = os.path.relpath(os.path.realpath(start), where.base)

    def decided(name: str) -> Decision:
        path = os.path.normpath(os.path.join(prefix, name))
        facts = lane.notebook_facts(os.path.join(start, name))
        return dataclasses.replace(classify_path(path, where.rules, facts), subject=name)

    edits = {name: Edit(name, "changed") for name in staged}
    edits |= {file.path: Edit(file.path, file.state) for file in work_tree.changed(start)}
    return judge_commit(change_of(map(decided, staged)), edits)


def _is_merge(start: str) -> bool:
    return bool(_git(start, "rev-parse", "--quiet", "--verify", "MERGE_HEAD"))


def _names_host(start: str) -> bool:
    """Whether the last commit's pyproject.toml names a host: the commit that brings [tool.hemma] in is made locally."""
    try:
        return bool(tomllib.loads(_git(start, "cat-file", "blob", "HEAD:pyproject.toml"))["tool"]["hemma"]["host"])
    except (ValueError, LookupError, TypeError):
        return False


def _git(folder: str, *arguments: str) -> str:
    """What git printed; empty when it failed. Its index is that of the commit under way (GIT_INDEX_FILE)."""
    done = subprocess.run(
        gitcall.argv(*arguments), cwd=folder, capture_output=True, stdin=subprocess.DEVNULL, check=False
    )
    return "" if done.returncode else os.fsdecode(done.stdout)
