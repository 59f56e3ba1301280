"""A reward model with TRL's RewardTrainer: a head with one output on pairs of chosen and rejected (S11-R20, D6).

The head of the model is made from the seed.
"""

from __future__ import annotations

from trl import RewardTrainer  # pyright: ignore[reportPrivateImportUsage] - its public door

from training.trl_trainer import TrlMethod

METHOD = TrlMethod(RewardTrainer)
check, build, train = METHOD.check, METHOD.build, METHOD.train
