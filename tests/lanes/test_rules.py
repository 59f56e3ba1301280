"""[tool.hemma.lanes] as people write it: three ways to say a rule, and every slip named with its mend."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes.rules import DEFAULT_RULES, rules_from
from manifests.errors import UsageError
from manifests.settings import ProjectSettings, unknown_keys, validated


def test_no_rules_leave_the_builtin_ones() -> None:
    assert rules_from({}) == rules_from([]) == DEFAULT_RULES


def test_a_glob_with_a_lane_a_named_table_and_an_array_say_the_same() -> None:
    short = rules_from({"docs/**": "local"})[0]
    named = rules_from({"docs/**": {"lane": "local", "path": "docs/**"}})[0]
    array = rules_from([{"name": "docs/**", "lane": "local", "path": ["docs/**"]}])[0]
    assert short == named == array
    assert short.why == "[tool.hemma.lanes] says so"


def test_rules_keep_their_order_and_stand_before_the_builtin_ones() -> None:
    rules = rules_from({"z/**": "local", "a/**": "colab", "m": {"lane": "hemma", "command": "m", "why": "so"}})
    assert [rule.name for rule in rules[:3]] == ["z/**", "a/**", "m"]
    assert (rules[2].kind, rules[2].why) == ("command", "so")
    assert rules[3:] == DEFAULT_RULES


@pytest.mark.parametrize(
    ("table", "rule", "wrong"),
    [
        ({"docs/**": "lokal"}, "`docs/**`", "did you mean `local`?"),
        ({"docs/**": "hema"}, "`docs/**`", "did you mean `hemma`?"),
        ({"docs/**": 3}, "`docs/**`", "hemma, colab or local"),
        ({"docs/**": ["local"]}, "`docs/**`", "hemma, colab or local"),
        ({"docs/**": {"why": "x"}}, "`docs/**`", "lane"),
        ({"docs/**": {"lane": "local", "pth": "x"}}, "`docs/**`", "did you mean `path`?"),
        ([{"lane": "local", "pattern": "x"}], "`1`", "patterns of one kind"),
        ([{"lane": "local"}], "`1`", "patterns of one kind"),
        ([{"lane": "local", "path": "a", "command": "b"}], "`1`", "patterns of one kind"),
        ([{"lane": "local", "path": "a"}, "x"], "`2`", "must be a table"),
        ([{"name": "n", "lane": "local", "path": [3]}], "`n`", "string"),
        ([{"name": "n", "lane": "local", "path": "a\nb"}], "`n`", "one line"),
        ([{"name": "n", "lane": "local", "path": ""}], "`n`", "not empty"),
        ({"# docs": "local"}, "`# docs`", "no glob"),
        ({"/": "local"}, "`/`", "no glob"),
        ({"docs\\": "local"}, "`docs\\`", "no glob"),
        ({"[z-a]": "local"}, "`[z-a]`", "no glob"),
        ({"!": "local"}, "`!`", "no glob"),
        ({"!docs/**": "local"}, "`!docs/**`", "exceptions only"),
        ([{"name": "n", "lane": "local", "command": "'open"}], "`n`", "no command"),
        ([{"name": "n", "lane": "local", "manifest": "stage"}], "`n`", "FIELD=GLOB"),
    ],
)
def test_a_slip_names_the_rule_and_the_mend(table: Any, rule: str, wrong: str) -> None:
    with pytest.raises(UsageError) as caught:
        rules_from(table)
    assert "[tool.hemma.lanes]" in caught.value.message
    assert rule in caught.value.message
    assert wrong in caught.value.message
    assert "[tool.hemma.lanes]" in caught.value.remedy


def test_the_settings_file_is_refused_for_it_too() -> None:
    with pytest.raises(UsageError) as caught:
        validated(ProjectSettings, {"lanes": {"docs/**": "lokal", "src/**": {"lnae": "hemma"}}}, "FILE")
    assert caught.value.message.startswith("FILE: `lanes` rule `docs/**`: lane must be hemma, colab or local")
    assert "rule `src/**`: lane" in caught.value.message
    assert caught.value.remedy.startswith("mend lanes in FILE")


def test_keys_of_a_later_version_are_kept_and_can_be_listed() -> None:
    settings = validated(ProjectSettings, {"lanes": {"docs/**": {"lane": "local", "reviewers": 2}}}, "FILE")
    assert unknown_keys(settings) == ["lanes.docs/**.reviewers"]
    assert settings.lanes == {"docs/**": {"lane": "local", "reviewers": 2}}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["lane", "path", "name", "why"]) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=6), JSON, max_size=3) | st.lists(JSON, max_size=3))
def test_any_table_is_read_or_refused_in_words(table: Any) -> None:
    try:
        rules = rules_from(table)
    except UsageError as error:
        remedy, rules = error.remedy, DEFAULT_RULES
    else:
        remedy = "none is needed"
    assert remedy
    assert rules[-len(DEFAULT_RULES) :] == DEFAULT_RULES
