"""The bar of the catalogue and the places below it."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes.failure_codes import CODES
from lanes.runbook_routing import CATALOGUE, PLACES, RECURS_AT, Candidate, about, route

WHOLE = Candidate("universal", "s", "c", "f", ("https://example.org",), "reproduced", general=True, platform="slurm")


def changed(**fields: object) -> Candidate:
    """A whole candidate with something else about it."""
    return dataclasses.replace(WHOLE, **fields)  # type: ignore[arg-type]


@pytest.mark.req("S17-R03")
@pytest.mark.parametrize(
    ("candidate", "place"),
    [
        (WHOLE, "universal"),
        (changed(about="training"), "training"),
        (changed(about="platform"), "profile"),
        (changed(about="host"), "memory"),
        (changed(about="project"), "project"),
        (changed(basis=None), "note"),
        (changed(general=False), "note"),
        (changed(basis="root-caused", cause=""), "note"),
        (changed(basis=None, seen=RECURS_AT), "project"),
        (changed(about="training", basis=None), "note"),
    ],
)
def test_each_kind_has_its_place(candidate: Candidate, place: str) -> None:
    assert route(candidate).place == place


@pytest.mark.req("S17-R04")
@pytest.mark.parametrize("field", ["symptom", "cause", "fix", "sources"])
def test_the_catalogue_wants_symptom_cause_fix_and_source(field: str) -> None:
    assert route(changed(**{field: () if field == "sources" else ""})).missing == (field,)


def test_a_platform_has_to_be_named() -> None:
    assert route(changed(about="platform", platform=None)).missing == ("platform",)


SAID = st.sampled_from(["", "said"])


@pytest.mark.req("S17-R01", "S17-R02")
@given(
    st.builds(
        Candidate,
        st.sampled_from(["host", "project", "platform", "training", "universal"]),
        SAID,
        SAID,
        SAID,
        st.sampled_from([(), ("https://example.org",)]),
        st.sampled_from([None, "root-caused", "reproduced", "mechanistic"]),
        st.booleans(),
        st.sampled_from([None, "slurm"]),
        st.integers(1, 5),
    )
)
def test_nothing_below_the_bar_gets_into_the_catalogue(candidate: Candidate) -> None:
    found = route(candidate)
    assert found.place in PLACES
    assert found.reasons
    if found.place in CATALOGUE:
        assert candidate.basis is not None
        assert candidate.general
        assert candidate.about not in {"host", "project"}


def test_every_code_of_the_classifier_is_about_something() -> None:
    assert {about(code) for code in CODES} == {"host", "project", "training", "universal"}
    assert about("no-such") == about("") == "project"
