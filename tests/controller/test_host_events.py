"""The lines that a host's executor or tool prints: events as they are, and nothing else taken for one."""

from __future__ import annotations

import json

import pytest

from controller.flows import host_events
from controller.flows.host_events import Event, EventLines, event_of
from manifests.errors import HemmaError


def heard(*pieces: bytes) -> list[Event]:
    found: list[Event] = []
    lines = EventLines(found.append)
    for piece in pieces:
        lines.write(memoryview(piece))
    return found


def test_events_are_cut_out_of_any_pieces() -> None:
    told = [{"kind": "progress", "data": {"step": number, "loss": float("nan")}} for number in range(3)]
    printed = b"warming up\n" + b"".join(json.dumps(each).encode() + b"\n" for each in told) + b'{"kind": "half'
    assert [each["data"]["step"] for each in heard(printed)] == [0, 1, 2]
    assert [each["data"]["step"] for each in heard(*(printed[at : at + 1] for at in range(len(printed))))] == [0, 1, 2]


@pytest.mark.parametrize(
    "line",
    [b"[1]", b"7", b'{"kind": []}', b'{"kind": "x", "data": []}', b'{"kind": "stopped", "data": "x"}', b"\xff"]
    + [b'{"kind": "x", "data": {"a": ' + b"[" * depth + b"]" * depth + b"}}" for depth in (40, 100_000)],
)
def test_a_line_that_is_no_event_is_passed_over(line: bytes) -> None:
    assert heard(line + b"\n" + b'{"kind": "x"}\n') == [{"kind": "x"}]


HOSTILE = {
    "stopped": [None, {}, {"reason": [], "message": "", "remedy": ""}],
    "refused": [{"error": "x", "message": "all good", "exit_code": code} for code in (0, 256, True, "1", 1 << 70)],
    "started": [{"name": {}}, {"until": "done"}],
    "begin": [{}, {"stage": []}],
    "first-metric": [{}, {"value": "0.1"}],
    "progress": [{"rows": "x"}, {"scanned": "a", "bytes": 1, "of": 0}, {"step": [], "total": 2}],
    "check": [{}, {"held": 1, "name": "a", "fact": "b"}],
    "tokenizer": [{}, {"path": "x", "vocab_size": -1, "rows": 1, "bytes_per_token": 1.0}],
    "slice": [{}, {"state": "gone", "folder": "x", "warnings": [], "index": {"rows": 1, "files": []}}],
    "not-integrated": [{}, {"checks": [{"held": False}]}],
    "integrated": [{"checks": {}}],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_event_that_lacks_what_is_read_of_it_is_no_answer(kind: str) -> None:
    for data in HOSTILE[kind]:
        with pytest.raises(HemmaError) as caught:
            event_of(json.dumps({"kind": kind, "data": data}).encode())
        assert (caught.value.exit_code, caught.value.code) == (255, "not-an-answer"), data


def test_a_line_without_an_end_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_events, "LONGEST_LINE", 1000)
    with pytest.raises(HemmaError, match="no answer"):
        heard(*[b"x" * 100] * 11)
