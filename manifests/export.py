"""The export package: what a repository knows, as patterns in one self-describing JSON file (S10-R14, S5-R16).

Whoever opens the file finds in it what it is, where each pattern came from, how it becomes training text, and what to do
next. Nothing of it needs this program.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from manifests.model import FileModel, Model, RawText

SourceName = Literal["docs", "git", "logs", "chats"]
SOURCES: tuple[SourceName, ...] = ("docs", "git", "logs", "chats")


class Provenance(Model):
    """Where a pattern was found: a file and the line it begins at, or a commit; `sha256` of the whole item as it was read."""

    path: RawText = ""
    line: int | None = None
    commit: str | None = None
    sha256: str = ""


class Pattern(Model):
    """One thing worth knowing: what it is about (category, context), what is said (content), and what follows (decision)."""

    id: str = Field(pattern=r"^[0-9a-f]{16}$")
    source: SourceName
    category: str = Field(min_length=1)
    context: str = ""
    content: str = ""
    decision: str = ""
    provenance: Provenance


class Skipped(Model):
    """An item that gave nothing, and why."""

    item: RawText
    cause: str = Field(min_length=1)


class SourceRecord(Model):
    """What one source gave. A source without a pattern says why in `cause` (S5-R16); `skipped` names items with theirs."""

    source: SourceName
    items: int = Field(ge=0)
    patterns: int = Field(ge=0)
    duplicates: int = Field(default=0, ge=0)
    dropped: int = Field(default=0, ge=0)
    cause: str = ""
    skipped: tuple[Skipped, ...] = ()

    @model_validator(mode="after")
    def _zero_has_its_cause(self) -> Self:
        if not self.patterns and not self.cause:
            raise ValueError(f"source {self.source} gave nothing and does not say why")
        return self


class Step(Model):
    """One step of the instructions that travel with the package."""

    number: int = Field(ge=1)
    title: str
    text: str
    command: str | None = None


class ExportPackage(FileModel):
    """The whole package. `patterns_sha256` is over the patterns, so that a cut or edited file is seen."""

    kind: Literal["hemma-export"] = "hemma-export"
    about: str
    created_at: AwareDatetime
    repository: str = ""
    commit: str | None = None
    sources: tuple[SourceRecord, ...]
    redacted: dict[str, int] = Field(default_factory=dict)
    mapping: str
    steps: tuple[Step, ...]
    patterns_sha256: str
    patterns: tuple[Pattern, ...]

    @model_validator(mode="after")
    def _counts_and_digest_agree(self) -> Self:
        for record in self.sources:
            found = sum(pattern.source == record.source for pattern in self.patterns)
            if found != record.patterns:
                raise ValueError(f"source {record.source} counts {record.patterns} patterns and holds {found}")
        if digest_of(self.patterns) != self.patterns_sha256:
            raise ValueError("the patterns are not the ones that were exported: patterns_sha256 differs")
        return self


def digest_of(patterns: Sequence[Pattern]) -> str:
    """sha256 over the patterns as JSON with sorted keys, one after the other."""
    digest = hashlib.sha256()
    for pattern in patterns:
        digest.update(json.dumps(pattern.as_dict(), sort_keys=True, separators=(",", ":")).encode("ascii") + b"\n")
    return digest.hexdigest()
