"""What `hemma verify` is told ([tool.hemma.verify]) and what it says (its report), as models (S19-R03, S19-R04, S19-R07)."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, BeforeValidator, Field

from manifests.model import FileModel, Model, RawText
from manifests.settings import Flag, Plain

Status = Literal["WIRED", "NOT WIRED", "DUPLICATE"]
FindingKind = Literal[
    "not-wired",
    "duplicate",
    "shadow",
    "empty",
    "stub",
    "placeholder",
    "broken",
    "entry-missing",
    "dynamic",
    "stub-function",
    "header",
    "language",
]
# These inform; all others end the check.
INFORMING: frozenset[FindingKind] = frozenset({"dynamic", "stub-function"})
FAILING: frozenset[FindingKind] = frozenset(get_args(FindingKind)) - INFORMING


def _several(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _comments(value: str) -> str:
    lines = value.strip("\n").splitlines()
    if any(not line.startswith("#") or line.startswith("#!") for line in lines):
        raise ValueError("every line of a header is a comment, e.g. # {project}: {path}")
    return "\n".join(lines)


Header = Annotated[str, AfterValidator(_comments)]
Words = Annotated[tuple[Plain, ...], BeforeValidator(_several)]
CONFIG_FILES = ("setup.py", "conf.py", "noxfile.py", "config.py", "*_config.py", "settings.py")
TEST_FILES = ("tests/**", "test/**", "**/test_*.py", "**/*_test.py", "**/conftest.py")


class VerifySettings(Model):
    """[tool.hemma.verify]. Patterns match a module's dotted name or, with `/` or `.py`, its path; `*` crosses dots.

    `entry`: more entry points: `module`, `module:function` or a path. `sent`: modules that travel by value and start
    elsewhere, `module` or `module as other_name`. `optional`: modules that may be unwired. `critical`: when given, only
    these must be wired. `loads_others`: modules whose dynamic imports load what is not in this repository, such as a user's own
    code: no warning. `roots`: folders that imports start from; found when not given. `header`: the comment lines that
    every module begins with, {project}, {path} and {name} filled in; off when not given (S6-R13). `language`: "en" wants
    names, comments and docstrings in English; off when not given (S6-R21).
    """

    entry: Words = ()
    sent: Words = ()
    optional: Words = ()
    critical: Words = ()
    loads_others: Words = ()
    exclude: Words = ()
    roots: Words = ()
    tests: Words = TEST_FILES
    allow_empty_init: Flag = False
    header: Header = ""
    header_exempt: Words = CONFIG_FILES
    language: Literal["", "en"] = ""


class StatusWords(Model):
    """The status words of a module (S19-R07). None: there was no evidence to say so, never a guess."""

    exists: bool
    tested: bool | None = None
    wired: bool
    active: bool | None = None
    complete: bool | None = None


class ModuleRow(Model):
    """One module: its class, why, the four words, and who uses it first. `digest`: of its code without its comments."""

    name: RawText
    path: RawText
    status: Status
    critical: bool = True
    why: RawText = ""
    used_by: RawText = ""
    how: str = ""
    duplicate_of: RawText = ""
    words: StatusWords
    digest: str = ""
    test_files: tuple[RawText, ...] = ()
    lines_in_functions: int | None = None
    lines_active: int | None = None


class Finding(Model):
    """Something to look at: where, what, and what mends it. `fails`: it makes the check end with 1."""

    kind: FindingKind
    path: RawText
    line: int = Field(default=0, ge=0)
    module: RawText = ""
    message: RawText
    remedy: RawText = ""
    fails: bool = False

    @classmethod
    def of(cls, row: ModuleRow, kind: FindingKind, message: str, remedy: str, line: int = 1) -> Self:
        """What is to be said of one module; it fails the check where module and kind are critical."""
        fails = row.critical and kind in FAILING
        return cls(kind=kind, path=row.path, line=line, module=row.name, message=message, remedy=remedy, fails=fails)


class EntryRow(Model):
    """An entry point: what starts there, and which file or key says so."""

    module: RawText
    part: str
    told_by: RawText


class VerifyReport(FileModel):
    """The whole answer. `counts` are counted, never estimated (S19-R04); `ok` is what the exit code says (S19-R05)."""

    kind: Literal["hemma-verify"] = "hemma-verify"
    root: RawText
    since: str = ""
    ok: bool
    counts: dict[str, int]
    entries: tuple[EntryRow, ...]
    modules: tuple[ModuleRow, ...]
    findings: tuple[Finding, ...]
    edges: tuple[tuple[RawText, RawText], ...] = ()
