"""What has become of a run: judged from its record and from who still lives, never 'running' for ever."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes import run_state

SUPERVISOR = {"pid": 10, "start_ticks": 5, "boot_id": "this-boot"}
RUNNING = {"state": "running", "supervisor": SUPERVISOR}


def judge(status: dict[str, Any] | None, *, now_s: float | None = None, **facts: Any) -> run_state.RunState:
    known = {"status": status, "supervisor_alive": False, "command_alive": False, "boot_id": "this-boot"}
    return run_state.judge({**known, **facts}, now_s)


@pytest.mark.req("S9-R20")
def test_a_finished_run_is_finished_whoever_lives() -> None:
    status = {"state": "finished", "exit_code": 3, "reason": "exited", "supervisor": SUPERVISOR}
    for alive in (False, True):
        told = judge(status, supervisor_alive=alive, command_alive=alive, boot_id="another")
        assert (told.state, told.exit_code, told.reason, told.is_over) == ("finished", 3, "exited", True)


@pytest.mark.parametrize("state", ["starting", "running"])
def test_a_run_whose_supervisor_lives_is_what_it_says(state: str) -> None:
    told = judge({"state": state, "supervisor": SUPERVISOR}, supervisor_alive=True)
    assert (told.state, told.exit_code, told.is_over) == (state, None, False)


@pytest.mark.req("S9-R19")
@pytest.mark.parametrize("state", ["starting", "running"])
def test_after_a_reboot_a_live_run_is_lost(state: str) -> None:
    told = judge({"state": state, "supervisor": SUPERVISOR}, boot_id="next-boot")
    assert (told.state, told.exit_code, told.is_over) == ("lost", None, True)
    assert "restarted" in told.reason


@pytest.mark.req("S9-R19")
@pytest.mark.parametrize(("alive", "said"), [(True, "still runs"), (False, "with it")])
def test_a_run_without_its_supervisor_is_lost(alive: bool, said: str) -> None:
    told = judge(RUNNING, command_alive=alive)
    assert (told.state, told.command_alive, said in told.reason) == ("lost", alive, True)


@pytest.mark.parametrize(("age_s", "state"), [(0.0, "starting"), (9.0, "starting"), (11.0, "lost"), (1e6, "lost")])
def test_a_run_without_status_is_starting_for_a_short_while(age_s: float, state: str) -> None:
    assert judge(None, now_s=1e9, modified_s=1e9 - age_s).state == state


def test_words_for_the_ends_that_an_exit_code_does_not_tell() -> None:
    def reason(**status: object) -> str:
        return judge({"state": "finished", "exit_code": 1, **status}).reason

    assert reason(reason="signalled", signal=9) == "died of signal 9"
    assert reason(reason="exited", detail=None) == "exited"
    assert "not found" in reason(reason="not-started", detail="x: command not found")


facts = st.fixed_dictionaries(
    {},
    optional={
        "status": st.none()
        | st.fixed_dictionaries(
            {"state": st.sampled_from(["starting", "running", "finished"])},
            optional={
                "exit_code": st.integers(0, 255),
                "supervisor": st.none() | st.fixed_dictionaries({"boot_id": st.sampled_from(["a", "b"])}),
                "reason": st.text(max_size=5),
            },
        ),
        "supervisor_alive": st.booleans(),
        "command_alive": st.booleans(),
        "boot_id": st.sampled_from(["a", "b"]),
        "modified_s": st.floats(0, 2e9),
    },
)


@pytest.mark.req("S9-R19")
@given(facts, st.none() | st.floats(0, 2e9))
def test_only_a_living_supervisor_makes_a_run_live(known: dict[str, Any], now_s: float | None) -> None:
    told = run_state.judge(known, now_s)
    assert told.state in run_state.STATES
    assert told.is_over == (told.state in {"finished", "lost"})
    if told.state == "running":
        assert known["supervisor_alive"]
    if told.exit_code is not None:
        assert told.state == "finished"
    if known.get("status") and not known.get("supervisor_alive"):
        assert told.is_over


@given(facts, st.booleans())
def test_time_changes_nothing_for_a_run_that_has_a_status(known: dict[str, Any], late: bool) -> None:
    if known.get("status"):
        assert run_state.judge(known, 2e9 if late else None) == run_state.judge(known, 0.0)


def test_the_last_frame_of_a_followed_run_is_judged_like_its_files() -> None:
    lost = {**RUNNING, "supervisor_alive": False, "command_alive": False, "boot_id_now": "this-boot"}
    assert run_state.judge(run_state.end_facts(lost)).state == "lost"
    finished = {"state": "finished", "exit_code": 7, "reason": "exited", "supervisor": SUPERVISOR}
    assert run_state.judge(run_state.end_facts(finished)).exit_code == 7
