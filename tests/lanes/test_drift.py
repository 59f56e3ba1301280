"""What of a changed notebook may be put back: only what nobody meant, in the repository's settings or in the notebook's own words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes.drift import NOTHING_SAID, drift_of
from manifests.errors import UsageError
from manifests.settings import NotebookSettings, ProjectSettings, unknown_keys, validated
from tests.lanes.notebook_strategies import notebooks


def notebook(source: str = "!hemma ps", count: int = 1, own: Any = None, **metadata: Any) -> bytes:
    """A notebook of one cell; `own` stands under metadata.hemma."""
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "source": source, "execution_count": count, "outputs": []}
    said = {**metadata, **({"hemma": own} if own is not None else {})}
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": said, "cells": [cell]}).encode()


def with_output(text: str, own: Any = None) -> bytes:
    made = json.loads(notebook(own=own))
    made["cells"][0]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": text}]
    return json.dumps(made).encode()


ONE: dict[str, Any] = {"kernelspec": {"name": "python3", "display_name": "A"}}
OTHER: dict[str, Any] = {"kernelspec": {"name": "python3", "display_name": "B"}}


@pytest.mark.req("S18-R03", "S9-R11")
@pytest.mark.parametrize(
    ("said", "before", "after", "drift"),
    [
        ({}, notebook(**ONE), notebook(count=7, **OTHER), "metadata-only"),
        ({}, notebook("a"), notebook("b"), "meaningful"),
        ({"metadata": "intended"}, notebook(**ONE), notebook(**OTHER), "meaningful"),
        ({"metadata": "intended"}, notebook(**ONE), notebook(**ONE), "metadata-only"),
        ({"metadata": "intended"}, notebook(count=1), notebook(count=2), "meaningful"),
        ({"intended": ["kernelspec"]}, notebook(**ONE), notebook(**OTHER), "meaningful"),
        ({"intended": ["colab"]}, notebook(**ONE), notebook(**OTHER), "metadata-only"),
        ({}, with_output("a"), with_output("b"), "metadata-only"),
        ({"outputs": "intended"}, with_output("a"), with_output("b"), "meaningful"),
        ({}, notebook(), notebook(widgets={"s": 1}), "metadata-only"),
        ({"widgets": "intended"}, notebook(), notebook(widgets={"s": 1}), "meaningful"),
        ({}, notebook(), b"{", "meaningful"),
        ({}, b"{", notebook(), "meaningful"),
    ],
)
def test_what_the_repository_says_was_meant_is_never_discarded(
    said: dict[str, Any], before: bytes, after: bytes, drift: str
) -> None:
    assert drift_of(before, after, NotebookSettings.model_validate(said)) == drift


@pytest.mark.parametrize(
    ("own", "drift"),
    [
        ({"metadata": "intended"}, "meaningful"),
        ({"intended": "kernelspec"}, "meaningful"),
        ({"intended": ["colab"]}, "metadata-only"),
        ({"lane": "colab"}, "metadata-only"),
        ({"metadata": "drift"}, "metadata-only"),
        # What cannot be read may have been meant.
        ({"metadata": "yes"}, "meaningful"),
        ({"intended": 3}, "meaningful"),
        ("intended", "meaningful"),
        ([], "meaningful"),
    ],
)
def test_a_notebook_speaks_for_itself(own: Any, drift: str) -> None:
    assert drift_of(notebook(own=own, **ONE), notebook(own=own, **OTHER), NOTHING_SAID) == drift


def test_a_notebook_cannot_take_back_what_the_repository_says() -> None:
    own = {"metadata": "drift", "outputs": "drift"}
    said = NotebookSettings(outputs="intended")
    assert drift_of(with_output("a", own), with_output("b", own), said) == "meaningful"


def test_one_side_that_says_so_is_enough() -> None:
    own = {"metadata": "intended"}
    assert drift_of(notebook(own=own, **ONE), notebook(**OTHER), NOTHING_SAID) == "meaningful"
    assert drift_of(notebook(**ONE), notebook(own=own, **OTHER), NOTHING_SAID) == "meaningful"


WORDS = st.sampled_from(["drift", "intended"])
SAID = st.builds(NotebookSettings, metadata=WORDS, outputs=WORDS, widgets=WORDS, intended=st.just(("kernelspec",)))


@given(notebooks() | st.binary(max_size=20), notebooks() | st.binary(max_size=20), SAID)
def test_saying_more_only_ever_keeps_more(one: Any, other: Any, said: NotebookSettings) -> None:
    before, after = (each if isinstance(each, bytes) else json.dumps(each).encode() for each in (one, other))
    if drift_of(before, after, NOTHING_SAID) == "meaningful":
        assert drift_of(before, after, said) == "meaningful"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"metadata": "yes"}, "`notebooks.metadata`"),
        ({"metdata": "drift"}, "did you mean `metadata`?"),
        ({"intended": [3]}, "`notebooks.intended"),
    ],
)
def test_a_slip_in_the_settings_is_named(table: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        validated(ProjectSettings, {"notebooks": table}, "FILE")
    assert words in caught.value.message
    assert "FILE" in caught.value.remedy


def test_a_key_of_a_later_version_is_kept() -> None:
    assert unknown_keys(validated(ProjectSettings, {"notebooks": {"cells": "x"}}, "FILE")) == ["notebooks.cells"]
