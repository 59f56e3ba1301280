"""What the backup at a run's start costs, beside one `git status` of the same clone: nothing changed, one more edit, and undo.

    benchmarks/git_backup.py [--json FILE] [--quick]

Both in turn, medians; the clone has edits and untracked files that a backup has to hold.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import table
from harness.table import Row

from remote.agent import restore, snapshot

STATUS = ("status", "--porcelain=v2", "-z", "--untracked-files=all")


@dataclass(frozen=True)
class Size:
    """How many files the clones have, how many of them differ, and how often each side is timed."""

    files: tuple[int, ...] = (1_000, 20_000, 50_000)
    dirty: int = 20
    rounds: int = 21


QUICK = Size(files=(60,), dirty=4, rounds=1)


def git(clone: Path, *arguments: str) -> None:
    """Run git in the clone."""
    subprocess.run(["git", *arguments], cwd=clone, check=True, capture_output=True)


def make(clone: Path, files: int, dirty: int) -> None:
    """A clone of so many files, with edits and untracked files."""
    clone.mkdir()
    git(clone, "init", "-q")
    for number in range(files):
        folder = clone / f"d{number // 100}"
        folder.mkdir(exist_ok=True)
        (folder / f"f{number}.py").write_text(f"# {number}\n" * 20)
    git(clone, "add", "-A")
    git(clone, "-c", "user.name=Bench", "-c", "user.email=bench@example.invalid", "commit", "-qm", "all")
    for number in range(dirty):
        (clone / f"d0/f{number}.py").write_text(f"edit {number}\n")
        (clone / f"d0/new{number}.py").write_text(f"new {number}\n")
    git(clone, "status")
    time.sleep(0.1)  # what was written this moment is never taken for unchanged
    git(clone, "status")


def timed(act: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1000


def rows(size: Size, folder: Path) -> Iterator[Row]:
    """The figures, as they come."""
    for files in size.files:
        clone = folder / f"clone{files}"
        make(clone, files, size.dirty)
        first = timed(lambda: snapshot.take(str(clone), reason="bench"))  # noqa: B023 - called here and now
        snapshot.take(str(clone), reason="bench")
        times: dict[str, list[float]] = {"status": [], "same": [], "edit": []}
        for number in range(size.rounds):
            times["status"].append(timed(lambda: git(clone, *STATUS)))  # noqa: B023
            times["same"].append(timed(lambda: snapshot.take(str(clone), reason="bench")))  # noqa: B023
            (clone / "d0/f0.py").write_text(f"another edit {number}\n")
            time.sleep(0.05)
            times["edit"].append(timed(lambda: snapshot.take(str(clone), reason="bench")))  # noqa: B023
        status, same, edit = (statistics.median(times[name]) for name in ("status", "same", "edit"))
        yield Row(f"backup, {files:,} files, nothing changed since", same, status, "ms", "<= 1", "git status")
        yield Row("… one more edit", edit, status, "ms", "<= 1.7", "git status")
        yield Row("… the first one", first, status, "ms", None, "git status")
        last = snapshot.take(str(clone), reason="bench")
        assert last is not None
        git(clone, "reset", "-q", "--hard")
        ref = last.ref
        undone = timed(lambda: restore.restore(str(clone), ref))  # noqa: B023
        yield Row("… undo of a `reset --hard`", undone, status, "ms", None, "git status")


def main() -> int:
    """Measure and show; returns 0 when every target holds, else 1 (--quick: always 0)."""
    options = table.parser_for(__doc__ or "").parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HOME"] = folder
        found = list(rows(QUICK if options.quick else Size(), Path(folder)))
    table.show("backups of a clone", found, options.json)
    return int(not options.quick and any(row.holds is False for row in found))


if __name__ == "__main__":
    sys.exit(main())
