"""What a person types while a training runs, from a cold start of the program, beside `trl sft --help`.

    <python of the training environment> benchmarks/training_control.py [--json FILE] [--quick]

A real training run (its first three stages) lies on a loopback host; every command is a process of its own, over the warm
connection that a watched run has anyway. `trl sft --help` is what the stock command line needs to say its first word.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import yaml
from harness import table
from harness.stage import Stage
from harness.table import Row

from manifests.train import EXAMPLE
from tests.training.support import make_tokenizer, rows_of

LIMIT_MS = 250.0
HEMMA = Path(__file__).resolve().parent.parent / ".venv/bin/hemma"
COMMANDS = (["status"], ["gates", "last"], ["watch", "last"], ["report", "last", "--out", "-"], ["ps", "--all"])
CONFIG = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
          "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 128, "vocab_size": 400}  # fmt: skip


def main() -> None:
    """Measure and print."""
    options = table.parser_for(__doc__ or "").parse_args()
    rounds = 1 if options.quick else 15
    stage = Stage()
    try:
        root = repository(stage)
        environ = {**stage.environ, "HEMMA_HOST": "bench", "HEMMA_ROOT": str(root)}
        trained(environ, root)
        rows = [measured(words, environ, root, rounds) for words in COMMANDS]
        rows += [start_of_trl(1 if options.quick else 3), torch_imports(environ, root)]
    finally:
        stage.close()
    words = f"Python {platform.python_version()}, trl {metadata.version('trl')}, torch {metadata.version('torch')}"
    table.show("Control commands of a training run", rows, options.json, conditions=words)


def repository(stage: Stage) -> Path:
    """A clone on the host with data, a tokenizer and a manifest."""
    root = stage.folder / "clone"
    git = ["git", "-c", "user.name=B", "-c", "user.email=b@example.invalid", "-C", str(root)]
    make_tokenizer(root / "data/tokenizer")
    lines = [json.dumps(row) for row in rows_of("causal-lm", 200)]
    (root / "data/text.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    said = yaml.safe_load(EXAMPLE) | {"python": sys.executable, "sequence_length": 64}
    said["model"]["config"] = CONFIG
    (root / "run.yaml").write_text(yaml.safe_dump(said), encoding="utf-8")
    subprocess.run([*git[:1], "init", "-q", "-b", "main", str(root)], check=True, timeout=30)
    for words in (["add", "-A"], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *words], check=True, timeout=30)
    return root


def trained(environ: dict[str, str], root: Path) -> None:
    """A training run up to the data audit: what `gates`, `watch` and `report` read."""
    words = [str(HEMMA), "train", "run.yaml", "--until", "data-audit", "--json"]
    done = subprocess.run(words, cwd=root, env=environ, capture_output=True, check=False, timeout=300)
    if done.returncode:
        raise SystemExit(done.stdout.decode()[-2000:] + done.stderr.decode()[-2000:])


def measured(words: list[str], environ: dict[str, str], root: Path, rounds: int) -> Row:
    """One command, from the start of its process to its end."""

    def once() -> None:
        done = subprocess.run([str(HEMMA), *words], cwd=root, env=environ, capture_output=True, check=False, timeout=60)
        if done.returncode:
            raise SystemExit(f"{words}: {done.stderr.decode()}")

    once()
    return Row(f"`hemma {' '.join(words)}`", median_ms(once, rounds), LIMIT_MS, "ms", "<= 1", "budget")


def median_ms(act: Callable[[], object], rounds: int) -> float:
    """The median of that many turns."""
    took: list[float] = []
    for _ in range(rounds):
        began = time.perf_counter()
        act()
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


def start_of_trl(rounds: int) -> Row:
    """How long the stock command line needs for its help."""
    trl = Path(sys.executable).with_name("trl")
    words = [str(trl), "sft", "--help"]
    took = median_ms(lambda: subprocess.run(words, capture_output=True, check=True, timeout=120), rounds)
    ours = median_ms(lambda: subprocess.run([str(HEMMA), "train", "--help"], capture_output=True, check=True), 5)
    return Row("`hemma train --help`", ours, took, "ms", "<= 0.1", "trl sft --help")


def torch_imports(environ: dict[str, str], root: Path) -> Row:
    """How many modules of torch and its kin the controller loads for `hemma gates last`: none."""
    done = subprocess.run(
        [str(HEMMA), "gates", "last"], cwd=root, env={**environ, "PYTHONPROFILEIMPORTTIME": "1"},
        capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    heavy = ("torch", "transformers", "trl", "datasets", "numpy")
    names = [line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.decode().splitlines()]
    return Row("modules of torch and its kin loaded", sum(name in heavy for name in names), 1, "", "< 1", "one")


if __name__ == "__main__":
    main()
