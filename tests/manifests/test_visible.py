"""What a terminal may get: everything it would obey is an escape, and stays readable."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.visible import json_text, lines, one_line

# Categories that a terminal obeys, hides or runs backwards with; Zs less the plain space.
NEVER = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}


@pytest.mark.req("S20-R03")
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 世界 🦌 e\u0301", "plain é 世界 🦌 e\u0301"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\nok  all good", "a\\nok  all good"),
        ("a\rok", "a\\rok"),
        ("a\tb", "a\\tb"),
        ("\x9b31m\x85", "\\x9b31m\\x85"),
        ("\x7f\x00", "\\x7f\\x00"),
        ("gpj.\u202eexe", "gpj.\\u202eexe"),
        ("\u2066a\u2069\u200b\ufeff\xad", "\\u2066a\\u2069\\u200b\\ufeff\\xad"),
        ("a\u2028b\u2029", "a\\u2028b\\u2029"),
        ("\udcff\ud800", "\\udcff\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        ("[red]x[/red]", "[red]x[/red]"),
        ("", ""),
    ],
)
def test_a_field_is_one_line_of_printable_characters(text: str, shown: str) -> None:
    assert one_line(text) == shown


@given(st.text(st.characters(exclude_categories=[])))
def test_no_text_whatever_keeps_a_character_that_a_terminal_obeys(text: str) -> None:
    for fit, allowed in ((one_line(text), ""), (lines(text), "\n\t")):
        assert all(unicodedata.category(c) not in NEVER or c in " " + allowed for c in fit)
        fit.encode("utf-8")
    assert one_line(one_line(text)) == one_line(text)
    assert lines(text).count("\n") == text.count("\n")


@given(st.recursive(st.text(st.characters(exclude_categories=["Cs"])), st.lists, max_leaves=5))
def test_json_stays_json_and_holds_no_control_character(value: object) -> None:
    text = json_text(value, indent=1)
    assert json.loads(text) == value
    assert text.isascii()
    assert all(c.isprintable() or c == "\n" for c in text)
