"""What each alert means: its level, its title, the action it asks for and the settings that it justifies changing.

Levels as S12-R02 has them: ERROR is a failed attempt to analyse, WARN a thing to judge, INFO a milestone. Actions follow
the policy of S12-R08: diverged -> learning rate x 0.1, overfitting -> weight decay x 10, early stop -> learning rate x 0.5.
They are proposals for the next attempt or run; nothing here changes a run that is going on (C12).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["ERROR", "WARN", "INFO"]
LEARNING_RATE = ("learning_rate",)
NOTHING_LEARNT = (
    "the loss does not depend on what is trained: learning data by heart, rewards that are all alike (grpo), "
    "pairs that are equal (dpo), or labels that are all masked"
)


@dataclass(frozen=True)
class Cause:
    """One kind of alert. `justifies` are the only configuration keys that it gives a reason to change (S12-R09)."""

    level: Level
    title: str
    action: str
    justifies: tuple[str, ...] = ()


@dataclass(frozen=True)
class Alert:
    """One alert. `text` holds step, metric, value and threshold as `name=number`, for the next program to read (S12-R04)."""

    code: str
    level: Level
    step: int
    title: str
    text: str
    metric: str
    value: float
    threshold: float
    action: str
    justifies: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The alert as a record of the alert log."""
        return asdict(self)


@dataclass(frozen=True)
class Limits:
    """When a series is told of. Counts are observations (log lines), not steps; shares are of 1."""

    warm_up: int = 20
    spike_deviations: float = 8.0
    spike_share: float = 0.5
    divergence_share: float = 0.5
    divergence_gap: float = 0.3
    divergence_patience: int = 5
    ruin_gap: float = 10.0
    ruin_factor: float = 1.0
    plateau_observations: int = 200
    plateau_share: float = 0.005
    overfitting_evaluations: int = 3
    overfitting_share: float = 0.02
    grad_norm_factor: float = 10.0
    grad_norm_zero: float = 1e-8
    zeros_in_a_row: int = 3
    kl: float = 10.0
    reward_collapse_share: float = 0.5
    reward_std: float = 1e-3
    zero_std_share: float = 0.8
    clipped_share: float = 0.9
    gpu_utilization_percent: float = 20.0
    gpu_idle_observations: int = 10
    gpu_memory_share: float = 0.97
    throughput_share: float = 0.5
    stall_factor: float = 10.0
    stall_floor_s: float = 300.0
    first_step_s: float = 1800.0
    target_metric: str = ""
    target: float = 0.0
    rearm: int = 10


CAUSES: Mapping[str, Cause] = {
    "non-finite": Cause(
        "ERROR", "Not a finite number", "stop; resume from the newest valid checkpoint with learning_rate x 0.1", LEARNING_RATE
    ),
    "diverged": Cause("ERROR", "Loss diverged", "stop; learning_rate x 0.1", LEARNING_RATE),
    "zero-loss": Cause(
        "ERROR",
        "Loss is exactly zero",
        "stop; every label is masked (the audit's trained-tokens), the model knows the data by heart, or a NaN is filtered out",
    ),
    "zero-gradient": Cause("ERROR", "Gradient is zero", "stop; " + NOTHING_LEARNT),
    "stalled": Cause("ERROR", "No step in a long time", "look at the log's tail and the GPU; a collective may hang"),
    "out-of-memory": Cause("ERROR", "Out of GPU memory", "the next rung of the memory ladder; same effective batch size"),
    "loss-spike": Cause("WARN", "Loss spike", "watch; when it repeats, lower max_grad_norm or learning_rate", LEARNING_RATE),
    "plateau": Cause("WARN", "Loss no longer falls", "learning_rate x 0.5, or another schedule", ("learning_rate", "lr_scheduler_type")),
    "overfitting": Cause(
        "WARN", "Evaluation worsens while training improves", "weight_decay x 10, or the best checkpoint", ("weight_decay",)
    ),
    "early-stop": Cause(
        "WARN", "Stopped early", "learning_rate x 0.5, or another schedule", ("learning_rate", "lr_scheduler_type")
    ),
    "grad-norm-high": Cause("WARN", "Gradient norm is high", "lower max_grad_norm or learning_rate", LEARNING_RATE),
    "kl-spike": Cause("WARN", "Policy is far from its reference", "raise beta, or learning_rate x 0.5", ("beta", "learning_rate")),
    "reward-collapse": Cause("WARN", "Reward collapsed", "learning_rate x 0.5 from the best checkpoint", LEARNING_RATE),
    "low-reward-variance": Cause(
        "WARN", "Rewards of a group are all alike", "no signal to learn from: look at the reward function and temperature"
    ),
    "completions-clipped": Cause("WARN", "Completions are cut off", "look at completions: most end at the length limit"),
    "gpu-idle": Cause("WARN", "GPU is idle", "the input is too slow: pack, pre-tokenise, or move data to a local disk"),
    "gpu-memory-near-limit": Cause("WARN", "GPU memory is nearly full", "prepare the next rung of the memory ladder"),
    "slow": Cause("WARN", "Throughput fell", "look at the GPU's clock and temperature, and at who else uses the host"),
    "target-reached": Cause("INFO", "Target reached", "evaluate this checkpoint"),
    "checkpoint": Cause("INFO", "Checkpoint saved", "nothing"),
    "complete": Cause("INFO", "Training complete", "evaluate"),
}  # fmt: skip


def alert(code: str, step: int, metric: str, value: float, threshold: float, more: str = "") -> Alert:
    """The alert of this cause with its numbers (S12-R03). `more` is further text of `name=number` words."""
    cause = CAUSES[code]
    numbers = f"step={step} metric={metric} value={value:.6g} threshold={threshold:.6g}"
    text = " ".join(part for part in (numbers, more, f"| {cause.title}: {cause.action}") if part)
    return Alert(code, cause.level, step, cause.title, text, metric, value, threshold, cause.action, cause.justifies)
