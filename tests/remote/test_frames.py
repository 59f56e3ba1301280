"""The wire format: frames survive any split of the stream, strings survive JSON, nonsense is refused."""

from __future__ import annotations

import itertools
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote.agent import frames

EVERY = dict.fromkeys(range(256), (0, frames.MAX_PAYLOAD))
KINDS = st.integers(0, 255)
CHANNELS = st.integers(0, 2**32 - 1)
FRAMES = st.lists(st.tuples(KINDS, CHANNELS, st.binary(max_size=300)), max_size=12)


@given(FRAMES, st.lists(st.integers(0, 4000)))
def test_any_split_of_the_stream_gives_the_same_frames(sent: list[tuple[int, int, bytes]], cuts: list[int]) -> None:
    stream = b"".join(frames.frame(*each) for each in sent)
    borders = sorted({0, len(stream), *(cut for cut in cuts if cut <= len(stream))})
    parser = frames.Parser(EVERY)
    got = [each for a, b in itertools.pairwise(borders) for each in parser.feed(stream[a:b])]
    assert got == sent


@given(FRAMES, st.binary(max_size=frames.HEADER.size - 1))
def test_an_unfinished_frame_waits_for_its_rest(sent: list[tuple[int, int, bytes]], begun: bytes) -> None:
    parser = frames.Parser(EVERY)
    stream = b"".join(frames.frame(*each) for each in sent)
    assert parser.feed(stream + begun) == sent
    assert parser.feed(b"") == []


def test_a_frame_byte_by_byte_comes_once_and_whole() -> None:
    parser = frames.Parser(EVERY)
    found = [each for byte in frames.frame(frames.OUT, 7, b"payload") for each in parser.feed(bytes([byte]))]
    assert found == [(frames.OUT, 7, b"payload")]


def test_an_impossible_length_is_refused_before_its_bytes_come() -> None:
    head = frames.HEADER.pack(frames.OUT, 1, frames.MAX_PAYLOAD + 1)
    with pytest.raises(frames.BadFrame):
        frames.Parser(EVERY).feed(head)


def test_the_largest_payload_is_no_impossible_length() -> None:
    payload = bytes(frames.MAX_PAYLOAD)
    assert frames.Parser(EVERY).feed(frames.frame(frames.OPEN, 1, payload)) == [(frames.OPEN, 1, payload)]


LEAVES = st.none() | st.booleans() | st.integers(-(1 << 63), 1 << 63) | st.text()


@given(st.dictionaries(st.text(), st.recursive(LEAVES, st.lists)))
def test_fields_survive_their_frame(fields: dict[str, object]) -> None:
    ((kind, channel, payload),) = frames.Parser(EVERY).feed(frames.json_frame(frames.REPLY, 3, fields))
    assert (kind, channel, frames.fields_of(payload)) == (frames.REPLY, 3, fields)
    assert payload.isascii()


@given(st.binary())
def test_any_bytes_survive_as_text(raw: bytes) -> None:
    text = frames.text_of(raw)
    ((_, _, payload),) = frames.Parser(EVERY).feed(frames.json_frame(frames.OPEN, 0, {"word": text}))
    assert frames.bytes_of(str(frames.fields_of(payload)["word"])) == raw


@given(st.binary())
def test_text_is_what_python_makes_of_its_own_command_line(raw: bytes) -> None:
    assert frames.bytes_of(os.fsdecode(raw)) == raw


@pytest.mark.parametrize("payload", [b"", b"[]", b"1", b"null", b"{", b"\xff\xfe", b'{"a":1}x'])
def test_a_payload_that_is_no_object_is_a_bad_frame(payload: bytes) -> None:
    with pytest.raises(frames.BadFrame):
        frames.fields_of(payload)


def test_the_magic_word_is_no_text_that_a_banner_could_hold() -> None:
    assert b"\0" in frames.MAGIC
    with pytest.raises(UnicodeDecodeError):
        frames.MAGIC.decode("utf-8")


@pytest.mark.req("S9-R21")
def test_the_largest_command_a_kernel_takes_fits_into_a_frame() -> None:
    """2 MiB of argv and environment, each byte outside UTF-8 and six letters in JSON."""
    words = [frames.text_of(b"\xff" * 131_071)] * 16
    assert len(frames.json_frame(frames.OPEN, 0, {"argv": words})) < frames.MAX_PAYLOAD
