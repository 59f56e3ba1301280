"""A relay and the spool it reads: from any offset, in any window, each byte comes once and in order."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remote.agent import frames, identity, relay, store
from remote.agent.spool import Spool

Streams = tuple[bytes, bytes]
one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture
def folder(tmp_path: Path) -> str:
    made = store.create(str(tmp_path / "runs"), "a-run", {"run_id": "a-run"})
    assert made is not None
    return made


def fill(folder: str, streams: Streams) -> None:
    for name, data in zip(store.STREAMS, streams, strict=True):
        Path(store.spool_path(folder, name)).write_bytes(data)


def finish(folder: str, streams: Streams, **more: object) -> None:
    sizes = {f"{name}_bytes": len(data) for name, data in zip(store.STREAMS, streams, strict=True)}
    store.write(folder, "status.json", {"state": "finished", "exit_code": 3, **sizes, **more})


def drain(view: relay.Relay, *, acknowledge: bool = True) -> tuple[dict[int, bytes], dict[str, Any] | None]:
    """Everything the relay has to say now: bytes by kind, checked for their offsets, and the end."""
    got = {frames.OUT: b"", frames.ERR: b""}
    first: dict[int, int] = {}
    while (piece := view.next_output()) is not None:
        ((kind, channel, payload),) = frames.Parser(frames.FROM_HOST).feed(piece)
        offset = frames.OFFSET.unpack_from(payload)[0]
        assert channel == view.channel
        assert offset == first.setdefault(kind, offset) + len(got[kind])
        got[kind] += payload[frames.OFFSET.size :]
        if acknowledge:
            view.acknowledge(frames.OFFSETS.pack(view.sent["stdout"], view.sent["stderr"]))
    final = view.final_frame()
    return got, None if final is None else json.loads(final[frames.HEADER.size :])


@one_folder
@given(st.tuples(st.binary(max_size=900), st.binary(max_size=900)), st.data())
def test_from_any_offset_the_rest_comes_and_no_more(folder: str, streams: Streams, data: st.DataObject) -> None:
    fill(folder, streams)
    finish(folder, streams)
    offsets = cast("tuple[int, int]", tuple(data.draw(st.integers(0, len(stream))) for stream in streams))
    view = relay.Relay(5, folder, offsets, follow=True)
    view.look()
    got, end = drain(view)
    view.close()
    assert (got[frames.OUT], got[frames.ERR]) == (streams[0][offsets[0] :], streams[1][offsets[1] :])
    assert end is not None
    assert end["exit_code"] == 3


@one_folder
@given(
    st.lists(st.tuples(st.sampled_from(store.STREAMS), st.binary(max_size=200)), max_size=20),
    st.sets(st.integers(0, 19)),
)
def test_a_reader_that_comes_back_at_any_time_gets_each_byte_once(
    folder: str, writes: list[tuple[str, bytes]], breaks: set[int]
) -> None:
    """The spool grows, the link breaks now and then: every new relay goes on from the client's offsets."""
    fill(folder, (b"", b""))
    (Path(folder) / "status.json").unlink(missing_ok=True)
    received = {"stdout": b"", "stderr": b""}
    view = relay.Relay(1, folder, (0, 0), follow=True)
    for number, (name, data) in enumerate(writes):
        with open(store.spool_path(folder, name), "ab") as spool:
            spool.write(data)
        view.look()
        view.end = None
        got, _ = drain(view)
        if number in breaks:  # what was on its way is lost with the link
            view.close()
            view = relay.Relay(1, folder, (len(received["stdout"]), len(received["stderr"])), follow=True)
            view.look()
            view.end = None
            got, _ = drain(view)
        received["stdout"] += got[frames.OUT]
        received["stderr"] += got[frames.ERR]
    view.close()
    wanted = {name: b"".join(data for stream, data in writes if stream == name) for name in store.STREAMS}
    assert received == wanted


def test_no_more_than_the_window_is_under_way(folder: str) -> None:
    size = frames.WINDOW * 2 + 12345
    fill(folder, (bytes(size), b""))
    finish(folder, (bytes(size), b""))
    view = relay.Relay(1, folder, (0, 0), follow=True)
    view.look()
    got, end = drain(view, acknowledge=False)
    assert (len(got[frames.OUT]), end) == (frames.WINDOW, None)
    view.acknowledge(frames.OFFSETS.pack(1000, 0))
    assert len(drain(view, acknowledge=False)[0][frames.OUT]) == 1000
    got, end = drain(view)
    view.acknowledge(frames.OFFSETS.pack(size, 0))
    got, end = drain(view)
    assert view.sent["stdout"] == size
    assert end is not None
    view.close()


def test_an_old_acknowledgement_takes_nothing_back(folder: str) -> None:
    view = relay.Relay(1, folder, (500, 0), follow=True)
    view.acknowledge(frames.OFFSETS.pack(100, 0))
    assert view.acknowledged == {"stdout": 500, "stderr": 0}
    view.close()


def test_output_after_the_end_stays_in_the_log(folder: str) -> None:
    finish(folder, (b"before", b""))
    fill(folder, (b"before, and late words of a background child", b""))
    view = relay.Relay(1, folder, (0, 0), follow=True)
    view.look()
    got, _ = drain(view)
    view.close()
    assert got[frames.OUT] == b"before"


def test_a_log_that_was_cut_behind_our_back_still_ends(folder: str) -> None:
    finish(folder, (b"x" * 1000, b""))
    fill(folder, (b"x" * 10, b""))
    view = relay.Relay(1, folder, (0, 0), follow=True)
    view.look()
    got, end = drain(view)
    view.close()
    assert (got[frames.OUT], end is not None) == (b"x" * 10, True)


def test_a_reader_that_does_not_follow_ends_at_the_present_end(folder: str) -> None:
    fill(folder, (b"so far", b""))
    alive = identity.of(os.getpid())
    store.write(folder, "status.json", {"state": "running", "supervisor": alive})
    view = relay.Relay(1, folder, (0, 0), follow=False)
    view.look()
    got, end = drain(view)
    view.close()
    assert got[frames.OUT] == b"so far"
    assert end is not None
    assert end["state"] == "running"
    assert end["supervisor_alive"] is True


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for file in (reader, writer):
        with contextlib.suppress(OSError):
            os.close(file)


def test_what_a_spool_has_read_is_in_its_file(folder: str, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    path = store.spool_path(folder, "stdout")
    file = os.open(path, os.O_WRONLY | os.O_APPEND)
    spool = Spool("stdout", reader, file)
    for piece in (b"\0one", b"\xfftwo", b"x" * 50_000):
        os.write(writer, piece)
        assert spool.read()
        assert spool.size == Path(path).stat().st_size
    assert spool.read()  # nothing there now is no end
    os.close(writer)
    assert not spool.read()
    assert Path(path).read_bytes() == b"\0one\xfftwo" + b"x" * 50_000
    os.close(file)


def test_a_spool_keeps_what_a_full_disk_refused(folder: str, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    full = os.open("/dev/full", os.O_WRONLY)
    spool = Spool("stdout", reader, full)
    os.write(writer, b"precious")
    with pytest.raises(OSError, match="No space"):
        spool.read()
    assert (spool.unwritten, spool.size) == (b"precious", 0)
    with pytest.raises(OSError, match="No space"):
        spool.flush()
    os.close(full)
    spool.spool = os.open(store.spool_path(folder, "stdout"), os.O_WRONLY | os.O_APPEND)
    spool.flush()
    os.close(spool.spool)
    assert Path(store.spool_path(folder, "stdout")).read_bytes() == b"precious"


def test_a_relay_passes_the_supervisors_words_on_under_its_own_channel(folder: str) -> None:
    view = relay.Relay(9, folder, (0, 0), follow=True)
    ours, theirs = socket.socketpair()
    view.adopt(ours)
    fill(folder, (b"abc", b""))
    theirs.sendall(
        frames.frame(frames.IN_ACK, 0, frames.OFFSET.pack(4)) + frames.frame(frames.GREW, 0, frames.OFFSETS.pack(3, 0))
    )
    (passed,) = view.on_supervisor()
    assert frames.Parser(frames.FROM_HOST).feed(passed) == [(frames.IN_ACK, 9, frames.OFFSET.pack(4))]
    got, end = drain(view)
    assert (got[frames.OUT], end) == (b"abc", None)
    theirs.close()
    view.on_supervisor()
    assert view.supervisor is None
    view.close()
