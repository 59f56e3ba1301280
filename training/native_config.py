"""Settings of the native engine (causal-lm), under the names that the Trainer's have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass
class NativeConfig:
    """Plain pre-training on a memory-mapped token file. Batches in rows of `max_length` tokens, rates per optimizer step."""

    output_dir: str | None = None
    max_length: int = 1024
    per_device_train_batch_size: int = 8
    per_device_eval_batch_size: int = 8
    gradient_accumulation_steps: int = 1
    num_train_epochs: float = 1.0
    max_steps: int = -1
    learning_rate: float = 6e-4
    min_lr_ratio: float = 0.1
    lr_scheduler_type: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_steps: float = 0.0
    weight_decay: float = 0.1
    adam_beta1: float = 0.9
    adam_beta2: float = 0.95
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    optim: Literal["adamw_torch", "adamw_torch_fused"] = "adamw_torch"
    bf16: bool = False
    fp16: bool = False
    tf32: bool | None = None
    use_cpu: bool = False
    gradient_checkpointing: bool = False
    torch_compile: bool = False
    logging_steps: int = 10
    eval_strategy: Literal["no", "steps"] = "no"
    eval_steps: int = 500
    eval_batches: int = 50
    save_steps: int = 500
    save_total_limit: int | None = None
    seed: int = 42
    run_name: str | None = None
    project: str = "hemma"

    def __post_init__(self) -> None:
        """Raises ValueError for a number that makes no training."""
        positive = (
            "max_length",
            "per_device_train_batch_size",
            "gradient_accumulation_steps",
            "logging_steps",
            "save_steps",
        )
        for name in positive:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.max_steps < 1 and self.num_train_epochs <= 0:
            raise ValueError("max_steps or num_train_epochs must be above 0")
        if not 0 <= self.min_lr_ratio <= 1 or self.learning_rate <= 0:
            raise ValueError("learning_rate must be above 0 and min_lr_ratio between 0 and 1")
