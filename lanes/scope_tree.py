"""Where a node of a Python text stands: its parents, its names, what is imported; and what it is called."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from lanes.scope_fold import Names, Unfoldable, called, describe, fold

Act = tuple[str, str]

# Names of texts and lists of words, whose cutting takes no row away.
QUIET = re.compile(
    r"(path|name|file|url|argv|version|line|key|prefix|suffix|word|arg|args|env|tag|stem|digest|sha|hash|msg|message|error|log|title|lines|parts|trace|traceback)$"
)
TELLS = frozenset(("print", "info", "debug", "warning", "error", "exception", "write", "repr", "log_text", "fail"))


class Script:
    """A text's names, what it imports, the parent of each node, and its reward functions."""

    def __init__(self, tree: ast.AST, names: Names, parents: dict[ast.AST, ast.AST]) -> None:
        self.names, self.parents = names, parents
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


def root_of(


def last_name(


def keywords_of(


def is_text(


def named_by_getattr(


def is_told(


def is_quiet(
