"""One form for values that mean the same: 512 and "512", true and "True", torch.bfloat16 and "bf16", ./data/x and data/x."""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

Value: TypeAlias = Any  # a hashable: str, int, float, bool, None, or tuples of these

_WORDS: Mapping[str, Value] = {
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
    **dict.fromkeys(("none", "null", "~", ""), None),
}
_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "half": "float16", "fp32": "float32", "float": "float32"}
_NUMBER = re.compile(r"[+-]?(\d[\d_]*\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_HUB = re.compile(r"^(https?://(www\.)?huggingface\.co/(datasets/|models/)?|hf://(datasets/|models/)?)", re.IGNORECASE)


def canonical(value: object) -> Value:
    """The value as something to compare: numbers as floats or ints, words of YAML and shells as what they mean."""
    if isinstance(value, str):
        return _of_text(value)
    if isinstance(value, float):
        if math.isnan(value):
            return "nan"
        return int(value) if value.is_integer() else value
    if isinstance(value, Mapping):
        items = [(str(key), canonical(each)) for key, each in value.items()]
        return tuple(sorted(items, key=repr))
    if isinstance(value, list | tuple):
        members: Sequence[object] = value
        # DPO's loss_type became a list, report_to may be either: one in a list is that one.
        return canonical(members[0]) if len(members) == 1 else tuple(canonical(each) for each in members)
    if isinstance(value, set | frozenset):
        return tuple(sorted((canonical(each) for each in value), key=repr))
    return value if isinstance(value, bool | int) or value is None else str(value)


def _of_text(text: str) -> Value:
    stripped = text.strip()
    lowered = stripped.lower()
    if lowered in _WORDS:
        return _WORDS[lowered]
    if _NUMBER.fullmatch(stripped) and len(stripped) < 40:
        number = float(stripped.replace("_", ""))
        return int(number) if math.isfinite(number) and number.is_integer() else number
    lowered = lowered.removeprefix("torch.")
    if lowered in _DTYPES or lowered in _DTYPES.values():
        return _DTYPES.get(lowered, lowered)
    if stripped[:1] + stripped[-1:] in ("[]", "()") and len(stripped) > 1:
        return canonical([part.strip().strip("'\"") for part in stripped[1:-1].split(",") if part.strip()] or None)
    return location(stripped)


def location(text: str) -> str:
    """A hub id or path without the many ways to write the same one."""
    text = _HUB.sub("", text)
    if "/" in text and "://" not in text and "\n" not in text and " " not in text:
        return posixpath.normpath(text)
    return text
