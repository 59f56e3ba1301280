"""How two slices differ, and what `localize` may write: decisions over what their files say (S9-R32)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from manifests.commands import command
from manifests.errors import UsageError
from manifests.slices import SliceIndex

# What says where a slice comes from, not what it is.
_ORIGIN = frozenset({"digest", "files", "rows"})


def compare(one: SliceIndex, other: SliceIndex, rows: tuple[Mapping[str, Any], Mapping[str, Any]]) -> dict[str, Any]:
    """{"rows": added/removed/changed keys, "files": the same by path, "settings": key -> [before, after]}; `rows` by key."""
    before, after = one.as_dict(), other.as_dict()
    settings = {
        key: [before.get(key), after.get(key)]
        for key in sorted((set(before) | set(after)) - _ORIGIN)
        if before.get(key) != after.get(key)
    }
    files = [{each.path: each.sha256 for each in index.files} for index in (one, other)]
    return {"rows": _changes(*rows), "files": _changes(*files), "settings": settings}


def is_equal(found: Mapping[str, Any]) -> bool:
    """Whether `compare` found nothing at all."""
    return not found["settings"] and not any(names for part in ("rows", "files") for names in found[part].values())


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[str]]:
    return {
        "added": [key for key in after if key not in before],
        "removed": [key for key in before if key not in after],
        "changed": [key for key in after if key in before and before[key] != after[key]],
    }


def localized_paths(index: SliceIndex, present: Mapping[str, Any], wanted: Sequence[str]) -> dict[str, str]:
    """paths.json after `localize NAME=PATH...`; `NAME=` takes a path back to its default.

    Raises UsageError for a name that the slice does not declare, and for words of another form.
    """
    declared = {each.name for each in index.localizable}
    made = {name: str(path) for name, path in present.items() if name in declared}
    for word in wanted:
        name, equals, path = word.partition("=")
        if not equals:
            raise UsageError(f"{word!r} is no NAME=PATH", remedy="hemma slice localize SLICE images=/mnt/images")
        if name not in declared:
            known = ", ".join(sorted(declared)) or "none"
            raise UsageError(
                f"{name} is no localizable path of this slice (declared: {known})",
                remedy="declare it under `localizable` in the manifest and issue the slice again",
            )
        if "\0" in path or "\n" in path:
            raise UsageError(f"{name}: a path is one line of text", remedy=command("{}=/mnt/data", name))
        made.pop(name, None)
        if path:
            made[name] = path
    return dict(sorted(made.items()))
