"""`hemma verify` on a program of 5,000 modules beside grimp's own graph of it, and on this repository.

    benchmarks/verify.py [--json FILE] [--quick]

grimp builds the imports, in Rust; verify also reads what uses them, copies and stubs, and judges. A first look has to parse
every file in Python, which alone is as long as grimp's whole work (the row `CPython's own parse` says it, on one core);
later looks read only what changed, as an editor, a hook or a second CI step has it. Both keep what they read then.
"""

from __future__ import annotations

import ast
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grimp
from harness import table
from harness.table import Row

from controller.flows import verify as flow

ROOT = Path(__file__).resolve().parent.parent
MODULE = '''\
"""Module {number}."""

from __future__ import annotations

import os
import re

{imports}

LIMIT = 3


def step_{number}(value: int, *, name: str = "x") -> int:
    """One step."""
    if value > LIMIT:
        return value
{calls}
    return value


class Thing{number}:
    """A thing."""

    def __init__(self, size: int) -> None:
        self.size = size

    def grow(self, by: int = 1) -> int:
        """Grow."""
        self.size += by if re.match("a", str(by)) else {number}
        return self.size
'''


@dataclass(frozen=True)
class Size:
    """How many modules, and how often each side is asked."""

    modules: int = 5000
    rounds: int = 5


QUICK = Size(modules=100, rounds=1)


def plant(folder: Path, size: Size) -> None:
    """A package `many` in which each module uses up to six others, all of them reached from the first."""
    chance = random.Random(1)
    names = [f"many.p{n // 250:02d}.s{n // 25 % 10}.m{n:04d}" for n in range(size.modules)]
    for number, name in enumerate(names):
        targets = {chance.randrange(size.modules) for _ in range(5)} | {min(number + 1, size.modules - 1)}
        text = MODULE.format(
            number=number,
            imports="\n".join(f"from {names[n]} import step_{n}" for n in sorted(targets)),
            calls="\n".join(f"    value += step_{n}(value + 1, name=os.path.join(name, 'a'))" for n in sorted(targets)),
        )
        path = folder / (name.replace(".", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for here, _folders, _files in os.walk(folder / "many"):
        (Path(here) / "__init__.py").write_text('"""A package."""\n', encoding="utf-8")
    script = '[project]\nname = "many"\nversion = "1"\n[project.scripts]\nmany = "many.p00.s0.m0000:step_0"\n'
    (folder / "pyproject.toml").write_text(script, encoding="utf-8")


def in_turn(rounds: int, *sides: Callable[[], object]) -> list[float]:
    """The median time in ms of each side, asked in turn, so that a busy moment meets both."""
    took: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for times, side in zip(took, sides, strict=True):
            start = time.perf_counter()
            side()
            times.append((time.perf_counter() - start) * 1000)
    return [statistics.median(times) for times in took]


def forget() -> None:
    """Drop the kept scans: the next look is a first one."""
    shutil.rmtree(os.environ["HEMMA_CACHE_DIR"], ignore_errors=True)


def many_modules(folder: Path, size: Size) -> list[Row]:
    """Both sides on the planted program; a wrong count is no figure."""

    def look() -> None:
        report = flow.verify(flow.Request(str(folder)))
        if (report.counts["wired"], report.ok) != (report.counts["modules"], True):
            raise SystemExit(f"everything is wired there, but: {report.counts}")

    def first_look() -> None:
        forget()
        look()

    def graph() -> None:
        grimp.build_graph("many", cache_dir=None)

    for path in folder.rglob("*.py"):
        os.utime(path, (1_700_000_000, 1_700_000_000))  # settled files: what was just written is not kept
    sys.path.insert(0, str(folder))

    def kept_graph() -> None:
        grimp.build_graph("many", cache_dir=str(folder / "grimp"))

    texts = [path.read_text(encoding="utf-8") for path in folder.rglob("*.py")]

    def parse() -> None:
        for text in texts:
            ast.parse(text)

    peer, ours, parsed = in_turn(size.rounds, graph, first_look, parse)
    name = f"{size.modules:,} modules"
    first = Row(f"{name}, first look", ours, peer, "ms", "<= 1.5", "grimp's graph")
    alone = Row(f"{name}, CPython's own parse", parsed, peer, "ms", None, "grimp's graph")
    kept_graph()
    peer, ours, kept = in_turn(size.rounds, graph, look, kept_graph)
    later = Row(f"{name}, scans kept", ours, peer, "ms", "<= 1.5", "grimp's graph")
    return [first, alone, later, Row(f"{name}, both kept", ours, kept, "ms", None, "grimp's graph, cached")]


def this_repository(size: Size) -> list[Row]:
    """The tree that this file lies in, without coverage."""

    def look() -> None:
        flow.verify(flow.Request(str(ROOT)))

    def first_look() -> None:
        forget()
        look()

    (first,) = in_turn(size.rounds, first_look)
    (later,) = in_turn(size.rounds, look)
    return [
        Row("this repository, first look", first, 2000, "ms", "<= 1", "allowed"),
        Row("this repository, scans kept", later, 2000, "ms", "<= 1", "allowed"),
    ]


def main() -> int:
    """Measure and show; returns 0 when every target holds, else 1 (--quick: always 0)."""
    options = table.parser_for(__doc__ or "").parse_args()
    size = QUICK if options.quick else Size()
    with tempfile.TemporaryDirectory() as name:
        os.environ["HEMMA_CACHE_DIR"] = os.path.join(name, "cache")
        folder = Path(name) / "repo"
        plant(folder, size)
        rows = [*many_modules(folder, size), *this_repository(size)]
    table.show("hemma verify", rows, options.json)
    return int(not options.quick and any(row.holds is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
