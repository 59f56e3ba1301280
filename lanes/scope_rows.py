"""Rows taken away, cut, reordered or made constant by a Python text, in the ways that such texts have (S13-R45)."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from lanes.scope_fold import called, source_of
from lanes.scope_table import DATA_KEYS, REDUCERS
from lanes.scope_tree import Act, Script, is_quiet

# Methods that texts and lists of names have too.
_AMBIGUOUS = frozenset(("sort", "filter", "repeat", "drop", "unique", "sample", "head", "tail", "choice"))


def row_acts(node: ast.AST, script: Script) -> Iterator[Act]:
    """The acts of one node upon rows."""
    if isinstance(node, ast.Call):
        yield from _reducing(node, script)
    elif isinstance(node, ast.Subscript):
        yield from _slice(node, script)
    elif isinstance(node, ast.comprehension):
        yield from _comprehension(node, script)
    elif isinstance(node, ast.For):
        yield from _counted(node.target, node.iter, node, script)
    elif isinstance(node, ast.Return | ast.Lambda):
        value = node.body if isinstance(node, ast.Lambda) else node.value
        if isinstance(value, ast.Dict):
            yield from _constant_columns(value)


def _reducing(node: ast.Call, script: Script) -> Iterator[Act]:
    name = script.name_of(node)
    base = node.func.value if isinstance(node.func, ast.Attribute) else None
    if name in REDUCERS and not (name in _AMBIGUOUS and base is not None and is_quiet(base)):
        yield "data-slice", f"{name}({script.arguments(node)})"
    if name == "zip" and any(isinstance(each, ast.Call) and called(each) == "range" for each in node.args):
        yield "data-slice", f"zip({script.arguments(node)})"
    if name == "next" and isinstance(node.func, ast.Name) and not script.is_told(node):
        yield "data-slice", "next"


def _slice(node: ast.Subscript, script: Script) -> Iterator[Act]:
    """`rows[:1000]`, except on a path or a message, and inside what is only told."""
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    cuts = [each for each in parts if isinstance(each, ast.Slice) and (each.lower or each.upper or each.step)]
    if not cuts or is_quiet(node.value) or script.is_told(node):
        return
    bounds = (
        ":".join(script.text(part) if part else "" for part in (each.lower, each.upper, each.step)) for each in cuts
    )
    yield "data-slice", f"[{', '.join(bounds)}]"


def _comprehension(node: ast.comprehension, script: Script) -> Iterator[Act]:
    """`[row for row in rows if …]` and `[rows[i] for i in range(100)]`; not over names of columns."""
    around = script.parents.get(node)
    if is_quiet(node.iter) or (around is not None and script.is_told(around)):
        return
    for test in node.ifs:
        yield "data-slice", f"if {script.text(test)}"
    if around is not None:
        yield from _counted(node.target, node.iter, around, script)


def _counted(target: ast.expr, counter: ast.expr, body: ast.AST, script: Script) -> Iterator[Act]:
    """A loop over a fixed count that takes rows by their number."""
    if not (isinstance(counter, ast.Call) and called(counter) in ("range", "trange") and isinstance(target, ast.Name)):
        return
    if not all(script.is_constant(each) for each in counter.args):
        return
    taken = (each for each in ast.walk(body) if isinstance(each, ast.Subscript) and isinstance(each.slice, ast.Name))
    if any(
        each.slice.id == target.id and not script.is_told(each) for each in taken if isinstance(each.slice, ast.Name)
    ):
        yield "data-slice", f"range({script.arguments(counter)})"


def _constant_columns(value: ast.Dict) -> Iterator[Act]:
    """A function over rows that puts the same text or label into each."""
    for key, each in zip(value.keys, value.values, strict=True):
        constant = isinstance(each, ast.Constant) or (isinstance(each, ast.List) and not each.elts)
        if isinstance(key, ast.Constant) and key.value in DATA_KEYS and constant:
            yield "data-slice", f"every row's {key.value} is {source_of(each)}"
