"""Metrics of a running training in, alerts with numbers and an action out, each cause told once (S12-R02..R04, S11-R22).

A cause that goes on is not told again: it re-arms after its series has been calm for `Limits.rearm` observations. The
watch keeps nothing but small windows, and its whole state is plain data, so it goes into a checkpoint and comes back.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from lanes.alert_rules import Alert, Limits, alert

WINDOW = 50
SMOOTHING = 0.1
# The loss of a policy gradient hovers around zero and says nothing by its size.
LOSS_SAYS_NOTHING = frozenset({"grpo", "rloo", "ppo"})
MUST_BE_FINITE = ("loss", "grad_norm", "eval_loss", "reward", "kl", "learning_rate", "entropy")


class _Finding(NamedTuple):
    """What one rule sees now: whether it holds, and whether it is far enough from holding to count as calm."""

    code: str
    metric: str
    value: float
    threshold: float
    is_on: bool
    more: str = ""


@dataclass
class Series:
    """What is remembered of one metric: its last values, a smoothed one, and the best smoothed one."""

    recent: list[float] = field(default_factory=list[float])
    count: int = 0
    smoothed: float = math.nan
    best: float = math.inf
    best_at: int = 0
    over: int = 0
    first: float = math.nan

    def add(self, value: float, significant: float) -> None:
        """Take in one finite value; `best` moves when the smoothed value is lower by the share `significant`."""
        self.count += 1
        self.first = value if self.count == 1 else self.first
        self.recent = [*self.recent[-(WINDOW - 1) :], value]
        rate = max(SMOOTHING, 1 / self.count)
        self.smoothed = value if self.count == 1 else self.smoothed + rate * (value - self.smoothed)
        if self.smoothed < self.best - abs(self.best) * significant or self.best == math.inf:
            self.best, self.best_at = self.smoothed, self.count


class Watch:
    """Watches one run. `observe` takes each line of metrics as the trainer logs it; `tick` notices that none comes."""

    def __init__(self, limits: Limits | None = None, *, method: str = "sft") -> None:
        self.limits = limits or Limits()
        self.method = method
        self._series: dict[str, Series] = {}
        self._active: dict[str, int] = {}
        self._last: tuple[int, float] | None = None
        self._began_s: float | None = None
        self._step_s: list[float] = []

    def observe(self, step: int, metrics: Mapping[str, object], time_s: float) -> list[Alert]:
        """The alerts that this line of metrics gives reason for, in the order of the rules.

        `time_s` is a clock that never goes back. Names may carry `train/` or `eval/`; what is no number is passed over,
        and the words NaN and Infinity are numbers (trackio stores them so).
        """
        values = {_name(name): value for name, raw in metrics.items() if (value := _number(raw)) is not None}
        self._advance(step, time_s)
        poisoned = list(_not_finite(values))
        for name, value in values.items():
            if math.isfinite(value):
                self._series.setdefault(name, Series()).add(value, self.limits.plateau_share)
        findings = [*poisoned, *(finding for rule in _RULES for finding in rule(self, values))]
        findings.append(_Finding("stalled", "seconds_without_step", 0.0, 0.0, False))
        return self._told(step, findings)

    def tick(self, time_s: float) -> list[Alert]:
        """The alert that no step was logged for too long, once; call it from a clock, e.g. the heartbeat."""
        if self._began_s is None:
            self._began_s = time_s
        step, since = self._last or (0, self._began_s)
        usual = statistics.median(self._step_s) if self._step_s else 0.0
        limit = max(self.limits.stall_factor * usual, self.limits.stall_floor_s)
        if self._last is None:
            limit = self.limits.first_step_s
        waited = time_s - since
        return self._told(step, [_Finding("stalled", "seconds_without_step", waited, limit, waited > limit)])

    def note(self, code: str, step: int, metric: str, value: float, threshold: float = math.nan) -> Alert:
        """An alert for something that is known and not inferred: a checkpoint, the end, an early stop, out of memory."""
        return alert(code, step, metric, value, threshold)

    def smoothed(self, metric: str) -> float | None:
        """The smoothed value of a metric, None before its first finite one."""
        known = self._series.get(metric)
        return known.smoothed if known else None

    def series(self, metric: str) -> Series | None:
        """What is remembered of a metric."""
        return self._series.get(metric)

    def state(self) -> dict[str, Any]:
        """All that the watch remembers, as data for JSON (times are not part of it: clocks do not survive a restart)."""
        series = {name: asdict(each) for name, each in self._series.items()}
        return {"series": series, "active": dict(self._active), "step_s": list(self._step_s), "method": self.method}

    @classmethod
    def resumed(cls, state: Mapping[str, Any], limits: Limits | None = None) -> Watch:
        """A watch that goes on from `state`: what it told before is not told again."""
        watch = cls(limits, method=str(state["method"]))
        watch._series = {name: Series(**fields) for name, fields in state["series"].items()}
        watch._active, watch._step_s = dict(state["active"]), list(state["step_s"])
        return watch

    def _advance(self, step: int, time_s: float) -> None:
        if self._began_s is None:
            self._began_s = time_s
        if self._last is None:
            self._last = (step, time_s)
        elif step > self._last[0]:
            taken = (time_s - self._last[1]) / (step - self._last[0])
            self._step_s = [*self._step_s[-(WINDOW - 1) :], max(taken, 0.0)]
            self._last = (step, time_s)

    def _told(self, step: int, findings: list[_Finding]) -> list[Alert]:
        told: list[Alert] = []
        for code, metric, value, threshold, is_on, more in findings:
            key = f"{code}:{metric}"
            if is_on:
                if key not in self._active:
                    told.append(alert(code, step, metric, value, threshold, more))
                self._active[key] = 0
            elif key in self._active:
                self._active[key] += 1
                if self._active[key] >= self.limits.rearm or code == "stalled":
                    del self._active[key]
        return told


def _name(name: str) -> str:
    return name.removeprefix("train/").replace("eval/", "eval_", 1) if "/" in name else name


def _number(raw: object) -> float | None:
    if isinstance(raw, bool):
        return None
    if isinstance(raw, str) and raw.strip().lower().lstrip("+-") not in ("nan", "inf", "infinity"):
        return None
    try:
        return float(raw)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None


def _not_finite(values: Mapping[str, float]) -> Iterator[_Finding]:
    for name in MUST_BE_FINITE:
        if name in values:
            yield _Finding("non-finite", name, values[name], math.inf, not math.isfinite(values[name]))


def _loss(watch: Watch, values: Mapping[str, float]) -> Iterator[_Finding]:
    """Spike, divergence and plateau of the training loss."""
    loss, known, limits = values.get("loss"), watch.series("loss"), watch.limits
    if watch.method in LOSS_SAYS_NOTHING or loss is None or known is None or not math.isfinite(loss):
        return
    if known.count > limits.warm_up // 2:
        middle = statistics.median(known.recent[:-1])
        spread = statistics.median(abs(each - middle) for each in known.recent[:-1]) * 1.4826
        over = middle + max(limits.spike_deviations * spread, limits.spike_share * abs(middle))
        yield _Finding("loss-spike", "loss", loss, over, loss > over, f"median={middle:.6g}")
    wild = known.best + max(limits.divergence_gap, limits.divergence_share * abs(known.best))
    known.over = known.over + 1 if known.smoothed > wild and known.count > limits.warm_up else 0
    # No window is needed to see a loss that is worse than any guess: from the second observation on (lr 50: 5.98, 50,834).
    ruined = known.first + max(limits.ruin_gap, limits.ruin_factor * abs(known.first))
    if loss > ruined:
        yield _Finding("diverged", "loss", loss, ruined, True, f"first={known.first:.6g}")
    else:
        yield _Finding("diverged", "loss", known.smoothed, wild, known.over >= limits.divergence_patience)
    since = known.count - known.best_at
    flat = since >= limits.plateau_observations
    yield _Finding("plateau", "loss", known.smoothed, known.best, flat, f"observations={since}")


def _zeros(watch: Watch, values: Mapping[str, float]) -> Iterator[_Finding]:
    """A loss or gradient of exactly nothing, several times in a row: no row trains, or a filter hides a NaN."""
    last = watch.limits.zeros_in_a_row
    for metric, code, limit in (
        ("loss", "zero-loss", 0.0),
        ("grad_norm", "zero-gradient", watch.limits.grad_norm_zero),
    ):
        known = watch.series(metric)
        if metric in values and known and not (metric == "loss" and watch.method in LOSS_SAYS_NOTHING):
            tail = known.recent[-last:]
            nothing = len(tail) == last and all(abs(each) <= limit for each in tail)
            yield _Finding(code, metric, values[metric], limit, nothing)


def _gradient(watch: Watch, values: Mapping[str, float]) -> Iterator[_Finding]:
    norm, known = values.get("grad_norm"), watch.series("grad_norm")
    if norm is None or known is None or known.count <= watch.limits.warm_up // 2 or not math.isfinite(norm):
        return
    limit = max(statistics.median(known.recent[:-1]) * watch.limits.grad_norm_factor, 1.0)
    yield _Finding("grad-norm-high", "grad_norm", norm, limit, norm > limit)


def _overfitting(watch: Watch, values: Mapping[str, float]) -> Iterator[_Finding]:
    """The last evaluations are all above the best one, while the training loss still falls or stands."""
    known, train, limits = watch.series("eval_loss"), watch.series("loss"), watch.limits
    if "eval_loss" not in values or known is None or not math.isfinite(values["eval_loss"]):
        return
    tail = known.recent[-limits.overfitting_evaluations :]
    earlier = known.recent[: -limits.overfitting_evaluations]
    if not earlier:
        return
    best = min(earlier)
    limit = best + abs(best) * limits.overfitting_share
    worse = min(tail) > limit and tail == sorted(tail)
    falling = train is None or train.smoothed <= train.best * (1 + limits.overfitting_share) + 1e-12
    more = f"best={best:.6g}" + (f" train_loss={train.smoothed:.6g}" if train else "")
    yield _Finding("overfitting", "eval_loss", values["eval_loss"], limit, worse and falling, more)


def _reward(watch: Watch, values: Mapping[str, float]) -> Iterator[_Finding]:
    """What goes wrong in methods with a reward: collapse, no variance, a policy far away, cut completions."""
    limits, known = watch.limits, watch.series("reward")
    if "reward" in values and known and known.count > limits.warm_up:
        best = max(known.recent)
        limit = best - abs(best) * limits.reward_collapse_share
        low = statistics.fmean(known.recent[-5:])
        yield _Finding("reward-collapse", "reward", low, limit, low < limit, f"best={best:.6g}")
    for metric, code, limit, is_low in (
        ("reward_std", "low-reward-variance", limits.reward_std, True),
        ("frac_reward_zero_std", "low-reward-variance", limits.zero_std_share, False),
        ("kl", "kl-spike", limits.kl, False),
        ("completions/clipped_ratio", "completions-clipped", limits.clipped_share, False),
    ):
        known = watch.series(metric)
        if metric in values and known and math.isfinite(values[metric]):
            mean = statistics.fmean(known.recent[-3:])
            is_on = len(known.recent) >= 3 and (mean < limit if is_low else mean > limit)
            yield _Finding(code, metric, mean, limit, is_on)


def _machine(watch: Watch, values: Mapping[str, float]) -> Iterator[_Finding]:
    """The GPU's use and memory, and tokens per second against their own past."""
    limits = watch.limits
    for metric, code, limit, count, is_low in (
        ("gpu_utilization", "gpu-idle", limits.gpu_utilization_percent, limits.gpu_idle_observations, True),
        ("gpu_memory_share", "gpu-memory-near-limit", limits.gpu_memory_share, 1, False),
    ):
        known = watch.series(metric)
        if metric in values and known:
            tail = known.recent[-count:]
            is_on = len(tail) == count and all(each < limit if is_low else each > limit for each in tail)
            yield _Finding(code, metric, values[metric], limit, is_on)
    known = watch.series("tokens_per_s")
    if "tokens_per_s" in values and known and known.count > limits.warm_up:
        usual = statistics.median(known.recent[:-5])
        now = statistics.median(known.recent[-5:])
        limit = usual * limits.throughput_share
        yield _Finding("slow", "tokens_per_s", now, limit, now < limit, f"usual={usual:.6g}")


def _target(watch: Watch, values: Mapping[str, float]) -> Iterator[_Finding]:
    """Lower is better for a loss or perplexity, higher for everything else."""
    metric, target = watch.limits.target_metric, watch.limits.target
    if metric and metric in values:
        is_low = metric.endswith(("loss", "perplexity"))
        reached = values[metric] <= target if is_low else values[metric] >= target
        yield _Finding("target-reached", metric, values[metric], target, reached)


_RULES: tuple[Callable[[Watch, Mapping[str, float]], Iterator[_Finding]], ...] = (
    _loss,
    _zeros,
    _gradient,
    _overfitting,
    _reward,
    _machine,
    _target,
)
