"""evidence/<stage>.json and events.jsonl: what a stage of a training run found, bound to the content it looked at.

Evidence is what a gate reads (lanes/gates.py); a claim is none. `Hashes` names the five contents that a stage saw: when
one of them is another by now, the evidence is of something else (S7-R18). Events are chained by digest (lanes/event_chain.py).
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from manifests.model import FileModel, Model, RawText

Stage = Literal[
    "intake",
    "resources",
    "data-audit",
    "cpu-smoke",
    "gpu-preflight",
    "readiness",
    "job",
    "healthy",
    "alerts",
    "evaluate",
    "persist",
    "commit",
    "conformance",
]
# partial: all that could be run passed, and `not_covered` names what could not (S7-R10); it never counts as passed by itself.
Outcome = Literal["passed", "partial", "failed", "not-checked"]
Content = Literal["script", "config", "dataset", "model", "environment"]


class Hashes(Model):
    """Digests of the contents a stage saw, or of those there are now. None: not known, which no gate accepts."""

    script: str | None = None
    config: str | None = None
    dataset: str | None = None
    model: str | None = None
    environment: str | None = None


class Check(Model):
    """One thing that a stage looked at: whether it held, and the fact with its numbers."""

    name: str = Field(min_length=1)
    held: bool
    fact: RawText = ""


class Evidence(FileModel):
    """What one run of one stage found. `sequence` grows with every evidence of a run; the highest of a stage counts.

    `not-checked` is a stage that could not be carried out (the verifier crashed): told apart from one that failed (D8).
    `facts` are the stage's numbers by name; which of them gates and checklist read stands in lanes/readiness.py.
    `previous` is the digest of the record before it in its run, empty for the first; `origin` that of the record in the log of
    `run_id` which this one was taken over from, empty for a run's own (lanes/evidence_chain.py).
    """

    stage: Stage
    outcome: Outcome
    sequence: int = Field(ge=0)
    hashes: Hashes
    checks: tuple[Check, ...] = ()
    facts: dict[str, Any] = Field(default_factory=dict)
    not_covered: tuple[RawText, ...] = ()
    created_at: AwareDatetime
    run_id: str = Field(min_length=1)
    previous: str = ""
    origin: str = ""

    @model_validator(mode="after")
    def _outcome_agrees_with_checks(self) -> Self:
        if self.outcome == "passed" and not all(check.held for check in self.checks):
            raise ValueError("outcome `passed` with a check that did not hold")
        if self.outcome == "passed" and self.not_covered:
            raise ValueError("outcome `passed` with something not covered; that is `partial`")
        if self.outcome == "partial" and not self.not_covered:
            raise ValueError("outcome `partial` names what was not covered")
        return self


class EventRecord(Model):
    """One line of events.jsonl. `seq` counts from 0; `previous_digest` and `digest` chain it to the line before (S21-R05)."""

    seq: int = Field(ge=0, strict=True)
    kind: str = Field(min_length=1)
    at: AwareDatetime
    data: dict[str, Any] = Field(default_factory=dict)
    previous_digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
