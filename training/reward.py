"""A reward model with TRL's RewardTrainer: a head with one output on pairs of chosen and rejected (S11-R20, D6)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trl import RewardTrainer  # pyright: ignore[reportPrivateImportUsage] - its public door

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
    """The trainer, nothing trained yet; the head of the model is made from the seed."""
    return RewardTrainer(**parts(job, folder, precision, datasets, source, overrides))


def train(
    trainer: Any, job: Mapping[str, Any], monitor: Monitor, folder: Path, resume_from: Checkpoint | None = None
) -> dict[str, Any]:
    """Train to the end or to an orderly stop; see trl_trainer.run."""
    return run(trainer, job, monitor, folder, resume_from)
