"""Small questions about a syntax tree, as the scan asks them: what is this chain of names, which strings can this be."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping


def pieces(node: ast.expr, known: Mapping[str, str]) -> list[str | None]:
    """A string expression as its parts; None where a value is put in that is not among the `known` names."""
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else [None]
    if isinstance(node, ast.JoinedStr):
        return _joined([piece for value in node.values for piece in pieces(value, known)])
    if isinstance(node, ast.FormattedValue):
        return pieces(node.value, known)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _joined([*pieces(node.left, known), *pieces(node.right, known)])
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        whole = pieces(node.func.value, known)
        if len(whole) == 1 and whole[0] is not None:
            return _joined(_between(re.split(r"\{[^}]*\}", whole[0])))
    return [known.get(dotted(node) or "")]


def _between(texts: list[str]) -> list[str | None]:
    found: list[str | None] = []
    for text in texts:
        found += [text, None]
    return found[:-1]


def _joined(parts: list[str | None]) -> list[str | None]:
    joined: list[str | None] = []
    for part in parts:
        last = joined[-1] if joined else None
        if part is not None and last is not None:
            joined[-1] = last + part
        elif part != "":
            joined.append(part)
    return joined


def extended(target: str, rest: str) -> str:
    """The target `module:chain` with more names behind it."""
    if not rest:
        return target
    return target + rest if target.endswith(":") else f"{target}.{rest}"


def dotted(node: ast.expr) -> str | None:
    """`a.b.c` of names and attributes; None for anything else below."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    parts.append(node.id)
    return ".".join(reversed(parts))


def arguments(given: ast.arguments) -> list[str]:
    """The names of all arguments."""
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return [each.arg for each in [*every, *(one for one in (given.vararg, given.kwarg) if one)]]


def hints(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.expr]:
    """The annotations of arguments and result."""
    given = node.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, *(one for one in (given.vararg, given.kwarg) if one)]
    return [*(each.annotation for each in every if each.annotation), *([node.returns] if node.returns else [])]


def is_dunder(name: str) -> bool:
    """Whether Python itself calls it: `__getattr__`."""
    return name.startswith("__") and name.endswith("__")


def is_type_test(test: ast.expr) -> bool:
    """Whether the condition is TYPE_CHECKING, however it was imported."""
    return (dotted(test) or "").rpartition(".")[2] == "TYPE_CHECKING"


def is_main_test(test: ast.expr) -> bool:
    """Whether the condition compares `__name__`."""
    return isinstance(test, ast.Compare) and "__name__" in {dotted(each) for each in (test.left, *test.comparators)}


def short_strings(tree: ast.Module) -> set[str]:
    """Every string of the file that may be a part of a name."""
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and 0 < len(node.value) <= 200
    }
