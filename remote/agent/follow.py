"""Going along with an origin that was moved back or rewritten: the branch moves to what origin has, and nothing is lost.

The one place where Hemma moves a branch other than forward. First the whole state is backed up, as before a run; then the tree
moves as git moves it in a checkout, which writes over no changed file; then the branch, if it is still where it was; then
the clone's own commits, which origin never had, are picked again. What cannot be done leaves all as it was.
"""

from __future__ import annotations

from . import frames, gitwork, launch, snapshot, store
from .gitcall import Repository, environment


def follow(request: dict[str, object]) -> dict[str, object]:
    """Move the checked out branch `branch` from commit `from` to `to`, then pick `own` (oldest first) on top of it.

    The reply's `backups` names the backup of before. `failed` tells what stopped it, all as it was: moved (somebody was quicker),
    kept (no backup could be made), in-the-way (with those paths), tree. `stopped` is the commit whose pick has a conflict.
    """
    guard = launch.guard_facts(str(request.get("root")), None)
    if not guard["is_toplevel"]:
        return {"guard": guard}
    repository = Repository(str(guard["root"]))
    with gitwork.locked(repository.root):
        return _Move(repository, request).done()


class _Move:
    def __init__(self, repository: Repository, request: dict[str, object]) -> None:
        own = request.get("own")
        self.repository = repository
        self.ref = "refs/heads/%s" % request["branch"]
        self.source, self.target = str(request["from"]), str(request["to"])
        self.own = [str(commit) for commit in own] if isinstance(own, list) else []
        self.said = ""

    def git(self, *argv: str) -> str | None:
        """What git printed; None when it failed, and `said` then has its words."""
        process = self.repository.start(*argv, env={**environment(), "GIT_OPTIONAL_LOCKS": "1"})
        out, err = process.communicate()
        if process.returncode:
            self.said = frames.text_of(err.strip() or out.strip())[-2000:]
            return None
        return frames.text_of(out).rstrip("\n")

    def done(self) -> dict[str, object]:
        """Do it, or say what stopped it."""
        here = (self.git("symbolic-ref", "--quiet", "HEAD"), self.git("rev-parse", "--verify", "HEAD"))
        if here != (self.ref, self.source):
            return self._failed("moved")
        in_the_way = self._in_the_way()
        if in_the_way:
            return {**self._failed("in-the-way"), "paths": in_the_way}
        self.git("update-index", "-q", "--refresh")
        backups = self._keep()
        if backups is None:
            return self._failed("kept")
        move = ("read-tree", "-m", "-u")
        if self.git(*move, "--dry-run", self.source, self.target) is None:
            return self._failed("tree")
        if self.git(*move, self.source, self.target) is None:
            return self._failed("tree")
        why = "hemma sync: go along with origin"
        if self.git("update-ref", "-m", why, self.ref, self.target, self.source) is None:
            self.git(*move, self.target, self.source)
            return self._failed("moved")
        stopped = self._pick()
        if stopped == "":
            return self._undone()
        return {"failed": None, "backups": backups, "stopped": stopped, "said": self.said}

    def _failed(self, what: str) -> dict[str, object]:
        return {"failed": what, "backups": [], "stopped": None, "said": self.said}

    def _in_the_way(self) -> list[str]:
        """Files that the move would write over and git does not know, ignored ones too."""
        return gitwork.in_the_way(self.repository.root, self.source, self.target)

    def _keep(self) -> list[str] | None:
        """The backup of the clone as it is, for `hemma undo`; None when it could not be made, and `said` has why."""
        try:
            made = snapshot.take(self.repository.root, reason="before going along with origin")
        except (store.Refused, OSError) as error:
            self.said = str(snapshot.refusal_of(error)["error"])
            return None
        return [made.ref] if made is not None else None

    def _pick(self) -> str | None:
        """Pick the clone's own commits; the one that has a conflict, which waits for a person with those behind it.

        Empty when none can be picked at all: nobody is named as the committer, a hook refuses.
        """
        if not self.own:
            return None
        self.said = ""
        if self.git("cherry-pick", "--allow-empty", "--keep-redundant-commits", *self.own) is not None:
            return None
        said = self.said
        is_conflict = bool(self.git("ls-files", "--unmerged", "-z"))
        stopped = self.git("rev-parse", "--verify", "--quiet", "CHERRY_PICK_HEAD")
        self.said = said
        return stopped if is_conflict and stopped else ""

    def _undone(self) -> dict[str, object]:
        """Everything as it was before: the picks that were made are in the reflog, and in the commits they were made of."""
        said, now = self.said, self.git("rev-parse", "--verify", "HEAD") or self.target
        self.git("cherry-pick", "--quit")
        self.git("read-tree", "-m", "-u", now, self.source)
        self.git("update-ref", "-m", "hemma sync: back, the commits cannot be picked", self.ref, self.source, now)
        self.said = said
        return self._failed("pick")
