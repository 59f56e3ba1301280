"""`hemma memory check`: proof against git history that the project's memory only grew (S2-R04, S2-R05, S2-R08)."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from controller.flows.memory import Memory, git, parsed
from lanes import memory as decide
from manifests.errors import HemmaError
from manifests.files import parse_json
from manifests.memory import ARCHIVE, CONCEPT, FILES, LOG, STRUCTURE

Entry = dict[str, Any]


class MemoryShrank(HemmaError):
    """Something that stood in the memory does not stand there any more; `findings` say what and since which commit."""

    code = "memory-shrank"

    def __init__(self, findings: Sequence[str]) -> None:
        super().__init__(
            f"{len(findings)} things were lost: {findings[0]}",
            remedy="hemma memory check --json lists them; `git show COMMIT:FILE` has what stood there",
        )
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
        for child, parents in _commits(memory, since):
            for parent in parents:
                steps += 1
                of_commit = _compared(_version(memory, blobs, parent), _version(memory, blobs, child))
                findings += [f"{child[:10]}: {each}" for each in of_commit]
        if _has_head(memory.root):
            steps += 1
            now = _version(memory, blobs, "") if is_staged else _here(memory)
            place = "staged" if is_staged else "not committed yet"
            findings += [f"{place}: {each}" for each in _compared(_version(memory, blobs, "HEAD"), now)]
    if findings:
        raise MemoryShrank(findings)
    return steps


def _compared(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    if not before:
        return []
    entries = [*after["archive"], *after["log"]]
    lost = decide.lost_entries([*before["archive"], *before["log"]], entries)
    lost += decide.moved_entries(before["log"], after["log"])
    lost += decide.changed_concept(before["concept"], after["concept"], entries)
    lost += decide.lost_modules(before["structure"].get("modules", []), after["structure"].get("modules", []))
    return [str(each) for each in lost]


def _here(memory: Memory) -> dict[str, Any]:
    return _read({name: memory.text(name, "") for name in FILES}, memory)


def _version(memory: Memory, blobs: _Blobs, commit: str) -> dict[str, Any]:
    texts = {name: blobs.text(f"{commit}:{memory.folder}/{name}") for name in FILES}
    return _read(texts, memory) if any(texts.values()) else {}


def _read(texts: Mapping[str, str], memory: Memory) -> dict[str, Any]:
    def entries(name: str) -> list[Entry]:
        return list(parsed(texts[name] or decide.EMPTY, memory.path(name)).entries)

    def mapping(name: str) -> dict[str, Any]:
        return parse_json(texts[name].encode(), memory.path(name)) if texts[name] else {}

    return {
        "log": entries(LOG),
        "archive": entries(ARCHIVE),
        "concept": mapping(CONCEPT),
        "structure": mapping(STRUCTURE),
    }


def _commits(memory: Memory, since: str | None) -> Iterable[tuple[str, list[str]]]:
    """(commit, parents) of every commit that touched the memory, merges too: a merge may drop one side."""
    if not _has_head(memory.root):
        return
    asked = f"{since}..HEAD" if since else "HEAD"
    places = [f"{memory.folder}/{name}" for name in FILES]
    told = git(memory.root, "rev-list", "--full-history", "--parents", asked, "--", *places)
    for line in told.splitlines():
        child, *parents = line.split()
        yield child, parents


def _has_head(root: str) -> bool:
    done = subprocess.run(["git", "-C", root, "rev-parse", "-q", "--verify", "HEAD"], capture_output=True, check=False)
    return done.returncode == 0


class _Blobs:
    """Contents of files in git, through one process."""

    def __init__(self, root: str) -> None:
        words = ["git", "-C", root, "cat-file", "--batch"]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def text(self, name: str) -> str:
        """What `COMMIT:PATH` holds; empty where it is not. `:PATH` is the index."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(name.encode() + b"\n")
        self._process.stdin.flush()
        head = self._process.stdout.readline().split()
        if len(head) != 3 or head[1] != b"blob":
            return ""
        data = self._process.stdout.read(int(head[2]))
        self._process.stdout.read(1)
        return data.decode("utf-8", "replace")
