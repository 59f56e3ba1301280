"""Which old runs may go: by age, then by size, the oldest first; never one that lives."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lanes import retention, run_state

DAY_S = 86400.0
NOW_S = 1_800_000_000.0


def run(run_id: str, age_s: float, size: int = 0, **more: Any) -> dict[str, Any]:
    """The facts of a finished run of that age and size."""
    facts: dict[str, Any] = {
        "run_id": run_id,
        "modified_s": NOW_S - age_s,
        "sizes": {"stdout": size, "stderr": 0},
        "status": {"state": "finished", "exit_code": 0, "reason": "exited"},
        "supervisor_alive": False,
        "command_alive": False,
        "boot_id": "b",
    }
    return {**facts, **more}


RUNNING: dict[str, Any] = {"status": {"state": "running", "supervisor": {"boot_id": "b"}}}


def test_young_runs_within_the_budget_all_stay() -> None:
    assert retention.expired([run("a", DAY_S), run("b", 13 * DAY_S)], NOW_S) == []


def test_what_is_too_old_goes_the_oldest_first() -> None:
    runs = [run("new", DAY_S), run("old", 15 * DAY_S), run("older", 99 * DAY_S)]
    assert retention.expired(runs, NOW_S) == ["older", "old"]


def test_over_the_budget_the_oldest_go_until_it_is_kept() -> None:
    runs = [run(name, age * DAY_S, 100) for name, age in (("c", 1), ("a", 3), ("b", 2))]
    assert retention.expired(runs, NOW_S, max_bytes=300) == []
    assert retention.expired(runs, NOW_S, max_bytes=299) == ["a"]
    assert retention.expired(runs, NOW_S, max_bytes=199) == ["a", "b"]
    assert retention.expired(runs, NOW_S, max_bytes=0) == ["a", "b", "c"]


def test_the_bytes_of_live_runs_count_but_never_go() -> None:
    live = run("live", DAY_S, 1000, **RUNNING, supervisor_alive=True)
    assert retention.expired([live, run("over", DAY_S, 10)], NOW_S, max_bytes=1000) == ["over"]


def test_a_lost_run_goes_only_when_its_command_is_dead_too() -> None:
    orphan = run("orphan", 99 * DAY_S, **RUNNING, command_alive=True)
    dead = run("dead", 99 * DAY_S, **RUNNING)
    assert retention.expired([orphan, dead], NOW_S) == ["dead"]


states = st.sampled_from(["starting", "running", "finished", None])
anything = st.builds(
    lambda number, age_s, size, state, supervised, commanded: run(
        f"run-{number}",
        age_s,
        size,
        status=None if state is None else {"state": state, "exit_code": 0, "supervisor": {"boot_id": "b"}},
        supervisor_alive=supervised,
        command_alive=commanded,
    ),
    st.integers(0, 10**6),
    st.floats(-100, 40 * DAY_S),
    st.integers(0, 2**33),
    states,
    st.booleans(),
    st.booleans(),
)
many = st.lists(anything, max_size=12, unique_by=lambda facts: facts["run_id"])


@given(many, st.integers(0, 2**34), st.floats(0, 30 * DAY_S))
def test_never_a_live_one_and_never_one_being_started(
    runs: list[dict[str, Any]], max_bytes: int, max_age_s: float
) -> None:
    chosen = set(retention.expired(runs, NOW_S, max_age_s=max_age_s, max_bytes=max_bytes))
    for facts in runs:
        if facts["run_id"] in chosen:
            assert not facts["supervisor_alive"]
            assert not facts["command_alive"]
            assert run_state.judge(facts, NOW_S).is_over


@given(many, st.integers(0, 2**34), st.floats(0, 30 * DAY_S))
def test_what_may_go_and_is_too_old_goes_and_the_budget_holds_if_it_can(
    runs: list[dict[str, Any]], max_bytes: int, max_age_s: float
) -> None:
    chosen = retention.expired(runs, NOW_S, max_age_s=max_age_s, max_bytes=max_bytes)
    assert len(chosen) == len(set(chosen))
    left = [facts for facts in runs if facts["run_id"] not in chosen]
    may_go = [
        f for f in left if run_state.judge(f, NOW_S).is_over and not f["supervisor_alive"] and not f["command_alive"]
    ]
    assert all(NOW_S - facts["modified_s"] <= max_age_s for facts in may_go)
    if may_go:
        assert sum(facts["sizes"]["stdout"] for facts in left) <= max_bytes


@given(many, st.integers(0, 2**34))
def test_a_second_look_finds_nothing_more(runs: list[dict[str, Any]], max_bytes: int) -> None:
    chosen = set(retention.expired(runs, NOW_S, max_bytes=max_bytes))
    left = [facts for facts in runs if facts["run_id"] not in chosen]
    assert retention.expired(left, NOW_S, max_bytes=max_bytes) == []
