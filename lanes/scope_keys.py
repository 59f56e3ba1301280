"""What a setting is about: a protected part of the scope, a tunable one, a neutral one, or unknown (S13-R41, S13-R45).

Names count in any case and with `-` or `_`. What no table (lanes/scope_table.py) knows is judged by the words in it, and then is unknown: a
change of an unknown setting is refused and named, since nobody could say what it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lanes.scope_table import (
    BATCH,
    GENERIC,
    NEUTRAL,
    NEUTRAL_NAME,
    NEUTRAL_SECTIONS,
    NOT_SYNONYMS,
    PROTECTED,
    PROTECTED_NAME,
    SECTIONS,
    TUNABLE,
)

Kind = Literal["protected", "tunable", "neutral", "batch", "unknown"]


@dataclass(frozen=True)
class Key:
    """A setting's canonical name, the part of the scope it belongs to, and how a change of it is judged."""

    name: str
    facet: str
    kind: Kind


def _table() -> dict[str, Key]:
    table = {name: Key(name, "neutral", "neutral") for name in NEUTRAL}
    bundles: list[tuple[str, Kind, Mapping[str, str]]] = [
        *((facet, "protected", names) for facet, names in PROTECTED.items()),
        ("tuning", "tunable", TUNABLE),
        ("batch", "batch", BATCH),
    ]
    for facet, kind, names in bundles:
        for name, aliases in names.items():
            for each in (name, *aliases.split()):
                table[each] = Key(each if name in NOT_SYNONYMS else name, facet, kind)
    return table


_KNOWN = _table()


def normal(name: str) -> str:
    """A name without the spelling: lower case, `-` as `_`, no leading dashes."""
    return name.strip().lower().lstrip("-").replace("-", "_")


def is_known(name: str) -> bool:
    """Whether the table itself has this name, so that it is a setting wherever it stands."""
    key = _KNOWN.get(normal(name))
    return key is not None and key.kind != "neutral"


def classify(path: tuple[str, ...]) -> Key:
    """What the setting at this path of section names is about; the last part is its own name."""
    parts = [normal(part) for part in path if part] or [""]
    name, sections = parts[-1], parts[:-1]
    if name == "stage" and any("zero" in each or each == "deepspeed" for each in sections):
        return Key("zero_stage", "neutral", "neutral")
    if name in ("enabled", "enable", "active", "on", "auto", "type") and sections:
        found = _KNOWN.get(f"{sections[-1]}_{name}") or _KNOWN.get(sections[-1])
        if found:
            return found
    key = _by_section(name, sections)
    return key or _KNOWN.get(name) or _by_words(name)


def _by_section(name: str, sections: list[str]) -> Key | None:
    """The key that a section makes of a name the table has not, or has as something general."""
    joined = _KNOWN.get(f"{sections[-1]}_{name}") if sections else None
    if joined:
        return joined
    known = _KNOWN.get(name)
    for section in reversed(sections):
        if section in NEUTRAL_SECTIONS and (known is None or name in GENERIC):
            return Key(f"{section}.{name}", "neutral", "neutral")
        facet = SECTIONS.get(section)
        if facet and known is None and not NEUTRAL_NAME.search(name):
            return Key(_FIRST_NAMES.get((facet, name), f"{facet}.{name}"), facet, "protected")
    return None


# The plain names of the one thing a section is for, so that `model: {name: x}` and `model_name: x` are one setting.
_FIRST_NAMES = {
    **{("model", name): "model" for name in ("name", "id", "path", "repo", "name_or_path")},
    **{("dataset", name): "dataset" for name in ("name", "id", "path", "repo", "file", "files", "train", "train_file")},
    ("adapter", "r"): "lora_r",
    ("adapter", "alpha"): "lora_alpha",
    ("adapter", "dropout"): "lora_dropout",
}


def _by_words(name: str) -> Key:
    if NEUTRAL_NAME.search(name):
        return Key(name, "neutral", "neutral")
    for pattern, facet in PROTECTED_NAME:
        if pattern.search(name):
            return Key(name, facet, "protected")
    return Key(name, "unknown", "unknown")
