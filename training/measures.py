"""Measures of text, classes and pictures from predictions and references, by well-kept libraries (S14-R09).

No model here: predictions come in, numbers go out. A library that a wanted measure needs and that is missing is named
before any model is loaded.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from manifests.commands import command, listed
from training.errors import TrainingError

Numbers = dict[str, float]
# What a manifest may ask for, and what gives it: (kind of measuring, library or None).
WANTED: Mapping[str, tuple[str, str | None]] = {
    "perplexity": ("likelihood", None),
    "bleu": ("generation", "sacrebleu"),
    "rouge": ("generation", "rouge_score"),
    "exact_match": ("generation", None),
    "accuracy": ("classes", "sklearn"),
    "precision": ("classes", "sklearn"),
    "recall": ("classes", "sklearn"),
    "f1": ("classes", "sklearn"),
    "confusion": ("classes", "sklearn"),
    "roc_auc": ("classes", "sklearn"),
    "preference_accuracy": ("pairs", None),
    "reward_accuracy": ("rewards", None),
    "mean_reward": ("samples", None),
    "top_1": ("vision", "torchmetrics"),
    "top_5": ("vision", "torchmetrics"),
    "map": ("vision", "torchmetrics"),
    "dice": ("vision", "torchmetrics"),
    "iou": ("vision", "torchmetrics"),
}
SUITE = "lm-eval:"
_PACKAGES = {"sacrebleu": "sacrebleu", "rouge_score": "rouge-score", "sklearn": "scikit-learn", "torchmetrics": "torchmetrics", "lm_eval": "lm-eval"}  # fmt: skip
_LOWER_IS_BETTER = ("perplexity", "loss", "peak_memory_bytes", "flops_per_token", "wer")


class MetricRefused(TrainingError):
    """A metric that does not exist, does not fit what was trained, or whose library is missing."""

    code = "metric-refused"


def kinds_of(names: Sequence[str]) -> dict[str, list[str]]:
    """The wanted metrics by how they are measured. Raises MetricRefused for an unknown one and for a missing library."""
    found: dict[str, list[str]] = {}
    for name in names:
        kind, library = ("suite", "lm_eval") if name.startswith(SUITE) else WANTED.get(name, (None, None))
        if kind is None:
            raise MetricRefused(
                f"evaluate.metrics: {name!r} is none", remedy=command("one of: {}", listed([*WANTED, f"{SUITE}TASK"]))
            )
        if library and importlib.util.find_spec(library) is None:
            raise MetricRefused(
                f"{name} needs {_PACKAGES[library]}, which is not installed in the training environment",
                remedy=command("pip install {}", _PACKAGES[library]),
                code="metric-unavailable",
            )
        found.setdefault(kind, []).append(name)
    return found


def is_higher_better(metric: str) -> bool:
    """Whether more of it is better; a task of a suite counts by the name of its measure."""
    return not any(word in metric.rpartition("/")[2] for word in _LOWER_IS_BETTER)


def improvement_percent(metric: str, value: float, baseline: float | None) -> float | None:
    """By how many percent of the baseline the value is better; None without a baseline that can be divided by."""
    if baseline is None or not baseline or not math.isfinite(baseline) or not math.isfinite(value):
        return None
    change = (value - baseline) / abs(baseline) * 100
    # Adding zero turns a minus zero into zero.
    return round(change if is_higher_better(metric) else -change, 3) + 0.0


# --- text ---------------------------------------------------------------------------------------------------------


def of_texts(names: Sequence[str], said: Sequence[str], wanted: Sequence[str]) -> Numbers:
    """BLEU (0 to 100), ROUGE F-measures and exact match (0 to 1) of generated texts against their references."""
    found: Numbers = {}
    if "bleu" in names:
        import sacrebleu

        found["bleu"] = float(sacrebleu.corpus_bleu(list(said), [list(wanted)]).score)
    if "rouge" in names:
        found |= _rouge(said, wanted)
    if "exact_match" in names:
        found["exact_match"] = sum(a.strip() == b.strip() for a, b in zip(said, wanted, strict=True)) / len(wanted)
    return found


def _rouge(said: Sequence[str], wanted: Sequence[str]) -> Numbers:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    scores = [scorer.score(reference, text) for reference, text in zip(wanted, said, strict=True)]
    names = {"rouge1": "rouge_1", "rouge2": "rouge_2", "rougeL": "rouge_l"}
    return {name: sum(each[key].fmeasure for each in scores) / len(scores) for key, name in names.items()}


# --- classes ------------------------------------------------------------------------------------------------------


def of_classes(
    names: Sequence[str], classes: Sequence[str], truth: Sequence[int], scores: Sequence[Sequence[float]]
) -> tuple[Numbers, dict[str, Any]]:
    """(numbers, confusion and notes) from log-likelihoods of each class; precision, recall and F1 are macro averages."""
    from sklearn import metrics

    predicted = [max(range(len(row)), key=row.__getitem__) for row in scores]
    labels = list(range(len(classes)))
    found: Numbers = {}
    if "accuracy" in names:
        found["accuracy"] = float(metrics.accuracy_score(truth, predicted))
    averaged: dict[str, Callable[..., Any]] = {
        "precision": metrics.precision_score,
        "recall": metrics.recall_score,
        "f1": metrics.f1_score,
    }
    for name, measure in averaged.items():
        if name in names:
            found[name] = float(measure(truth, predicted, labels=labels, average="macro", zero_division=0))
    more: dict[str, Any] = {}
    if "confusion" in names:
        matrix = metrics.confusion_matrix(truth, predicted, labels=labels).tolist()
        more["confusion"] = {"classes": list(classes), "rows_are_truth": matrix}
    if "roc_auc" in names:
        auc, note = _roc_auc(labels, truth, scores)
        found |= {} if auc is None else {"roc_auc": auc}
        more |= {"note": note} if note else {}
    return found, more


def _roc_auc(labels: list[int], truth: Sequence[int], scores: Sequence[Sequence[float]]) -> tuple[float | None, str]:
    from sklearn.metrics import roc_auc_score

    if len(set(truth)) < len(labels):
        return None, "roc_auc: a class has no row in the evaluation split"
    shares = [_softmax(row) for row in scores]
    if len(labels) == 2:
        return float(roc_auc_score(truth, [row[1] for row in shares])), ""
    return float(roc_auc_score(truth, shares, multi_class="ovr", average="macro", labels=labels)), ""


def _softmax(row: Sequence[float]) -> list[float]:
    most = max(row)
    parts = [math.exp(each - most) for each in row]
    return [part / sum(parts) for part in parts]


# --- pictures -----------------------------------------------------------------------------------------------------


def of_pictures(names: Sequence[str], path: Path) -> Numbers:
    """Vision measures of a file of predictions, one JSON object in a line, through torchmetrics.

    top_1, top_5: {scores: [...], label}. dice, iou: {mask: [[class ...]], target: [[class ...]]}. map: {boxes: [[x1, y1, x2,
    y2]], scores, labels, target: {boxes, labels}}. Raises MetricRefused when the file or a field is missing.
    """
    rows = _predictions(path)
    found: Numbers = {}
    try:
        for name in names:
            found[name] = _VISION[name](rows)
    except KeyError as error:
        raise MetricRefused(
            f"{path}: a prediction has no {error}", remedy="see training/measures.py: of_pictures"
        ) from error
    except (ValueError, TypeError, ImportError) as error:
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise MetricRefused(f"{path}: {said}", remedy="see training/measures.py: of_pictures") from error
    return found


def _predictions(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as file:
            rows = [cast("dict[str, Any]", json.loads(line)) for line in file if line.strip()]
    except (OSError, ValueError) as error:
        raise MetricRefused(
            f"the predictions {path} cannot be read: {error}", remedy="evaluate: {predictions: FILE} in the manifest"
        ) from error
    if not rows:
        raise MetricRefused(f"the predictions {path} are empty", remedy="write one JSON object for each picture")
    return rows


def _top(count: int) -> Callable[[list[dict[str, Any]]], float]:
    def measure(rows: list[dict[str, Any]]) -> float:
        import torch
        from torchmetrics.functional.classification import multiclass_accuracy

        scores = torch.tensor([row["scores"] for row in rows])
        labels = torch.tensor([row["label"] for row in rows])
        classes = scores.shape[1]
        found = multiclass_accuracy(scores, labels, num_classes=classes, top_k=min(count, classes), average="micro")
        return float(found)

    return measure


def _overlap(rows: list[dict[str, Any]], *, is_dice: bool) -> float:
    import torch
    from torchmetrics.functional.classification import multiclass_f1_score, multiclass_jaccard_index

    masks = torch.cat([torch.tensor(row["mask"]).flatten() for row in rows])
    targets = torch.cat([torch.tensor(row["target"]).flatten() for row in rows])
    classes = max(2, int(max(masks.max(), targets.max())) + 1)
    # Over pixels, Dice is F1 and IoU the Jaccard index.
    measure = multiclass_f1_score if is_dice else multiclass_jaccard_index
    return float(measure(masks, targets, num_classes=classes, average="macro"))


def _map(rows: list[dict[str, Any]]) -> float:
    import torch

    said = [
        {"boxes": torch.tensor(row["boxes"]).reshape(-1, 4).float(), "scores": torch.tensor(row["scores"]), "labels": torch.tensor(row["labels"])}
        for row in rows
    ]  # fmt: skip
    true = [
        {"boxes": torch.tensor(row["target"]["boxes"]).reshape(-1, 4).float(), "labels": torch.tensor(row["target"]["labels"])}
        for row in rows
    ]  # fmt: skip
    from torchmetrics.detection import MeanAveragePrecision  # needs torchvision and pycocotools besides

    measure = MeanAveragePrecision()
    measure.update(said, true)
    return float(measure.compute()["map"])


_VISION: Mapping[str, Callable[[list[dict[str, Any]]], float]] = {
    "top_1": _top(1),
    "top_5": _top(5),
    "dice": lambda rows: _overlap(rows, is_dice=True),
    "iou": lambda rows: _overlap(rows, is_dice=False),
    "map": _map,
}
