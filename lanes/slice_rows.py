"""Which rows are in a slice, and what each is called: the filter of a manifest, and keys that mean the same row everywhere."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, cast

from lanes.slice_spool import canonical

Row = dict[str, Any]


class RowsWrong(Exception):
    """Rows that cannot be told apart, or are none."""


def kept(rows: Iterable[Row], where: Mapping[str, Any], *, as_text: bool) -> Iterator[Row]:
    """The rows whose fields have the wanted value, or one of the wanted; `as_text` compares as a CSV file holds values."""
    wanted = {name: cast("list[Any]", value) if isinstance(value, list) else [value] for name, value in where.items()}
    for row in rows:
        if all(_is_one_of(row.get(name), values, as_text=as_text) for name, values in wanted.items()):
            yield row


def keyed(rows: Iterable[object], key: str | None) -> Iterator[tuple[str, Row]]:
    """(key, row) of each: the value of the field `key`, else a digest of the row's content, numbered where rows are equal.

    Raises RowsWrong for a row that is no JSON object, has no key, or has the key of another.
    """
    seen: Counter[str] = Counter()
    for at, value in enumerate(rows, 1):
        if not isinstance(value, dict):
            raise RowsWrong(f"row {at} is no object: {type(value).__name__}")
        row = cast("Row", value)
        try:
            text = canonical(row)
        except (ValueError, TypeError, RecursionError) as error:
            raise RowsWrong(f"row {at} is no JSON: {error}") from error
        if key is None:
            name = hashlib.sha256(text.encode("ascii")).hexdigest()[:20]
            seen[name] += 1
            yield (name if seen[name] == 1 else f"{name}~{seen[name]}"), row
            continue
        name = _key_of(row, key, at)
        if seen[name]:
            raise RowsWrong(f"row {at} has the key {name!r} of an earlier row; rows.key must tell rows apart")
        seen[name] += 1
        yield name, row


def row_lines(rows: Iterable[tuple[str, Row]], without: Collection[str], limit: int | None) -> list[bytes]:
    """rows.jsonl: a line {"key", "row"} for each row that was not done elsewhere, at most `limit` of them (S9-R36)."""
    lines: list[bytes] = []
    for key, row in rows:
        if limit is not None and len(lines) >= limit:
            break
        if key not in without:
            lines.append(canonical({"key": key, "row": row}).encode("ascii") + b"\n")
    return lines


def _key_of(row: Row, key: str, at: int) -> str:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise RowsWrong(f"row {at} has no text or number under {key!r}, which rows.key names")
    return str(value)


def _is_one_of(value: object, wanted: Iterable[object], *, as_text: bool) -> bool:
    if as_text:
        return any(str(value) == str(each) for each in wanted if each is not None)
    # 1 and True are equal to Python and not to whoever wrote the manifest.
    return any(type(value) is type(each) and value == each for each in wanted)
