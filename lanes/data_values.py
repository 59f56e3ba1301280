"""What a value of a dataset's row is: text, a conversation, a reply, something else; and what is wrong with its turns.

The kinds are those by which trainers tell formats apart: a `str`, or a list of {"role", "content"} (S5-R04..R07, S5-R20).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, cast

# messages: a conversation; reply: one that begins with the assistant; turns: with keys or roles of another collection
# ({"from", "value"} as ShareGPT writes them, {"role": "human"}).
Kind = Literal["text", "messages", "reply", "turns", "empty-list", "number", "flag", "list", "object", "null"]
CHAT_KINDS: Final[frozenset[Kind]] = frozenset({"messages", "reply"})

ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
# What other collections call the roles; anything else stays as it is and is reported.
ROLE_NAMES: Mapping[str, str] = {
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "function": "tool",
    "observation": "tool",
    "ipython": "tool",
}


def kind_of(value: object) -> Kind:
    """The kind of one value. A list counts as messages by its first turn, as trainers judge it."""
    if isinstance(value, str):
        return "text"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, list | tuple):
        return _kind_of_list(cast("Sequence[object]", value))
    return "object"


def _kind_of_list(value: Sequence[object]) -> Kind:
    if not value:
        return "empty-list"
    first = value[0]
    if not isinstance(first, Mapping):
        return "list"
    turn = cast("Mapping[str, object]", first)
    if "role" in turn:
        if any(_is_renamed(each) for each in value[:2]):
            return "turns"
        return "reply" if turn["role"] == "assistant" else "messages"
    return "turns" if "from" in turn and "value" in turn else "list"


def _is_renamed(turn: object) -> bool:
    """Whether a turn's role goes by a name of another collection; after a system turn the second one tells."""
    role = cast("Mapping[str, object]", turn).get("role") if isinstance(turn, Mapping) else None
    return isinstance(role, str) and role.strip().lower() in ROLE_NAMES


def normal_turns(turns: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Turns with `role` and `content` under the field's names; keys without a value go (Arrow fills them in)."""
    return [_normal_turn(turn) for turn in turns]


def _normal_turn(turn: Mapping[str, Any]) -> dict[str, Any]:
    named = {"from": "role", "value": "content"}
    renamed = {named.get(key, key): value for key, value in turn.items() if key not in named or named[key] not in turn}
    kept = {key: value for key, value in renamed.items() if value is not None or key == "content"}
    role = kept.get("role")
    if isinstance(role, str):
        kept["role"] = ROLE_NAMES.get(role.strip().lower(), role)
    return kept


def broken_turn(turns: Sequence[object]) -> str | None:
    """Why these turns cannot be rendered at all, naming the first one at fault (from 1); None when they can."""
    if not turns:
        return "it has no turns"
    for number, turn in enumerate(turns, 1):
        if not isinstance(turn, Mapping):
            return f"turn {number} is no mapping"
        said = cast("Mapping[str, object]", turn)
        role, content = said.get("role"), said.get("content")
        if not isinstance(role, str) or not role:
            return f"turn {number} has no role"
        if content is None and not said.get("tool_calls"):
            return f"turn {number} ({role}) has no content"
        if content is not None and not isinstance(content, str | list):
            return f"turn {number} ({role}) holds a {kind_of(content)}, not text"
    return None


def odd_turns(turns: Sequence[Mapping[str, Any]]) -> list[str]:
    """What trains, and most likely not as meant: unknown roles, no reply, a late system turn, the same speaker twice."""
    roles = [str(turn.get("role")) for turn in turns]
    found = [f"unknown role {role}" for role in dict.fromkeys(roles) if role not in ROLES]
    if "assistant" not in roles:
        found.append("no assistant turn")
    if any(role in {"system", "developer"} for role in roles[1:]):
        found.append("system turn after the first")
    spoken = [role for role in roles if role not in {"system", "developer", "tool"}]
    if spoken and spoken[0] == "assistant":
        found.append("begins with the assistant")
    if any(one == other and one in {"user", "assistant"} for one, other in itertools.pairwise(roles)):
        found.append("the same role twice in a row")
    return found


def text_of(value: object) -> str:
    """All that is said in a value: the text, or the contents of its turns; for comparing and for measuring."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return "\n".join(text_of(each) for each in cast("Sequence[object]", value))
    if isinstance(value, Mapping):
        said = cast("Mapping[str, object]", value)
        content = said.get("content", said.get("text"))
        return "" if content is None else text_of(content)
    return "" if value is None else str(value)
