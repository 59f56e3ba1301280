"""Which precision, attention and optimizer a training uses on the hardware that was found, and why (S4-R09..R11, C9).

Cards of the profile table follow it to the letter; every other card goes by its compute capability: bf16 from 8.0 on,
fp16 with a scaler from 7.0 on, fp32 below. Choices that change the model or the method (quantisation, a smaller variant)
are proposed only before the baseline is frozen; after it nothing but neutral ones is left.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from manifests.commands import Remedy

from lanes.verdict import Reason, Verdict

GIB = 1 << 30
Dtype = Literal["bf16", "fp16", "fp32"]
# Head dimensions above this have no kernel in FlashAttention 2 (its README, "Installation and features").
FLASH_HEAD_LIMIT = 256


@dataclass(frozen=True)
class Gpu:
    """One GPU as the host tells of it. `capability` is (major, minor); `free_bytes` is what nobody uses now."""

    name: str
    memory_bytes: int
    capability: tuple[int, int]
    free_bytes: int | None = None


@dataclass(frozen=True)
class Host:
    """What is installed there that a plan may use."""

    has_flash_attention: bool = False
    has_bitsandbytes: bool = False
    devices: int = 1


@dataclass(frozen=True)
class Profile:
    """One line of the table (S4-R10). What it asks for beyond precision is proposed, and only before the freeze."""

    name: str
    dtype: Dtype
    needs_scaler: bool
    tf32: bool
    flash_attention: bool
    cudnn_benchmark: bool
    checkpointing: bool = False
    smaller_micro_batch: bool = False
    quantisation: bool = False
    smaller_variant: bool = False
    eight_bit_optimizer: bool = False


TABLE: Mapping[str, Profile] = {
    "A100-80": Profile("A100-80", "bf16", False, True, True, True, eight_bit_optimizer=True),
    "A100-40": Profile("A100-40", "bf16", False, True, True, True, checkpointing=True, smaller_micro_batch=True),
    "T4": Profile("T4", "fp16", True, False, False, True, quantisation=True, smaller_variant=True),
    "L4": Profile("L4", "fp16", True, False, False, True, quantisation=True, smaller_variant=True),
}


@dataclass(frozen=True)
class PrecisionPlan:
    """What to train with. `proposals` would change the model or the method, so a person takes or leaves them."""

    profile: str
    dtype: Dtype
    needs_scaler: bool
    tf32: bool
    attention: Literal["flash_attention_2", "sdpa", "eager"]
    optimizer: str
    cudnn_benchmark: bool
    checkpointing: bool
    smaller_micro_batch: bool
    reasons: tuple[Reason, ...]
    proposals: tuple[str, ...] = ()

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """The plan as arguments of the trainer's config. With fp16 the trainer brings the scaler itself (S11-R03)."""
        return {
            "bf16": self.dtype == "bf16",
            "fp16": self.dtype == "fp16",
            "tf32": self.tf32 or None,
            "optim": self.optimizer,
        }


def plan(
    gpu: Gpu | None,
    host: Host,
    *,
    head_dim: int = 64,
    is_standard_architecture: bool = True,
    is_frozen: bool = False,
    requested: Dtype | None = None,
) -> PrecisionPlan | Verdict:
    """The plan for this hardware (None: a machine without a GPU), or the verdict that refuses the requested precision.

    `requested` is the manifest's own choice, which stands when the hardware has it: fp16 on a CPU is refused, where the
    trainer would take it without a word; so is bf16 on a card without it.
    """
    if gpu is None:
        return _cpu_plan(requested)
    profile, why = profile_of(gpu)
    dtype = requested or profile.dtype
    if dtype == "bf16" and gpu.capability < (8, 0):
        return _no(f"{gpu.name} (capability {_dotted(gpu.capability)}) has no bf16", "precision: fp16, or another GPU")
    attention, because = _attention(gpu, profile, host, dtype, head_dim)
    reasons = [Reason("S4-R10 profile" if profile.name in TABLE else "C9 by capability", why), because]
    if requested and requested != profile.dtype:
        reasons.append(Reason("the manifest's choice stands", f"{requested}, where the profile has {profile.dtype}"))
    compiles = is_standard_architecture and gpu.capability >= (7, 0) and host.devices == 1
    return PrecisionPlan(
        profile=profile.name,
        dtype=dtype,
        needs_scaler=dtype == "fp16",
        tf32=profile.tf32,
        attention=attention,
        optimizer="adamw_torch_fused",
        cudnn_benchmark=profile.cudnn_benchmark,
        checkpointing=profile.checkpointing,
        smaller_micro_batch=profile.smaller_micro_batch,
        reasons=(
            *reasons,
            Reason("S11-R09 graph compilation", "possible" if compiles else "not for this architecture"),
        ),
        proposals=() if is_frozen else _proposals(profile, host),
    )


def profile_of(gpu: Gpu) -> tuple[Profile, str]:
    """The table's line for a card, or one made from its capability; and the fact that decided."""
    name, gib = gpu.name.upper(), gpu.memory_bytes / GIB
    if re.search(r"\bA100\b", name):
        # A part of a card (MIG) has another memory than either line of the table.
        if gib > 60:
            return TABLE["A100-80"], f"{gpu.name}, {gib:.0f} GiB"
        if gib > 30:
            return TABLE["A100-40"], f"{gpu.name}, {gib:.0f} GiB"
    for key in ("T4", "L4"):
        if re.search(rf"\b{key}\b", name):
            return TABLE[key], f"{gpu.name}, {gib:.0f} GiB"
    return _by_capability(gpu), f"{gpu.name} is not in the table; its capability is {_dotted(gpu.capability)}"


def _by_capability(gpu: Gpu) -> Profile:
    newer, tensor_cores = gpu.capability >= (8, 0), gpu.capability >= (7, 0)
    dtype: Dtype = "bf16" if newer else "fp16" if tensor_cores else "fp32"
    small = gpu.memory_bytes < 48 * GIB
    return Profile(
        f"sm_{gpu.capability[0]}{gpu.capability[1]}",
        dtype,
        needs_scaler=dtype == "fp16",
        tf32=newer,
        flash_attention=newer,
        cudnn_benchmark=True,
        checkpointing=small,
        smaller_micro_batch=small,
    )


def _attention(
    gpu: Gpu, profile: Profile, host: Host, dtype: Dtype, head_dim: int
) -> tuple[Literal["flash_attention_2", "sdpa"], Reason]:
    """FlashAttention where card, precision, head size and installation all have it; never a build from source (S4-R13)."""
    rule = "attention"
    if not profile.flash_attention or gpu.capability < (8, 0):
        return "sdpa", Reason(rule, f"no FlashAttention 2 in the profile {profile.name}")
    if dtype == "fp32":
        return "sdpa", Reason(rule, "FlashAttention 2 has no fp32")
    if head_dim > FLASH_HEAD_LIMIT:
        return "sdpa", Reason(rule, f"head dimension {head_dim} is above {FLASH_HEAD_LIMIT}")
    if not host.has_flash_attention:
        return "sdpa", Reason(rule, "flash-attn is not installed, and is not built inside a job (S4-R13)")
    return "flash_attention_2", Reason(rule, "the card has it and flash-attn is installed")


def _proposals(profile: Profile, host: Host) -> tuple[str, ...]:
    """What the table recommends that alters model or method: only before the freeze (S4-R11)."""
    found: list[str] = []
    if profile.eight_bit_optimizer and host.has_bitsandbytes:
        found.append("optim: adamw_bnb_8bit saves 6 of 8 bytes of optimizer state per weight")
    if profile.quantisation:
        found.append("quantisation: 4-bit weights with an adapter fit a card of this size")
    if profile.smaller_variant:
        found.append("model: a smaller variant of the same family")
    return tuple(found)


def _cpu_plan(requested: Dtype | None) -> PrecisionPlan | Verdict:
    if requested == "fp16":
        return _no(
            "fp16 on a CPU: no scaler and no kernels; the trainer would take it and train on noise", "precision: fp32"
        )
    reasons = (Reason("a machine without GPU trains in fp32", requested or "fp32 (S7-R02)"),)
    return PrecisionPlan("cpu", requested or "fp32", False, False, "sdpa", "adamw_torch", False, False, False, reasons)


def _no(fact: str, step: Remedy) -> Verdict:
    return Verdict(False, (Reason("a precision that the hardware has", fact),), (step,))


def _dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"
