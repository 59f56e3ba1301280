"""The personal memory as files: one fact of one person or one host each, beside the notes that `hemma gotcha` keeps (S17-R03)."""

from __future__ import annotations

import datetime as dt

from pydantic import Field

from manifests.model import FileModel

MOST_LETTERS = 300


class PersonalFact(FileModel):
    """What was answered once and holds for the next repository too. `host`: the host it is true of; None: of the person.

    A value is the name or place of a credential at most, never a credential (S17-R11).
    """

    key: str = Field(pattern=r"^[a-z][a-z_]{0,30}$")
    value: str = Field(min_length=1, max_length=MOST_LETTERS)
    host: str | None = Field(default=None, min_length=1, max_length=MOST_LETTERS)
    day: dt.date
