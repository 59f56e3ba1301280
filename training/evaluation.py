"""How good is the result: first a few rows, then all of them, and the base model under the same conditions (S14-R02, S14-R09).

The model is the one that was saved, loaded again; no number comes from memory (S14-R12). What the manifest asks for and
what the method is about is measured on the held-out rows; what could not be measured is said. Files: artifacts/results/.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, set_seed

from manifests.commands import command
from training import benchmark_files, measures
from training.data.rendering import splits
from training.errors import TrainingError
from training.measures import MetricRefused, Numbers
from training.models import DTYPES, load_model, load_tokenizer
from training.scoring import MOST_NEW_TOKENS, Encoder, Scorer, device_of, peak_bytes, reset_peak
from training.work import precision_here

SMOKE_ROWS = 4
MOST_GENERATED = 1000
MOST_CLASSES = 50
RESULTS = Path("artifacts/results")
Job = Mapping[str, Any]
Row = dict[str, Any]
Progress = Callable[[int, int | None, str], None]
# What a method is about is measured even when nobody asked; what it cannot give is left out, and said.
_OWN = {"sft": ("perplexity",), "causal-lm": ("perplexity",), "dpo": ("perplexity", "preference_accuracy"),
        "reward": ("reward_accuracy",), "grpo": ("mean_reward",)}  # fmt: skip
_CANNOT = {
    "reward": {"likelihood", "generation", "classes", "pairs", "samples", "suite"},
    "grpo": {"likelihood", "generation", "classes", "pairs", "rewards"},
    "dpo": {"rewards", "samples", "classes"},
    "sft": {"rewards", "samples", "pairs"},
    "causal-lm": {"rewards", "samples", "pairs", "classes"},
}


@dataclass
class _Rows:
    """What is measured on, and what has to be said about it."""

    rows: list[Row]
    kinds: dict[str, list[str]]
    not_covered: list[str]


@dataclass
class _Measured:
    """What one model gave."""

    numbers: Numbers = field(default_factory=dict[str, float])
    performance: Numbers = field(default_factory=dict[str, float])
    more: dict[str, Any] = field(default_factory=dict[str, Any])


def evaluate(job: Job, model_dir: Path, folder: Path, on_progress: Progress | None = None) -> dict[str, Any]:
    """Measure the model in `model_dir` and its base; writes artifacts/results/ and returns what stands in it.

    `metrics` are the measured numbers by name, `rows` each with value, baseline and improvement. Raises MetricRefused
    before anything is loaded when a metric is unknown, does not fit the method, or lacks its library.
    """
    say = on_progress or (lambda _done, _total, _what: None)
    wanted = _wanted(job)
    set_seed(int(job.get("seed", 42)))
    with _models(job, model_dir, folder) as (model, as_base):
        tokenizer = load_tokenizer(job)
        smoke = _measure(job, model(), tokenizer, wanted, wanted.rows[:SMOKE_ROWS], say, "smoke")
        found = _measure(job, model(), tokenizer, wanted, wanted.rows, say, "result")
        sample = _sample(job, model(), tokenizer, wanted.rows)
        with as_base() as base:
            # The first rows warm it up, as the smoke did the result: throughputs are then of the same kind.
            _measure(job, base, tokenizer, wanted, wanted.rows[:SMOKE_ROWS], say, "base")
            before = _measure(job, base, tokenizer, wanted, wanted.rows, say, "base")
    _suites(job, wanted, model_dir, folder, found, before)
    return _record(job, folder, wanted, smoke, found, before, sample)


# --- what is measured ---------------------------------------------------------------------------------------------


def _wanted(job: Job) -> _Rows:
    spec, method = job.get("evaluate") or {}, str(job["method"])
    asked = list(spec.get("metrics") or [])
    kinds = measures.kinds_of(list(dict.fromkeys([*_OWN[method], *asked])))
    left = {kind: names for kind, names in kinds.items() if kind in _CANNOT[method]}
    not_covered = [f"{name}: not a measure of {method}" for names in left.values() for name in names]
    kept = {kind: names for kind, names in kinds.items() if kind not in left}
    train, held_out = splits(job)
    limit = spec.get("limit")
    rows = list(itertools.islice((held_out or train).rows(), limit))
    if not rows:
        raise TrainingError(
            "there is no row to evaluate on", remedy="dataset.eval_fraction or eval_source in the manifest"
        )
    if held_out is None:
        not_covered.append("no rows are held out: these numbers are of rows that were trained on")
    if limit and len(rows) == limit:
        not_covered.append(f"only the first {limit} rows of the split (evaluate.limit)")
    return _Rows(rows, kept, not_covered)


def _measure(
    job: Job, model: Any, tokenizer: Any, wanted: _Rows, rows: Sequence[Row], say: Progress, what: str
) -> _Measured:
    """All kinds of measures on these rows with one model."""
    device = str(next(model.parameters()).device.type)
    scorer, encoder, found = (
        Scorer(model, tokenizer, int(job["sequence_length"]), device),
        Encoder(tokenizer),
        _Measured(),
    )
    reset_peak(device)
    for kind, names in wanted.kinds.items():
        if kind in _KINDS:
            told: Callable[[int], None] = lambda done, kind=kind: say(done, len(rows), f"{what}: {kind}")  # noqa: E731
            numbers, more = _KINDS[kind](job, scorer, encoder, rows, names, told)
            found.numbers |= numbers
            found.more |= more
    every = sum(each.numel() for each in model.parameters())
    found.performance = {
        "tokens_per_s": round(scorer.tokens / scorer.seconds, 2) if scorer.seconds else 0.0,
        "peak_memory_bytes": float(peak_bytes(device)),
        # A forward pass multiplies and adds once per weight and token.
        "flops_per_token": 2.0 * every,
    }
    return found


def _likelihood(
    _job: Job, scorer: Scorer, encoder: Encoder, rows: Sequence[Row], _names: list[str], told: Callable[[int], None]
) -> tuple[Numbers, dict[str, Any]]:
    return {"perplexity": scorer.perplexity([encoder.whole(row) for row in rows], told)}, {}


def _generation(
    _job: Job, scorer: Scorer, encoder: Encoder, rows: Sequence[Row], names: list[str], told: Callable[[int], None]
) -> tuple[Numbers, dict[str, Any]]:
    questions = [encoder.question(row) for row in rows[:MOST_GENERATED]]
    asked = [(prompt, wanted) for prompt, wanted in questions if prompt and wanted.strip()]
    if not asked:
        raise MetricRefused(
            f"{', '.join(names)}: no row has a reference to compare with", remedy="ask for perplexity only"
        )
    longest = max(len(encoder.prompt({"prompt": wanted})) for _, wanted in asked)
    most = min(MOST_NEW_TOKENS, longest + 8)
    said = scorer.generate([prompt for prompt, _ in asked], most, told)
    more = {"generated_rows": len(asked), "most_new_tokens": most}
    return measures.of_texts(names, said, [wanted for _, wanted in asked]), more


def _classes(
    _job: Job, scorer: Scorer, encoder: Encoder, rows: Sequence[Row], names: list[str], told: Callable[[int], None]
) -> tuple[Numbers, dict[str, Any]]:
    """Each class as the completion of each prompt: the likeliest one is the prediction."""
    truth = [encoder.question(row)[1] if "prompt" in row else "" for row in rows]
    classes = sorted(set(truth))
    if not all(truth) or not 2 <= len(classes) <= MOST_CLASSES:
        raise MetricRefused(
            f"{', '.join(names)}: classes are the completions of prompts; here are {len(classes)} of them",
            remedy=command("prompt and completion columns with 2 to {} different completions", MOST_CLASSES),
        )
    scores: list[list[float]] = []
    for row in rows:
        scores.append(scorer.likelihoods([encoder.answer(row, each) for each in classes]))
        told(len(scores))
    return measures.of_classes(names, classes, [classes.index(each) for each in truth], scores)


def _pairs(
    _job: Job, scorer: Scorer, encoder: Encoder, rows: Sequence[Row], _names: list[str], told: Callable[[int], None]
) -> tuple[Numbers, dict[str, Any]]:
    """How often the chosen answer is the likelier one, and by how much."""
    good = scorer.likelihoods([encoder.whole(row, "chosen") for row in rows])
    bad = scorer.likelihoods([encoder.whole(row, "rejected") for row in rows])
    told(len(rows))
    return _won("preference", good, bad), {}


def _rewards(
    _job: Job, scorer: Scorer, encoder: Encoder, rows: Sequence[Row], _names: list[str], told: Callable[[int], None]
) -> tuple[Numbers, dict[str, Any]]:
    """How often the chosen answer gets the higher reward, and by how much."""
    good = scorer.rewards([encoder.whole(row, "chosen") for row in rows])
    bad = scorer.rewards([encoder.whole(row, "rejected") for row in rows])
    told(len(rows))
    return _won("reward", good, bad), {}


def _won(name: str, good: Sequence[float], bad: Sequence[float]) -> Numbers:
    margins = [a - b for a, b in zip(good, bad, strict=True)]
    return {
        f"{name}_accuracy": sum(each > 0 for each in margins) / len(margins),
        f"{name}_margin": sum(margins) / len(margins),
    }


def _samples(
    job: Job, scorer: Scorer, encoder: Encoder, rows: Sequence[Row], _names: list[str], told: Callable[[int], None]
) -> tuple[Numbers, dict[str, Any]]:
    """The user's own reward of greedy answers to the held-out prompts."""
    from training.grpo import reward_function

    rows = rows[:MOST_GENERATED]
    most = int((job.get("arguments") or {}).get("max_completion_length") or MOST_NEW_TOKENS)
    said = scorer.generate([encoder.prompt(row) for row in rows], most, told)
    is_chat = not isinstance(rows[0]["prompt"], str)
    answers: list[Any] = [[{"role": "assistant", "content": each}] for each in said] if is_chat else said
    columns = {name: [row.get(name) for row in rows] for name in rows[0] if name != "prompt"}
    given = reward_function(job)(prompts=[row["prompt"] for row in rows], completions=answers, **columns)
    scores = [float(each) for each in given if each is not None]
    if not scores:
        raise MetricRefused("mean_reward: the reward function gave no number", remedy="let it return numbers")
    return {"mean_reward": sum(scores) / len(scores)}, {"generated_rows": len(rows), "most_new_tokens": most}


_KINDS: Mapping[str, Callable[..., tuple[Numbers, dict[str, Any]]]] = {
    "likelihood": _likelihood,
    "generation": _generation,
    "classes": _classes,
    "pairs": _pairs,
    "rewards": _rewards,
    "samples": _samples,
}


def _suites(job: Job, wanted: _Rows, model_dir: Path, folder: Path, found: _Measured, before: _Measured) -> None:
    """Programs and files of their own: lm-eval for both models, predictions of pictures for the result."""
    spec = job.get("evaluate") or {}
    if "suite" in wanted.kinds:
        from training.suites import lm_eval

        tasks = [name.removeprefix(measures.SUITE) for name in wanted.kinds["suite"]]
        found.numbers |= lm_eval(tasks, job, folder, model_dir, limit=spec.get("limit"))
        before.numbers |= lm_eval(tasks, job, folder, None, limit=spec.get("limit"))
    if "vision" in wanted.kinds:
        path = Path(str(job["root"])) / str(spec.get("predictions") or "predictions.jsonl")
        found.numbers |= measures.of_pictures(wanted.kinds["vision"], path)


def _sample(job: Job, model: Any, tokenizer: Any, rows: Sequence[Row]) -> dict[str, str] | None:
    """One prompt with the model's own words: that it works at all is seen best by reading it (S14-R01)."""
    if job["method"] == "reward":
        return None
    device = str(next(model.parameters()).device.type)
    prompt, wanted = Encoder(tokenizer).question(rows[0])
    said = Scorer(model, tokenizer, int(job["sequence_length"]), device).generate([prompt], 32, lambda _: None)
    return {"prompt": tokenizer.decode(prompt)[-400:], "said": said[0][:400], "reference": wanted[:400]}


# --- models -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _models(job: Job, model_dir: Path, folder: Path) -> Generator[tuple[Callable[[], Any], Any]]:
    """(the saved model, a context that gives its base): an adapter is switched off, a whole model makes room for its base."""
    plan = precision_here(job)
    device = device_of(job)
    dtype = DTYPES[plan.dtype] if device == "cuda" else torch.float32
    if (model_dir / "adapter_config.json").exists():
        from peft import PeftModel

        base = load_model(job, folder, plan).to(dtype)
        adapted = PeftModel.from_pretrained(base, str(model_dir)).to(device)
        yield lambda: adapted, lambda: _switched_off(adapted)
        return
    if not (model_dir / "config.json").exists():
        raise TrainingError(f"{model_dir} holds no model", remedy="train again, or name the folder of the model")
    kind: Any = AutoModelForSequenceClassification if job["method"] == "reward" else AutoModelForCausalLM
    held: list[Any] = [kind.from_pretrained(str(model_dir), dtype=dtype, attn_implementation=plan.attention).to(device)]

    @contextlib.contextmanager
    def as_base() -> Generator[Any]:
        held.clear()
        _make_room(device)
        yield load_model(job, folder, plan).to(dtype).to(device)

    yield lambda: held[0], as_base


@contextlib.contextmanager
def _switched_off(adapted: Any) -> Generator[Any]:
    with adapted.disable_adapter():
        yield adapted


def _make_room(device: str) -> None:
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


# --- the record ---------------------------------------------------------------------------------------------------


def _record(
    job: Job, folder: Path, wanted: _Rows, smoke: _Measured, found: _Measured, before: _Measured, sample: Any
) -> dict[str, Any]:
    """Everything as evidence and files hold it (S14-R08, S14-R10)."""
    rows = [_row(name, value, before.numbers.get(name)) for name, value in found.numbers.items()]
    rows += [_row(name, value, before.performance.get(name)) for name, value in found.performance.items()]
    first = rows[0]
    record: dict[str, Any] = {
        "schema_version": 1,
        "run_id": job.get("run_id"),
        "name": job.get("name"),
        "evaluated": True,
        "metric": first["metric"],
        "value": first["value"],
        "confirmed_works": sample is None or bool(sample["said"].strip()),
        "summary": f"{first['metric']} {first['value']:.4g}, base {_short(first['baseline'])}",
        "metrics": found.numbers,
        "rows": rows,
        "conditions": {
            "rows": len(wanted.rows),
            "sequence_length": job["sequence_length"],
            "seed": job.get("seed"),
            **{name: found.more[name] for name in ("generated_rows", "most_new_tokens") if name in found.more},
        },
        "smoke": {"rows": len(wanted.rows[:SMOKE_ROWS]), "metrics": smoke.numbers},
        "confusion": found.more.get("confusion"),
        "sample": sample,
        "not_covered": [*wanted.not_covered, *([found.more["note"]] if "note" in found.more else [])],
    }
    record["files"], missing = benchmark_files.write(folder, folder / RESULTS, record)
    record["not_covered"] += missing
    return record


def _row(metric: str, value: float, baseline: float | None) -> dict[str, Any]:
    return {
        "metric": metric,
        "value": value,
        "baseline": baseline,
        "improvement_percent": measures.improvement_percent(metric, value, baseline),
        "higher_is_better": measures.is_higher_better(metric),
    }


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
