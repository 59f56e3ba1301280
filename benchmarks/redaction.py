"""How fast secrets are masked in log text, how many kinds are found, and how often ordinary code is taken for one.

    benchmarks/redaction.py [--json FILE] [--quick]

The peer is detect-secrets over the same text, where it is installed beside Hemma; else the rows have no peer.
"""

from __future__ import annotations

import importlib.util
import random
import statistics
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import table
from harness.table import Row

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lanes.redaction import redact
from tests.secret_samples import OPEN, SEALED, samples

TARGET_MB_S = 20.0


def log(size: int) -> str:
    """Lines as pip, pytest, trainers and compilers write them, digests, paths and addresses among them."""
    chance, parts, length = random.Random(7), list[str](), 0
    while length < size:
        parts.append(
            chance.choice(
                (
                    f"  Found link https://files.example.invalid/packages/{chance.getrandbits(250):x}/torch-2.{chance.randrange(9)}.whl#sha256={chance.getrandbits(256):x}\n",
                    f"tests/real/test_run.py::test_it[{chance.randrange(99)}] PASSED  [{chance.randrange(100)}%]\n",
                    f"{{'loss': {chance.random():.4f}, 'learning_rate': 1e-05, 'tokens': {chance.randrange(9999)}}}\n",
                    f'  File "/usr/lib/python3/site-packages/transformers/models/llama/modeling_llama.py", line {chance.randrange(999)}\n',
                    f"2026-12-01 10:{chance.randrange(60):02}:00 INFO  tokenizer loaded, key: value, {chance.getrandbits(40):x}\n",
                )
            )
        )
        length += len(parts[-1])
    return "".join(parts)


def rate(scan: Callable[[str], object], text: str, rounds: int) -> float:
    """MB per second of processor time, the median of so many rounds."""
    took: list[float] = []
    for _ in range(rounds):
        begun = time.process_time()
        scan(text)
        took.append(time.process_time() - begun)
    return len(text) / 1e6 / statistics.median(took)


def peer() -> Callable[[str], object] | None:
    """detect-secrets over lines, with its own plugins, where it can be imported."""
    if importlib.util.find_spec("detect_secrets") is None:
        return None
    scan_line: Any = importlib.import_module("detect_secrets.core.scan").scan_line
    default_settings: Any = importlib.import_module("detect_secrets.settings").default_settings

    def lines(text: str) -> object:
        with default_settings():
            return [list(scan_line(line)) for line in text.splitlines()]

    return lines


def alarms() -> float:
    """How many of 10,000 lines of the standard library are taken for a secret."""
    lines = hits = 0
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
        if "site-packages" not in path.parts and "test" not in path.parts:
            text = path.read_text(encoding="utf-8", errors="replace")
            lines, hits = lines + text.count("\n"), hits + redact(text).total
    return hits / lines * 10_000


def main() -> int:
    """Measure and show; returns 0 when every target holds."""
    options = table.parser_for(__doc__ or "").parse_args()
    text, other = log(1_000_000 if options.quick else 20_000_000), peer()
    ours = rate(redact, text, 1 if options.quick else 5)
    rows = [Row("masking log text", ours, TARGET_MB_S, "MB/s", ">= 1", "budget")]
    if other is not None:
        rows.append(
            Row("the same, beside detect-secrets", ours, rate(other, text[:300_000], 1), "MB/s", None, "detect-secrets")
        )
    for name, kinds in (("open", OPEN), ("sealed", SEALED)):
        found = [secret not in redact(line).text for each in samples(kinds, 40).values() for line, secret in each]
        rows.append(
            Row(
                f"samples masked, {name} half ({len(kinds)} kinds)", sum(found), len(found), "of them", ">= 0.99", "all"
            )
        )
    rows.append(Row("false alarms in 10,000 lines of the standard library", alarms(), 1.0, "lines", "<= 1", "budget"))
    table.show("Masking secrets", rows, options.json)
    return int(not options.quick and any(row.holds is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
