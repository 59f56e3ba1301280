"""The purity watch itself: it sees what it must see, and nothing of what tests do."""

from __future__ import annotations

import os

import pytest

from tests.lanes.conftest import LANES

IMPURE_CODE = {
    "read": "open('/dev/null').close()",
    "list": "__import__('os').listdir('/')",
    "spawn": "__import__('subprocess').run(['true'], check=True)",
    "dial": "s = __import__('socket').socket(); s.connect_ex(('127.0.0.1', 9)); s.close()",
}


@pytest.mark.parametrize("code", IMPURE_CODE.values(), ids=IMPURE_CODE.keys())
def test_an_impure_line_of_lanes_is_seen(lanes_stay_pure: list[str], code: str) -> None:
    exec(compile(code, LANES + "imagined.py", "exec"), {})
    assert any(seen.startswith("lanes/imagined.py:1 did") for seen in lanes_stay_pure)
    lanes_stay_pure.clear()


def test_what_a_test_does_itself_is_not_seen(lanes_stay_pure: list[str]) -> None:
    os.listdir("/")
    assert lanes_stay_pure == []
