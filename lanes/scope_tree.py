"""Where a node of a Python text stands: its parents, its names, what is imported; and what it is called."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from lanes.scope_fold import Names, Unfoldable, called, describe, fold

Act = tuple[str, str]

# Names of texts and lists of words, whose cutting takes no row away.
_QUIET = re.compile(
    r"(path|name|names|file|files|url|argv|version|line|key|keys|prefix|suffix|word|arg|args|env|tag|stem|digest|sha|hash|msg|"
    r"message|error|log|title|lines|parts|trace|traceback|columns|column_names|modules|parameters|named_parameters|named_modules)$"
)
_TELLS = frozenset(("print", "info", "debug", "warning", "error", "exception", "write", "repr", "log_text", "fail"))


class Script:
    """A text's names, what it imports, the parent of each node, and its reward functions."""

    def __init__(self, tree: ast.AST, names: Names) -> None:
        self.names = names
        self.parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        self.imported: set[str] = set()
        self.rewards: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                self.imported |= {(each.asname or each.name).partition(".")[0] for each in node.names}
            elif isinstance(node, ast.keyword) and node.arg in ("reward_funcs", "compute_metrics", "compute_loss_func"):
                self.rewards |= {each.id for each in ast.walk(node.value) if isinstance(each, ast.Name)}

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """The nodes around one, innermost first."""
        while node in self.parents:
            node = self.parents[node]
            yield node

    def text(self, node: ast.expr) -> str:
        """An expression as text, its constants folded."""
        return str(describe(node, self.names))

    def is_text(self, node: ast.expr) -> bool:
        """Whether an expression folds to a text."""
        try:
            return isinstance(fold(node, self.names), str)
        except Unfoldable:
            return False

    def is_constant(self, node: ast.expr) -> bool:
        """Whether an expression folds to any constant."""
        try:
            fold(node, self.names)
        except Unfoldable:
            return False
        return True

    def is_told(self, node: ast.AST) -> bool:
        """Whether a node stands in what is only printed, raised or formatted."""
        return any(
            called(each) in _TELLS
            if isinstance(each, ast.Call)
            else isinstance(each, ast.JoinedStr | ast.Raise | ast.Assert)
            for each in self.above(node)
        )

    def arguments(self, node: ast.Call) -> str:
        """All arguments of a call as text, keywords by name."""
        words = sorted(f"{each.arg or '**'}={self.text(each.value)}" for each in node.keywords)
        return ", ".join([*(self.text(each) for each in node.args), *words])

    def name_of(self, node: ast.Call) -> str:
        """What a call calls, also through `getattr(rows, "select")(…)`; `exec` when that cannot be known."""
        inner = node.func if isinstance(node.func, ast.Call) else node
        if called(inner) != "getattr" or len(inner.args) < 2:
            return called(node)
        try:
            value = fold(inner.args[1], self.names)
        except Unfoldable:
            return "exec"
        return str(value) if inner is not node else ""


def is_quiet(node: ast.expr) -> bool:
    """Whether an expression is a path, a message, or a list of names."""
    return bool(_QUIET.search(last_name(node).lower()))


def root_of(node: ast.expr) -> str:
    """The first name of `a.b.c()`."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def last_name(node: ast.expr) -> str:
    """The name nearest to the end of an expression; of a call, that of what it calls."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Call):
        return last_name(node.func)
    return last_name(node.value) if isinstance(node, ast.Subscript) else ""
