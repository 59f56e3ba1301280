"""Group relative policy optimisation with TRL's GRPOTrainer (S11-R20); the reward is a function of the user's repository."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from trl import GRPOTrainer  # pyright: ignore[reportPrivateImportUsage] - its public door

from lanes.precision import PrecisionPlan
from training.checkpoints import Checkpoint
from training.dpo import moving_reference
from training.errors import TrainingError
from training.findings import Finding
from training.monitor import Monitor
from training.trl_trainer import Datasets, check_job, parts, run

Reward = Callable[..., list[float | None]]


def check(job: Mapping[str, Any]) -> list[Finding]:
    """What must be mended before this job is built; the reward function is looked for as well."""
    found = [*check_job(job), *moving_reference(job)]
    try:
        reward_function(job)
    except TrainingError as error:
        found.append(Finding("error", "dataset.reward", error.message, error.remedy))
    return found


def build(
    job: Mapping[str, Any],
    folder: Path,
    precision: PrecisionPlan,
    datasets: Datasets,
    *,
    source: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Any:
    """The trainer, nothing trained yet."""
    return GRPOTrainer(
        reward_funcs=[reward_function(job)], **parts(job, folder, precision, datasets, source, overrides)
    )


def train(
    trainer: Any, job: Mapping[str, Any], monitor: Monitor, folder: Path, resume_from: Checkpoint | None = None
) -> dict[str, Any]:
    """Train to the end or to an orderly stop; see trl_trainer.run."""
    return run(trainer, job, monitor, folder, resume_from)


def reward_function(job: Mapping[str, Any]) -> Reward:
    """The function that `dataset.reward` names, `module:function` in the repository. Raises TrainingError when it is not there.

    The repository comes first for this one import only: a file of it must not stand in for an installed package.
    """
    named = str((job.get("dataset") or {}).get("reward") or "")
    module, _, function = named.partition(":")
    root = str(job.get("root") or ".")
    remedy = f"write {named or 'module:function'} in the repository, see TRL's custom reward functions"
    sys.path.insert(0, root)
    try:
        found: Any = getattr(importlib.import_module(module), function, None)
    except Exception as error:
        raise TrainingError(f"{named} cannot be imported: {type(error).__name__}: {error}", remedy=remedy) from error
    finally:
        sys.path.remove(root)
    if not callable(found):
        raise TrainingError(f"{module} has no function {function}", remedy=remedy)
    return cast("Reward", found)
