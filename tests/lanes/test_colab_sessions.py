"""What Colab's program is told, and what is made of its answers."""

from __future__ import annotations

import pytest

from lanes import colab_sessions as lane
from lanes import colab_upload
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
    forgotten = {"name": "hemma-9", "endpoint": "m-s-def", "is_alive": False}
    (stray,) = lane.strays([forgotten, alive], live)
    assert (stray.name, lane.BY_HAND in stray.do) == ("hemma-9", True)
    assert lane.found(live, "hemma-9", "m-s-def") == Session("?", "m-s-def", "CPU")
    assert lane.found(live, "hemma-9", None) is None


def test_a_newer_line_of_the_list_is_read_too() -> None:
    line = "[hemma-1] gpu-t4-s-abc | Hardware: T4 | Shape: Standard | Variant: GPU\n"
    assert lane.parse_sessions(line) == [Session("hemma-1", "gpu-t4-s-abc", "T4")]


def test_errors_of_cells_are_found_and_a_lost_session_is_known() -> None:
    error = {"output_type": "error", "ename": "ValueError", "evalue": "no\nmore"}
    assert lane.cell_errors({"cells": [{"outputs": [{"output_type": "stream"}, error]}, {}]}) == ["ValueError: no"]
    assert lane.cell_errors({}) == []
    assert lane.is_lost("x\n[colab] Session 'a' appears to be lost (404/401). Cleaning up.")
    assert lane.is_lost("[colab] Session 'a' not found.")
    assert not lane.is_lost("[colab] Session READY.")


def test_a_mount_is_believed_only_when_it_says_so() -> None:
    assert lane.is_mounted("[colab] Mounting Google Drive to '/content/drive' on a...\nMounted at /content/drive\n")
    assert lane.is_mounted("Drive already mounted at /content/drive; to attempt to forcibly remount, call ...")
    assert not lane.is_mounted("[colab] Mounting Google Drive to '/content/drive' on a...\nValueError: mount failed\n")
    asked = "\n[colab] REQUIRED: Google Drive Authorization needed.\nPlease visit:\n\nhttps://a.example/x?y=1\n\nPress Enter"
    assert lane.consent_link(asked) == "https://a.example/x?y=1"
    assert lane.consent_link("Mounted at /content/drive, see https://a.example") is None


@pytest.mark.parametrize(
    "text", ["", "Traceback ...\nMemoryError", "hemma-says: {", "hemma-says: []", 'hemma-says: {"error": "full"}']
)
def test_a_program_that_did_not_end_well_is_an_error(text: str) -> None:
    assert colab_upload.answer(text)["error"]


@pytest.mark.parametrize("parts", [None, "x", ["/etc/passwd"], ["/content/hemma-out-00001"], [1]])
def test_the_machine_does_not_choose_what_is_fetched_from_it(parts: object) -> None:
    assert list(colab_upload.parts_of({"parts": parts})) == []
    ours = ["/content/hemma-out-00000", "/content/hemma-out-00001"]
    assert colab_upload.parts_of({"parts": ours}) == ours
