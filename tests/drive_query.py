"""Drive's search language, as much of it as clients use: `'ID' in parents and trashed = false and (…)`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

File = dict[str, Any]
Test = Callable[[File], bool]
_TOKEN = re.compile(r"\s*(?:(?P<text>'(?:\\.|[^'\\])*')|(?P<word>[\w.]+)|(?P<sign>!=|<=|>=|=|<|>|\(|\)))")


def matcher(query: str) -> Test:
    """The test of one file that `query` says. ValueError when it cannot be read."""
    tokens = _tokens(query)
    test = _any_of(tokens)
    if tokens:
        raise ValueError(f"unreadable query at {tokens[0]}")
    return test


def _tokens(query: str) -> list[str]:
    found: list[str] = []
    at = 0
    while query[at:].strip():
        token = _TOKEN.match(query, at)
        if not token:
            raise ValueError(f"unreadable query: {query[at:]}")
        found.append(token[0].strip())
        at = token.end()
    return found


def _any_of(tokens: list[str]) -> Test:
    tests = [_all_of(tokens)]
    while tokens[:1] == ["or"]:
        del tokens[0]
        tests.append(_all_of(tokens))
    return tests[0] if len(tests) == 1 else lambda file: any(test(file) for test in tests)


def _all_of(tokens: list[str]) -> Test:
    tests = [_one(tokens)]
    while tokens[:1] == ["and"]:
        del tokens[0]
        tests.append(_one(tokens))
    return tests[0] if len(tests) == 1 else lambda file: all(test(file) for test in tests)


def _one(tokens: list[str]) -> Test:
    if not tokens:
        raise ValueError("the query ends in the middle")
    first = tokens.pop(0)
    if first == "not":
        test = _one(tokens)
        return lambda file: not test(file)
    if first == "(":
        test = _any_of(tokens)
        if tokens[:1] != [")"]:
            raise ValueError("a bracket is open")
        del tokens[0]
        return test
    if first == "sharedWithMe" and tokens[:1] != ["="]:
        return lambda _: False
    if len(tokens) < 2:
        raise ValueError("the query ends in the middle")
    sign, value = tokens.pop(0), tokens.pop(0)
    return _comparison(first, sign, value)


def _comparison(first: str, sign: str, value: str) -> Test:
    if sign == "in" and value == "parents":
        wanted = _text(first)
        return lambda file: wanted in file.get("parents", ())
    if value in ("true", "false"):
        return lambda file: bool(file.get(first)) is ((value == "true") == (sign == "="))
    wanted = _text(value)
    if sign == "contains":
        return lambda file: str(file.get(first, "")).startswith(wanted)
    if sign not in ("=", "!="):
        raise ValueError(f"unknown sign {sign}")
    return lambda file: (_field(file, first) == wanted) is (sign == "=")


def _field(file: File, name: str) -> str:
    value: Any = file
    for part in name.split("."):
        value = value.get(part, {}) if isinstance(value, dict) else {}
    return value if isinstance(value, str) else ""


def _text(token: str) -> str:
    if not token.startswith("'"):
        raise ValueError(f"{token} is no text")
    return re.sub(r"\\(.)", r"\1", token[1:-1])
