"""What Colab's program is told, and what is made of its answers."""

from __future__ import annotations

import pytest

from lanes import colab_sessions as lane
from lanes.colab_sessions import Session
from lanes.verdict import Verdict

LIST = """\
[colab] a banner
[hemma-1] gpu-t4-s-abc | Hardware: T4 | Variant: GPU
[?] m-s-def | Hardware: CPU | Variant: DEFAULT
[mine] gpu-a100-s-x | Hardware: A100 | Variant: GPU | Status: IDLE
"""


def test_the_list_is_read() -> None:
    assert lane.parse_sessions(LIST) == [
        Session("hemma-1", "gpu-t4-s-abc", "T4"),
        Session("?", "m-s-def", "CPU"),
        Session("mine", "gpu-a100-s-x", "A100"),
    ]
    assert lane.parse_sessions("[colab] No active sessions found on server.\n") == []


@pytest.mark.req("S8-R12")
def test_no_other_gpu_is_paid_for_than_the_one_asked_for() -> None:
    assert (lane.chosen_gpu(None), lane.chosen_gpu("t4"), lane.chosen_gpu("H100")) == (None, "T4", "H100")
    for text in ("", "V100", "a10", "T4 --gpu A100", "tpu"):
        refused = lane.chosen_gpu(text)
        assert isinstance(refused, Verdict)
        assert not refused.allowed


def test_strays_are_ours_and_alone() -> None:
    live = lane.parse_sessions(LIST)
    dead, alive = {"name": "hemma-1", "slice": "s", "is_alive": False}, {"name": "hemma-1", "is_alive": True}
    assert [each.name for each in lane.strays([dead], live)] == ["hemma-1"]
    assert lane.strays([alive], live) == []
    assert "remembers" in lane.strays([], live)[0].why
    assert lane.strays([dead], []) == []


def test_errors_of_cells_are_found_and_a_lost_session_is_known() -> None:
    error = {"output_type": "error", "ename": "ValueError", "evalue": "no\nmore"}
    assert lane.cell_errors({"cells": [{"outputs": [{"output_type": "stream"}, error]}, {}]}) == ["ValueError: no"]
    assert lane.cell_errors({}) == []
    assert lane.is_lost("x\n[colab] Session 'a' appears to be lost (404/401). Cleaning up.")
    assert lane.is_lost("[colab] Session 'a' not found.")
    assert not lane.is_lost("[colab] Session READY.")
