"""Globs in linear time say what the pathspec library says; the counts of letters looked at are bounded, never the time."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pathspec import PathSpec

from lanes import globs
from lanes.globs import Globs
from lanes.rules import DEFAULT_RULES, PATH_KINDS, rules_from
from manifests.errors import UsageError

GLOB_PARTS = [
    "a",
    "b",
    "*",
    "**",
    "/",
    "?",
    "[ab]",
    "[!a]",
    "[]a]",
    "!",
    "[",
    "]",
    "\\",
    "-",
    ".",
    "**/",
    "/**",
    "#",
    " ",
]
one_glob = st.lists(st.sampled_from(GLOB_PARTS), min_size=1, max_size=9).map("".join)
segment = st.text("ab-.[]", min_size=1, max_size=4).filter(lambda text: text not in (".", ".."))
one_name = st.tuples(st.lists(segment, min_size=1, max_size=5).map("/".join), st.sampled_from(["", "/"])).map("".join)


@given(st.lists(one_glob, min_size=1, max_size=3), st.lists(one_name, min_size=1, max_size=8))
def test_the_answer_is_that_of_the_library(patterns: list[str], names: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # `[[` in a class
        try:
            spec = PathSpec.from_lines("gitignore", patterns, backend="simple")
        except (ValueError, re.error):
            with pytest.raises((ValueError, re.error)):
                Globs(patterns)
            return
        ours = Globs(patterns)
        expressions = [each.regex.pattern for each in spec.patterns if each.regex is not None]
        walks = [(re.compile(each), globs._Walk(each)) for each in expressions if each.startswith("^")]
        for name in names:
            assert ours.match(name) == spec.match_file(name, separators=())
            for expression, walk in walks:
                assert walk.match(name) == (expression.search(name) is not None)


class Counted(str):
    """A name that counts how often it is gone through."""

    __slots__ = ()
    passes = 0

    def __iter__(self) -> Iterator[str]:
        type(self).passes += 1
        return super().__iter__()


@pytest.mark.parametrize(
    "pattern", ["*a" * 6 + "b", "/".join(["**", "a"] * 12) + "b", "*a*/**/*a*/**/*b", "**/*a*a*a*a*a*a*a*a*a*a*a*b/**"]
)
def test_many_wildcards_go_through_a_name_once(pattern: str) -> None:
    Counted.passes = 0
    for name in (Counted("a" * 4000), Counted("a/" * 2000), Counted("a" * 4000 + "/x")):
        assert not Globs((pattern,)).match(name)
    # re, which would go back and forth, never iterates.
    assert Counted.passes == 3


def test_no_default_rule_needs_the_slow_way() -> None:
    name = Counted("src/one/two.py")
    Counted.passes = 0
    for rule in DEFAULT_RULES:
        if rule.kind in PATH_KINDS:
            Globs(rule.patterns).match(name)
    assert Counted.passes == 0


@pytest.mark.parametrize("kind", ["path", "command", "manifest"])
@pytest.mark.parametrize(
    ("pattern", "fault"),
    [("x=" + "a" * 1100, "longer than 1024 characters"), ("x=" + "a*" * 65, "more than 64 wildcards")],
)
def test_a_pattern_beyond_all_measure_is_refused(kind: str, pattern: str, fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        rules_from({"r": {"lane": "local", kind: pattern}})
