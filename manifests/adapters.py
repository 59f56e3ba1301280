"""Adapters that came home: the checks a manifest asks for, and adapters/registry.json, which only grows (S14-R11, S14-R13).

integrate:
  place: adapters
  checks:
    - {prompt: "What is a lane?", kind: text, contains: [host], differs_from_base: true}
    - {prompt: "Is rebasing allowed?", prefers: {answer: " No.", over: " Yes."}}
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from manifests.model import FileModel, Model, RawText, RepoPath

Kind = Literal["any", "text", "json", "number", "yes-no", "code", "list"]
CHAIN_BROKEN = "an entry was changed or removed: the registry only grows"


def _regular(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from error
    return value


class Preference(Model):
    """Two answers to the same prompt: the adapter finds `answer` likelier than `over`."""

    answer: str = Field(min_length=1)
    over: str = Field(min_length=1)


class AdapterCheck(Model):
    """A known prompt and the kind of answer that is expected. `differs_from_base`: the base must say something else.

    `is_chat`: the prompt is a user's turn; None: where the tokenizer has a chat template. A reward model is asked `prefers` only.
    """

    prompt: str = Field(min_length=1)
    kind: Kind = "text"
    contains: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    matches: Annotated[str, AfterValidator(_regular)] | None = None
    differs_from_base: bool = False
    prefers: Preference | None = None
    is_chat: bool | None = None
    max_new_tokens: int = Field(default=64, ge=1, le=2048)


class Integrate(Model):
    """Where adapters are placed in the repository, and what is asked of them before."""

    place: RepoPath = "adapters"
    checks: tuple[AdapterCheck, ...] = ()


class RegistryEntry(Model):
    """One adapter. `seq`, `previous_digest` and `digest` chain it to the entry before (lanes/event_chain.py)."""

    seq: int = Field(ge=0, strict=True)
    name: str = Field(min_length=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    path: RawText
    base: dict[str, Any]
    size_bytes: int = Field(ge=0)
    parameters: int = Field(ge=0)
    checks: tuple[dict[str, Any], ...] = ()
    run_id: str | None = None
    added_at: str
    previous_digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")


class Registry(FileModel):
    """adapters/registry.json."""

    kind: Literal["adapter-registry"] = "adapter-registry"
    entries: tuple[RegistryEntry, ...] = ()

    @model_validator(mode="after")
    def _is_in_order(self) -> Self:
        if [entry.seq for entry in self.entries] != list(range(len(self.entries))):
            raise ValueError(CHAIN_BROKEN)
        return self

    def having(self, sha256: str, name: str) -> RegistryEntry | None:
        """The entry of an adapter that is in already."""
        return next((each for each in self.entries if (each.sha256, each.name) == (sha256, name)), None)

    def raw(self) -> Sequence[dict[str, Any]]:
        """The entries as plain data, for the chain."""
        return [entry.as_dict() for entry in self.entries]
