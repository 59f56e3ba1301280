"""The stage of a sync: a bare origin, the local clone, the host's clone, and somebody else's, on this machine."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.flows import lane
from controller.flows import sync as flow
from controller.flows.clones import NOTHING_SAID, Meant
from lanes.merging import Escalation, SyncPlan
from remote import answers
from remote.agent import frames, requests, verbs
from remote.host import Host
from remote.incoming import reply_of
from remote.repository import HostRepository, LocalRepository

PLACES = ("local", "host", "other")


@dataclass(frozen=True)
class ThreeClones:
    """`folder`/origin.git and its clones: local, host, and other (a third person's). `docs/` is local's, `*.py` the host's."""

    folder: Path

    def path(self, place: str, *names: str) -> Path:
        """A clone's folder, or a file in it."""
        return self.folder.joinpath("origin.git" if place == "origin" else place, *names)

    def try_git(self, place: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Run git in a clone, whatever comes of it."""
        argv = ["git", "-C", str(self.path(place)), *arguments]
        return subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, check=False)

    def git(self, place: str, *arguments: str) -> str:
        """Run git in a clone, which must succeed; returns its stdout, stripped."""
        done = self.try_git(place, *arguments)
        assert done.returncode == 0, (arguments, done.stderr.decode(errors="replace"))
        return os.fsdecode(done.stdout).strip()

    def write(self, place: str, name: str, content: str | bytes) -> Path:
        """Write a file of a clone."""
        path = self.path(place, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def commit(self, place: str, name: str, content: str | bytes) -> str:
        """Write a file and commit everything; returns the commit."""
        self.write(place, name, content)
        self.git(place, "add", "--all")
        self.git(place, "commit", "-q", "--no-verify", "-m", f"{place}: {os.fsencode(name)!r}")
        return self.head(place)

    def push(self, place: str) -> None:
        """Push a clone's branch to origin."""
        self.git(place, "push", "-q", "origin", "HEAD")

    def publish(self, name: str, content: str | bytes) -> str:
        """Somebody else commits and pushes a file; returns the commit."""
        self.git("other", "fetch", "-q", "origin")
        self.git("other", "merge", "-q", "--no-edit", "origin/main")
        commit = self.commit("other", name, content)
        self.push("other")
        return commit

    def head(self, place: str) -> str:
        """The commit that a place's branch main is at."""
        return self.git(place, "rev-parse", "refs/heads/main")

    def heads(self) -> dict[str, str]:
        """The commit of main at local, host and origin."""
        return {place: self.head(place) for place in ("local", "host", "origin")}

    def are_in_step(self) -> bool:
        """Whether local, host and origin are at the same commit of main."""
        return len(set(self.heads().values())) == 1

    def text(self, place: str, name: str) -> str:
        """The content of a file in a clone's work tree."""
        return self.path(place, name).read_text(encoding="utf-8")

    def backups(self, place: str) -> list[str]:
        """The refs that keep what was before."""
        return self.git(place, "for-each-ref", "--format=%(refname)", "refs/hemma/backup").split()

    def snapshot(self) -> dict[str, Any]:
        """Everything a sync could change: branches of all, and every file, index and unfinished operation of the clones."""
        found: dict[str, Any] = {"origin": self.git("origin", "for-each-ref")}
        for place in ("local", "host"):
            git_dir = self.path(place, ".git")
            marks = sorted(name for name in os.listdir(git_dir) if name.isupper() and name != "FETCH_HEAD")
            found[place] = (
                self.git(place, "for-each-ref", "refs/heads", "refs/tags", "refs/stash", "refs/hemma/backup"),
                self.git(place, "ls-files", "--stage", "-z"),
                files_in(self.path(place)),
                marks,
            )
        return found


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` but git's own, with its bytes; of a link, where it leads."""
    paths = [path for path in folder.rglob("*") if ".git" not in path.parts and (path.is_symlink() or path.is_file())]
    return {
        str(path.relative_to(folder)): os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in paths
    }


def make_clones(folder: Path, *, ref_format: str | None = None) -> ThreeClones:
    """One commit, pushed, in all of them: docs/guide.md, src/train.py and .gitignore (`*.log`).

    Copied from clones that are made once for each process of tests: about a quarter of what git takes to make them.
    """
    pattern, made = _pattern(ref_format), ThreeClones(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for place in ("origin", *PLACES):
        shutil.copytree(pattern.path(place), made.path(place), symlinks=True)
    for place in PLACES:
        settings = made.path(place, ".git/config")
        text = settings.read_text(encoding="utf-8").replace(str(pattern.path("origin")), str(made.path("origin")))
        settings.write_text(text, encoding="utf-8")
        # The index knows the files by their inodes.
        made.git(place, "update-index", "-q", "--refresh")
    return made


@functools.cache
def _pattern(ref_format: str | None) -> ThreeClones:
    """What `make_clones` copies."""
    kind = [f"--ref-format={ref_format}"] if ref_format else []
    folder = tempfile.mkdtemp(prefix="hemma-clones-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = ThreeClones(Path(folder))
    _run("git", "init", "-q", *kind, "--bare", str(made.path("origin")))
    made.git("origin", "config", "core.logAllRefUpdates", "always")
    _run("git", "clone", "-q", *kind, str(made.path("origin")), str(made.path("other")))
    for name, content in (("docs/guide.md", "# Guide\n"), ("src/train.py", "STEPS = 1\n"), (".gitignore", "*.log\n")):
        made.write("other", name, content)
    made.commit("other", "README.md", "# A project\n")
    made.push("other")
    for place in ("local", "host"):
        _run("git", "clone", "-q", *kind, str(made.path("origin")), str(made.path(place)))
    # Samples of hooks are a third of the files.
    for hooks in Path(folder).glob("*/**/hooks"):
        for sample in hooks.glob("*.sample"):
            sample.unlink()
    return made


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True)


class HostHere(Host):
    """The host's agent without a wire: the same verbs answer, in this process. Counts what was asked."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec)
        self.asked: list[str] = []

    def request(self, verb: str, *, timeout_s: float = 60.0, hear: Any = None, **fields: Any) -> dict[str, Any]:
        """One request as JSON there, one reply as JSON back."""
        self.asked.append(verb)
        request = {
            "state_dir": self.spec["state_dir"],
            "root": self.spec["root"],
            "clone": None,
            **fields,
            "verb": verb,
        }
        sent = json.loads(json.dumps(request))
        requests.check(sent)
        return reply_of(frames.json_of(verbs.answer(sent)), answers.shape_of(request), verb)


def repository_here(root: Path, state_dir: Path) -> HostRepository:
    """The host's clone, asked without a wire."""
    repository = HostRepository({"root": str(root), "state_dir": str(state_dir)})
    repository.host = HostHere(repository.host.spec)
    return repository


def notebook(source: str = "!hemma ps", kernel: str = "Python 3", count: int = 1, **hemma: Any) -> str:
    """A notebook of one code cell, as an editor writes it."""
    metadata: dict[str, Any] = {"kernelspec": {"name": "python3", "display_name": kernel}}
    if hemma:
        metadata["hemma"] = hemma
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "source": source, "execution_count": count, "outputs": []}
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": [cell]}, indent=1) + "\n"


LOGIC = notebook("def clean(row):\n    return row.strip()")


# --- a sync without a wire ---------------------------------------------------------------------------------------


class Sync:
    """`hemma sync` of one controller's clone with the host's, step by step, in this process."""

    def __init__(self, clones: ThreeClones, place: str = "local", meant: Meant = NOTHING_SAID) -> None:
        self.local = LocalRepository(str(clones.path(place).resolve()))
        self.host = repository_here(clones.path("host"), clones.folder / "on-host")
        self.where = lane.ground(self.local.root, os.environ)
        self.meant = meant

    @property
    def asked(self) -> list[str]:
        """What the host was asked so far, one entry for each round trip."""
        assert isinstance(self.host.host, HostHere)
        return self.host.host.asked

    def look(self) -> flow.Clones:
        """Both clones as they are now."""
        return flow.look(self.local, self.host, meant=self.meant)

    def plan(self, *accepted: str, restores: bool = False) -> SyncPlan | Escalation:
        """What would be done now, or asked."""
        return flow.plan(self.where, self.look(), accepted, restores=restores)

    def questions(self, *accepted: str) -> list[str]:
        """The rules that need a person now; empty when there is a plan."""
        found = self.plan(*accepted)
        return [reason.rule for reason in found.verdict.reasons] if isinstance(found, Escalation) else []

    def carry_out(self, seen: flow.Clones, plan: SyncPlan | Escalation) -> list[str]:
        """Do a plan that was made of what was seen; returns the backups. Raises what `hemma sync` raises."""
        if isinstance(plan, Escalation):
            raise flow.refusal(plan)
        return flow.carry_out(seen, plan, [].append)

    def __call__(self, *accepted: str, restores: bool = False) -> list[str]:
        """Look, plan, and do it; returns the steps that were done. Raises what `hemma sync` raises."""
        seen = self.look()
        found = flow.plan(self.where, seen, accepted, restores=restores)
        self.carry_out(seen, found)
        return [f"{step.place} {step.action}" for step in found.steps] if isinstance(found, SyncPlan) else []
