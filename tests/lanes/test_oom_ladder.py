"""Out of GPU memory: the rungs in their order, and not one row more or less in an optimizer step."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes.oom_ladder import MOST_ATTEMPTS, Attempt, Exhausted, Hardware, Hold, MemoryState, Rung, next_rung

OOM = Attempt("cuda-oom")
GIB = 1 << 30
LARGER = (Hardware("h200", 141 * GIB), Hardware("a100-80", 80 * GIB), Hardware("2 x h200", 141 * GIB, 2))

BATCHES = (1, 2, 3, 4, 6, 7, 8, 12, 16, 32)
ACCUMULATIONS = (1, 2, 3, 5, 8)
DEVICES = (1, 2, 3, 4, 8)
METHODS = (("sft", None), ("dpo", None), ("reward", None), ("grpo", 4), ("grpo", 8))
GRID = list(itertools.product(BATCHES, ACCUMULATIONS, DEVICES, METHODS))


def climb(state: MemoryState, most: int = 50) -> tuple[list[Rung], Exhausted]:
    """Run out of memory again and again until the ladder ends."""
    rungs: list[Rung] = []
    history: list[Attempt] = [OOM]
    while True:
        found = next_rung(state, history, most_attempts=most)
        if isinstance(found, Exhausted):
            return rungs, found
        assert isinstance(found, Rung)
        rungs.append(found)
        state = found.state
        history.append(Attempt("cuda-oom", found.number))


@pytest.mark.req("S13-R30", "S13-R31", "S13-R35")
@pytest.mark.parametrize("is_on", [False, True])
def test_the_effective_batch_is_exact_or_the_ladder_ends_over_the_whole_grid(is_on: bool) -> None:
    assert len(GRID) >= 1000
    for batch, accumulation, devices, (method, generations) in GRID:
        start = MemoryState(batch, accumulation, devices, method, generations, is_checkpointing_on=is_on)
        start = replace(start, hardware=Hardware("a100-40", 40 * GIB, devices), larger_hardware=LARGER)
        rungs, _end = climb(start)
        if generations and (batch * accumulation * devices) % generations:
            assert rungs == []
            continue
        assert [rung.number for rung in rungs] == sorted(rung.number for rung in rungs)
        for rung in rungs:
            assert rung.state.effective_batch_size == start.effective_batch_size
            assert rung.state.method == method
            if generations:
                assert rung.state.generation_batch_size == start.generation_batch_size
                assert rung.state.generation_batch_size % generations == 0
        assert [rung.number for rung in rungs].count(2) == (0 if is_on else 1)
        if batch > 1:
            assert next(rung for rung in reversed(rungs) if rung.number == 1).state.per_device_batch_size == 1


@pytest.mark.req("S13-R30")
def test_batch_first_then_checkpointing_then_hardware() -> None:
    start = MemoryState(4, 2, 2, larger_hardware=LARGER, hardware=Hardware("l40s", 48 * GIB, 2))
    rungs, end = climb(start)
    assert [rung.number for rung in rungs] == [1, 1, 2, 3, 3]
    assert [rung.state.per_device_batch_size for rung in rungs] == [2, 1, 1, 1, 1]
    assert [rung.state.hardware.name for rung in rungs if rung.state.hardware] == ["l40s"] * 3 + ["a100-80", "h200"]
    assert rungs[0].changes == {"per_device_train_batch_size": (4, 2), "gradient_accumulation_steps": (2, 4)}
    assert rungs[0].arithmetic == "2 x 4 x 2 = 16 (was 4 x 2 x 2 = 16)"
    assert rungs[2].changes == {"gradient_checkpointing": (False, True)}
    assert rungs[3].changes == {
        "devices": (2, 1),
        "gradient_accumulation_steps": (8, 16),
        "hardware": ("l40s", "a100-80"),
    }
    assert [each.number for each in end.reasons] == [3]
    assert rungs[0].name.startswith("smaller")


@pytest.mark.req("S13-R34")
def test_what_is_in_force_is_recorded_and_skipped() -> None:
    start = MemoryState(1, 8, is_checkpointing_on=True, larger_hardware=LARGER)
    found = next_rung(start, [OOM])
    assert isinstance(found, Rung)
    assert found.number == 3
    assert [(each.number, each.why) for each in found.skipped] == [
        (1, "the per-device batch is already 1"),
        (2, "gradient checkpointing is already on"),
    ]
    found = next_rung(replace(start, larger_hardware=()), [OOM])
    assert isinstance(found, Exhausted)
    assert [each.number for each in found.reasons] == [1, 2, 3]


@pytest.mark.req("S13-R32")
def test_an_attempt_that_ended_otherwise_moves_nothing_and_loses_nothing() -> None:
    """D5: three attempts, one of them out of memory, is one step and not three."""
    state = MemoryState(8, 1)
    assert next_rung(state, []) == Hold(0, "the last attempt ended by nothing: GPU memory is not what it lacked")
    held = next_rung(state, [Attempt("cuda-oom", 0), Attempt("other", 2)])
    assert isinstance(held, Hold)
    assert held.rung == 2
    found = next_rung(state, [Attempt("other"), Attempt("other"), OOM])
    assert isinstance(found, Rung)
    assert (found.number, found.state.per_device_batch_size) == (1, 4)
    carried = next_rung(state, [Attempt("cuda-oom", 2), Attempt("other", 2), Attempt("cuda-oom", 2)])
    assert isinstance(carried, Rung)
    assert carried.number == 2


@pytest.mark.req("S13-R10")
def test_a_lack_of_host_memory_never_climbs_the_ladder_of_the_gpu() -> None:
    held = next_rung(MemoryState(8, 1), [OOM, Attempt("host-ram", 1)])
    assert isinstance(held, Hold)
    assert held.rung == 1


@pytest.mark.req("S13-R50")
def test_attempts_are_bounded() -> None:
    found = next_rung(MemoryState(1 << 20, 1), [OOM] * MOST_ATTEMPTS)
    assert isinstance(found, Exhausted)
    assert str(MOST_ATTEMPTS) in found.why


def test_the_memory_plan_may_shorten_the_way_down() -> None:
    found = next_rung(MemoryState(32, 1), [OOM], batch_that_fits=5)
    assert isinstance(found, Rung)
    assert (found.state.per_device_batch_size, found.state.gradient_accumulation_steps) == (4, 8)
    found = next_rung(MemoryState(32, 1), [OOM], batch_that_fits=0)
    assert isinstance(found, Rung)
    found = next_rung(MemoryState(32, 1), [OOM], batch_that_fits=100)
    assert isinstance(found, Rung)
    assert found.state.per_device_batch_size == 16, "what should have fitted did not: it is still made smaller"


@pytest.mark.req("S13-R35")
def test_the_constraints_of_a_method_hold() -> None:
    grpo = MemoryState(8, 4, 2, "grpo", num_generations=8, steps_per_generation=2)
    rungs, _end = climb(grpo)
    assert {rung.state.generation_batch_size for rung in rungs} == {32}
    assert rungs[0].changes["steps_per_generation"] == (2, 4)
    broken = next_rung(MemoryState(3, 1, 1, "grpo", num_generations=8), [OOM])
    assert isinstance(broken, Exhausted)
    assert "in two" in broken.why
    coupled = next_rung(MemoryState(8, 1, rows_are_coupled=True, is_checkpointing_possible=False), [OOM])
    assert isinstance(coupled, Exhausted)
    assert "compared with each other" in coupled.reasons[0].why


def test_hardware_over_which_the_batch_does_not_divide_is_no_way_out() -> None:
    odd = (Hardware("7 x big", 200 * GIB, 7), Hardware("none", 300 * GIB, 0))
    found = next_rung(MemoryState(1, 4, is_checkpointing_on=True, larger_hardware=odd), [OOM])
    assert isinstance(found, Exhausted)
    assert "does not divide" in found.reasons[-1].why
    three = (Hardware("3 x big", 200 * GIB, 3),)
    grpo = MemoryState(1, 12, 1, "grpo", 8, steps_per_generation=8, is_checkpointing_on=True, larger_hardware=three)
    assert isinstance(next_rung(grpo, [OOM]), Exhausted), "its generation batch of 8 does not divide by 3"


def test_a_state_that_cannot_be_is_refused() -> None:
    found = next_rung(MemoryState(0, 1), [OOM])
    assert isinstance(found, Exhausted)


STATES = st.builds(
    MemoryState,
    per_device_batch_size=st.integers(1, 512),
    gradient_accumulation_steps=st.integers(1, 512),
    devices=st.integers(1, 64),
    method=st.sampled_from(["sft", "dpo", "grpo", "reward", "native"]),
    num_generations=st.none() | st.integers(2, 16),
    steps_per_generation=st.none() | st.integers(1, 16),
    is_checkpointing_on=st.booleans(),
    is_checkpointing_possible=st.booleans(),
    rows_are_coupled=st.booleans(),
    larger_hardware=st.lists(
        st.builds(Hardware, st.text(max_size=3), st.integers(1, 200), st.integers(0, 16)), max_size=3
    ).map(tuple),
)


@pytest.mark.req("S13-R31", "S13-R33")
@given(STATES)
def test_every_ladder_ends_and_keeps_the_batch(start: MemoryState) -> None:
    rungs, end = climb(start)
    assert end.why
    for rung in rungs:
        assert rung.state.effective_batch_size == start.effective_batch_size
        assert rung.state.method == start.method
        if start.method == "grpo":
            assert rung.state.generation_batch_size == start.generation_batch_size
        assert rung.changes
        assert not any("length" in key or "auto" in key for key in rung.changes)
