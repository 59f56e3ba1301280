"""Runbooks as files: the front matter of a page, the facts of a platform profile, entries of gotchas, proposals for them.

A fact and an entry name where they were read (`source`) and the month in which somebody compared them with it (`verified`).
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from manifests.model import FileModel, Model

MONTH = re.compile(r"20\d\d-(?:0[1-9]|1[0-2])")
_URL = re.compile(r"https://[\w.-]+\.[a-z]{2,}(?:/\S*)?")
_ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


def _month(value: str) -> str:
    if not MONTH.fullmatch(value):
        raise ValueError("must be a month, YYYY-MM")
    return value


def _url(value: str) -> str:
    if not _URL.fullmatch(value):
        raise ValueError("must be a public address that begins with https://")
    return value


def _id(value: str) -> str:
    if not _ID.fullmatch(value) or len(value) > 60:
        raise ValueError("must be lower-case words joined by single dashes, at most 60 letters")
    return value


def _sentence(value: str) -> str:
    said = " ".join(value.split())
    if not said:
        raise ValueError("must not be empty")
    return said


Month = Annotated[str, AfterValidator(_month)]
Url = Annotated[str, AfterValidator(_url)]
EntryId = Annotated[str, AfterValidator(_id)]
Sentence = Annotated[str, AfterValidator(_sentence)]
Basis = Literal["root-caused", "reproduced", "mechanistic"]
Scope = Literal["universal", "training", "platform"]
About = Literal["host", "project", "platform", "training", "universal"]
Kind = Literal["ssh", "notebook", "marketplace", "cloud", "cluster"]


class Fact(Model):
    """One thing about a platform that was read somewhere, and when (S17-R13). `money`: it costs when it is wrong."""

    says: Sentence
    source: Url
    verified: Month
    money: bool = False


class PageMatter(Model):
    """The front matter of every page."""

    title: Sentence
    date: dt.date


class ProfileMatter(PageMatter):
    """The front matter of a platform profile: what is known of it, by section, and the entries of its seventh section."""

    platform: EntryId
    kind: Kind
    launch: tuple[Fact, ...] = Field(min_length=1)
    storage: tuple[Fact, ...] = Field(min_length=1)
    network: tuple[Fact, ...] = Field(min_length=1)
    interruption: tuple[Fact, ...] = Field(min_length=1)
    teardown: tuple[Fact, ...] = Field(min_length=1)
    commands: tuple[Fact, ...] = Field(min_length=1)
    gotchas: tuple[EntryId, ...] = ()

    def facts(self) -> list[tuple[str, Fact]]:
        """Every fact with the key it stands under."""
        keys = ("launch", "storage", "network", "interruption", "teardown", "commands")
        return [(key, fact) for key in keys for fact in getattr(self, key)]


class Correction(Model):
    """What an entry said before, what it says since, and why (S17-R05)."""

    field: Literal["symptom", "cause", "fix", "sources", "matches", "codes"]
    old: str
    new: str
    source: Url
    day: dt.date


class Gotcha(Model):
    """Symptom, root cause, fix, and where that was read (S17-R04). `matches`: expressions that the failure's text fits."""

    id: EntryId
    symptom: Sentence
    cause: Sentence
    fix: Sentence
    sources: tuple[Url, ...] = Field(min_length=1)
    verified: Month
    basis: Basis
    money: bool = False
    matches: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    corrections: tuple[Correction, ...] = ()


class GotchaFile(FileModel):
    """A file of entries that share a topic. `platform` is set exactly where `scope` is platform."""

    title: Sentence
    scope: Scope
    platform: EntryId | None = None
    gotchas: tuple[Gotcha, ...] = Field(min_length=1)


class Proposal(FileModel):
    """A drafted entry that waits for a person (S17-R07). `missing` is what it lacks for the place it is meant for."""

    id: EntryId
    created: dt.date
    status: Literal["open", "approved", "rejected"] = "open"
    about: About
    platform: EntryId | None = None
    route: str
    reasons: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    seen: int = 1
    category: str = "unknown"
    code: str = ""
    evidence: tuple[str, ...] = ()
    symptom: str = ""
    cause: str = ""
    fix: str = ""
    sources: tuple[Url, ...] = ()
    matches: tuple[str, ...] = ()
    basis: Basis | None = None
    general: bool = False
    corrects: EntryId | None = None
    why: str = ""
    written: str = ""
