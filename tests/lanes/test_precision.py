"""The profile table to the letter, everything else by capability, and a CPU that refuses what it has not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes.precision import GIB, Gpu, Host, PrecisionPlan, plan
from lanes.verdict import Verdict

ALL = Host(has_flash_attention=True, has_bitsandbytes=True)


def planned(gpu: Gpu | None, host: Host = ALL, **options: object) -> PrecisionPlan:
    found = plan(gpu, host, **options)  # type: ignore[arg-type]
    assert isinstance(found, PrecisionPlan), found
    return found


A100_80 = Gpu("NVIDIA A100-SXM4-80GB", 80 * GIB, (8, 0))
A100_40 = Gpu("NVIDIA A100-PCIE-40GB", 40 * GIB, (8, 0))
T4 = Gpu("Tesla T4", 15 * GIB, (7, 5))
L4 = Gpu("NVIDIA L4", 23 * GIB, (8, 9))


@pytest.mark.req("S4-R10", "S11-R03")
def test_the_table_is_followed_to_the_letter() -> None:
    big = planned(A100_80)
    assert (big.profile, big.dtype, big.needs_scaler, big.tf32, big.attention, big.cudnn_benchmark) == (
        *("A100-80", "bf16", False, True),
        *("flash_attention_2", True),
    )
    assert any("bnb" in each for each in big.proposals)
    small = planned(A100_40)
    assert (small.profile, small.dtype, small.needs_scaler, small.checkpointing, small.smaller_micro_batch) == (
        *("A100-40", "bf16", False, True),
        True,
    )
    assert small.attention == "flash_attention_2"
    for card in (T4, L4):
        found = planned(card)
        assert (found.profile, found.dtype, found.needs_scaler) == (card.name.split()[-1], "fp16", True)
        assert any("quantisation" in each for each in found.proposals)
        assert any("smaller variant" in each for each in found.proposals)


@pytest.mark.req("S4-R11")
@pytest.mark.parametrize("gpu", [A100_80, A100_40, T4, L4])
def test_after_the_freeze_nothing_is_proposed_that_changes_the_model(gpu: Gpu) -> None:
    frozen = planned(gpu, is_frozen=True)
    assert frozen.proposals == ()
    assert frozen.dtype == planned(gpu).dtype


@pytest.mark.req("S4-R09", "S4-R10")
@pytest.mark.parametrize(
    ("name", "gib", "capability", "dtype", "attention"),
    [
        ("NVIDIA H200", 141, (9, 0), "bf16", "flash_attention_2"),
        ("NVIDIA H100 80GB HBM3", 80, (9, 0), "bf16", "flash_attention_2"),
        ("NVIDIA L40S", 48, (8, 9), "bf16", "flash_attention_2"),
        ("NVIDIA GeForce RTX 4090", 24, (8, 9), "bf16", "flash_attention_2"),
        ("NVIDIA B200", 180, (10, 0), "bf16", "flash_attention_2"),
        ("NVIDIA A10G", 24, (8, 6), "bf16", "flash_attention_2"),
        ("Tesla V100-SXM2-16GB", 16, (7, 0), "fp16", "sdpa"),
        ("Quadro RTX 6000", 24, (7, 5), "fp16", "sdpa"),
        ("Tesla P100-PCIE-16GB", 16, (6, 0), "fp32", "sdpa"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 5, (8, 0), "bf16", "flash_attention_2"),
        ("", 8, (8, 0), "bf16", "flash_attention_2"),
    ],
)
def test_cards_outside_the_table_go_by_their_capability(
    name: str, gib: int, capability: tuple[int, int], dtype: str, attention: str
) -> None:
    found = planned(Gpu(name, gib * GIB, capability))
    assert (found.dtype, found.attention, found.needs_scaler) == (dtype, attention, dtype == "fp16")
    assert found.reasons[0].rule == "C9 by capability"


@pytest.mark.req("S4-R13")
def test_flash_attention_only_where_all_have_it() -> None:
    assert planned(A100_80, Host()).attention == "sdpa"
    assert planned(A100_80, head_dim=512).attention == "sdpa"
    assert planned(A100_80, requested="fp32").attention == "sdpa"
    assert planned(Gpu("Tesla V100", 16 * GIB, (7, 0))).attention == "sdpa"


@pytest.mark.req("S7-R02")
def test_a_machine_without_gpu_trains_in_fp32_and_refuses_fp16() -> None:
    assert planned(None).dtype == "fp32"
    assert planned(None, requested="bf16").dtype == "bf16"
    refused = plan(None, ALL, requested="fp16")
    assert isinstance(refused, Verdict)
    assert not refused.allowed
    assert refused.next_steps == ("precision: fp32",)


def test_what_the_manifest_asks_for_stands_where_the_card_has_it() -> None:
    assert planned(L4, requested="bf16").needs_scaler is False
    assert any("manifest" in reason.rule for reason in planned(L4, requested="bf16").reasons)
    refused = plan(T4, ALL, requested="bf16")
    assert isinstance(refused, Verdict)
    assert "7.5" in refused.reasons[0].fact


GPUS = st.none() | st.builds(
    Gpu, st.text(max_size=12), st.integers(1, 300 * GIB), st.tuples(st.integers(1, 12), st.integers(0, 9))
)


@given(GPUS, st.booleans(), st.sampled_from([None, "bf16", "fp16", "fp32"]), st.integers(16, 512), st.booleans())
def test_every_plan_is_one_that_the_hardware_has(
    gpu: Gpu | None, frozen: bool, asked: str | None, head: int, flash: bool
) -> None:
    found = plan(gpu, Host(flash), head_dim=head, is_frozen=frozen, requested=asked)  # type: ignore[arg-type]
    if isinstance(found, Verdict):
        assert asked in ("bf16", "fp16")
        assert found.next_steps
        return
    arguments = found.trainer_arguments
    assert not (arguments["bf16"] and arguments["fp16"])
    assert found.needs_scaler == (found.dtype == "fp16")
    assert found.dtype != "bf16" or gpu is None or gpu.capability >= (8, 0)
    assert found.attention != "flash_attention_2" or found.dtype != "fp32"
    assert asked is None or found.dtype == asked
    assert found.reasons
