"""Is an answer of the expected kind? Pure: the words of a model in, what is wrong with them out (S14-R11).

Kinds: text (some word in it), json, number, yes-no, code (a fenced block, or a line that looks like code), list (two items or
more), any (whatever it is, nothing included).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Literal

Kind = Literal["any", "text", "json", "number", "yes-no", "code", "list"]
LONGEST = 8_000
_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?\s*%?")
_ITEM = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+\S", re.MULTILINE)
_CODE_LINE = re.compile(
    r"^\s*(?:(?:def|class) \w+.*:|import [\w.]+$|from [\w.]+ import |(?:for|while|if|with|try)\b[^.!?]*[:{]$|return\b.*[\w)\]}];?$"
    r"|(?:const |let |var |export )?[\w.\[\]]{1,60}\s*[-+*/|&]?=\s*\S|[\w.]{1,60}\(.*\);?$|#!|\$ \w|SELECT\b.*\bFROM\b)",
    re.MULTILINE,
)
_FENCED = re.compile(r"^\s*(`{3,}|~{3,})[^\n]*\n(.*?)(?:^\s*\1|\Z)", re.DOTALL | re.MULTILINE)


def faults(
    answer: str,
    *,
    kind: Kind = "text",
    contains: Collection[str] = (),
    lacks: Collection[str] = (),
    matches: str | None = None,
    differs_from: str | None = None,
) -> list[str]:
    """What is wrong with the answer, in words; empty when it is of this kind and all else holds.

    `contains`: each of them stands in it, small or capital letters; `lacks`: none does. `differs_from`: the base's answer.
    """
    said = answer[:LONGEST]
    found = [] if _IS[kind](said) else [f"it is no {kind}" if kind != "text" else "it says nothing"]
    found += [f"{word!r} is not in it" for word in contains if word.lower() not in said.lower()]
    found += [f"{word!r} is in it" for word in lacks if word.lower() in said.lower()]
    if matches is not None and re.search(matches, said) is None:
        found.append(f"it does not match {matches!r}")
    if differs_from is not None and answer.split() == differs_from.split():
        found.append("it is what the base says")
    return found


def _is_json(said: str) -> bool:
    fenced = _FENCED.search(said)
    try:
        json.loads(fenced[2] if fenced else said)
    except (ValueError, RecursionError):
        return False
    return True


def _is_code(said: str) -> bool:
    # By its looks: Python's own parser opens a file for every text that it cannot parse.
    return _FENCED.search(said) is not None or _CODE_LINE.search(said) is not None


_IS: Mapping[Kind, Callable[[str], bool]] = {
    "any": lambda _said: True,
    "text": lambda said: re.search(r"\w", said) is not None,
    "json": _is_json,
    "number": lambda said: _NUMBER.fullmatch(said.strip().rstrip(".")) is not None,
    "yes-no": lambda said: re.match(r"\W*(?:yes|no|true|false)\b", said, re.IGNORECASE) is not None,
    "code": _is_code,
    "list": lambda said: len(_ITEM.findall(said)) > 1,
}
