"""A clone with everything that can be lost, in which one line after another is run as the agent runs it; and what was lost.

Lost is judged by effect: a commit that some ref, HEAD or stash entry held and that nothing holds any more, here or at origin;
bytes of a file (changed, staged, untracked, ignored) that lie nowhere any more.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remote import delivery
from remote.agent import backup_room

SETUP = r"""
set -e
git config --global user.name a; git config --global user.email a@example.invalid
git config --global init.defaultBranch main; git config --global protocol.file.allow always
git config --global advice.detachedHead false; git config --global gc.auto 0; git config --global maintenance.auto false
git config --global alias.wipe 'reset --hard'; git config --global alias.purge '!git clean -fdx'
git config --global alias.st 'status -sb'; git config --global alias.lg 'log --oneline --graph'
git config --global alias.any '!f() { git "$@"; }; f'
git config --global init.templateDir ''
git init -q --bare origin.git
git init -q clone; cd clone; git remote add origin ../origin.git
printf '*.env\nckpt/\n*.scratch\n' > .gitignore
for name in a b s d; do echo "$name 1" > $name.py; done
ln -s a.py link; echo run > tool.sh; chmod +x tool.sh; mkdir src; echo c > src/c.py
git add -A; git commit -qm one; git tag base
echo 'a 2' >> a.py; git commit -qam two
echo 'b 2' >> b.py; git commit -qam three; git push -q -u origin main
git switch -qc ahead base; echo ahead > ahead.py; git add -A; git commit -qm ahead
git switch -qc only base; echo only > only.py; git add -A; git commit -qm only; git tag v1; git switch -q main; git branch -qD only
git branch merged base
git switch -qc feature base; echo f > f.py; git add -A; git commit -qm feature; git push -q origin feature
git switch -q main; git branch -qD feature
git switch -qc other; echo "what other tracks" > x.env; git add -f x.env; git commit -qm env; git push -q origin other; git switch -q main
echo 'b 3' >> b.py; git commit -qam four
echo stash1 >> s.py; git stash -q; echo stash2 >> d.py; git stash -q
echo 'c 2' >> src/c.py; git commit -qam five
git clone -q ../origin.git ../peer; cd ../peer; echo peer > peer.py; git add -A; git commit -qm "of a peer"; git push -q
cd ../clone; rm -rf ../peer
git notes add -m note HEAD
git worktree add -q ../wt -b side base; echo wt > ../wt/wt.txt
echo 'a dirty' >> a.py
echo 's staged' >> s.py; git add s.py; echo 's both' >> s.py
echo new > new.py; git add new.py
echo u > u.txt; mkdir notes; echo n > notes/n.md
rm d.py; ln -sf b.py link; chmod -x tool.sh
git repack -q -a -d -k; git -C ../origin.git repack -q -a -d; git pack-refs --all
echo mine > x.env; echo key > my.env; mkdir ckpt; seq 900 > ckpt/model.bin
"""
PRECIOUS = ["*.env", "ckpt/**"]
# What runs in a process of its own: the agent's code from the very bytes that hosts get.
DRIVER = r"""
import json, os, sys, time
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
from hemma_agent import git_judge, launch, store
for line in sys.stdin:
    asked = json.loads(line)
    try:
        if asked["do"] == "run":
            folder, control, _ = launch.start(asked["request"], asked["environ"])
            end = time.monotonic() + 60
            while (store.read(folder, "status.json") or {}).get("state") != "finished" and time.monotonic() < end:
                time.sleep(0.002)
            if control is not None:
                control.close()
            reply = dict(store.read(folder, "status.json") or {}, folder=folder, record=store.read(folder, "run.json"))
            for name in store.STREAMS:
                with open(store.spool_path(folder, name), "rb") as spool:
                    reply[name] = spool.read().decode("utf-8", "surrogateescape")
        else:
            from hemma_agent import snapshot
            if asked["do"] == "take":
                made = snapshot.take(asked["root"], reason="before", precious=asked["precious"])
                reply = {"ref": made.ref}
            else:
                from hemma_agent import restore
                restore.restore(asked["root"], asked["ref"])
                reply = {}
    except BaseException as error:
        reply = {"error": repr(error)}
    print(json.dumps(reply), flush=True)
"""


def real_git() -> str:
    """The git of this machine."""
    found = shutil.which("git")
    assert found
    return found


def blob_id(data: bytes) -> str:
    """The name that git gives these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def files_below(folder: Path) -> dict[str, tuple[str, str]]:
    """Every file and link below a folder but git's own: path -> (mode, or the word link; blob id)."""
    found: dict[str, tuple[str, str]] = {}
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != ".git"]
        for name in [*names, *folders]:
            place = Path(root) / name
            path = str(place.relative_to(folder))
            if place.is_symlink():
                found[path] = ("link", blob_id(os.fsencode(os.readlink(place))))
            elif place.is_file() and name != ".git":
                found[path] = (oct(place.stat().st_mode & 0o777), blob_id(place.read_bytes()))
    return found


@dataclass(frozen=True)
class State:
    """All that can be lost, and where everything points."""

    commits: frozenset[str]
    origin: frozenset[str]
    held: frozenset[str]  # objects that git holds, the index included
    files: Mapping[str, tuple[str, str]]
    beside: Mapping[str, tuple[str, str]]
    staged: frozenset[str]
    pointers: tuple[str, ...]  # index, HEAD, branches and tags and notes, stash


class Sandbox:
    """The clone at `folder`/box/clone, made anew for every line, and the process that runs lines in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.box = folder / "box"
        self.clone = self.box / "clone"
        self._kept = folder / "kept"
        (self.box / "home").mkdir(parents=True)
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "HEMMA_"))}
        self.environ = {
            **environ,
            "HOME": str(self.box / "home"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_EDITOR": "true",
            "GIT_TERMINAL_PROMPT": "0",
            "LC_ALL": "C",
        }
        subprocess.run(["bash", "-c", SETUP], cwd=self.box, env=self.environ, check=True, capture_output=True)
        # As tidied a moment ago: no run that has ended still works in a clone that is made anew.
        tidied = backup_room.Noted(at=time.time() + 86400)
        (self.clone / ".git/hemma").mkdir(0o700)
        (self.clone / ".git/hemma/pruned").write_text(json.dumps(tidied._asdict()))
        shutil.copytree(self.box, self._kept, symlinks=True)
        agent = folder / "agent.zip"
        agent.write_bytes(delivery.agent_zip()[0])
        argv = [sys.executable, "-I", "-B", "-c", DRIVER, str(agent)]
        self._driver = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self.environ, text=True, bufsize=1
        )
        self._count = 0
        self.renew()
        self.first = self.state()

    def close(self) -> None:
        """End the process that runs lines."""
        with self._driver:
            assert self._driver.stdin is not None
            self._driver.stdin.close()
            self._driver.wait(30)

    def renew(self) -> None:
        """Everything as it was at the beginning."""
        shutil.rmtree(self.box, ignore_errors=True)
        subprocess.run(["cp", "-a", str(self._kept), str(self.box)], check=True)

    def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        """One request to the agent's code."""
        assert self._driver.stdin is not None
        assert self._driver.stdout is not None
        self._driver.stdin.write(json.dumps({"do": do, **fields}) + "\n")
        reply: dict[str, Any] = json.loads(self._driver.stdout.readline())
        assert "error" not in reply, reply["error"]
        return reply

    def run(
        self, line: str | None, argv: list[str] | None = None, *, guard: bool = True, **more: Any
    ) -> dict[str, Any]:
        """Run a line (or words) in the clone as a run of the agent; returns its status, output, record and folder."""
        self._count += 1
        request = {
            "verb": "run",
            "run_id": f"run-{self._count:05}",
            "state_dir": str(self.folder / "state"),
            "root": str(self.clone),
            "require": [],
            "argv": argv,
            "shell": line,
            "env": {},
            "lease_s": None,
            "git_guard": guard,
            **more,
        }
        return self.ask("run", request=request, environ=self.environ)

    def git(self, *argv: str, where: str = "clone") -> str:
        """What the real git says there; nothing where it fails."""
        done = subprocess.run(
            [real_git(), *argv], cwd=self.box / where, env=self.environ, capture_output=True, check=False
        )
        return done.stdout.decode("utf-8", "surrogateescape") if done.returncode == 0 else ""

    def state(self) -> State:
        """What is there now."""
        stash = self.git("reflog", "show", "--format=%H", "refs/stash").split()
        heads = self.git("rev-parse", "-q", "--verify", "HEAD").split()
        if (self.box / "wt").exists():
            heads += self.git("rev-parse", "-q", "--verify", "HEAD", where="wt").split()
        tips = ["--all", *heads, *stash]
        listed = self.git("rev-list", "--objects", "--ignore-missing", *tips).splitlines()
        index = self.git("ls-files", "-s")
        staged = {each.split()[1] for each in index.splitlines()}
        refs = self.git("for-each-ref", "refs/heads", "refs/tags", "refs/notes")
        head = self.git("symbolic-ref", "-q", "HEAD") + self.git("rev-parse", "-q", "--verify", "HEAD")
        return State(
            frozenset(self.git("rev-list", "--ignore-missing", *tips).split()),
            frozenset(self.git("rev-list", "--all", where="origin.git").split()),
            frozenset({each.split(" ")[0] for each in listed} | staged),
            files_below(self.clone),
            files_below(self.box / "wt"),
            frozenset(staged),
            (index, head, refs, "\n".join(stash)),
        )

    def lost(self, now: State | None = None) -> list[str]:
        """What was there at the beginning and is nowhere now, in words; backups of Hemma's count as a place."""
        now = now or self.state()
        told = ["commits"] if self.first.commits - now.commits - now.origin else []
        told += ["origin"] if self.first.origin - now.origin - now.commits else []
        there = now.held | {blob for _, blob in (*now.files.values(), *now.beside.values())}
        there |= {blob for _, blob in files_below(self.clone / ".git/hemma").values()}
        places = {**self.first.files, **{f"../wt/{path}": facts for path, facts in self.first.beside.items()}}
        told += sorted(path for path, (_, blob) in places.items() if blob not in there)
        return told + (["staged"] if self.first.staged - there else [])

    def differs(self, now: State | None = None) -> list[str]:
        """Where the clone differs from the beginning, byte for byte; what was made since counts for nothing."""
        now = now or self.state()
        files = [path for path, facts in self.first.files.items() if now.files.get(path) != facts]
        index, head, refs, stash = now.pointers
        told = files + (["index"] if index != self.first.pointers[0] else [])
        told += ["HEAD"] if head != self.first.pointers[1] else []
        told += ["refs"] if set(self.first.pointers[2].splitlines()) - set(refs.splitlines()) else []
        # Stash entries that were made since stand behind those of then, which have their numbers again.
        return told + ([] if stash.startswith(self.first.pointers[3]) else ["stash"])
