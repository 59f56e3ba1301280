"""run.json: what a run is. Written once, before the command starts; never changed after."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from manifests.model import FileModel, RawText

Lane = Literal["hemma", "colab", "local"]


class RunRecord(FileModel):
    """One execution of a command (S9-R06). It holds environment *names*; values are never written (S20-R01)."""

    run_id: str = Field(min_length=1)
    argv: tuple[RawText, ...] | None = None
    shell: RawText | None = None
    cwd: RawText
    root: RawText | None = None
    lane: Lane = "hemma"
    commit: str | None = None
    branch: RawText | None = None
    who: RawText
    host: str
    created_at: AwareDatetime
    detached: bool = False
    pty: bool = False
    login: bool = False
    env_names: tuple[RawText, ...] = ()
    timeout_s: float | None = None
    lease_s: float | None = None

    @model_validator(mode="after")
    def _has_a_command(self) -> Self:
        if self.argv is None and self.shell is None:
            raise ValueError("a run needs `argv` or `shell`")
        return self
