"""LM-Eval suites as a program of their own: started, watched, its result file read (S14-R09)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from manifests import commands
from training.measures import MetricRefused, Numbers
from training.models import materialize

TIMEOUT_S = 3 * 3600
# lm-eval's own names for the number that a task is about, best first.
_MAIN = ("acc_norm", "acc", "exact_match", "f1", "word_perplexity", "perplexity", "bleu")


def command(
    tasks: Sequence[str], job: Mapping[str, Any], model: str, adapter: str | None, out: Path, limit: int | None
) -> list[str]:
    """The command line: one model, these tasks, one result file below `out`."""
    words = {"pretrained": model, "tokenizer": str(adapter or model), "max_length": str(job["sequence_length"])}
    if adapter:
        words["peft"] = adapter
    bad = [value for value in words.values() if "," in value or "=" in value]
    if bad:
        raise MetricRefused(
            f"lm-eval cannot take {bad[0]!r}: commas and equal signs part its words", remedy="rename it"
        )
    arguments = ",".join(f"{name}={value}" for name, value in words.items())
    argv = [sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", arguments, "--tasks", ",".join(tasks)]
    argv += ["--seed", str(job.get("seed", 42)), "--output_path", str(out)]
    return [*argv, "--limit", str(limit)] if limit else argv


def lm_eval(
    tasks: Sequence[str], job: Mapping[str, Any], folder: Path, model_dir: Path | None, *, limit: int | None
) -> Numbers:
    """The main number of each task, for the saved model, or for its base when `model_dir` is None. Raises MetricRefused."""
    is_adapter = model_dir is not None and (model_dir / "adapter_config.json").exists()
    model = materialize(job, folder) if model_dir is None or is_adapter else str(model_dir)
    out = folder / "work" / ("lm-eval-base" if model_dir is None else "lm-eval")
    argv = command(tasks, job, model, str(model_dir) if is_adapter else None, out, limit)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, cwd=folder)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise MetricRefused(
            f"lm-eval: {said[-1] if said else 'it said nothing'}",
            remedy=commands.command("lm_eval --tasks {}", ",".join(tasks)),
        )
    files = sorted(out.rglob("results*.json"), key=lambda path: path.stat().st_mtime)
    if not files:
        raise MetricRefused("lm-eval wrote no result", remedy=commands.command("ls {}", out))
    return numbers(json.loads(files[-1].read_text(encoding="utf-8")), tasks)


def numbers(found: Mapping[str, Any], tasks: Sequence[str]) -> Numbers:
    """`task/measure` and its value for each task in what lm-eval wrote: measures stand there as `acc,none`."""
    results = cast("dict[str, dict[str, Any]]", found.get("results") or {})
    made: Numbers = {}
    for task in tasks:
        plain = {key.partition(",")[0]: value for key, value in (results.get(task) or {}).items()}
        name = next((each for each in _MAIN if isinstance(plain.get(each), int | float)), None)
        if name is None:
            raise MetricRefused(
                f"lm-eval gave no number for {task}", remedy=commands.command("lm_eval --tasks {}", task)
            )
        made[f"{task}/{name}"] = float(plain[name])
    return made
