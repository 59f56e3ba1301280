"""Direct preference optimisation with TRL's DPOTrainer (S11-R20). The reference is the base model, or the adapter turned off."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trl import DPOTrainer  # pyright: ignore[reportPrivateImportUsage] - its public door

from lanes.precision import PrecisionPlan
from training.checkpoints import Checkpoint
from training.findings import Finding
from training.monitor import Monitor
from training.trl_trainer import Datasets, check_job, parts, run


def check(job: Mapping[str, Any]) -> list[Finding]:
    """What must be mended before this job is built."""
    return [*check_job(job), *moving_reference(job)]


def build(
    job: Mapping[str, Any],
    folder: Path,
    precision: PrecisionPlan,
    datasets: Datasets,
    *,
    source: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Any:
    """The trainer, nothing trained yet. TRL loads the reference a second time by the model's name: it is on the disk."""
    return DPOTrainer(**parts(job, folder, precision, datasets, source, overrides))


def train(
    trainer: Any, job: Mapping[str, Any], monitor: Monitor, folder: Path, resume_from: Checkpoint | None = None
) -> dict[str, Any]:
    """Train to the end or to an orderly stop; see trl_trainer.run."""
    return run(trainer, job, monitor, folder, resume_from)


def moving_reference(job: Mapping[str, Any]) -> list[Finding]:
    """A reference that moves with the policy is in no checkpoint: a resumed run would compare with another one."""
    if not (job.get("arguments") or {}).get("sync_ref_model"):
        return []
    fact = "moves the reference model, which no checkpoint holds: a resumed run would go on with another one"
    return [Finding("error", "sync_ref_model", fact, "remove sync_ref_model")]
