"""From the text of one Python file to its `Facts`: one walk over the tree, nothing is imported and nothing is run.

Scopes are Python's: a parameter that has the name of an imported module hides it, an import inside a function binds there
and nowhere else, a class body is no scope for its methods. So a *use* is a name that really leads to an import (S19-R09).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable

from lanes import wiring_stubs
from lanes.wiring_facts import BODY, MAIN_BLOCK, Facts, Pattern
from lanes.wiring_tree import (
    arguments,
    dotted,
    extended,
    hints,
    is_dunder,
    is_main_test,
    is_type_test,
    pieces,
    short_strings,
)

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DEFINITIONS = (*_FUNCTIONS, ast.ClassDef)
_IMPORTERS = frozenset({"import_module", "importlib.import_module", "__import__", "runpy.run_module", "run_module"})
_LISTERS = frozenset({"pkgutil.iter_modules", "pkgutil.walk_packages", "iter_modules", "walk_packages"})
# What may lead to a module from within a string: `package.module:function`, and the path of a script.
_NAMED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*|[\w./-]+\.py")


class _Scope:
    """A function, lambda or comprehension: what it binds itself, and what it uses of others."""

    __slots__ = ("binds", "is_class", "outer", "parent", "uses")

    def __init__(self, parent: _Scope | None, *, is_class: bool = False) -> None:
        self.parent = parent
        self.binds: dict[str, str | None] = {}
        self.uses: set[str] = set()
        self.outer: set[str] = set()
        self.is_class = is_class


def scan(tree: ast.Module, text: str, name: str, *, is_package: bool = False) -> Facts:
    """The facts of the module `name`, given its source and the syntax tree of it (Python's own parser opens files to say
    what is wrong, so who asks parses). Nested too deep to be walked gives `broken`, never an error.
    """
    facts = Facts()
    walker = _Walker(facts, name if is_package else name.rpartition(".")[0], name)
    try:
        walker.module(tree)
        wiring_stubs.describe(tree, text, facts, is_package=is_package)
    except RecursionError:
        return Facts(broken="nested too deep to be read")
    return facts


class _Walker:
    def __init__(self, facts: Facts, package: str, name: str) -> None:
        self.facts = facts
        self.package = package
        self.name = name
        self.part = BODY
        self.scope = _Scope(None)
        self.module_scope = self.scope
        self.uses: dict[str, set[str]] = {BODY: set()}
        self.kinds: dict[type[ast.AST], Callable[..., None]] = {
            ast.Name: self._name,
            ast.Attribute: self._attribute,
            ast.Import: self._import,
            ast.ImportFrom: self._import_from,
            ast.FunctionDef: self._function,
            ast.AsyncFunctionDef: self._function,
            ast.Lambda: self._lambda,
            ast.ClassDef: self._class,
            ast.ListComp: self._comprehension,
            ast.SetComp: self._comprehension,
            ast.GeneratorExp: self._comprehension,
            ast.DictComp: self._comprehension,
            ast.Call: self._call,
            ast.If: self._if,
            ast.Constant: self._constant,
            ast.List: self._sequence,
            ast.Tuple: self._sequence,
            ast.Global: self._outer,
            ast.Nonlocal: self._outer,
            ast.ExceptHandler: self._handler,
        }

    # --- the module ----------------------------------------------------------------------------------------------

    def module(self, tree: ast.Module) -> None:
        """Walk the whole file, part by part, and note down what was found."""
        for statement in tree.body:
            self.statement(statement)
        self._close_part(BODY)
        facts = self.facts
        for name, target in self.module_scope.binds.items():
            if target is None:
                facts.assigned.append(name)
            else:
                facts.bindings[name] = target
        tops = set(self.uses) - {BODY, MAIN_BLOCK}
        known = facts.bindings.keys() | tops
        keep_all = bool(facts.stars)
        mine = set(facts.assigned)
        for part, chains in self.uses.items():
            facts.uses[part] = sorted(
                chain
                for chain in chains
                if ":" in chain or (head := chain.partition(".")[0]) in known or (keep_all and head not in mine)
            )
        if any(None in found.parts for found in facts.dynamic):
            facts.constants = sorted(short_strings(tree))

    def statement(self, node: ast.stmt) -> None:
        """A statement of the module's body; a definition is a part of its own."""
        if isinstance(node, _DEFINITIONS):
            self._top(node)
        elif isinstance(node, ast.If) and is_main_test(node.test):
            self._in_part(MAIN_BLOCK, node.body)
            for each in node.orelse:
                self.statement(each)
        elif isinstance(node, ast.If | ast.Try | ast.With):
            self._compound(node)
        else:
            self.visit(node)

    def _compound(self, node: ast.If | ast.Try | ast.With) -> None:
        """Definitions below `if`, `try` and `with` of the body are parts as well."""
        if isinstance(node, ast.If):
            self.visit(node.test)
            if is_type_test(node.test):
                self._types_only(node.body)
                for each in node.orelse:
                    self.statement(each)
                return
        for name in node._fields:
            value = getattr(node, name)
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, ast.stmt):
                    self.statement(each)
                elif isinstance(each, ast.ExceptHandler):
                    self._visit_all([each.type] if each.type else [])
                    for inner in each.body:
                        self.statement(inner)
                elif isinstance(each, ast.AST) and not (isinstance(node, ast.If) and name == "test"):
                    self.visit(each)

    def _top(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self.module_scope.uses.update({node.name} if node.decorator_list or is_dunder(node.name) else ())
        self._visit_all(node.decorator_list)
        self.uses.setdefault(node.name, set())
        self._in_part(node.name, [node], decorated=True)

    def _in_part(self, part: str, nodes: Iterable[ast.AST], *, decorated: bool = False) -> None:
        self._close_part(BODY)
        self.part = part
        for node in nodes:
            if decorated and isinstance(node, _FUNCTIONS):
                self._function(node, decorators=False)
            elif decorated and isinstance(node, ast.ClassDef):
                self._class(node, decorators=False)
            else:
                self.visit(node)
        self._close_part(part)
        self.part = BODY

    def _close_part(self, part: str) -> None:
        self.uses.setdefault(part, set()).update(self.module_scope.uses)
        self.module_scope.uses = set()

    # --- nodes ---------------------------------------------------------------------------------------------------

    def visit(self, node: ast.AST) -> None:
        """Walk one node and what is below it."""
        handler = self.kinds.get(type(node))
        if handler is not None:
            handler(node)
            return
        for name in node._fields:
            value = getattr(node, name, None)
            if isinstance(value, list):
                for each in value:
                    if isinstance(each, ast.AST):
                        self.visit(each)
            elif isinstance(value, ast.AST):
                self.visit(value)

    def _visit_all(self, nodes: Iterable[ast.AST]) -> None:
        for node in nodes:
            self.visit(node)

    def _name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.scope.uses.add(node.id)
        else:
            self.scope.binds.setdefault(node.id, None)

    def _attribute(self, node: ast.Attribute) -> None:
        chain = dotted(node)
        if chain:
            self.scope.uses.add(chain)
            return
        self.visit(node.value)

    def _constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, str) and 3 <= len(value) <= 200 and _NAMED.fullmatch(value):
            self.facts.named.setdefault(self.part, []).append(value)

    def _sequence(self, node: ast.List | ast.Tuple) -> None:
        """The items; `"-m", "a.b"` in a row starts a module as a program."""
        before: object = None
        for each in node.elts:
            value = each.value if isinstance(each, ast.Constant) else None
            if before == "-m" and isinstance(value, str):
                self.facts.named.setdefault(self.part, []).append(f"-m {value}")
            before = value
            self.visit(each)

    def _outer(self, node: ast.Global | ast.Nonlocal) -> None:
        self.scope.outer.update(node.names)

    def _handler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self.scope.binds.setdefault(node.name, None)
        self._visit_all([*([node.type] if node.type else []), *node.body])

    def _if(self, node: ast.If) -> None:
        self.visit(node.test)
        if is_type_test(node.test):
            self._types_only(node.body)
        else:
            self._visit_all(node.body)
        self._visit_all(node.orelse)

    def _types_only(self, body: list[ast.stmt]) -> None:
        """Imports for the type checker: noted, never a wire (S19-R09)."""
        for node in body:
            for each in ast.walk(node):
                if isinstance(each, ast.Import):
                    self.facts.type_only += [alias.name for alias in each.names]
                elif isinstance(each, ast.ImportFrom):
                    base = self._absolute(each)
                    self.facts.type_only += [f"{base}:{alias.name}" for alias in each.names]

    # --- imports -------------------------------------------------------------------------------------------------

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.package.split(".") if self.package else []
        base = parts[: len(parts) - node.level + 1] if node.level <= len(parts) + 1 else []
        return ".".join([*base, *([node.module] if node.module else [])])

    def _import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.facts.imports.append((alias.name, node.lineno))
            if alias.asname:
                self._bind(alias.asname, f"{alias.name}:")
            else:
                head = alias.name.partition(".")[0]
                self._bind(head, f"{head}:")

    def _bind(self, name: str, target: str) -> None:
        """Two imports of one name (`try: … except ImportError: …`) are both kept: either may be the one that runs."""
        there = self.scope.binds.get(name)
        if there is None or target in there.split("|"):
            self.scope.binds[name] = there or target
        else:
            self.scope.binds[name] = f"{there}|{target}"

    def _import_from(self, node: ast.ImportFrom) -> None:
        base = self._absolute(node)
        for alias in node.names:
            self.facts.imports.append((f"{base}:{alias.name}", node.lineno))
            if alias.name == "*":
                self.facts.stars.append(base)
            else:
                self._bind(alias.asname or alias.name, f"{base}:{alias.name}")

    # --- scopes --------------------------------------------------------------------------------------------------

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, *, decorators: bool = True) -> None:
        if decorators:
            self._visit_all(node.decorator_list)
            self.scope.binds.setdefault(node.name, None)
        self.facts.inside.append((node.body[0].lineno, node.body[-1].end_lineno or node.body[-1].lineno))
        outside = [*node.args.defaults, *(each for each in node.args.kw_defaults if each), *hints(node)]
        self._visit_all(outside)
        self._scoped(arguments(node.args), node.body)

    def _lambda(self, node: ast.Lambda) -> None:
        self._visit_all([*node.args.defaults, *(each for each in node.args.kw_defaults if each)])
        self._scoped(arguments(node.args), [node.body])

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        values = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        self._scoped([], [*node.generators, *values])

    def _class(self, node: ast.ClassDef, *, decorators: bool = True) -> None:
        if decorators:
            self._visit_all(node.decorator_list)
            self.scope.binds.setdefault(node.name, None)
        self._visit_all([*node.bases, *node.keywords])
        self._scoped([], node.body, is_class=True)

    def _scoped(self, names: Iterable[str], nodes: Iterable[ast.AST], *, is_class: bool = False) -> None:
        parent = self.scope
        scope = self.scope = _Scope(parent, is_class=is_class)
        scope.binds.update(dict.fromkeys(names))
        for node in nodes:
            self.visit(node)
        self.scope = parent
        outer = parent
        # A method does not see the names of its class: what it leaves open goes past it.
        while outer.is_class and not is_class and outer.parent is not None:
            outer = outer.parent
        for chain in scope.uses:
            head, _, rest = chain.partition(".")
            if ":" in chain or head not in scope.binds or head in scope.outer:
                outer.uses.add(chain)
            elif target := scope.binds[head]:
                outer.uses.update(extended(each, rest) for each in target.split("|"))

    # --- dynamic imports -----------------------------------------------------------------------------------------

    def _call(self, node: ast.Call) -> None:
        chain = dotted(node.func)
        if chain and node.args:
            meaning = self._meaning(chain)
            if meaning in _IMPORTERS:
                self._dynamic(node)
            elif meaning in _LISTERS:
                self._listed(node.args[0])
        self.visit(node.func)
        self._visit_all([*node.args, *node.keywords])

    def _meaning(self, chain: str) -> str:
        """The chain with the head that an import gave another name put back: `il.import_module`."""
        head, _, rest = chain.partition(".")
        target = self.scope.binds.get(head) or self.module_scope.binds.get(head)
        return extended(target.partition("|")[0], rest).replace(":", ".").strip(".") if target else chain

    def _dynamic(self, node: ast.Call) -> None:
        parts = self._pieces(node.args[0])
        if parts and isinstance(parts[0], str) and parts[0].startswith("."):
            given = [*node.args[1:2], *(word.value for word in node.keywords if word.arg == "package")]
            package = self._pieces(given[0]) if given else [self.package]
            base = package[0] if package and isinstance(package[0], str) else self.package
            parts = [base + "." + parts[0].lstrip("."), *parts[1:]]
        self.facts.dynamic.append(Pattern(self.part, parts))

    def _listed(self, node: ast.expr) -> None:
        chain = dotted(node) or ""
        if chain == "__path__":
            self.facts.dynamic.append(Pattern(self.part, [self.package], every=True))
        elif chain.endswith(".__path__"):
            self.facts.dynamic.append(Pattern(self.part, [self._meaning(chain.removesuffix(".__path__"))], every=True))

    def _pieces(self, node: ast.expr) -> list[str | None]:
        return pieces(node, {"__package__": self.package, "__name__": self.name})
