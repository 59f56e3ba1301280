"""What every model shares: frozen, unknown fields survive a round trip, environment values never show in a repr.

A model of a whole file also carries `schema_version`. New fields do not raise it (older readers keep what they do not
know); it rises only when the meaning of a field changes, and an older Hemma then refuses the file.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Annotated, Any, ClassVar, Self, cast

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, ValidationError, field_validator

from manifests.errors import HemmaError
from manifests.files import broken, read_json, write_json


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("Input should be a valid string")
    return value


def _as_is(value: str) -> str:
    return value


# Text that may have been bytes outside UTF-8 (argv, paths): pydantic's own str refuses lone surrogates, these are data.
RawText = Annotated[str, PlainValidator(_text, json_schema_input_type=str), PlainSerializer(_as_is)]


class Model(BaseModel):
    """A frozen model that keeps unknown fields. Its repr, and any validation error, shows no environment value (S20-R03)."""

    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True, ser_json_inf_nan="constants")

    def as_dict(self) -> dict[str, Any]:
        """Everything, unknown fields too, as plain data that `json` can write."""
        return self.model_dump(mode="json")

    def __repr_args__(self) -> Generator[tuple[str | None, Any], None, None]:
        for name, value in super().__repr_args__():
            yield name, _names_only(name, value)


def _names_only(name: str | None, value: object) -> object:
    """`value` as a repr may show it: below any key called `env` only names are left."""
    if not isinstance(value, Mapping):
        return value
    mapping = cast("Mapping[str, object]", value)
    if name == "env":
        return sorted(str(key) for key in mapping)
    return {key: _names_only(str(key), item) for key, item in mapping.items()}


class FileModel(Model):
    """The model of a whole file. `known_version` is the newest schema version this Hemma understands."""

    known_version: ClassVar[int] = 1
    schema_version: int = Field(default=1, ge=1, strict=True)

    @field_validator("schema_version")
    @classmethod
    def _is_known(cls, version: int) -> int:
        if version > cls.known_version:
            raise ValueError(f"{version} was written by a newer Hemma; this one knows up to {cls.known_version}")
        return version

    @classmethod
    def parse(cls, value: dict[str, Any], name: str) -> Self:
        """The model of the data that a file called `name` held. Raises HemmaError, code `file-broken`."""
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise broken_by(error, name) from error

    @classmethod
    def read(cls, path: str) -> Self:
        """The model of the file at `path`. Raises HemmaError as `read_json` does."""
        return cls.parse(read_json(path), path)

    def write(self, path: str) -> None:
        """Replace `path` by this model, mode 0600, in one step."""
        write_json(path, self.as_dict())


def faults(error: ValidationError) -> list[tuple[str, str]]:
    """Each thing a validation error found, as (dotted key, rule); never the offending value, which may be a secret."""
    return [
        (".".join(str(part) for part in fault["loc"]), fault["msg"].removeprefix("Value error, "))
        for fault in error.errors(include_url=False, include_input=False, include_context=False)
    ]


def broken_by(error: ValidationError, name: str) -> HemmaError:
    """The error for a file of ours whose JSON is fine and whose content is not."""
    return broken(name, "is broken: " + "; ".join(f"{key or 'the file'}: {rule}" for key, rule in faults(error)))
