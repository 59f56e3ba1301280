"""status.json: how a run stands. A union discriminated on `state`, so a running run has a start and no exit code.

`lost` is never written: whether the supervisor of a run that says `running` still lives is decided by its reader
(lanes/run_state.py) from pid, start time and boot id (S9-R19).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError

from manifests.files import read_json
from manifests.model import FileModel, Model, RawText, broken_by

Reason = Literal["exited", "signalled", "timed-out", "lease-expired", "stopped", "not-started"]


class Supervisor(Model):
    """The process on the host that owns the command. `start_ticks`: clock ticks since boot, so a reused pid differs."""

    pid: int
    start_ticks: int | None
    boot_id: str


class _Status(FileModel):
    run_id: str = Field(min_length=1)
    supervisor: Supervisor
    heartbeat_at: AwareDatetime


class Starting(_Status):
    """The run directory exists, the command does not run yet."""

    state: Literal["starting"] = "starting"
    pid: int | None = None
    started_at: AwareDatetime | None = None


class Running(_Status):
    """The command runs, or ran when its supervisor last wrote."""

    state: Literal["running"] = "running"
    pid: int
    started_at: AwareDatetime


class Finished(_Status):
    """The command has ended, also when it never started (S9-R20). Its exit code is 128+n when signal n ended it."""

    state: Literal["finished"] = "finished"
    pid: int | None = None
    started_at: AwareDatetime | None = None
    ended_at: AwareDatetime
    exit_code: int = Field(ge=0, le=255)
    signal: int | None = None
    reason: Reason
    detail: RawText | None = None
    stdout_bytes: int = Field(ge=0)
    stderr_bytes: int = Field(ge=0)


Status = Annotated[Starting | Running | Finished, Field(discriminator="state")]
_ADAPTER: TypeAdapter[Starting | Running | Finished] = TypeAdapter(Status)


def parse_status(value: dict[str, Any], name: str = "status.json") -> Starting | Running | Finished:
    """The status that a file called `name` held. Raises HemmaError, code `file-broken`."""
    try:
        return _ADAPTER.validate_python(value)
    except ValidationError as error:
        raise broken_by(error, name) from error


def read_status(path: str) -> Starting | Running | Finished:
    """The status in the file at `path`. Raises HemmaError as `read_json` does."""
    return parse_status(read_json(path), path)
