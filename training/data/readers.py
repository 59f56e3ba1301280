"""One reader for each format: rows as dicts with their number; what cannot be read is reported by place and cause.

A reader never stops at a bad line and never guesses: no row is made up, none is silently dropped (S5-R15, S5-R16).
"""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

Row = dict[str, Any]
Numbered = tuple[int, Row]
Report = Callable[[int, str], None]
Reader = Callable[[Path, Report, int], Iterator[Numbered]]

# Measured: reading lines through 64 MiB costs twice the CPU of 1 MiB, which stays in the cache. Slow disks want the first.
BUFFER_BYTES = 1 << 20
LARGE_BUFFER_BYTES = 64 << 20  # for tokenising from a local disk (S10-R05)
BATCH_ROWS = 1000
_HALF_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")
_WIDE = (b"\xff\xfe", b"\xfe\xff")
_UTF8_MARK = b"\xef\xbb\xbf"


def _opened(path: Path, buffer_bytes: int) -> IO[bytes]:
    if path.suffix == ".gz":
        return cast("IO[bytes]", gzip.open(path, "rb"))
    return path.open("rb", buffering=min(buffer_bytes, max(path.stat().st_size, 4096)))


def read_jsonl(path: Path, report: Report, buffer_bytes: int = BUFFER_BYTES) -> Iterator[Numbered]:
    """One JSON object per line; a file that begins with `[` is one JSON list of objects."""
    with _opened(path, buffer_bytes) as file:
        try:
            head = file.read(4)
        except (OSError, EOFError) as error:
            report(0, f"cannot be read: {error}")
            return
        file.seek(0)
        if head[:2] in _WIDE:
            report(0, "UTF-16, not UTF-8: convert it with `iconv -f UTF-16 -t UTF-8`")
        elif head.lstrip(_UTF8_MARK).lstrip()[:1] == b"[":
            yield from _list(file.read(), report)
        else:
            yield from _lines(file, report)


# The decoder without the searches for blanks around a value, which take as long as a short line itself.
_scan_once: Callable[[str, int], tuple[object, int]] = json.JSONDecoder().__dict__["scan_once"]


def _lines(file: IO[bytes], report: Report) -> Iterator[Numbered]:
    number = 0
    try:
        for number, line in enumerate(file, 1):
            row = _plain(line) or _object(line.removeprefix(_UTF8_MARK) if number == 1 else line, number, report)
            if row is not None:
                yield number, row
    except (OSError, EOFError, gzip.BadGzipFile) as error:
        report(number + 1, f"cannot be read: {error}")


def _plain(line: bytes) -> Row | None:
    """The object on the line, as nearly every line holds one; None for whatever asks for a closer look."""
    try:
        text = line.decode()
        row, end = _scan_once(text, 0)
    except (StopIteration, ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not (text[end:] == "\n" or not text[end:].strip()):
        return None
    return None if _may_hold_half(cast("Row", row)) and _HALF_CHARACTER.search(line) else cast("Row", row)


def _may_hold_half(row: Row) -> bool:
    """Whether the line is worth a search for lone surrogates: what is ASCII holds none, and that a string knows at once."""
    for name, value in row.items():
        if not name.isascii() or isinstance(value, list | dict):
            return True
        if isinstance(value, str) and not value.isascii():
            return True
    return False


def _object(line: bytes, number: int, report: Report) -> Row | None:
    try:
        row: object = json.loads(line.decode())
        if _HALF_CHARACTER.search(line):
            json.dumps(row, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        report(number, f"not UTF-8: byte 0x{line[error.start]:02x} at column {error.start + 1}")
    except UnicodeEncodeError:
        report(number, "holds half a character (a lone surrogate escape)")
    except (ValueError, RecursionError) as error:
        if line.strip():
            report(number, f"not JSON: {error}")
    else:
        if isinstance(row, dict):
            return cast("Row", row)
        report(number, f"holds a {type(row).__name__}, not an object")
    return None


def _list(data: bytes, report: Report) -> Iterator[Numbered]:
    try:
        rows: object = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        report(0, f"not JSON: {error}")
        return
    for number, row in enumerate(cast("list[object]", rows), 1):
        if isinstance(row, dict):
            yield number, cast("Row", row)
        else:
            report(number, f"holds a {type(row).__name__}, not an object")


def read_csv(path: Path, report: Report, _buffer_bytes: int = BUFFER_BYTES) -> Iterator[Numbered]:
    """Columns by the header line, values as text, an empty field as None; the delimiter is the header's own."""
    csv.field_size_limit(1 << 30)
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        first = file.readline()
        file.seek(0)
        delimiter = max(",\t;|", key=first.count) if first.strip() else ","
        reader = csv.reader(file, delimiter=delimiter)
        header = next(reader, [])
        while True:
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                report(reader.line_num, f"not CSV: {error}")
                continue
            row = _record(header, fields, reader.line_num, report)
            if row is not None:
                yield reader.line_num, row


def _record(header: list[str], fields: list[str], number: int, report: Report) -> Row | None:
    if not fields:
        return None
    if len(fields) != len(header):
        report(number, f"has {len(fields)} fields, the header has {len(header)}")
        return None
    if any(not field.isascii() and _has_surrogate(field) for field in fields):
        report(number, "not UTF-8")
        return None
    return {name: field or None for name, field in zip(header, fields, strict=True)}


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def read_parquet(path: Path, report: Report, _buffer_bytes: int = BUFFER_BYTES) -> Iterator[Numbered]:
    """Rows of a Parquet file, a batch in memory at a time."""
    import pyarrow as pa
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                for row in cast("list[Row]", batch.to_pylist()):
                    number += 1
                    yield number, row
    except (pa.ArrowException, OSError) as error:
        report(number, f"cannot be read: {_first_line(error)}")


def read_arrow(path: Path, report: Report, _buffer_bytes: int = BUFFER_BYTES) -> Iterator[Numbered]:
    """Rows of an Arrow stream, as `Dataset.save_to_disk` writes it; the file is mapped, not loaded."""
    import pyarrow as pa

    number = 0
    try:
        with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
            for batch in stream:
                for row in cast("list[Row]", batch.to_pylist()):
                    number += 1
                    yield number, row
    except (pa.ArrowException, OSError) as error:
        report(number, f"cannot be read: {_first_line(error)}")


def read_text_lines(path: Path, report: Report, buffer_bytes: int = BUFFER_BYTES) -> Iterator[Numbered]:
    """One row `text` per line that is not blank."""
    with _opened(path, buffer_bytes) as file:
        for number, line in enumerate(file, 1):
            try:
                text = line.decode().rstrip("\r\n")
            except UnicodeDecodeError as error:
                report(number, f"not UTF-8: byte 0x{line[error.start]:02x} at column {error.start + 1}")
                continue
            if text.strip():
                yield number, {"text": text.removeprefix("\ufeff") if number == 1 else text}


def read_document(path: Path, report: Report, _buffer_bytes: int = BUFFER_BYTES) -> Iterator[Numbered]:
    """One row `text` with the whole file, and its name as `path`."""
    text = _whole(path, report)
    if text is not None:
        yield 1, {"text": text, "path": path.name}


def read_markdown(path: Path, report: Report, _buffer_bytes: int = BUFFER_BYTES) -> Iterator[Numbered]:
    """One row per file: `text` without the front matter, `title`, `path`, and the front matter's own keys."""
    text = _whole(path, report)
    if text is None:
        return
    front, body = _front_matter(text)
    title = next((line.lstrip("# ").strip() for line in body.splitlines() if line.startswith("# ")), None)
    yield 1, {**front, "title": front.get("title") or title, "path": path.name, "text": body}


def _whole(path: Path, report: Report) -> str | None:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        report(0, f"not UTF-8: byte 0x{data[error.start]:02x} at byte {error.start + 1}")
        return None
    if not text.strip():
        report(0, "is empty")
        return None
    return text


def _front_matter(text: str) -> tuple[Row, str]:
    """(keys, rest) of a page that begins with a block between two `---` lines; simple `key: value` lines count."""
    found = re.match(r"---[ \t]*\r?\n(.*?\n)---[ \t]*(?:\r?\n|\Z)", text, re.DOTALL)
    if found is None:
        return {}, text
    pairs = (line.partition(":") for line in found[1].splitlines() if re.match(r"[A-Za-z_][\w-]*:", line))
    return {key: value.strip().strip("\"'") or None for key, _, value in pairs}, text[found.end() :].lstrip("\n")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
