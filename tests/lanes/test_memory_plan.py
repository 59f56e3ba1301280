"""Memory estimates: near what is published and measured, growing with every size, and a micro-batch that keeps the batch."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes.memory_plan import (
    GIB,
    HEADROOM,
    Architecture,
    Setup,
    duration_s,
    estimate,
    first_micro_batch_that_fits,
    flops_per_token,
    trainable_parameters,
)

# Sizes from the models' own config.json files.
MODELS = {
    "135M": Architecture(30, 576, 9, 3, 1536, 49152, is_tied=True),
    "0.5B": Architecture(24, 896, 14, 2, 4864, 151936, is_tied=True),
    "1.5B": Architecture(28, 1536, 12, 2, 8960, 151936, is_tied=True),
    "8B": Architecture(32, 4096, 32, 8, 14336, 128256),
    "70B": Architecture(80, 8192, 64, 8, 28672, 128256),
}
PARAMETERS = {"135M": 0.1345e9, "0.5B": 0.494e9, "1.5B": 1.54e9, "8B": 8.03e9, "70B": 70.6e9}
LENGTHS = (512, 2048, 8192)
METHODS: tuple[Any, ...] = ("sft", "dpo", "reward", "grpo")
CELLS = list(itertools.product(MODELS, LENGTHS, METHODS))


@pytest.mark.parametrize("name", MODELS)
def test_the_count_of_weights_is_that_of_the_model(name: str) -> None:
    assert MODELS[name].parameters == pytest.approx(PARAMETERS[name], rel=0.01)


@pytest.mark.req("S4-R07")
@pytest.mark.parametrize(("name", "length", "method"), CELLS)
def test_an_estimate_is_within_sane_bounds(name: str, length: int, method: Any) -> None:
    """From below: 16 bytes a weight for a full fine-tune (ZeRO); from above: what that and all activations could be."""
    model = MODELS[name]
    full = estimate(model, Setup(method, length))
    assert full.total > 16 * model.parameters
    assert full.total < 22 * model.parameters + length * 40e6 + 4 * GIB
    lora = estimate(model, Setup(method, length, lora_rank=8, weights="bf16"))
    assert 2 * model.parameters < lora.total < full.total
    quantised = estimate(model, Setup(method, length, lora_rank=8, weights="nf4"))
    assert quantised.total < lora.total


def test_enough_cells_are_looked_at() -> None:
    assert len(CELLS) >= 40


@pytest.mark.req("S4-R07")
def test_known_fits_and_known_misfits() -> None:
    """8B: a full fine-tune needs more than one 80 GiB card, LoRA fits one, 4-bit LoRA fits 24 GiB at length 1024."""
    model, card = MODELS["8B"], 80 * GIB
    assert first_micro_batch_that_fits(model, Setup(length=2048), card, 8) is None
    assert first_micro_batch_that_fits(model, Setup(length=2048, lora_rank=8, weights="bf16"), card, 8) is not None
    assert first_micro_batch_that_fits(model, Setup(length=1024, lora_rank=8, weights="nf4"), 24 * GIB, 8) is not None
    assert first_micro_batch_that_fits(MODELS["70B"], Setup(lora_rank=8, weights="bf16"), card, 8) is None
    assert first_micro_batch_that_fits(MODELS["0.5B"], Setup(length=1024), 24 * GIB, 8) is not None


@pytest.mark.req("S11-R17")
def test_the_adapters_weights_are_counted_as_peft_counts_them() -> None:
    """q_proj and v_proj at rank 8 on square matrices: 32 layers x 2 x 2 x 4096 x 8."""
    square = replace(MODELS["8B"], kv_heads=32)
    assert trainable_parameters(square, Setup(lora_rank=8)) == 4_194_304


def test_time_follows_from_the_work() -> None:
    model = MODELS["8B"]
    plain = Setup(length=1, is_checkpointing_on=False)
    assert flops_per_token(model, plain) == pytest.approx(6 * model.parameters, rel=0.01)
    assert flops_per_token(model, replace(plain, is_checkpointing_on=True)) == pytest.approx(
        8 * model.parameters, rel=0.01
    )
    assert flops_per_token(model, replace(plain, lora_rank=8)) == pytest.approx(4 * model.parameters, rel=0.01)
    hour = duration_s(model, plain, 10_000_000, peak_flops=989e12, utilisation=0.4)
    assert 1000 < hour < 2000
    assert duration_s(model, plain, 20_000_000, peak_flops=989e12, utilisation=0.4) == pytest.approx(2 * hour)


def test_the_parts_are_told_in_gib() -> None:
    parts = estimate(MODELS["8B"], Setup()).as_dict()
    assert parts["weights"] == pytest.approx(29.9, abs=0.2)
    assert parts["optimizer"] == pytest.approx(59.8, abs=0.4)
    assert parts["total"] > sum(value for name, value in parts.items() if name != "total")


SIZES = st.builds(
    Architecture,
    layers=st.integers(1, 100),
    hidden=st.integers(1, 64).map(lambda n: n * 128),
    heads=st.just(4),
    kv_heads=st.sampled_from([1, 2, 4]),
    intermediate=st.integers(64, 30000),
    vocabulary=st.integers(100, 300_000),
    is_gated=st.booleans(),
    is_tied=st.booleans(),
)
SETUPS = st.builds(
    Setup,
    method=st.sampled_from(METHODS),
    length=st.integers(1, 32768),
    micro_batch=st.integers(1, 64),
    weights=st.sampled_from(["fp32", "bf16"]),
    is_checkpointing_on=st.booleans(),
    is_flash=st.booleans(),
    lora_rank=st.integers(0, 64),
    completions=st.integers(0, 16),
)
GROWS_WITH_MODEL = ("layers", "intermediate", "vocabulary")
GROWS_WITH_SETUP = ("length", "micro_batch", "completions")


@given(SIZES, SETUPS, st.integers(1, 50))
def test_memory_and_time_grow_with_each_size(model: Architecture, setup: Setup, more: int) -> None:
    total, work = estimate(model, setup).total, flops_per_token(model, setup)
    for name in GROWS_WITH_MODEL:
        larger = replace(model, **{name: getattr(model, name) + more})
        assert estimate(larger, setup).total >= total
        assert flops_per_token(larger, setup) >= work
    for name in GROWS_WITH_SETUP:
        assert estimate(model, replace(setup, **{name: getattr(setup, name) + more})).total >= total
    assert estimate(model, replace(setup, is_flash=True)).total <= estimate(model, replace(setup, is_flash=False)).total
    if setup.lora_rank:
        assert estimate(model, replace(setup, lora_rank=setup.lora_rank + more)).total >= total


@given(SIZES.filter(lambda model: model.layers >= 4), SETUPS)
def test_checkpointing_never_costs_memory(model: Architecture, setup: Setup) -> None:
    on, off = (estimate(model, replace(setup, is_checkpointing_on=each)).total for each in (True, False))
    assert on <= off


@pytest.mark.req("S13-R31")
@given(SIZES, SETUPS, st.integers(1, 96), st.integers(0, 200 * GIB))
def test_the_micro_batch_that_fits_is_the_largest_divisor_that_does(
    model: Architecture, setup: Setup, batch: int, free: int
) -> None:
    found = first_micro_batch_that_fits(model, setup, free, batch)
    fitting = [
        size
        for size in range(1, batch + 1)
        if batch % size == 0 and estimate(model, replace(setup, micro_batch=size)).total <= free * HEADROOM
    ]
    assert (found[0] if found else None) == (max(fitting) if fitting else None)
