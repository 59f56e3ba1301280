"""Is what differs in a changed notebook drift only, so that a sync may put the committed one back? (S18-R03, S9-R11)

What was meant is said in [tool.hemma.notebooks], for all, or by a notebook in its own metadata (`"hemma": {"metadata":
"intended"}`), for itself. Whoever says that something was meant is believed; nothing can be said to mean less.
"""

from __future__ import annotations

from typing import Literal

from manifests.settings import NotebookSettings
from pydantic import ValidationError

from lanes.notebook_format import BrokenNotebook, NotebookPolicy, read
from lanes.notebooks import compare

Drift = Literal["metadata-only", "meaningful"]
NOTHING_SAID = NotebookSettings()
# What a notebook means that says something about itself which cannot be read.
_EVERYTHING = NotebookSettings(metadata="intended")


def drift_of(before: bytes, after: bytes, said: NotebookSettings) -> Drift:
    """Whether putting `before` in the place of `after` would lose more than tools wrote. Never raises."""
    if before == after:
        return "metadata-only"
    each = (said, *(own for own in (_own_words(before), _own_words(after)) if own))
    if any(words.metadata == "intended" for words in each):
        return "meaningful"
    policy = NotebookPolicy(
        outputs_are_metadata=all(words.outputs == "drift" for words in each),
        widgets_are_metadata=all(words.widgets == "drift" for words in each),
        intended=frozenset(key for words in each for key in words.intended),
    )
    return "meaningful" if compare(before, after, policy).is_meaningful else "metadata-only"


def _own_words(notebook: bytes) -> NotebookSettings | None:
    """What a notebook's metadata.hemma says was meant; None when it says nothing."""
    try:
        said: object = read(notebook).metadata.get("hemma")
    except BrokenNotebook:
        return None  # which counts as meaningful anyway
    if said is None:
        return None
    try:
        return NotebookSettings.model_validate(said)
    except ValidationError:
        return _EVERYTHING
