"""Commands to paste: what a shell makes of them is what was meant, whatever a value holds."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.commands import Command, Remedy, command, home_path, joined, listed, literal, word

ANY_BYTES = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20).map(str.encode) | st.binary(
    max_size=12
).map(lambda raw: raw.replace(b"\0", b""))
HOSTILE = (
    "./x;touch PWN",
    "$(touch PWN)",
    "`touch PWN`",
    "a\ntouch PWN\n",
    "a'\ntouch PWN #",
    "a\x1b'; touch PWN; '",
    "!!",
)


def pasted(text: str, folder: Path | None = None) -> bytes:
    """What bash prints when `text` is pasted into it."""
    return subprocess.run(["bash", "-c", text], capture_output=True, check=True, cwd=folder).stdout


@given(ANY_BYTES)
def test_a_quoted_word_is_that_word_to_bash(raw: bytes) -> None:
    shown = word(raw.decode("utf-8", "surrogateescape"))
    assert "\n" not in shown
    # Through a test's own bash: what a person pastes must be one word, byte for byte.
    assert pasted(f"printf %s {shown}") == raw


@given(st.text())
def test_any_text_can_be_quoted(text: str) -> None:
    assert word(text).isprintable()


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_is_a_word_and_never_a_command(value: str, tmp_path: Path) -> None:
    made = command("printf '<%s>' {} PATH {}", value, [value, "b c"])
    assert made.isprintable()
    assert pasted(made, tmp_path) == f"<{value}><PATH><{value}><b c>".encode()
    assert os.listdir(tmp_path) == []


def test_a_command_within_a_command_is_quoted_once() -> None:
    inner = command("git add -- {}", "a b")
    assert command("{}; then: hemma commit -m {}", inner, 7) == "git add -- 'a b'; then: hemma commit -m 7"
    assert isinstance(command("{}", inner), Command)


def test_literal_braces_are_doubled() -> None:
    assert command("model: {{tokenizer: {}}}", "a b") == "model: {tokenizer: 'a b'}"


def test_ways_are_put_side_by_side_and_the_empty_ones_left_out() -> None:
    ways: list[Remedy] = ["hemma sync", "", command("git merge {}", "x y"), "hemma sync"]
    assert joined(ways) == "hemma sync   or   git merge 'x y'"
    assert joined(ways, "; ") == "hemma sync; git merge 'x y'"


def test_names_to_choose_from_are_words() -> None:
    assert listed(["a", "b c"]) == "a, 'b c'"


@pytest.mark.parametrize(("text", "shown"), [("a", "'a'"), ("a b", "'a b'"), ("", "''"), ("a\n", "$'a\\012'")])
def test_a_literal_always_has_quotes(text: str, shown: str) -> None:
    assert literal(text) == shown


@pytest.mark.parametrize(
    ("path", "shown"), [("~/a b", "~/'a b'"), ("~/x", "~/x"), ("~", "'~'"), ("~/", "'~/'"), ("/a;b", "'/a;b'")]
)
def test_the_home_in_front_of_a_path_stays_the_home(path: str, shown: str) -> None:
    assert home_path(path) == shown


@given(st.text())
def test_a_path_at_home_is_one_word_below_home(rest: str) -> None:
    text = "~/" + rest.replace("\0", "")
    shown = home_path(text)
    assert shown.isprintable()
    assert shown in {"~/" + word(text[2:]), word(text)}
