"""The formats of the Colab lane: what a slice is to hold, what it holds, and how a run over its rows stands.

    manifests/slices/X.yaml   SliceManifest   a person commits it; every fault is a UsageError with key, rule and mend
    NAME-<digest12>/slice.json SliceIndex     written last by `hemma slice issue`; never changed after
    RUN/status.json           RowStatus       replaced by the row engine at every heartbeat

`read_any_status` reads a run's status.json whether a command of a host or a row engine wrote it (S9-R14).
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AwareDatetime, Field, StringConstraints, ValidationError, field_validator, model_validator

from manifests.commands import command
from manifests.errors import UsageError
from manifests.files import read_json
from manifests.model import FileModel, Model, RawText, RepoPath, demand_size, faults, slips
from manifests.status import Finished, Running, Starting, parse_status
from manifests.train import Amount, Duration

SLICE_JSON = "slice.json"
ROWS_FILE = "rows.jsonl"
PATHS_FILE = "paths.json"
# A zip; not called one, because Kaggle unpacks what is called so.
SOURCE_ZIP = "source.pyz"
NOTEBOOK_FILE = "notebook.ipynb"
README_FILE = "README.md"
MANIFEST_FILE = "manifest.yaml"
FILES_FOLDER = "files"
# Made from the rest and from the digest itself, so the digest cannot be over them; slice.json holds their sha256.
PAGES = frozenset({NOTEBOOK_FILE, README_FILE})

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$"
_FUNCTION = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"
Entry = Annotated[str, StringConstraints(pattern=_FUNCTION)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Pinned = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9,._-]+\])?==[A-Za-z0-9.+!_-]+$")
]
SecretName = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]*$")]
FieldName = Annotated[str, StringConstraints(min_length=1)]
Scalar = str | int | float | bool | None


class RowsSpec(Model):
    """Which rows: a JSONL or CSV file of the repository, all of them, those of a filter, or those code chooses (S9-R35).

    `select` is `module:function` of the repository: it takes an iterator of rows (dicts) and gives the rows to keep.
    `where` keeps rows whose field has this value, or one of these. `key` names the field that identifies a row; without
    it a row is known by its content.
    """

    source: RepoPath
    select: Entry | None = None
    where: dict[str, Scalar | list[Scalar]] = Field(default_factory=dict)
    key: str | None = None
    limit: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _is_a_table(self) -> Self:
        if not self.source.endswith((".jsonl", ".csv")):
            raise ValueError("source must be a .jsonl or .csv file")
        return self


class Localizable(Model):
    """A path that may differ from machine to machine: the only thing `hemma slice localize` rewrites (S9-R32).

    `default` is relative to the slice's folder unless it is absolute. The values of row `fields` are paths below it.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")
    default: str = Field(min_length=1)
    fields: tuple[FieldName, ...] = ()


class RowRun(Model):
    """How the rows are processed. Durations in seconds; a manifest may write 30m or 11h."""

    shard_rows: int = Field(default=500, ge=1, le=100_000)
    workers: int = Field(default=1, ge=1, le=64)
    attempts: int = Field(default=3, ge=1, le=20)
    backoff: Duration = 1.0
    row_timeout: Duration = 900.0
    session_limit: Duration | None = None
    stop_before: Duration = 300.0
    flush_rows: int = Field(default=20, ge=1, le=10_000)
    flush_every: Duration = 5.0
    heartbeat: Duration = 10.0


class Resume(Model):
    """What going on with a run means (S9-R34): rows with a result are never done again; `quarantined` says what of the others."""

    completed: Literal["skip"] = "skip"
    quarantined: Literal["keep", "retry"] = "keep"


class Packages(Model):
    """What is installed before the run, exact versions only; `gpu` and `cpu` come on top of `all` where there is one, or none."""

    all: tuple[Pinned, ...] = ()
    gpu: tuple[Pinned, ...] = ()
    cpu: tuple[Pinned, ...] = ()


class SliceManifest(FileModel):
    """A portable slice of work, as a person commits it below manifests/slices/ (S9-R30, S9-R33).

    `files` are globs of the repository: data that the processor reads, found again at the same relative paths below its
    working directory. `include` names source that is imported by name at run time and so cannot be found by reading.
    `processor` takes a row (a dict) and gives one; what it writes into its folder for files (training/rows/artifacts.py)
    is in the run's `artifacts/` when the row is done.
    `project` names the root folder on the Drive, from which every path derives (S18-R16).
    `accept` maps a staged file to the reason why what looks like a secret in it is none.
    """

    kind: Literal["slice"] = "slice"
    name: str = Field(pattern=_NAME)
    task: str = ""
    rows: RowsSpec
    files: list[RepoPath] = Field(default_factory=list)
    processor: Entry
    include: list[RepoPath] = Field(default_factory=list)
    run: RowRun = Field(default_factory=RowRun)
    resume: Resume = Field(default_factory=Resume)
    packages: Packages = Field(default_factory=Packages)
    secrets: list[SecretName] = Field(default_factory=list)
    localizable: list[Localizable] = Field(default_factory=list)
    gpu: Literal["required", "optional", "none"] = "optional"
    project: str = Field(default="hemma", pattern=_NAME)
    python: str = ".venv/bin/python"
    environment: dict[str, str] = Field(default_factory=dict)
    accept: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        names = [each.name for each in self.localizable]
        if len(set(names)) != len(names):
            raise ValueError("localizable: each name once")
        owned = [field for each in self.localizable for field in each.fields]
        if len(set(owned)) != len(owned):
            raise ValueError("localizable: a row field belongs to one path")
        if self.run.session_limit is not None and self.run.session_limit <= self.run.stop_before:
            raise ValueError("run.session_limit must be longer than run.stop_before")
        empty = [path for path, reason in self.accept.items() if not reason.strip()]
        if empty:
            raise ValueError(f"accept.{empty[0]} needs the reason why it is acceptable")
        return self


class SliceFile(Model):
    """One file of the bundle: its path in it, and what proves it."""

    path: RawText = Field(min_length=1)
    size_bytes: int = Field(ge=0)
    sha256: Digest

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        if path.startswith(("/", "~")) or ".." in path.split("/") or "\\" in path:
            raise ValueError("must be a path inside the slice")
        return path


class SliceIndex(FileModel):
    """slice.json: every file of the bundle with size and sha256, where it comes from and how it is run (S9-R30).

    Written last: a folder without it is no slice. paths.json, the one file that may change, is not in `files`.
    """

    kind: Literal["hemma-slice"] = "hemma-slice"
    name: str = Field(pattern=_NAME)
    digest: Digest
    lane: Literal["colab"] = "colab"
    commit: str = Field(pattern=r"^[0-9a-f]{40,64}$")
    host: str
    manifest: RawText
    rows: int = Field(ge=0)
    key: str | None = None
    processor: Entry
    run: RowRun
    resume: Resume
    gpu: Literal["required", "optional", "none"] = "optional"
    project: str = Field(default="hemma", pattern=_NAME)
    packages: Packages = Field(default_factory=Packages)
    secrets: tuple[SecretName, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict)
    localizable: tuple[Localizable, ...] = ()
    files: tuple[SliceFile, ...]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        paths = [each.path for each in self.files]
        if paths != sorted(set(paths)):
            raise ValueError("files: each path once, sorted")
        if {SLICE_JSON, PATHS_FILE} & set(paths):
            raise ValueError(f"files: {SLICE_JSON} and {PATHS_FILE} are not listed")
        # What a later version adds by default was not there when it was issued.
        if slice_digest(self.model_dump(mode="json", exclude_unset=True)) != self.digest:
            raise ValueError("the digest is another than that of what stands here: it was changed after it was issued")
        return self

    @property
    def folder(self) -> str:
        """The bundle's name: NAME-<first 12 of the digest>."""
        return f"{self.name}-{self.digest[:12]}"


def slice_digest(index: dict[str, Any]) -> str:
    """sha256 of a slice: over slice.json less `digest` and less the pages, which carry it. Canonical JSON, so equal anywhere."""
    kept = {key: value for key, value in index.items() if key not in {"digest", "files"}}
    kept["files"] = [each for each in index["files"] if each["path"] not in PAGES]
    return hashlib.sha256(json.dumps(kept, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


class RowCounts(Model):
    """Rows so far: `failed` are failed tries that may yet succeed; done + quarantined never exceeds total."""

    total: int = Field(ge=0)
    done: int = Field(default=0, ge=0)
    failed: int = Field(default=0, ge=0)
    quarantined: int = Field(default=0, ge=0)


class RowError(Model):
    """The last thing that went wrong: with which row, what it said (secrets masked), when."""

    row: RawText | None = None
    error: RawText
    at: AwareDatetime


class RowStatus(FileModel):
    """status.json of a row run. A heartbeat older than a few `heartbeat_s` means that its session is gone.

    `state`: `stopped` ended in good order before its work was (limit of the session, SIGTERM): run it again. `failed`
    could not go on: `reason` says why. `attempt` counts the sessions that worked on it.
    """

    kind: Literal["rows"] = "rows"
    run_id: RawText = Field(min_length=1)
    slice: str
    slice_digest: Digest
    state: Literal["starting", "running", "stopped", "finished", "failed"]
    reason: RawText = ""
    step: RawText = ""
    counts: RowCounts
    rate_per_s: Amount | None = None
    eta_s: Amount | None = None
    last_error: RowError | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    attempt: int = Field(ge=1)
    host: str
    pid: int
    session: str
    started_at: AwareDatetime
    heartbeat_at: AwareDatetime
    heartbeat_s: float = Field(gt=0)
    ended_at: AwareDatetime | None = None
    exit_code: int | None = Field(default=None, ge=0, le=255)
    rewritten: int = Field(default=0, ge=0)


AnyStatus = Starting | Running | Finished | RowStatus


def parse_any_status(value: dict[str, Any], name: str = "status.json") -> AnyStatus:
    """The status of a command's run or of a row run, by its `kind`. Raises HemmaError, code `file-broken`."""
    return RowStatus.parse(value, name) if value.get("kind") == "rows" else parse_status(value, name)


def read_any_status(path: str) -> AnyStatus:
    """The status in the file at `path`, whoever wrote it. Raises HemmaError as `read_json` does."""
    return parse_any_status(read_json(path), path)


def parse_slice_manifest(text: str, name: str) -> SliceManifest:
    """The manifest in `text`, called `name` in errors. Raises UsageError naming every key at fault, its rule and the mend."""
    demand_size(text, name)
    try:
        value: object = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        fact = f"{name} is not valid YAML{where}: {getattr(error, 'problem', error)}"
        raise UsageError(fact, remedy=command("$EDITOR {}", name)) from error
    if not isinstance(value, dict):
        raise UsageError(f"{name} holds no mapping", remedy=command("hemma slice example > {}", name))
    try:
        manifest = SliceManifest.model_validate(value)
    except ValidationError as error:
        said = "; ".join(f"{key or 'the manifest'}: {rule}" for key, rule in faults(error))
        raise UsageError(
            f"{name}: {said}", remedy=command("$EDITOR {}   (a whole one: hemma slice example)", name)
        ) from error
    misspelt = slips(manifest)
    if misspelt:
        raise UsageError(f"{name}: " + "; ".join(misspelt), remedy=command("$EDITOR {}", name))
    return manifest


EXAMPLE = """\
schema_version: 1
kind: slice
name: clean-text
task: Clean the rows of the raw text that are written in English.
rows:
  source: data/raw.jsonl
  where: {lang: en}
  key: id
processor: prep.clean:clean
files: [prep/words.txt]
run: {shard_rows: 200, workers: 2, attempts: 3, row_timeout: 2m, session_limit: 11h}
resume: {quarantined: keep}
packages:
  all: []
  gpu: []
secrets: []
gpu: none
project: hemma
python: .venv/bin/python
"""
