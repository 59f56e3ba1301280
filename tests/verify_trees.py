"""The planted trees of tests/cases/verify: one text file each, the files of a repository and what is true of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CASES = Path(__file__).with_name("cases") / "verify"


@dataclass(frozen=True)
class Tree:
    """A repository to be, and the facts planted in it: status by module name or path, reasons, findings that are there."""

    name: str
    files: dict[str, str]
    statuses: dict[str, str]
    reasons: dict[str, str]
    findings: frozenset[tuple[str, str]]

    def plant(self, folder: Path) -> Path:
        """Write the files below `folder`."""
        for path, text in self.files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        return folder


def read(path: Path) -> Tree:
    """The tree that a case file describes."""
    pieces = path.read_text(encoding="utf-8").split("\n=== ")[1:]
    files = {name: text + "\n" * bool(text) for name, _, text in (piece.partition("\n") for piece in pieces)}
    statuses: dict[str, str] = {}
    reasons: dict[str, str] = {}
    findings: set[tuple[str, str]] = set()
    for line in files.pop("expect").split("\n"):
        if not line:
            continue
        if line.startswith("finding "):
            _, kind, where = line.split(" ", 2)
            findings.add((kind, where))
            continue
        said, _, reason = line.partition(" | ")
        status = next(word for word in ("NOT WIRED", "WIRED", "DUPLICATE") if said.startswith(word))
        name = said.removeprefix(status).strip()
        statuses[name] = status
        if reason:
            reasons[name] = reason
    return Tree(path.stem, files, statuses, reasons, frozenset(findings))


TREES = [read(path) for path in sorted(CASES.glob("*.txt"))]
