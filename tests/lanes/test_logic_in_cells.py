"""When does a change move logic into a notebook? (S9-R12)"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes.logic_in_cells import logic_gained
from lanes.notebook_rules import check_thin
from tests.lanes.notebook_strategies import notebooks


def notebook(*sources: str) -> bytes:
    cells = [
        {
            "cell_type": "code",
            "id": f"c{number}",
            "metadata": {},
            "source": source,
            "execution_count": None,
            "outputs": [],
        }
        for number, source in enumerate(sources)
    ]
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}).encode()


THIN = notebook("!pip install x", "!hemma ps")
FUNCTION = "def clean(row):\n    return row"


@pytest.mark.req("S9-R12")
@pytest.mark.parametrize(
    ("before", "after", "rules"),
    [
        (THIN, notebook("!hemma ps", FUNCTION), ["function"]),
        (None, notebook(FUNCTION), ["function"]),
        (b"{", notebook(FUNCTION), ["function"]),
        (THIN, notebook("for batch in loader:\n    loss.backward()"), ["training-loop"]),
        (THIN, notebook("!hemma host check"), []),
        (None, THIN, []),
        (notebook(FUNCTION), None, []),
        (notebook(FUNCTION), notebook(FUNCTION, "class A: pass"), []),
        (notebook(FUNCTION), THIN, []),
        (None, b"{", []),
        (None, None, []),
        (THIN, notebook("<<<<<<< ours\n=======\n>>>>>>> theirs"), []),
    ],
)
def test_a_thin_notebook_that_gets_logic_is_named_with_each_finding(
    before: bytes | None, after: bytes | None, rules: list[str]
) -> None:
    found = {finding.rule for finding in logic_gained(before, after)}
    assert (set(rules) <= found) if rules else not found
    assert all(finding.fact and finding.mend and finding.index is not None for finding in logic_gained(before, after))


SIDES = st.none() | notebooks().map(lambda made: json.dumps(made).encode()) | st.binary(max_size=20)


@given(SIDES, SIDES)
def test_any_two_versions_are_judged_and_only_by_what_the_lint_finds(before: Any, after: Any) -> None:
    found = logic_gained(before, after)
    assert set(found) <= set(check_thin(after) if after is not None else ())
    assert logic_gained(after, after) == ()
