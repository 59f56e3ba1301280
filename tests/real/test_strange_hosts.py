"""A host where something else answers, over a real sshd and a real broker: every verb says so and ends, and none ends with 0."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remote.agent import frames
from tests.support import Cli, EnvironFor, make_repository

Make = Callable[[dict[str, str]], Cli]
Says = list[tuple[int, str, int | None]]
STARTED = {"run_id": "@RUN@", "attached": False, "cwd": "/"}
REFUSAL = {"error": "made-up", "message": "all good", "remedy": ""}


def word(kind: int, fields: object) -> tuple[int, str, int | None]:
    return kind, json.dumps(fields), None


def raw(kind: int, payload: bytes, claimed: int | None = None) -> tuple[int, str, int | None]:
    return kind, payload.decode("latin-1"), claimed


def output(offset: int, data: bytes) -> tuple[int, str, int | None]:
    return raw(frames.OUT, frames.OFFSET.pack(offset) + data)


def end(**fields: object) -> tuple[int, str, int | None]:
    return word(frames.EXIT, {"state": "finished", "exit_code": 0, "sent": [0, 0], **fields})


class StrangeHost:
    """A host whose `python` is fake_agent.py."""

    def __init__(self, cli: Cli, folder: Path) -> None:
        self.cli = cli
        self._says = folder / "says"

    def says(self, *said: tuple[int, str, int | None]) -> None:
        """What it says to every request from now on."""
        fresh = self._says.with_suffix(".new")
        fresh.write_text(json.dumps(said))
        fresh.replace(self._says)

    def is_silent(self) -> None:
        """It says nothing any more."""
        self._says.unlink(missing_ok=True)


@pytest.fixture
def strange(settings_env: EnvironFor, hemma_with: Make, tmp_path: Path) -> StrangeHost:
    there = tmp_path / "there"
    there.mkdir()
    shutil.copy(Path(__file__).with_name("fake_agent.py"), there / "python")
    (there / "python").chmod(0o755)
    clone = make_repository(tmp_path / "here")
    state = tmp_path / "hemma"
    cli = hemma_with(settings_env(root=clone.path, state=state, HEMMA_PYTHON=str(there / "python")))
    cli.folder = clone.path
    return StrangeHost(cli, there)


VERBS: dict[str, list[str]] = {
    "run": ["run", "-n", "--", "true"],
    "ps": ["ps"],
    "logs": ["logs", "last"],
    "attach": ["attach", "last"],
    "wait": ["wait", "last"],
    "stop": ["stop", "last"],
    "status": ["status"],
    "sync": ["sync"],
    "get": ["get", "README.md", "got"],
    "put": ["put", "README.md"],
}


def ended_badly(done: Any) -> str:
    """What it said; it ended, with neither 0 nor a surprise."""
    said = (done.stdout + done.stderr).decode()
    assert done.returncode not in (0, 70), said
    assert "Traceback" not in said
    return said


@pytest.mark.timeout(120)
def test_no_refusal_passes_for_success(strange: StrangeHost) -> None:
    for code in (0, 1 << 70, -1, True, "0"):
        strange.says(word(frames.REPLY, {**REFUSAL, "exit_code": code}))
        assert "no answer" in ended_badly(strange.cli("run", "-n", "--", "true"))
    strange.says(word(frames.REPLY, {**REFUSAL, "exit_code": 0}))
    for verb, argv in VERBS.items():
        assert ended_badly(strange.cli(*argv)), verb


STRANGE: dict[str, Says] = {
    "output-without-offset": [word(frames.REPLY, STARTED), raw(frames.OUT, b"abcd")],
    "length-beyond-bounds": [word(frames.REPLY, STARTED), raw(frames.OUT, b"", 0xFFFFFFF0)],
    "reply-beyond-bounds": [raw(frames.REPLY, b"", 0xFFFFFFF0)],
    "unknown-kind": [raw(99, b"")],
    "word-of-the-broker": [raw(frames.LINK_LOST, b"{}")],
    "list": [word(frames.REPLY, [1, 2])],
    "deep": [raw(frames.REPLY, b'{"a":' + b"[" * 50_000)],
    "huge-exit-code": [word(frames.REPLY, STARTED), end(exit_code=1 << 70)],
    "no-exit-code": [word(frames.REPLY, STARTED), end(exit_code=None)],
    "end-at-once": [end()],
    "end-before-output": [word(frames.REPLY, STARTED), end(sent=[10, 0])],
    "wrong-offset": [word(frames.REPLY, STARTED), output(7, b"x")],
    "other-run": [word(frames.REPLY, {**STARTED, "run_id": "another"})],
    "end-is-text": [word(frames.REPLY, STARTED), word(frames.EXIT, "done")],
    "input-taken": [word(frames.REPLY, STARTED), raw(frames.IN_ACK, struct.pack(">Q", 1 << 40)), end()],
}


@pytest.mark.timeout(120)
def test_what_no_agent_says_ends_a_run_with_255(strange: StrangeHost) -> None:
    for name, said in STRANGE.items():
        strange.says(*said)
        before = time.monotonic()
        done = strange.cli("run", "-n" if name != "input-taken" else "-q", "--", "true", stdin=b"")
        assert done.returncode == 255, (name, done)
        assert "that is no answer" in ended_badly(done), name
        assert time.monotonic() - before < 30, name


@pytest.mark.timeout(120)
def test_lists_where_objects_belong_are_no_answer_to_any_verb(strange: StrangeHost) -> None:
    for verb, said in (
        ("ps", []),
        ("ps", {"runs": [[]], "rest": 0, "before": None}),
        ("status", {"guard": 5}),
        ("sync", {"guard": {"root_exists": True, "is_repository": True, "is_toplevel": True}}),
        ("get", {"content_base64": [], "is_last": 1}),
        ("put", {"path": "x"}),
    ):
        strange.says(word(frames.REPLY, said))
        assert ended_badly(strange.cli(*VERBS[verb])), verb


def part(content: bytes, **fields: object) -> tuple[int, str, int | None]:
    known = {
        "path": "README.md",
        "content_base64": base64.b64encode(content).decode(),
        "digest": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "mode": 0o644,
        "version": "1",
        "is_last": True,
    }
    return word(frames.REPLY, {**known, **fields})


@pytest.mark.timeout(120)
def test_get_takes_what_was_announced_and_no_more(strange: StrangeHost) -> None:
    target = strange.cli.folder / "got"
    for said in (
        part(b"x" * 1000, is_last=False),  # the end that never comes
        part(b"x" * 1000, size=10),
        part(b"x" * 10, size=1000),
        part(b"", size=5, is_last=False),
        part(b"x", size=1 << 60, is_last=False),  # more than this disk holds
        part(b"x", digest=None),
        part(b"x", digest="0" * 64),
    ):
        strange.says(said)
        ended_badly(strange.cli("get", "README.md", "got"))
        assert not target.exists()
        assert not list(strange.cli.folder.glob(".hemma-*"))
    strange.says(part(b"x", mode=0o4777))
    assert strange.cli("get", "README.md", "got").returncode == 0
    assert target.stat().st_mode & 0o7000 == 0


LEAVING = {
    "run": VERBS["run"],
    "ps": VERBS["ps"],
    "logs": ["logs", "-f", "last"],
    "get": VERBS["get"],
    "put": VERBS["put"],
    "status": VERBS["status"],
    "sync": VERBS["sync"],
    "wait": VERBS["wait"],
    "attach": VERBS["attach"],
}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("signals", [[signal.SIGINT] * 3, [signal.SIGTERM]], ids=["ctrl-c", "sigterm"])
def test_a_person_can_leave_a_silent_host(strange: StrangeHost, signals: list[signal.Signals]) -> None:
    strange.is_silent()
    children = {verb: strange.cli.start(*argv, stdin=-3) for verb, argv in LEAVING.items()}
    time.sleep(6)  # all of them have asked by then; one that has not is ended by its signals as well
    for verb, child in children.items():
        assert child.poll() is None, verb
        for number in signals:
            child.send_signal(number)
            time.sleep(0.05)
        left = time.monotonic()
        assert child.wait(20) not in (0, 70), verb
        taken = time.monotonic() - left
        assert taken < 5, (verb, taken)  # a second, on a machine that has one to spare
        assert child.stderr is not None
        assert b"Traceback" not in child.stderr.read()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("verb", [["doctor"], ["doctor", "last"], ["train", "runs/x.yaml"]], ids=" ".join)
def test_a_doctor_and_a_training_take_no_such_word_for_good(strange: StrangeHost, verb: list[str]) -> None:
    for said in (
        word(frames.REPLY, {**REFUSAL, "exit_code": 0}),
        word(frames.REPLY, []),
        word(frames.REPLY, {"runs": [], "content_base64": [], "host": []}),
        raw(frames.REPLY, b'{"a":' + b"[" * 50_000),
    ):
        strange.says(said)
        assert "no answer" in ended_badly(strange.cli(*verb))
