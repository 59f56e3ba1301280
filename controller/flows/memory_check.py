"""`hemma memory check`: proof against git history that the project's memory only grew (S2-R04, S2-R05, S2-R08)."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from controller.flows.memory import Memory, git, parsed
from lanes import memory as decide
from lanes import memory_structure as structure
from manifests.errors import HemmaError, UsageError
from manifests.memory import ARCHIVE, CHANGES, CONCEPT, FILES, LOG, STRUCTURE
from remote.agent import gitcall

Entry = dict[str, Any]
# Versions at hand: history is read from its beginning, so a commit's parents are nearly always among the last ones.
_KEPT = 8


class MemoryShrank(HemmaError):
    """Something that stood in the memory does not stand there any more; `findings` say what and since which commit."""

    code = "memory-shrank"

    def __init__(self, findings: Sequence[str]) -> None:
        count = "1 thing was" if len(findings) == 1 else f"{len(findings)} things were"
        remedy = "hemma memory check --json lists them; `git show COMMIT:FILE` has what stood there"
        if all(decide.UNAPPROVED in each for each in findings):
            remedy = "hemma memory concept --set FIELD VALUE --approve   (a person's decision; of what stands, too)"
        super().__init__(f"{count} lost: {findings[0]}", remedy=remedy)
        self.findings = list(findings)

    def as_dict(self) -> dict[str, Any]:
        """The error as agents read it, with every finding."""
        return {**super().as_dict(), "findings": self.findings}


def check(memory: Memory, *, since: str | None = None, is_staged: bool = False) -> int:
    """Prove against git history that the memory only grew; returns how many steps were compared.

    Every commit beside each of its parents, and what lies here (or is staged) beside HEAD. Raises MemoryShrank.
    """
    for name in (LOG, ARCHIVE):
        memory.log(name)
    findings: list[str] = []
    steps = 0
    with _Blobs(memory.root) as blobs:
        versions = _Versions(memory, blobs)
        approved = versions.at("").entries if is_staged else [*memory.log(ARCHIVE).entries, *memory.log().entries]
        for child, parents in _commits(memory, since):
            for parent in parents:
                steps += 1
                findings += [f"{child[:10]}: {each}" for each in _of_commit(versions, parent, child, approved)]
        if _has_head(memory.root):
            steps += 1
            head = versions.readable("HEAD")
            now = versions.at("") if is_staged else versions.here(head)
            place = "staged" if is_staged else "not committed yet"
            lost = [*(_compared(head, now, approved) if head else ()), *_not_projected(now)]
            findings += [f"{place}: {each}" for each in lost]
    if findings:
        raise MemoryShrank(findings)
    return steps


def _of_commit(versions: _Versions, parent: str, child: str, approved: Sequence[Entry]) -> list[str]:
    """What a commit lost beside one of its parents. One that cannot be read is a finding; its children are not blamed."""
    after = versions.readable(child)
    if after is None:
        return ["a file of the memory could not be read there"]
    before = versions.readable(parent)
    return _compared(before, after, approved) if before else []


@dataclass(frozen=True)
class _Version:
    """The memory at one moment: its logs by name, and the two other files."""

    logs: Mapping[str, decide.Log]
    concept: dict[str, Any]
    modules: list[dict[str, Any]]
    is_there: bool

    @property
    def entries(self) -> list[Entry]:
        """Archive and log, as one sequence."""
        return [*self.logs[ARCHIVE].entries, *self.logs[LOG].entries]


def _compared(before: _Version, after: _Version, approved: Sequence[Entry]) -> list[str]:
    """What `after` lost. `approved`: entries of now, for a person may approve what stands after it was committed."""
    if not before.is_there:
        return []
    lost = _lost_entries(before, after)
    if before.concept != after.concept:
        lost += decide.changed_concept(before.concept, after.concept, [*after.entries, *approved])
    if after.logs[CHANGES] is not before.logs[CHANGES]:
        lost += decide.lost_entries(before.logs[CHANGES].entries, after.logs[CHANGES].entries)
    if before.modules is not after.modules:
        lost += structure.lost_modules(before.modules, after.modules)
        lost += structure.unproven(before.modules, after.modules)
    return [str(each) for each in lost]


def _not_projected(now: _Version) -> list[str]:
    """What the change log says of the structure, and its file does not (C2)."""
    replay = structure.replayed(now.logs[CHANGES].entries)
    return [str(each) for each in structure.lost_modules(replay, now.modules)]


def _lost_entries(before: _Version, after: _Version) -> list[decide.Lost]:
    """What log and archive lost, or moved; where they only went on, which is nearly always, the text itself says so."""
    if not after.logs[ARCHIVE].continues(before.logs[ARCHIVE]):
        return [
            *decide.lost_entries(before.entries, after.entries),
            *decide.moved_entries(before.logs[LOG].entries, after.logs[LOG].entries),
        ]
    if after.logs[LOG].continues(before.logs[LOG]):
        return []
    moved = after.logs[ARCHIVE].entries[len(before.logs[ARCHIVE].entries) :]
    lost = decide.lost_entries(before.logs[LOG].entries, [*moved, *after.logs[LOG].entries])
    return lost + decide.moved_entries(before.logs[LOG].entries, after.logs[LOG].entries)


class _Versions:
    """The memory at commits. What two of them share is read once: a log mostly goes on from the one before it."""

    def __init__(self, memory: Memory, blobs: _Blobs) -> None:
        self._memory, self._blobs = memory, blobs
        self._kept: dict[str, _Version] = {}
        self._parsed: dict[tuple[str, str], Any] = {}
        self._last: dict[str, decide.Log] = {}

    def at(self, commit: str) -> _Version:
        """The memory at `commit`; "" is what is staged."""
        if commit not in self._kept:
            _make_room(self._kept, _KEPT)
            _make_room(self._parsed, _KEPT * len(FILES))
            found = {name: self._blobs.read(f"{commit}:{self._memory.folder}/{name}") for name in FILES}
            self._kept[commit] = self._version(found)
        return self._kept[commit]

    def readable(self, commit: str) -> _Version | None:
        """The memory at `commit`; None where one of its files is broken."""
        try:
            return self.at(commit)
        except HemmaError:
            return None

    def here(self, head: _Version | None) -> _Version:
        """The memory as its files lie here."""
        self._last = dict(head.logs) if head else {}
        return self._version({name: ("", self._memory.text(name, "")) for name in FILES})

    def _version(self, found: Mapping[str, tuple[str, str]]) -> _Version:
        logs = {name: self._once(name, *found[name], self._log) for name in (ARCHIVE, LOG, CHANGES)}
        concept = self._once(CONCEPT, *found[CONCEPT], self._mapping)
        modules = self._once(STRUCTURE, *found[STRUCTURE], self._modules)
        return _Version(logs, concept, modules, any(text for _, text in found.values()))

    def _once(self, name: str, digest: str, text: str, read: Callable[[str, str], Any]) -> Any:
        """What `read` makes of a file; the same object for the same contents."""
        key = (name, digest)
        if not digest or key not in self._parsed:
            self._parsed[key] = read(name, text)
        return self._parsed[key]

    def _log(self, name: str, text: str) -> decide.Log:
        self._last[name] = parsed(text or decide.EMPTY, self._memory.path(name), self._last.get(name))
        return self._last[name]

    def _mapping(self, name: str, text: str) -> dict[str, Any]:
        return self._memory.mapping(name, text) if text else {}

    def _modules(self, name: str, text: str) -> list[dict[str, Any]]:
        return list(self._mapping(name, text).get("modules", []))


def _make_room(kept: dict[Any, Any], most: int) -> None:
    """Let go of the oldest."""
    while len(kept) > most:
        del kept[next(iter(kept))]


def _commits(memory: Memory, since: str | None) -> Iterable[tuple[str, list[str]]]:
    """(commit, parents) of every commit that touched the memory, merges too: a merge may drop one side."""
    if not _has_head(memory.root):
        return
    asked = f"{since}..HEAD" if since else "HEAD"
    places = [f"{memory.folder}/{name}" for name in FILES]
    if since and not _has(memory.root, since):
        raise UsageError(f"git knows no revision {since!r}", remedy="hemma memory check --since origin/main")
    told = git(memory.root, "rev-list", "--reverse", "--full-history", "--parents", asked, "--", *places)
    for line in told.splitlines():
        child, *parents = line.split()
        yield child, parents


def _has_head(root: str) -> bool:
    return _has(root, "HEAD")


def _has(root: str, revision: str) -> bool:
    words = gitcall.argv("-C", root, "rev-parse", "-q", "--verify", "--end-of-options", f"{revision}^{{commit}}")
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


class _Blobs:
    """Contents of files in git, through one process."""

    def __init__(self, root: str) -> None:
        words = gitcall.argv("-C", root, "cat-file", "--batch")
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def read(self, name: str) -> tuple[str, str]:
        """(blob, text) of `COMMIT:PATH`; both empty where it is not. `:PATH` is the index."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(name.encode() + b"\n")
        self._process.stdin.flush()
        head = self._process.stdout.readline().split()
        if len(head) != 3 or head[1] != b"blob":
            return "", ""
        data = self._process.stdout.read(int(head[2]))
        self._process.stdout.read(1)
        return head[0].decode(), data.decode("utf-8", "replace")
