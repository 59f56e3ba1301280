"""How much GPU memory and time a training will take, and the largest micro-batch that fits: estimated before it is run.

Where the numbers come from:
- weights, gradients and Adam's two moments: ZeRO (Rajbhandari et al. 2020, section 3.1);
- activations per layer: "Reducing Activation Recomputation in Large Transformer Models" (Korthikanti et al. 2022,
  sections 4.1 and 5), here with its terms for gated feed-forward parts and grouped keys and values written out;
- work: 6 operations per weight and token, forward and backward (Kaplan et al. 2020, section 2.1), 8 with checkpointing
  (Narayanan et al. 2021, section 5.1), and 4 instead of 6 where the weights themselves get no gradient.
An estimate is told as one: the preflight measures, and what it measured replaces this.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

GIB = 1 << 30
BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "int8": 1.0, "nf4": 0.56}  # nf4: 4 bits and its scales
CONTEXT_BYTES = 800 << 20  # CUDA context, cuBLAS workspaces and NCCL buffers of one process
FRAGMENTATION = 1.08  # what PyTorch's allocator reserves beyond what is allocated
HEADROOM = 0.92  # the share of free memory that a plan may use

Method = Literal["sft", "dpo", "grpo", "reward", "native"]
# Sequences that one row becomes: a chosen and a rejected one.
SEQUENCES_PER_ROW = {"dpo": 2, "reward": 2}
# Whole copies of the weights that are read only: the reference model. With an adapter the base itself is the reference.
REFERENCE_COPIES = {"dpo": 1}


@dataclass(frozen=True)
class Architecture:
    """A decoder-only transformer by its config. `kv_heads` below `heads` is grouped attention; `is_gated`: three matrices."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int
    is_gated: bool = True
    is_tied: bool = False

    @property
    def head_dim(self) -> int:
        """Size of one head."""
        return self.hidden // self.heads

    @property
    def kv_size(self) -> int:
        """Size of all keys (or values) of one token in one layer."""
        return self.kv_heads * self.head_dim

    @property
    def layer_parameters(self) -> int:
        """Weights of one layer: attention, feed-forward, two norms."""
        attention = 2 * self.hidden * self.hidden + 2 * self.hidden * self.kv_size
        return attention + (3 if self.is_gated else 2) * self.hidden * self.intermediate + 2 * self.hidden

    @property
    def parameters(self) -> int:
        """All weights."""
        embeddings = self.vocabulary * self.hidden * (1 if self.is_tied else 2)
        return self.layers * self.layer_parameters + embeddings + self.hidden


@dataclass(frozen=True)
class Setup:
    """How it is trained. `lora_rank` 0 is a full fine-tune; `weights` is how weights are *stored* (mixed precision: fp32).

    `targets` counts the adapted matrices per layer. `logit_bytes` is what one logit costs: a copy in the compute precision,
    one in fp32 and its gradient; a chunked loss holds a part of it only, which `logit_share` says.
    """

    method: Method = "sft"
    length: int = 1024
    micro_batch: int = 1
    weights: str = "fp32"
    compute: str = "bf16"
    is_checkpointing_on: bool = True
    is_flash: bool = True
    lora_rank: int = 0
    targets: int = 2
    optimizer_bytes: float = 8.0
    logit_share: float = 1.0
    completions: int = 0


@dataclass(frozen=True)
class Estimate:
    """Bytes by what they are for; `total` is with the allocator's share and the context."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    other: float

    @property
    def total(self) -> int:
        """Bytes that the process will hold at its highest."""
        own = self.weights + self.gradients + self.optimizer + self.activations + self.logits + self.other
        return int(own * FRAGMENTATION) + CONTEXT_BYTES

    def as_dict(self) -> dict[str, float]:
        """The parts in GiB, for people."""
        parts = {name: value / GIB for name, value in vars(self).items()}
        return {name: round(value, 2) for name, value in {**parts, "total": self.total / GIB}.items()}


def trainable_parameters(model: Architecture, setup: Setup) -> int:
    """Weights that get a gradient: all, or those of the adapters (two thin matrices for each target)."""
    if not setup.lora_rank:
        return model.parameters
    return model.layers * setup.targets * 2 * model.hidden * setup.lora_rank


def estimate(model: Architecture, setup: Setup) -> Estimate:
    """The memory of one training step at its highest. It grows with every size of the model and of the setup."""
    stored, trained = BYTES[setup.weights], trainable_parameters(model, setup)
    adapters = trained * 4.0 if setup.lora_rank else 0.0
    copies = 1 + (0 if setup.lora_rank else REFERENCE_COPIES.get(setup.method, 0))
    master = 4.0 if setup.lora_rank else stored
    # Autocast keeps a cast copy of the weights of a layer at a time, of the largest matrix at the end.
    cast = max(model.layer_parameters, model.vocabulary * model.hidden) * BYTES[setup.compute]
    tokens = _sequences(setup) * setup.length
    return Estimate(
        weights=model.parameters * stored * copies + adapters,
        gradients=trained * master,
        optimizer=trained * setup.optimizer_bytes,
        activations=tokens * _bytes_per_token(model, setup),
        logits=tokens * model.vocabulary * (BYTES[setup.compute] + 8.0) * setup.logit_share,
        other=(cast if setup.weights != setup.compute else 0.0) + _generation(model, setup),
    )


def first_micro_batch_that_fits(
    model: Architecture, setup: Setup, free_bytes: int, per_device_batch: int
) -> tuple[int, Estimate] | None:
    """The largest divisor of `per_device_batch` (rows per step on one device, accumulation included) whose estimate fits.

    Divisors only, so that accumulation makes up for it exactly. None: not even one row fits.
    """
    for size in range(per_device_batch, 0, -1):
        if per_device_batch % size == 0:
            found = estimate(model, replace(setup, micro_batch=size))
            if found.total <= free_bytes * HEADROOM:
                return size, found
    return None


def flops_per_token(model: Architecture, setup: Setup) -> float:
    """Floating point operations per trained token, the attention over the sequence included."""
    forward = 2.0 * model.parameters + 4.0 * model.layers * model.hidden * setup.length / 2
    backward = 1.0 if setup.lora_rank else 2.0
    passes = 1.0 + backward + (1.0 if setup.is_checkpointing_on else 0.0)
    reference = 1.0 if setup.method == "dpo" else 0.0
    return forward * (passes + reference)


def duration_s(
    model: Architecture, setup: Setup, tokens: int, *, peak_flops: float, utilisation: float = 0.35
) -> float:
    """Seconds for `tokens` tokens at a share of the card's peak for the compute precision (0.35 is usual for one GPU)."""
    return tokens * flops_per_token(model, setup) / (peak_flops * utilisation)


def _sequences(setup: Setup) -> int:
    return setup.micro_batch * SEQUENCES_PER_ROW.get(setup.method, 1)


def _bytes_per_token(model: Architecture, setup: Setup) -> float:
    """Activations of one token: of every layer, or of every layer's input and one layer in full (checkpointing)."""
    layer = _layer_bytes_per_token(model, setup)
    size = BYTES[setup.compute]
    if not setup.is_checkpointing_on:
        return model.layers * layer + model.hidden * size
    return model.layers * model.hidden * size + 2.0 * layer


def _layer_bytes_per_token(model: Architecture, setup: Setup) -> float:
    """One layer of one token: inputs of both norms, q, k, v, the attention's output, the feed-forward's inner values.

    Without fused attention the scores of all heads over the length stay too, as they are, as softmax, and as its mask.
    """
    size = BYTES[setup.compute]
    norms = 2 * (model.hidden * 4.0 + model.hidden * size)
    attention = (2 * model.hidden + 2 * model.kv_size) * size + model.hidden * size
    inner = (4 if model.is_gated else 2) * model.intermediate * size
    scores = 0.0 if setup.is_flash else model.heads * setup.length * (2 * size + 1)
    adapters = setup.targets * (setup.lora_rank + model.hidden) * size if setup.lora_rank else 0.0
    return norms + attention + inner + scores + adapters


def _generation(model: Architecture, setup: Setup) -> float:
    """Keys and values of the completions that GRPO samples at once."""
    return 2.0 * setup.completions * setup.length * model.layers * model.kv_size * BYTES[setup.compute]
