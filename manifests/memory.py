"""The three files of a project's memory, in `.claude/` unless [tool.hemma] memory says otherwise (S2-R09).

They belong to people and their agents: unknown fields are kept, and nothing that stands there is ever rewritten (S2-R04).
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import Field

from manifests.model import FileModel, Model

CONCEPT, STRUCTURE = "project_concept.json", "project_structure.json"
LOG, ARCHIVE = "project_log.json", "project_log_archive.json"
# The structure is what this log of changes comes to (C2).
CHANGES = "project_structure_log.json"
FILES = (CONCEPT, STRUCTURE, LOG, ARCHIVE, CHANGES)

EntryStatus = Literal["success", "partial", "failed"]
ENTRY_STATUSES: tuple[str, ...] = get_args(EntryStatus)


class LogEntry(Model):
    """What was asked, what was done, and how it ended; appended after every action, factual (S2-R16). Times are UTC."""

    date: str = Field(pattern=r"^\d{4}-\d\d-\d\d$")
    time: str = Field(pattern=r"^\d\d:\d\d(:\d\d)?$")
    requested: str = Field(min_length=1)
    executed: str = Field(min_length=1)
    files_touched: list[str] = Field(default_factory=list)
    status: EntryStatus
    notes: str = ""


class Concept(FileModel):
    """What the project is for (S2-R12). A field that stands is changed only with approval (S2-R13)."""

    name: str = ""
    vision: str = ""
    core_goals: list[str] = Field(default_factory=list)
    platform: str = ""
    key_constraints: list[str] = Field(default_factory=list)
    target_users: list[str] = Field(default_factory=list)


class Verified(Model):
    """The words of a verify report at a module (S19-R07); null: nobody measured it. `digest`: of the code they are about."""

    exists: bool
    tested: bool | None = None
    wired: bool
    active: bool | None = None
    complete: bool | None = None
    digest: str = ""


class StructureModule(Model):
    """One module as the code has it (S2-R14). `removed` modules stay: history is never dropped.

    `status` is what verify says, never a guess: `complete` is proven by its tests and by a run, `active` is there and
    wired, `planned` is not reached, or not written yet. null: verify does not judge it (a test). `wiring`: verify's class.
    """

    name: str
    path: str = ""
    status: Literal["planned", "active", "complete", "removed"] | None = None
    purpose: str = ""
    dependencies: list[str] = Field(default_factory=list)
    public_api: list[str] = Field(default_factory=list)
    last_modified: str = ""
    wiring: str = ""
    verified: Verified | None = None


class Structure(FileModel):
    """Every module by name; generated from the code and merged into what stands, never simplified (S2-R15)."""

    modules: list[dict[str, Any]] = Field(default_factory=list)
