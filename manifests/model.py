"""What every model shares: frozen, unknown fields survive a round trip, environment values never show in a repr.

A model of a whole file also carries `schema_version`. New fields do not raise it (older readers keep what they do not
know); it rises only when the meaning of a field changes, and an older Hemma then refuses the file.
"""

from __future__ import annotations

import difflib
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Self, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    field_validator,
)

from manifests.commands import command
from manifests.errors import HemmaError, UsageError
from manifests.files import broken, read_json, write_json


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("Input should be a valid string")
    return value


def _as_is(value: str) -> str:
    return value


# Text that may have been bytes outside UTF-8 (argv, paths): pydantic's own str refuses lone surrogates, these are data.
RawText = Annotated[str, PlainValidator(_text, json_schema_input_type=str), PlainSerializer(_as_is)]


def _relative(value: str) -> str:
    if value.startswith(("/", "~")) or ".." in value.split("/"):
        raise ValueError("must be a path inside the repository, relative to its root")
    return value


RepoPath = Annotated[str, AfterValidator(_relative)]


# A manifest has some KiB, and a YAML reader takes seconds for each MiB.
MOST_MANIFEST_BYTES = 256 << 10


def demand_size(text: str | bytes, name: str) -> None:
    """See that a manifest, called `name` in errors, is none of many megabytes. Raises UsageError."""
    if len(text) > MOST_MANIFEST_BYTES:
        raise UsageError(
            f"{name} is larger than {MOST_MANIFEST_BYTES >> 10} KiB: no manifest is", remedy=command("ls -l {}", name)
        )


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


def near_misses(model: BaseModel, prefix: str = "") -> list[tuple[str, str]]:
    """Unknown keys here and in the models below that look like a slip for a known one, as (dotted key, known key).

    Unknown keys are kept, a newer Hemma may know them; a typing slip must not be ignored silently.
    """
    known = list(type(model).model_fields)
    found: list[tuple[str, str]] = []
    for key in model.model_extra or {}:
        close = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
        found += [(prefix + key, close[0])] if close else []
    for name in known:
        for below, each in _models_in(getattr(model, name), f"{prefix}{name}."):
            found += near_misses(each, below)
    return found


def slip_for(key: str, given: object) -> str | None:
    """The key of `given` (what a person wrote at this level) that looks like a slip for the missing `key`; None without one."""
    if not isinstance(given, Mapping):
        return None
    words = [str(each) for each in cast("Mapping[object, object]", given)]
    return next(iter(difflib.get_close_matches(key, words, n=1, cutoff=0.75)), None)


def slips(model: BaseModel) -> list[str]:
    """The same as sentences for people."""
    return [f"`{key}` is unknown; did you mean `{_beside(key, meant)}`?" for key, meant in near_misses(model)]


def _beside(key: str, other: str) -> str:
    """`other` as a dotted key beside `key`."""
    return key.rpartition(".")[0] + "." * ("." in key) + other


def _models_in(value: object, prefix: str) -> Iterator[tuple[str, BaseModel]]:
    """The models that a field holds, each with what the keys in it begin with."""
    if isinstance(value, BaseModel):
        yield prefix, value
        return
    entries: Iterable[tuple[object, object]] = ()
    if isinstance(value, Mapping):
        entries = cast("Mapping[object, object]", value).items()
    elif isinstance(value, list | tuple):
        entries = enumerate(cast("list[object]", value))
    for key, entry in entries:
        if isinstance(entry, BaseModel):
            yield f"{prefix}{key}.", entry


def broken_by(error: ValidationError, name: str) -> HemmaError:
    """The error for a file of ours whose JSON is fine and whose content is not."""
    return broken(name, "is broken: " + "; ".join(f"{key or 'the file'}: {rule}" for key, rule in faults(error)))
