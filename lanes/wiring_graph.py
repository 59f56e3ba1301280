"""Which parts of a program its entry points reach, by what the reached parts use (S19-R02, S19-R09).

The rule, precisely. Reaching starts at the entry points. A reached part reaches every top-level function, class or module
that it *uses*: by name, through any chain of re-exports, by a dynamic import whose name can be told, by `module:function`
in a string, or by `-m module`. A module is **wired** when one of its parts is reached; its body and the bodies of
the packages around it then run, and reach on. An import whose name is never used reaches nothing. Decorated
definitions and dunder functions count as used by the body of their module: their caller is not in the text. A module
that is itself passed on as a value, or imported dynamically, is reached with all its parts.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping

from lanes.wiring_facts import BODY, MAIN_BLOCK, Facts, Pattern

ALL = "*"
_LONGEST_CHAIN_OF_REEXPORTS = 40


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """One file of the program: its dotted name, its path from the root with `/`, its facts, and what it is for."""

    name: str
    path: str
    facts: Facts
    is_package: bool = False
    role: str = "module"


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """Where a run begins: a module, the part that is called (ALL for a library, MAIN_BLOCK for a script), and who says so."""

    module: str
    part: str
    told_by: str


@dataclasses.dataclass(frozen=True, slots=True)
class Wire:
    """Why a module is reached: from which module and part, and how (`entry`, `uses`, `dynamic`, `package`, `string`)."""

    module: str
    part: str
    how: str


@dataclasses.dataclass(slots=True)
class Reach:
    """What the entry points reach: the first wire of each module, the parts reached, and dynamic imports nobody can tell."""

    wires: dict[str, Wire]
    parts: set[tuple[str, str]]
    edges: set[tuple[str, str]]
    unresolved: list[tuple[str, str]]


class Program:
    """The files by name, and how a name that one of them imports is found.

    `aliases`: name on another machine -> name here, for code that is sent by value. A file in a folder that is no package
    also finds what lies beside it, as Python does for a script.
    """

    def __init__(self, sources: Iterable[Source], aliases: Mapping[str, str] | None = None) -> None:
        self.modules: dict[str, Source] = {}
        self.by_path: dict[str, Source] = {}
        for source in sources:
            self.modules.setdefault(source.name, source)
            self.by_path[source.path] = source
        self.aliases = dict(aliases or {})
        self._resolved: dict[tuple[str, str], list[tuple[str, str]]] = {}
        self.packages = {".".join(name.split(".")[:n]) for name in self.modules for n in range(1, name.count(".") + 1)}

    def find(self, module: str, home: str) -> str | None:
        """The known module or namespace package that `import module` in the module `home` means; None for a stranger."""
        if module in self.modules or module in self.packages:
            return module
        head, _, rest = module.partition(".")
        if head in self.aliases:
            return self.find(".".join([self.aliases[head], *([rest] if rest else [])]), home)
        folder = home.rpartition(".")[0]
        if folder and folder not in self.modules:
            beside = f"{folder}.{module}"
            return beside if beside in self.modules or beside in self.packages else None
        return None

    def resolve(self, target: str, home: str) -> list[tuple[str, str]]:
        """Each (module, part) that `module:chain` leads to, re-exports on the way included; empty for code of others."""
        folder = home.rpartition(".")[0]
        # Where a file lies matters to a loose one alone: everything else shares its answers.
        key = (target, "" if folder in self.modules else folder)
        known = self._resolved.get(key)
        if known is None:
            known = self._resolved[key] = list(self._steps(target, home))
        return known

    def _steps(self, target: str, home: str) -> Iterator[tuple[str, str]]:
        seen: set[tuple[str, str]] = set()
        todo = [(target, home)]
        while todo and len(seen) < _LONGEST_CHAIN_OF_REEXPORTS:
            target, home = todo.pop()
            base, _, chain = target.partition(":")
            module = self.find(base, home)
            if module is None or (target, home) in seen:
                continue
            seen.add((target, home))
            yield from self._step(module, chain, todo)

    def _step(self, module: str, chain: str, todo: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        head, _, rest = chain.partition(".")
        below = f"{module}.{head}"
        source = self.modules.get(module)
        if not head:
            yield module, ALL
            return
        facts = source.facts if source else Facts()
        # `from . import part` in a package binds the submodule itself.
        bound = [each for each in facts.bindings.get(head, "").split("|") if each and each != f"{module}:{head}"]
        if bound:
            yield module, BODY
            todo += [(_extended(each, rest), module) for each in bound]
        if head in facts.uses and head not in (BODY, MAIN_BLOCK):
            yield module, head
        elif not bound and (below in self.modules or below in self.packages):
            todo.append((f"{below}:{rest}", below))
        elif not bound and source:
            yield module, "__getattr__" if "__getattr__" in facts.uses else BODY
            if head not in facts.assigned:
                todo += [(f"{star}:{chain}", module) for star in facts.stars]

    def chain(self, module: str, chain: str) -> list[tuple[str, str]]:
        """Each (module, part) that a use in `module` leads to: a chain of names there, or a whole target."""
        if ":" in chain:
            return self.resolve(chain, module)
        facts = self.modules[module].facts
        head, _, rest = chain.partition(".")
        own = [(module, head)] if head in facts.uses else []
        bound = facts.bindings.get(head)
        if bound is not None:
            for target in bound.split("|"):
                own = [*own, *self.resolve(_extended(target, rest), module)]
            return own
        if not own:
            for star in facts.stars:
                found = self.find(star, module)
                if found is not None and self._has(found, head):
                    own += self.resolve(f"{star}:{chain}", module)
        return own

    def _has(self, module: str, name: str) -> bool:
        source = self.modules.get(module)
        if source is None:
            return False
        facts = source.facts
        return name in facts.uses or name in facts.bindings or name in facts.assigned or bool(facts.stars)

    def matching(self, pattern: Pattern, constants: Iterable[str]) -> list[str]:
        """The modules that a dynamic import may name: its holes are filled with strings that stand in the same file."""
        if pattern.every:
            prefix = f"{pattern.parts[0]}."
            return [name for name in self.modules if name.startswith(prefix)]
        if None not in pattern.parts:
            whole = "".join(part for part in pattern.parts if part is not None)
            return [whole] if whole in self.modules else []
        shape = re.compile("".join("(.+?)" if part is None else re.escape(part) for part in pattern.parts))
        known = set(constants)
        known |= {text.lstrip(".") for text in known if text.startswith(".")}
        found = ((name, shape.fullmatch(name)) for name in self.modules)
        return [name for name, fits in found if fits and all(group in known for group in fits.groups())]


def _extended(target: str, rest: str) -> str:
    if not rest:
        return target
    return target + rest if target.endswith(":") else f"{target}.{rest}"


def reach(program: Program, entries: Iterable[Entry]) -> Reach:
    """Everything that the entries reach in `program`, nearest first (S19-R09)."""
    return _Reaching(program).run(entries)


class _Reaching:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.found = Reach({}, set(), set(), [])
        self.todo: list[tuple[str, str]] = []

    def run(self, entries: Iterable[Entry]) -> Reach:
        for entry in entries:
            if entry.module in self.program.modules:
                self._add(entry.module, entry.part, Wire(entry.told_by, "", "entry"))
                if entry.part == ALL:
                    self._exported(entry.module)
        # Breadth first: the first wire of a module is on a shortest way from an entry point.
        at = 0
        while at < len(self.todo):
            self._follow(*self.todo[at])
            at += 1
        return self.found

    def _exported(self, module: str) -> None:
        """A library as entry point: what it binds is what others call."""
        source = self.program.modules[module]
        bound = [target for targets in source.facts.bindings.values() for target in targets.split("|")]
        for target in [*bound, *(f"{star}:" for star in source.facts.stars)]:
            for found, part in self.program.resolve(target, module):
                self._add(found, part, Wire(module, BODY, "uses"))

    def _add(self, module: str, part: str, wire: Wire) -> None:
        source = self.program.modules.get(module)
        if wire.how != "entry" and wire.module != module:
            self.found.edges.add((wire.module, module))
        if (module, part) in self.found.parts:
            return
        self.found.parts.add((module, part))
        self.found.wires.setdefault(module, wire)
        self.todo.append((module, part))
        if source is not None and part == ALL:
            for each in source.facts.uses:
                if each != MAIN_BLOCK:
                    self._add(module, each, wire)
        elif part != BODY:
            self._add(module, BODY, wire)
        parent = module.rpartition(".")[0]
        if parent and (parent, BODY) not in self.found.parts:
            self._add(parent, BODY, Wire(module, "", "package"))

    def _follow(self, module: str, part: str) -> None:
        source = self.program.modules.get(module)
        if source is None or part == ALL:
            return
        facts = source.facts
        for chain in facts.uses.get(part, ()):
            for found, reached in self.program.chain(module, chain):
                self._add(found, reached, Wire(module, part, "uses"))
        for text in facts.named.get(part, ()):
            self._named(module, part, text)
        for pattern in facts.dynamic:
            if pattern.part == part:
                self._dynamic(module, pattern, facts)

    def _named(self, module: str, part: str, text: str) -> None:
        wire = Wire(module, part, "string")
        program = self.program
        if text.startswith("-m "):
            name = text.removeprefix("-m ")
            for started in (f"{name}.__main__", name):
                if started in program.modules:
                    self._add(started, MAIN_BLOCK, wire)
                    return
        elif ":" in text:
            name, _, function = text.partition(":")
            found = program.find(name, module)
            if found in program.modules and function in program.modules[found].facts.uses:
                self._add(found, function, wire)
        else:
            folder = program.modules[module].path.rpartition("/")[0]
            for path in (text, f"{folder}/{text}"):
                if path in program.by_path and program.by_path[path].role == "module":
                    self._add(program.by_path[path].name, MAIN_BLOCK, wire)

    def _dynamic(self, module: str, pattern: Pattern, facts: Facts) -> None:
        found = self.program.matching(pattern, facts.constants)
        for name in found:
            self._add(name, ALL, Wire(module, pattern.part, "dynamic"))
        # A constant name of somebody else's library is no riddle; a hole that nothing here fills is one.
        if not found and None in pattern.parts:
            said = "".join("{…}" if part is None else part for part in pattern.parts)
            self.found.unresolved.append((module, said))


def importers(program: Program, *, tests: bool) -> dict[str, list[tuple[str, int]]]:
    """Which tests, or which other files, import each module anywhere in their text, used or not: module -> (name, line)."""
    found: dict[str, dict[str, int]] = {}
    for source in program.modules.values():
        if (source.role == "test") is not tests:
            continue
        for target, line in source.facts.imports:
            for module in _imported(program, target, source.name):
                if module != source.name:
                    found.setdefault(module, {}).setdefault(source.name, line)
    return {module: sorted(where.items()) for module, where in found.items()}


def _imported(program: Program, target: str, home: str) -> set[str]:
    base, _, name = target.partition(":")
    module = program.find(base, home)
    if module is None:
        return set()
    if name and name != "*":
        return {module, *(found for found, _part in program.resolve(target, home))}
    return {module}
