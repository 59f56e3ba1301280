"""The files of an evaluation: benchmark_results.json, benchmark_report.txt, loss_curves.png (S14-R10)."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from manifests.files import atomic_write, write_json
from training.events import read_metrics

JSON, REPORT, CURVES = "benchmark_results.json", "benchmark_report.txt", "loss_curves.png"
_SERIES = (("training loss", "loss"), ("evaluation loss", "eval_loss"))


def write(run_folder: Path, target: Path, record: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Write all three; returns (their names, what could not be made and why)."""
    target.mkdir(parents=True, exist_ok=True)
    series = losses(run_folder / "metrics.jsonl")
    missing = _draw(target / CURVES, series, str(record.get("name") or ""))
    if missing:
        (target / CURVES).unlink(missing_ok=True)
    names = [JSON, REPORT, *([] if missing else [CURVES])]
    kept = {**record, "files": names, "not_covered": [*record["not_covered"], *missing]}
    write_json(str(target / JSON), _finite(kept), mode=None)
    atomic_write(str(target / REPORT), report(kept).encode(), mode=None)
    return names, missing


def losses(path: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, loss) of training and evaluation, as the run's own series has them."""
    rows = read_metrics(path)
    return {
        name: [
            (int(row["step"]), float(row[key]))
            for row in rows
            if isinstance(row.get(key), int | float) and isinstance(row.get("step"), int)
        ]
        for name, key in _SERIES
    }


def report(record: Mapping[str, Any]) -> str:
    """The table for people: metric, value, baseline, improvement; then the conditions and what is not covered."""
    head = ("metric", "value", "baseline", "improvement %")
    body = [
        (str(row["metric"]), _number(row["value"]), _number(row["baseline"]), _number(row["improvement_percent"]))
        for row in record["rows"]
    ]
    widths = [max(len(row[column]) for row in [head, *body]) for column in range(len(head))]
    lines = [f"{record.get('name')}  run {record.get('run_id')}", ""]
    for row in [head, *body]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    lines += ["", "Both models under: " + ", ".join(f"{key} {value}" for key, value in record["conditions"].items())]
    lines += [f"Not covered: {each}" for each in record["not_covered"]]
    sample = record.get("sample")
    if sample:
        lines += ["", "Asked:    " + _line(sample["prompt"]), "Said:     " + _line(sample["said"]), "Expected: " + _line(sample["reference"])]  # fmt: skip
    return "\n".join(lines) + "\n"


def _draw(path: Path, series: Mapping[str, Sequence[tuple[int, float]]], title: str) -> list[str]:
    """The curves as a picture; returns why there is none."""
    shown = {name: [each for each in points if math.isfinite(each[1])] for name, points in series.items()}
    if not any(shown.values()):
        return [f"{CURVES}: no losses were logged"]
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return [f"{CURVES}: matplotlib is not installed in the training environment"]
    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for name, points in shown.items():
        if points:
            axes.plot(*zip(*points, strict=True), label=name, linewidth=1.5, marker="." if len(points) < 20 else "")
    # A title is text here: a dollar sign in a name is no formula.
    axes.set(xlabel="step", ylabel="loss")
    axes.set_title(_line(title), parse_math=False)
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    atomic_write(str(path), buffer.getvalue(), mode=None)
    return []


def _number(value: object) -> str:
    if not isinstance(value, int | float):
        return "-"
    return f"{value:.0f}" if abs(value) >= 1e5 and math.isfinite(value) else f"{value:.4g}"


def _line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]


def _finite(value: Any) -> Any:
    """JSON has no NaN: what is not a number is said as a word, and every reader takes the file."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value
