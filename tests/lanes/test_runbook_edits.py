"""Approving changes what it says and nothing else."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes.runbook_edits import HEADING, named_in_profile, with_changed, with_entry, with_note
from lanes.runbook_rules import read_entries
from manifests.runbooks import Correction, Gotcha

FILE = """\
# A remark at the top.
title: T
scope: universal
gotchas:
  - id: one
    symptom: It stops.   # oddly spaced
    cause: A limit.
    fix: Ask.
    sources: [https://example.org/x]
    verified: 2026-08
    basis: reproduced

  # a remark about two
  - id: two
    symptom: It starts.
    cause: None.
    fix: Wait.
    sources:
      - https://example.org/y
    verified: 2026-08
    basis: mechanistic
"""
SENTENCE = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=200
).filter(lambda text: bool(text.split()))


def entries(text: str) -> dict[str, Gotcha]:
    """The entries of a file, by id; it must be readable."""
    file, problem = read_entries("gotchas/x.yaml", text)
    assert problem is None, problem
    assert file.model is not None
    return {entry.id: entry for entry in file.model.gotchas}


@given(SENTENCE, SENTENCE)
def test_any_sentence_survives_being_written(symptom: str, fix: str) -> None:
    new = entries(FILE)["one"].model_copy(
        update={"id": "new", "symptom": " ".join(symptom.split()), "fix": " ".join(fix.split())}
    )
    text = with_entry(FILE, new, title="", scope="", platform=None)
    assert text.startswith(FILE)
    assert entries(text)["new"] == new
    fresh = with_entry(None, new, title=symptom, scope="platform", platform="slurm")
    assert entries(fresh) == {"new": new}


@pytest.mark.req("S17-R05")
@pytest.mark.parametrize("name", ["one", "two"])
def test_a_correction_changes_its_entry_alone_and_keeps_what_was_said(name: str) -> None:
    old = entries(FILE)[name]
    note = Correction.model_validate(
        {
            "field": "fix",
            "old": old.fix,
            "new": "Do this: now.",
            "source": "https://example.org/z",
            "day": dt.date(2026, 11, 21),
        }
    )
    text = with_changed(
        FILE, old.model_copy(update={"fix": "Do this: now.", "corrections": (note,), "verified": "2026-11"})
    )
    now = entries(text)
    other = "two" if name == "one" else "one"
    assert now[other] == entries(FILE)[other]
    assert (now[name].fix, now[name].corrections, now[name].verified) == ("Do this: now.", (note,), "2026-11")
    assert "# A remark at the top." in text
    assert "\n  # a remark about two\n" in text
    begin = FILE.index("  - id: one") if name == "two" else FILE.index("  # a remark about two")
    end = FILE.index("  - id: two") if name == "two" else len(FILE)
    assert FILE[begin:end] in text


def test_an_entry_that_is_not_there_cannot_be_corrected() -> None:
    with pytest.raises(KeyError):
        with_changed(FILE, entries(FILE)["one"].model_copy(update={"id": "three"}))


def test_a_note_goes_under_its_heading_once_and_moves_nothing() -> None:
    page = "# Rules\n\nBe kind.\n"
    once = with_note(page, "It stops.", "Ask  for\nmore.")
    assert once == f"# Rules\n\nBe kind.\n\n{HEADING}\n\n- It stops. Do: Ask for more.\n"
    assert with_note(once, "It stops.", "Ask for more.") == once
    more = once + "\n## Later\n\nx\n"
    assert (
        with_note(more, "B", "")
        == f"# Rules\n\nBe kind.\n\n{HEADING}\n\n- It stops. Do: Ask for more.\n- B\n\n## Later\n\nx\n"
    )
    assert with_note(None, "B", "") == f"{HEADING}\n\n- B\n"


def test_a_profile_names_an_entry_once() -> None:
    page = "---\ntitle: T\ngotchas:\n  - a\n---\n\n# T\n"
    named = named_in_profile(page, "b")
    assert named == "---\ntitle: T\ngotchas:\n  - a\n  - b\n---\n\n# T\n"
    assert named_in_profile(named, "b") == named
    assert named_in_profile("---\ngotchas: []\n---\n", "b") == "---\ngotchas:\n  - b\n---\n"
    assert named_in_profile("# no such key\n", "b") == "# no such key\n"
