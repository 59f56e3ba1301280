"""Group relative policy optimisation with TRL's GRPOTrainer (S11-R20); the reward is a function of the user's repository."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any, cast

from trl import GRPOTrainer  # pyright: ignore[reportPrivateImportUsage] - its public door

from manifests.commands import command
from training.dpo import moving_reference
from training.errors import TrainingError
from training.findings import Finding
from training.trl_trainer import Job, TrlMethod

Reward = Callable[..., list[float | None]]


def reward_function(job: Job) -> Reward:
    """The function that `dataset.reward` names, `module:function` in the repository. Raises TrainingError when it is not there.

    The repository comes first for this one import only: a file of it must not stand in for an installed package.
    """
    named = str((job.get("dataset") or {}).get("reward") or "")
    module, _, function = named.partition(":")
    root = str(job.get("root") or ".")
    remedy = command("write {} in the repository, see the custom reward functions of TRL", named or "module:function")
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


def _reward_missing(job: Job) -> list[Finding]:
    try:
        reward_function(job)
    except TrainingError as error:
        return [Finding("error", "dataset.reward", error.message, error.remedy)]
    return []


METHOD = TrlMethod(
    GRPOTrainer,
    checks=(moving_reference, _reward_missing),
    more=lambda job: {"reward_funcs": [reward_function(job)]},
)
check, build, train = METHOD.check, METHOD.build, METHOD.train
