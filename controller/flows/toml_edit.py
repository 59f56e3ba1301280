"""Changes to TOML files that belong to people: comments, order and format stay, and nothing else may change.

Every edit is checked before it is handed back: the new text must mean the old data plus exactly what was asked for.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, cast

import tomlkit
from tomlkit.exceptions import TOMLKitError

from manifests.commands import command
from manifests.errors import UsageError

Path = tuple[str, ...]


def parsed(text: str, name: str) -> dict[str, Any]:
    """The data of a TOML text; `name` is what an error calls it. Raises UsageError."""
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            f"{name} is not valid TOML: {error}", remedy=command("mend the line named above in {}", name)
        ) from error


def put(text: str, table: Path, values: Mapping[str, Any], name: str, *, comment: str = "") -> str:
    """`text` with `values` set in the table at the path `table`; () is the top level. `comment` heads a new table.

    Raises UsageError when the file is broken, or laid out in a way that cannot be edited without other changes.
    """
    wanted = parsed(text, name)
    _made(wanted, table, name).update(values)
    body = text.removeprefix("\ufeff")
    present = _table_in(body, table)
    if not table and present is not None:
        changed = _top_level(body, values)
    elif present is not None:
        changed = _set(body, table, values)
    else:
        changed = _appended(body, table, values, comment)
    return _checked(text, changed, wanted, name)


def drop(text: str, path: Path, name: str) -> str:
    """`text` without the key or table at `path`, which must be there. Raises UsageError as `put` does.

    A table above that held nothing else goes too: TOML has no line for it where it had no header of its own.
    """
    wanted = parsed(text, name)
    document = tomlkit.parse(text.removeprefix("\ufeff"))
    *above, key = path
    while above and len(_at(wanted, above)) == 1:
        key = above.pop()
    for data in (wanted, cast("Any", document)):
        del _at(data, above)[key]
    return _checked(text, tomlkit.dumps(document), wanted, name)


def value_at(data: Mapping[str, Any], path: Path) -> Any:
    """What is at `path` in nested tables, or None."""
    here: Any = data
    for key in path:
        if not isinstance(here, Mapping) or key not in here:
            return None
        here = cast("Mapping[str, Any]", here)[key]
    return here


def rendered(key: str, value: object) -> str:
    """One `key = value` line as TOML writes it."""
    one = tomlkit.document()
    one.add(key, tomlkit.item(_inline(value)))
    return tomlkit.dumps(one).rstrip("\n")


def header(table: Path) -> str:
    """The `[a.b]` line that opens a table."""
    return "[" + ".".join(rendered(part, 0).removesuffix(" = 0") for part in table) + "]"


def _inline(value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    table = tomlkit.inline_table()
    table.update(cast("Mapping[str, object]", value))
    return table


def _at(data: MutableMapping[str, Any], path: Sequence[str]) -> MutableMapping[str, Any]:
    for key in path:
        data = data[key]
    return data


def _made(data: dict[str, Any], path: Path, name: str) -> dict[str, Any]:
    """The table at `path`, made where it is missing. Raises UsageError when something else is in the way."""
    for key in path:
        inner = data.setdefault(key, {})
        if not isinstance(inner, dict):
            raise UsageError(f"{name}: `{key}` is no table", remedy=command("mend {} in {}", key, name))
        data = cast("dict[str, Any]", inner)
    return data


def _table_in(body: str, table: Path) -> object:
    return value_at(tomllib.loads(body), table)


def _top_level(body: str, values: Mapping[str, Any]) -> str:
    known = tomllib.loads(body)
    body = _set(body, (), {key: value for key, value in values.items() if key in known})
    # New top-level keys go first: behind any table header they would belong to that table.
    return "".join(rendered(key, value) + "\n" for key, value in values.items() if key not in known) + body


def _set(body: str, table: Path, values: Mapping[str, Any]) -> str:
    try:
        document = tomlkit.parse(body)
        target = _at(cast("Any", document), table)
        for key, value in values.items():
            target[key] = tomlkit.item(_inline(value))
        return tomlkit.dumps(document)
    except (TOMLKitError, KeyError, TypeError, ValueError):
        return ""  # _checked refuses it in words


def _appended(body: str, table: Path, values: Mapping[str, Any], comment: str) -> str:
    gap = "" if not body else "\n" if body.endswith("\n") else "\n\n"
    lines = [header(table), *([f"# {comment}"] if comment else []), *(rendered(k, v) for k, v in values.items())]
    return body + gap + "\n".join(lines) + "\n"


def _checked(old: str, changed: str, wanted: Mapping[str, Any], name: str) -> str:
    if "\r\n" in old:
        changed = changed.replace("\r\n", "\n").replace("\n", "\r\n")
    try:
        meant: dict[str, Any] | None = tomllib.loads(changed)
    except tomllib.TOMLDecodeError:
        meant = None
    if meant != wanted:
        raise UsageError(
            f"{name} is laid out in a way that cannot be edited safely", remedy=command("edit {} by hand", name)
        )
    return ("\ufeff" if old.startswith("\ufeff") else "") + changed
