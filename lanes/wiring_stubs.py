"""What a file holds besides its imports: is it empty, a stub or a placeholder (S2-R01, S2-R02), and what would make it a copy.

A function is a stub when its body, after the docstring, is only `pass`, `...`, a bare `return` or `raise NotImplementedError`.
Overloads, abstract methods, methods of protocols and of classes that say `ABC` are how Python declares, and no stubs.
"""

from __future__ import annotations

import ast
import hashlib
import re

from lanes.wiring_facts import Facts

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DECLARING = frozenset(
    {"overload", "abstractmethod", "abstractproperty", "abstractclassmethod", "abstractstaticmethod"}
)
_DECLARING_BASES = frozenset({"Protocol", "ABC", "ABCMeta"})
_COMMENT = re.compile(r"#[^\n]*")
_MARKER = re.compile(r"\b(?:TODO|FIXME|XXX|TBD|placeholder|not implemented|coming soon)\b", re.IGNORECASE)


def describe(tree: ast.Module, text: str, facts: Facts, *, is_package: bool) -> None:
    """Fill in `stub`, `stub_functions`, `public`, `digest` and `bodies` of the facts of one file."""
    lines = text.splitlines(keepends=True)
    functions, stubs = _functions(tree)
    facts.stub_functions = [(node.name, node.lineno) for node in stubs]
    facts.stub = _judged(tree, text, len(functions), len(stubs), is_package=is_package)
    bodies: list[str] = []
    for node in tree.body:
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)) and not node.name.startswith("_"):
            facts.public[node.name] = _signature(node)
            bodies.append(_squeezed("".join(lines[node.lineno - 1 : node.end_lineno])))
    squeezed = _squeezed(text)
    if functions or len(tree.body) >= 3:
        facts.digest = _digest(squeezed)
    if bodies:
        facts.bodies = _digest("\0".join(sorted(bodies)))


def _functions(tree: ast.Module) -> tuple[list[ast.AST], list[ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Functions and methods that are no declarations, and the stubs among them."""
    every: list[ast.AST] = []
    stubs: list[ast.FunctionDef | ast.AsyncFunctionDef] = []
    rest: list[ast.stmt] = list(tree.body)
    while rest:
        node = rest.pop()
        if isinstance(node, ast.ClassDef):
            bases = {_last(base) for base in [*node.bases, *(word.value for word in node.keywords)]}
            if not bases & _DECLARING_BASES:
                rest += node.body
        elif isinstance(node, _FUNCTIONS):
            if not {_last(mark) for mark in node.decorator_list} & _DECLARING:
                every.append(node)
                if _is_stub(node.body):
                    stubs.append(node)
        elif isinstance(node, ast.If | ast.Try):
            rest += [each for each in ast.iter_child_nodes(node) if isinstance(each, ast.stmt)]
    return every, sorted(stubs, key=lambda each: each.lineno)


def _is_stub(body: list[ast.stmt]) -> bool:
    return all(
        isinstance(node, ast.Pass)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or (isinstance(node, ast.Return) and node.value is None)
        or (isinstance(node, ast.Raise) and node.exc is not None and _last(node.exc) == "NotImplementedError")
        for node in body
    )


def _judged(tree: ast.Module, text: str, functions: int, stubs: int, *, is_package: bool) -> str:
    """Why the file is empty, a stub or a placeholder; nothing when it is neither."""
    documented = ast.get_docstring(tree) is not None
    body = tree.body[1:] if documented else tree.body
    real = [node for node in body if not isinstance(node, ast.Pass) and not _is_only_future(node)]
    if not tree.body:
        return "placeholder: comments only" if text.strip() else "empty"
    if functions and stubs == functions and not _does_more(real):
        return f"stub: {'its one function does' if functions == 1 else f'all {functions} functions do'} nothing"
    if real or (is_package and documented):
        return ""
    return (
        "placeholder: says what it will do, does nothing" if _MARKER.search(text) else "stub: nothing but a docstring"
    )


def _does_more(body: list[ast.stmt]) -> bool:
    """Whether something stands beside the definitions and the imports: a table of data is content."""
    beside = (ast.Import, ast.ImportFrom, ast.ClassDef, *_FUNCTIONS)
    return any(not isinstance(node, beside) and not _is_export_list(node) for node in body)


def _is_export_list(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and any(_last(target) == "__all__" for target in node.targets)


def _is_only_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def _last(node: ast.expr) -> str:
    """The last word of `a.b.c`, `c[...]` or `c(...)`."""
    while isinstance(node, ast.Subscript | ast.Call):
        node = node.value if isinstance(node, ast.Subscript) else node.func
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> str:
    if isinstance(node, ast.ClassDef):
        return "class " + ",".join(sorted(each.name for each in node.body if isinstance(each, _FUNCTIONS)))
    given = node.args
    names = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return "def " + ",".join([*names, *(f"*{each.arg}" for each in (given.vararg, given.kwarg) if each)])


def _squeezed(text: str) -> str:
    """The text without comments and white space: what is left is the same for two copies that were formatted apart."""
    return "".join(_COMMENT.sub("", text).split())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
