"""A client that means harm, or is none of ours: it is hung up on or refused, and the agent serves the others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from remote.agent import frames, requests, shapes

Ask = Callable[[bytes, int], tuple[int, bytes]]


@pytest.fixture
def ask() -> Iterator[Ask]:
    """`ask(payload, channel)`: what a real agent answers to an OPEN frame; one agent for all of them."""
    code = "import sys; from remote.agent import serve; sys.exit(serve.main())"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as agent:
        assert agent.stdin is not None
        assert agent.stdout is not None
        stdin, number, parser = agent.stdin, agent.stdout.fileno(), frames.Parser(frames.FROM_HOST)

        def answer(payload: bytes, channel: int) -> tuple[int, bytes]:
            stdin.write(frames.frame(frames.OPEN, channel, payload))
            stdin.flush()
            collected = b""
            while True:
                data = os.read(number, 1 << 16)
                assert data, "the agent ended"
                for kind, heard, piece in parser.feed(data):
                    if heard == channel:
                        collected += piece
                        if kind == frames.REPLY:
                            return kind, collected

        yield answer
        agent.stdin.close()
        assert agent.wait(20) == 0


HOSTILE = {
    "deep": b'{"verb":' + b"[" * 100_000,
    "list": b"[]",
    "no-verb": b"{}",
    "verb-is-a-list": b'{"verb": []}',
    "attach-without-run": b'{"verb": "attach"}',
    "offsets": b'{"verb": "attach", "run": "x", "offsets": ["a", {}]}',
    "huge-offset": b'{"verb": "attach", "run": "x", "offsets": [%d, 0]}' % (1 << 70),
    "many-values": b'{"verb": "list", "x": [' + b"1," * 400_000 + b"1]}",
    "argv": b'{"verb": "run", "run_id": "r1", "argv": {"a": 1}}',
    "no-argv": b'{"verb": "run", "run_id": "r1", "argv": []}',
    "run-id": b'{"verb": "run", "run_id": "../../x", "argv": ["true"]}',
    "nul": b'{"verb": "run", "run_id": "r1", "argv": ["true"], "cwd": "\\u0000", "root": "\\u0000"}',
    "setuid": b'{"verb": "file-write", "path": "x", "root": "/", "create_mode": 2559}',
    "steps": b'{"verb": "git-steps", "steps": {"argv": 1}}',
    "unknown": b'{"verb": "no-such-verb"}',
}


def test_a_request_that_is_none_is_refused_and_the_agent_stays(ask: Ask, tmp_path: Path) -> None:
    for channel, (name, payload) in enumerate(HOSTILE.items(), 1):
        _, said = ask(payload, channel)
        fields = frames.fields_of(said)
        shapes.REFUSAL(fields)
        assert "error" in fields, name
    kind, said = ask(b'{"verb": "list", "state_dir": "%s"}' % os.fsencode(tmp_path), 99)
    assert (kind, frames.fields_of(said)["runs"]) == (frames.REPLY, [])


@pytest.mark.parametrize(
    ("kind", "length"),
    [
        (frames.OPEN, 0xFFFFFFF0),
        (frames.SIGNAL, 1),
        (frames.ACK, 3),
        (frames.IN, 4),
        (frames.REPLY, 2),
        (0, 0),
        (255, 9),
    ],
)
def test_a_frame_that_no_client_sends_is_refused_at_its_head(kind: int, length: int) -> None:
    parser = frames.Parser(frames.TO_HOST)
    with pytest.raises(frames.BadFrame):
        parser.feed(frames.HEADER.pack(kind, 1, length))


def test_a_mode_may_not_make_a_file_run_as_another_user() -> None:
    requests.check({"verb": "file-write", "path": "x", "create_mode": 0o755})
    with pytest.raises(shapes.BadShape):
        requests.check({"verb": "file-write", "path": "x", "create_mode": 0o4755})
