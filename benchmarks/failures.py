"""How long the failure classifier takes for 1 MB of log, and how often it is right on the corpus of public issues.

    benchmarks/failures.py [--json FILE] [--quick]

Three kinds of log: progress bars, a flood of INFO lines, and nothing but error lines, the hardest.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from harness import table
from harness.table import Row

from lanes.failures import FailureFacts, classify

BUDGET_MS = 20.0
CASES = Path(__file__).resolve().parent.parent / "tests/cases/failures"
OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 14.74 GiB"


def log(line: Callable[[random.Random], str]) -> str:
    """A megabyte of such lines, and the error at the end."""
    chance, parts, size = random.Random(7), list[str](), 0
    while size < 1_000_000:
        parts.append(line(chance))
        size += len(parts[-1])
    return "".join(parts) + OOM + "\n"


def bar(chance: random.Random) -> str:
    """Progress as tqdm and the trainer print it."""
    step = chance.randrange(10_000)
    return f"\r{step // 100:3}%|####      | {step}/10000 [00:10<00:20, 3.1it/s]{{'loss': {chance.random():.4f}}}\n"


def info(chance: random.Random) -> str:
    """A chatty library."""
    return f"[{chance.random()}] NCCL INFO Channel {chance.randrange(32)}: 0[{chance.getrandbits(40):x}]\n"


def timed(text: str, rounds: int) -> float:
    """The median of so many readings, in ms."""
    took: list[float] = []
    for _ in range(rounds):
        begun = time.perf_counter()
        if classify(text).code != "cuda-oom":
            raise SystemExit("the classifier did not find the cause")
        took.append((time.perf_counter() - begun) * 1000)
    return statistics.median(took)


def accuracy(name: str, least: float = 0.95) -> Row:
    """The share of a half of the corpus whose category is right."""
    folder = CASES / name
    files = sorted(folder.glob("*.yaml")) if folder.is_dir() else [CASES / f"{name}.yaml"]
    cases: list[Any] = [case for file in files for case in yaml.safe_load(file.read_text(encoding="utf-8"))]
    right = sum(
        classify(case["text"], FailureFacts(**case.get("facts", {}))).category == case["category"] for case in cases
    )
    return Row(
        f"category right, {name} half ({len(cases)} excerpts)", right, len(cases), "of them", f">= {least}", "all"
    )


def main() -> int:
    """Measure and show; returns 0 when every target holds."""
    options = table.parser_for(__doc__ or "").parse_args()
    rounds = 2 if options.quick else 15
    kinds: dict[str, str] = {
        "progress bars": log(bar),
        "INFO flood": log(info),
        "nothing but errors": log(lambda _: OOM + "\n"),
    }
    rows = [
        Row(f"1 MB of {name}", timed(text, rounds), BUDGET_MS, "ms", "<= 1", "budget") for name, text in kinds.items()
    ]
    rows += [accuracy(name) for name in ("dev", "held-out", "work", "first-sealed")]
    rows.append(accuracy("sealed", 0.92))
    table.show("Reading a failed run's log", rows, options.json)
    return int(not options.quick and any(row.holds is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
