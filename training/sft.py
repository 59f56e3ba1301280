"""Supervised fine-tuning with TRL's SFTTrainer (S11-R20)."""

from __future__ import annotations

from trl import SFTTrainer  # pyright: ignore[reportPrivateImportUsage] - its public door

from training.trl_trainer import TrlMethod

METHOD = TrlMethod(SFTTrainer)
check, build, train = METHOD.check, METHOD.build, METHOD.train
