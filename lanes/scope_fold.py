"""What an expression of a Python text comes to, without running it: constants folded, names followed to their bindings.

Disguises that fold away: `"sel" + "ect"`, `2 ** 9`, `int("512")`, a constant by another name, a default of a parameter.
What does not fold is described by its own text with the bindings of its names beside it, so that a change anywhere on
the way to a setting shows in the setting.
"""

from __future__ import annotations

import ast
import copy
import operator
from collections.abc import Callable, Mapping
from typing import Any

MOST_BITS, MOST_TEXT, MOST_DEPTH = 256, 10_000, 12
_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.BitOr: operator.or_,
}
_CALLS: Mapping[str, Callable[..., Any]] = {
    each.__name__: each for each in (int, float, str, bool, round, abs, min, max, chr, tuple, len, sum)
}
_METHODS = ("join", "lower", "upper", "strip", "replace", "removeprefix", "removesuffix", "split")


class Unfoldable(Exception):
    """The expression is no constant."""


class Names:
    """What each name of a text is bound to: assignments, defaults of parameters, arguments of calls to own functions."""

    def __init__(self, tree: ast.AST) -> None:
        self.bindings: dict[str, list[ast.expr]] = {}
        functions: dict[str, ast.arguments] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                functions[node.name] = node.args
                self._defaults(node.args)
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    self._bind(target, node.value)
            elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
                self._bind(node.target, node.value)
            elif isinstance(node, ast.AugAssign):
                self._bind(node.target, ast.BinOp(ast.Name("_", ast.Load()), node.op, node.value))
            elif isinstance(node, ast.For):
                self._bind(node.target, node.iter)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in functions:
                self._arguments(functions[node.func.id], node)

    def _bind(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self.bindings.setdefault(target.id, []).append(value)
        elif isinstance(target, ast.Tuple | ast.List):
            values = value.elts if isinstance(value, ast.Tuple | ast.List) else [value] * len(target.elts)
            for part, each in zip(target.elts, values, strict=False):
                self._bind(part, each)

    def _defaults(self, arguments: ast.arguments) -> None:
        named = [*arguments.posonlyargs, *arguments.args]
        for argument, default in zip(reversed(named), reversed(arguments.defaults), strict=False):
            self.bindings.setdefault(argument.arg, []).append(default)
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=False):
            if default is not None:
                self.bindings.setdefault(argument.arg, []).append(default)

    def _arguments(self, arguments: ast.arguments, call: ast.Call) -> None:
        for argument, value in zip([*arguments.posonlyargs, *arguments.args], call.args, strict=False):
            self.bindings.setdefault(argument.arg, []).append(value)
        for keyword in call.keywords:
            if keyword.arg:
                self.bindings.setdefault(keyword.arg, []).append(keyword.value)


def fold(node: ast.expr, names: Names, depth: int = 0) -> Any:
    """The constant that an expression comes to. Raises Unfoldable when it is none, or too large to compute."""
    if depth > MOST_DEPTH:
        raise Unfoldable
    try:
        value = _fold(node, names, depth + 1)
    except (TypeError, ValueError, ArithmeticError, IndexError, KeyError, AttributeError, MemoryError) as error:
        raise Unfoldable from error
    if isinstance(value, str) and len(value) > MOST_TEXT:
        raise Unfoldable
    return value


def _fold(node: ast.expr, names: Names, depth: int) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return _of_name(node.id, names, depth)
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return tuple(fold(each, names, depth) for each in node.elts)
    if isinstance(node, ast.UnaryOp):
        return _of_sign(node, names, depth)
    if isinstance(node, ast.BinOp):
        return _of_operation(node, names, depth)
    if isinstance(node, ast.JoinedStr):
        return "".join(_of_part(part, names, depth) for part in node.values)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "torch":
        return node.attr
    if isinstance(node, ast.Call):
        return _of_call(node, names, depth)
    raise Unfoldable


def _of_name(name: str, names: Names, depth: int) -> Any:
    values = {fold(each, names, depth) for each in names.bindings.get(name, ())}
    if len(values) != 1:
        raise Unfoldable
    return values.pop()


def _of_sign(node: ast.UnaryOp, names: Names, depth: int) -> Any:
    value = fold(node.operand, names, depth)
    if isinstance(node.op, ast.Not):
        return not value
    return -value if isinstance(node.op, ast.USub) else +value


def _of_operation(node: ast.BinOp, names: Names, depth: int) -> Any:
    left, right = fold(node.left, names, depth), fold(node.right, names, depth)
    if isinstance(node.op, ast.Pow | ast.LShift) and (abs(left) > 1 << 64 or abs(right) > MOST_BITS):
        raise Unfoldable
    # A text times a number, or formatted to a width, can be made as large as one likes.
    if isinstance(node.op, ast.Mult | ast.Mod) and not (
        isinstance(left, int | float) and isinstance(right, int | float)
    ):
        raise Unfoldable
    return _OPERATORS[type(node.op)](left, right)


def _of_part(part: ast.expr, names: Names, depth: int) -> str:
    return str(fold(part.value if isinstance(part, ast.FormattedValue) else part, names, depth))


def _of_call(node: ast.Call, names: Names, depth: int) -> Any:
    arguments = [fold(each, names, depth) for each in node.args]
    if node.keywords:
        default = next((each.value for each in node.keywords if each.arg == "default"), None)
        if (
            default is not None
            and isinstance(node.func, ast.Name | ast.Attribute)
            and called(node) in ("field", "Field")
        ):
            return fold(default, names, depth)
        raise Unfoldable
    if isinstance(node.func, ast.Name):
        return _CALLS[node.func.id](*arguments)
    if isinstance(node.func, ast.Attribute) and node.func.attr in _METHODS:
        value = fold(node.func.value, names, depth)
        if isinstance(value, str):
            return getattr(value, node.func.attr)(*arguments)
    raise Unfoldable


def called(node: ast.Call) -> str:
    """The last name of what a call calls; empty for a call of something without a name."""
    if isinstance(node.func, ast.Name):
        return node.func.id
    return node.func.attr if isinstance(node.func, ast.Attribute) else ""


class _Folding(ast.NodeTransformer):
    """Replaces what folds by its constant, and remembers the names that are left."""

    def __init__(self, names: Names) -> None:
        self.names, self.left = names, set[str]()

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.expr):
            try:
                return ast.Constant(fold(node, self.names))
            except Unfoldable:
                if isinstance(node, ast.Name):
                    self.left.add(node.id)
        return self.generic_visit(node)


def describe(node: ast.expr, names: Names, *, follow: bool = True) -> Any:
    """A constant, or text that is equal for equal expressions; `follow` adds what its names are bound to."""
    try:
        return fold(node, names)
    except Unfoldable:
        pass
    folding = _Folding(names)
    text = source_of(folding.visit(copy.deepcopy(node)))
    if follow:
        bound = sorted({_bound(name, names) for name in folding.left if name in names.bindings})
        text += "".join(f" where {each}" for each in bound if each)
    return text if len(text) <= MOST_TEXT else text[:MOST_TEXT]


def _bound(name: str, names: Names) -> str:
    """The constants that a name with several bindings may have; what else it is bound to is another setting's matter."""
    values: set[str] = set()
    for each in names.bindings[name]:
        try:
            values.add(repr(fold(each, names)))
        except Unfoldable:
            if isinstance(each, ast.BinOp | ast.Call | ast.IfExp):
                values.add(source_of(each))
    return f"{name} in {sorted(values)}" if values else ""


def source_of(node: ast.AST) -> str:
    """A node as text. An f-string that folds to a backslash has no source in Python 3.11, so its tree stands for it."""
    try:
        return ast.unparse(node)
    except ValueError:
        return ast.dump(node)
