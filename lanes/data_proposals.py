"""Mappings that could make a dataset's columns fit a method, best first: names that other collections use, and formats.

Each is only proposed here; lanes/data_audit.py takes the first one that gives the trainer what it reads (S5-R10, C13).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lanes.data_values import Kind

# Names that other collections use, in the order in which they are tried.
SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "messages": ("messages", "conversations", "conversation", "chat", "dialogue", "dialog", "turns", "history"),
    "text": ("text", "content", "document", "body", "article", "passage", "raw_content", "code", "markdown"),
    "prompt": ("prompt", "instruction", "question", "query", "problem", "input", "user"),
    "completion": ("completion", "output", "response", "answer", "target", "reply", "assistant", "solution"),
    "chosen": ("chosen", "accepted", "preferred", "chosen_response", "response_chosen", "positive", "winner", "better"),
    "rejected": ("rejected", "dispreferred", "rejected_response", "response_rejected", "negative", "loser", "worse"),
}


def proposals(method: str, kinds: Mapping[str, Kind]) -> Iterator[dict[str, str]]:
    """Mappings (target: source) to try for columns of these kinds, in order; some will not fit."""
    if method in {"sft", "causal-lm"}:
        yield from _for_sft(kinds) if method == "sft" else _texts(kinds)
    elif method == "grpo":
        yield from _for_grpo(kinds)
    else:
        yield from _for_pairs(method, kinds)


def _for_sft(kinds: Mapping[str, Kind]) -> Iterator[dict[str, str]]:
    whole: dict[str, Kind] = {name: kind for name, kind in kinds.items() if name in {"messages", "conversations"}}
    yield from _conversations(whole, "messages", "chat")
    yield from _prompt_completion(kinds)
    yield from _conversations(kinds, "messages", "chat")
    yield from _texts(kinds)


def _prompt_completion(kinds: Mapping[str, Kind]) -> Iterator[dict[str, str]]:
    completion = _named("completion", kinds)
    for prompt in _all_named("prompt", kinds):
        if completion is None or completion == prompt:
            continue
        one, other = _alike({"prompt": prompt, "completion": completion}, kinds).values()
        yield {"prompt": _with_input(one, kinds), "completion": other}


def _with_input(source: str, kinds: Mapping[str, Kind]) -> str:
    """Alpaca: the input belongs to the instruction, and is often empty."""
    is_alpaca = source == "instruction" and kinds.get("instruction") == kinds.get("input") == "text"
    return "instruction + input" if is_alpaca else source


def _texts(kinds: Mapping[str, Kind]) -> Iterator[dict[str, str]]:
    for name in _all_named("text", kinds):
        yield {"text": name}
    # A dataset of one column of text: that is the text, unless it is called like a part of something else.
    known = {name for target, names in SYNONYMS.items() if target != "text" for name in names}
    if list(kinds.values()) == ["text"] and not known & {name.lower() for name in kinds}:
        yield {"text": next(iter(kinds))}


def _conversations(kinds: Mapping[str, Kind], target: str, operation: str) -> Iterator[dict[str, str]]:
    for name in _all_named("messages", kinds):
        if kinds[name] in {"messages", "reply", "turns"}:
            plain = operation == "chat" and kinds[name] == "messages"
            yield {target: name if plain else f"{operation}({name})"}


def _for_grpo(kinds: Mapping[str, Kind]) -> Iterator[dict[str, str]]:
    for name in _all_named("prompt", kinds):
        yield {"prompt": f"chat({name})" if kinds[name] == "turns" else _with_input(name, kinds)}
    yield from _conversations(kinds, "prompt", "before_reply")
    if {"chosen", "rejected"} <= set(kinds):
        yield {"prompt": "shared(chosen, rejected)"}


def _for_pairs(method: str, kinds: Mapping[str, Kind]) -> Iterator[dict[str, str]]:
    chosen, rejected = _named("chosen", kinds), _named("rejected", kinds)
    if chosen is None or rejected is None:
        return
    sides = {"chosen": chosen, "rejected": rejected}
    prompts = [name for name in _all_named("prompt", kinds) if name not in sides.values()]
    for prompt in prompts:
        yield _alike({"prompt": prompt, **sides}, kinds)
    if method == "reward":
        yield {name: f"chat({column})" if kinds[column] == "turns" else column for name, column in sides.items()}
    # A prompt of text beside text sides is explicit; without one, what both sides begin with is it (C13).
    yield {
        "prompt": f"shared({chosen}, {rejected})",
        "chosen": f"after_shared({chosen}, {rejected})",
        "rejected": f"after_shared({rejected}, {chosen})",
    }


def _alike(sources: Mapping[str, str], kinds: Mapping[str, Kind]) -> dict[str, str]:
    """The sources, texts turned into turns where others are conversations already."""
    if all(kinds[name] == "text" for name in sources.values()):
        return dict(sources)
    made: dict[str, str] = {}
    for target, name in sources.items():
        if kinds[name] == "text":
            made[target] = f"{'user' if target == 'prompt' else 'assistant'}({name})"
        else:
            made[target] = f"chat({name})" if kinds[name] == "turns" else name
    return made


def _named(target: str, kinds: Mapping[str, Kind]) -> str | None:
    return next(iter(_all_named(target, kinds)), None)


def _all_named(target: str, kinds: Mapping[str, Kind]) -> list[str]:
    """Columns that are called like the target, best first; letters' case does not count."""
    lower = {name.lower(): name for name in reversed(list(kinds))}
    return [lower[name] for name in SYNONYMS[target] if name in lower]
