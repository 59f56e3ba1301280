"""Names of Drive as paths on a disk. Drive allows what no disk does: slashes, two files of one name, `..` as a name."""

from __future__ import annotations

import re
from collections.abc import Iterable

MAX_NAME_BYTES = 200
_RESERVED = re.compile(r"(?i)^(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?$")


def safe_name(name: str) -> str:
    """`name` as one part of a path on any disk; names that are one already stay as they are.

    What is not allowed becomes `%XX`, and a name that looks like such an escape has its `%` escaped, so two different
    names never become one; only names that are too long are cut, which `distinct` keeps apart.
    """
    escaped = re.sub(r"[\x00-\x1f\x7f/\\<>:\"|?*]|%(?=[0-9A-F]{2})", lambda found: f"%{ord(found[0]):02X}", name)
    escaped = escaped.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\\", "%5C")
    if escaped.strip(". ") == "" or _RESERVED.match(escaped):
        # No character becomes %FF, so the empty name has it for its own.
        escaped = f"%{ord(escaped[0]):02X}{escaped[1:]}" if escaped else "%FF"
    if escaped[-1] in ". ":
        escaped = f"{escaped[:-1]}%{ord(escaped[-1]):02X}"
    return _shortened(escaped)


def distinct(entries: Iterable[tuple[str, str, str]]) -> dict[str, str]:
    """id -> safe name, for the (id, name, modified) of one folder. No two are equal, on a disk without capitals neither.

    Of several with one name the newest keeps it; the others get their id behind it, so a name never changes hands
    by the order of a listing.
    """
    found: dict[str, str] = {}
    taken: set[str] = set()
    newest_first = sorted(sorted(entries, key=lambda each: each[0]), key=lambda each: each[2], reverse=True)
    for file_id, name, _ in newest_first:
        safe = safe_name(name)
        if safe.casefold() in taken:
            stem, dot, ending = safe.rpartition(".")
            mark = f"~{safe_name(file_id)[-12:]}"
            safe = f"{stem}{mark}.{ending}" if dot and stem else safe + mark
        while safe.casefold() in taken:
            safe += "~"
        taken.add(safe.casefold())
        found[file_id] = safe
    return found


def _shortened(name: str) -> str:
    raw = name.encode("utf-8")
    if len(raw) <= MAX_NAME_BYTES:
        return name
    stem, dot, ending = name.rpartition(".")
    tail = f".{ending}" if dot and len(ending.encode("utf-8")) <= 20 else ""
    kept = (stem if tail else name).encode("utf-8")[: MAX_NAME_BYTES - len(tail.encode("utf-8"))]
    return kept.decode("utf-8", "ignore") + tail
