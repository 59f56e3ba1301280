"""Supervised fine-tuning with TRL's SFTTrainer (S11-R20)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trl import SFTTrainer  # pyright: ignore[reportPrivateImportUsage] - its public door

from lanes.precision import PrecisionPlan
from training.checkpoints import Checkpoint
from training.findings import Finding
from training.monitor import Monitor
from training.trl_trainer import Datasets, check_job, parts, run


def check(job: Mapping[str, Any]) -> list[Finding]:
    """What must be mended before this job is built."""
    return check_job(job)


def build(
    job: Mapping[str, Any],
    folder: Path,
    precision: PrecisionPlan,
    datasets: Datasets,
    *,
    source: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Any:
    """The trainer, nothing trained yet. `source`: a proxy in the model's place; `overrides`: arguments of a trial."""
    return SFTTrainer(**parts(job, folder, precision, datasets, source, overrides))


def train(
    trainer: Any, job: Mapping[str, Any], monitor: Monitor, folder: Path, resume_from: Checkpoint | None = None
) -> dict[str, Any]:
    """Train to the end or to an orderly stop; see trl_trainer.run."""
    return run(trainer, job, monitor, folder, resume_from)
