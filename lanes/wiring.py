"""From what is reached to the report: WIRED, NOT WIRED or DUPLICATE, the four status words, and what ends the check.

    EXISTS    the file can be read by Python and holds more than a stub
    TESTED    a test file of its own (one that imports it) passed by itself, and ran lines inside its functions
    WIRED     an entry point reaches one of its parts; see lanes/wiring_graph.py for the rule
    ACTIVE    a real run executed lines inside its functions (any line, where it has none)
    COMPLETE  all four

A word without evidence is None: nothing is estimated (S19-R04, S19-R07, S19-R09).
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence

from manifests.commands import command, literal
from manifests.verify import (
    EntryRow,
    Finding,
    FindingKind,
    ModuleRow,
    StatusWords,
    VerifyReport,
    VerifySettings,
)

from lanes.wiring_duplicates import Copy, copies
from lanes.wiring_graph import Entry, Program, Reach, Source, Wire, importers, reach
from lanes.wiring_headers import Headers, header_findings
from lanes.wiring_language import Said, language_findings


@dataclasses.dataclass(frozen=True)
class Trace:
    """What coverage measured. Lines executed: `active` by path; `tested` by path and then by test file ("": before any).

    `passed`: whether each test file that ran passed, all of it. None: nobody measured.
    """

    active: Mapping[str, frozenset[int]] | None = None
    tested: Mapping[str, Mapping[str, frozenset[int]]] | None = None
    passed: Mapping[str, bool] | None = None


@dataclasses.dataclass(frozen=True)
class Given:
    """Everything a judgement rests on. `taken`: import names of others -> whose; `only`: paths to report, None for all."""

    program: Program
    entries: Sequence[Entry]
    settings: VerifySettings
    hidden: Sequence[Source] = ()
    taken: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])
    trace: Trace = dataclasses.field(default_factory=Trace)
    missing: Sequence[tuple[str, str]] = ()
    only: frozenset[str] | None = None
    headers: Headers | None = None
    read: Mapping[str, Said] | None = None


def matches(source: Source, patterns: Iterable[str]) -> bool:
    """Whether a pattern of [tool.hemma.verify] names this file, by its path (`/` or `.py` in it) or its dotted name."""
    return any(
        fnmatch.fnmatchcase(source.path if "/" in pattern or pattern.endswith(".py") else source.name, pattern)
        for pattern in patterns
    )


def judge(given: Given, root: str, since: str = "") -> VerifyReport:
    """The report over everything given. Pure; equal input, equal output (S19-R03 to S19-R05)."""
    reached = reach(given.program, given.entries)
    found = copies(given.program, given.hidden, reached.wires, given.taken)
    by_path = {copy.source.path: copy for copy in found}
    judged = _Judged(given, reached, by_path)
    sources = [*(each for each in given.program.modules.values() if each.role == "module"), *given.hidden]
    sources = [each for each in sources if given.only is None or each.path in given.only]
    rows = [judged.row(source) for source in sorted(sources, key=lambda each: each.path)]
    findings = [*judged.missing_entries(), *(found for row in rows for found in judged.findings(row))]
    if given.headers is not None:
        findings += header_findings(given.headers, rows)
    if given.read is not None:
        findings += language_findings(given.read, rows)
    names = {row.name for row in rows}
    findings += [found for found in judged.riddles() if found.module in names]
    ok = not any(found.fails for found in findings)
    edges = sorted(edge for edge in reached.edges if edge[0] in names or edge[1] in names)
    return VerifyReport(
        root=root,
        since=since,
        ok=ok,
        counts=_counts(rows, findings),
        entries=tuple(EntryRow(module=e.module, part=e.part, told_by=e.told_by) for e in given.entries),
        modules=tuple(rows),
        findings=tuple(findings),
        edges=tuple(edges),
    )


def _counts(rows: Sequence[ModuleRow], findings: Sequence[Finding]) -> dict[str, int]:
    counts = {"modules": len(rows), "critical": sum(row.critical for row in rows)}
    for status in ("WIRED", "NOT WIRED", "DUPLICATE"):
        counts[status.lower().replace(" ", "_")] = sum(row.status == status for row in rows)
    for word in ("exists", "tested", "active", "complete"):
        said = [value for row in rows if (value := getattr(row.words, word)) is not None]
        if said or not rows:
            counts[word] = sum(said)
    counts["findings"] = len(findings)
    counts["failing"] = sum(found.fails for found in findings)
    return counts


class _Judged:
    def __init__(self, given: Given, reached: Reach, found: Mapping[str, Copy]) -> None:
        self.given = given
        self.reached = reached
        self.copies = found
        self.sources = {each.path: each for each in (*given.program.modules.values(), *given.hidden)}
        self.tests = importers(given.program, tests=True)
        self._code: dict[str, list[tuple[str, int]]] | None = None
        self._for_types: dict[str, str] | None = None

    def _importers(self, name: str) -> list[tuple[str, int]]:
        """Who imports it, tests left out; read only when something is not wired, for it costs as much as all the rest."""
        if self._code is None:
            self._code = importers(self.given.program, tests=False)
        return self._code.get(name, [])

    # --- one module ----------------------------------------------------------------------------------------------

    def row(self, source: Source) -> ModuleRow:
        """The class and the words of one module."""
        copy = self.copies.get(source.path)
        own = self.given.program.modules.get(source.name) is source
        wire = self.reached.wires.get(source.name) if own else None
        status = "DUPLICATE" if copy else "WIRED" if wire else "NOT WIRED"
        tests = self._tests_of(source) if own else ()
        words = self._words(source, wire is not None, tests)
        ran = self._ran(source)
        return ModuleRow(
            name=source.name,
            path=source.path,
            status=status,
            critical=self._critical(source),
            why=copy.why if copy else _how(wire) if wire else self._why_not(source),
            used_by=wire.module if wire else "",
            how=wire.how if wire else "",
            duplicate_of=copy.original if copy else "",
            words=words,
            digest=source.facts.digest,
            test_files=tests,
            lines_active=None if ran is None else len(ran),
        )

    def _critical(self, source: Source) -> bool:
        settings = self.given.settings
        if settings.critical:
            return matches(source, settings.critical)
        return not matches(source, settings.optional)

    def _why_not(self, source: Source) -> str:
        code = self._importers(source.name)
        tests = [name for name, _line in self.tests.get(source.name, ())]
        if not code and tests:
            return f"only tests import it: {_some(tests)}"
        if not code:
            who = self._type_importers().get(source.name)
            return f"only the type checker imports it, in {who}" if who else "nothing imports it"
        live = [(name, line) for name, line in code if name in self.reached.wires]
        if not live:
            return f"only modules that are not wired import it: {_some([name for name, _ in code])}"
        name, line = live[0]
        return f"{self.given.program.modules[name].path}:{line} imports it, and nothing that runs uses the name"

    def _type_importers(self) -> dict[str, str]:
        """Who imports a module for the type checker: module -> the first one."""
        if self._for_types is None:
            self._for_types = {}
            for each in self.given.program.modules.values():
                for target in each.facts.type_only:
                    for name in (target.partition(":")[0], target.replace(":", ".")):
                        self._for_types.setdefault(name, each.name)
        return self._for_types

    # --- words ---------------------------------------------------------------------------------------------------

    def _words(self, source: Source, wired: bool, tests: tuple[str, ...]) -> StatusWords:
        exists = not source.facts.broken and not self._stub(source)
        ran = self._ran(source)
        active = None if ran is None else bool(ran)
        tested = self._tested(source, tests)
        unknown = tested is None or active is None
        complete = None if unknown else bool(exists and tested and wired and active)
        return StatusWords(exists=exists, tested=tested, wired=wired, active=active, complete=complete)

    def _stub(self, source: Source) -> str:
        stub = source.facts.stub
        return "" if stub == "empty" and source.is_package and self.given.settings.allow_empty_init else stub

    def _ran(self, source: Source) -> frozenset[int] | None:
        active = self.given.trace.active
        return None if active is None else _inside(source, active.get(source.path, frozenset()))

    def _tests_of(self, source: Source) -> tuple[str, ...]:
        return _own_tests(self.given.program, self.tests, source.name)

    def _tested(self, source: Source, tests: tuple[str, ...]) -> bool | None:
        trace = self.given.trace
        if trace.tested is None or trace.passed is None:
            return None
        lines = trace.tested.get(source.path, {})
        # A module without functions runs when a test file is read, which is before any test begins.
        at_import = frozenset() if source.facts.inside else lines.get("", frozenset())
        return any(
            trace.passed.get(test, False) and _inside(source, lines.get(test, frozenset()) | at_import)
            for test in tests
        )

    # --- findings ------------------------------------------------------------------------------------------------

    def findings(self, row: ModuleRow) -> list[Finding]:
        """What is to be said about one module."""
        source = self.sources[row.path]
        facts = source.facts
        found: list[Finding] = []
        if facts.broken:
            remedy = command("python -m py_compile {}", row.path)
            found.append(Finding.of(row, "broken", f"Python cannot read it: {facts.broken}", remedy, facts.broken_line))
        elif stub := self._stub(source):
            kind: FindingKind = "empty" if stub == "empty" else "stub" if stub.startswith("stub") else "placeholder"
            found.append(Finding.of(row, kind, stub, _STUB_REMEDY))
        else:
            found += [
                Finding.of(row, "stub-function", f"{name} does nothing", "", line)
                for name, line in facts.stub_functions
            ]
        if row.status == "NOT WIRED":
            found.append(Finding.of(row, "not-wired", row.why, f"use it, remove it, or {_declare(row)}"))
        elif row.status == "DUPLICATE":
            copy = self.copies[row.path]
            kind = "shadow" if copy.kind == "shadow" else "duplicate"
            found.append(Finding.of(row, kind, row.why, f"keep one of the two, rename it, or {_declare(row)}"))
        return found

    def missing_entries(self) -> list[Finding]:
        """Entry points that lead nowhere: the program that they announce cannot start."""
        remedy = "correct the name, or remove the entry"
        return [
            Finding(
                kind="entry-missing", path=told_by, message=f"the entry point {name} leads to no file here",
                remedy=remedy, fails=True,
            )
            for name, told_by in self.given.missing
        ]  # fmt: skip

    def riddles(self) -> list[Finding]:
        """Dynamic imports whose name stands nowhere: what they load is not seen. Declared ones load code of others."""
        sources, declared = self.given.program.modules, self.given.settings.loads_others
        return [
            Finding(
                kind="dynamic", path=sources[module].path, module=module,
                message=f"a dynamic import of {said!r}: the name stands nowhere in this file",
                remedy=command("name what it loads in [tool.hemma.verify] entry, or whose it loads: loads_others = [{}]", literal(module)),
            )
            for module, said in sorted(set(self.reached.unresolved))
            if sources[module].role == "module" and not matches(sources[module], declared)
        ]  # fmt: skip


_STUB_REMEDY = "write what it is for, or remove it until then"


def _declare(row: ModuleRow) -> str:
    return f'declare it: [tool.hemma.verify] optional = ["{row.name}"]'


def _how(wire: Wire) -> str:
    where = f"{wire.module}:{wire.part}" if wire.part else wire.module
    said = {
        "entry": f"entry point: {wire.module}",
        "uses": f"used by {where}",
        "dynamic": f"imported by name in {where}",
        "string": f"named in a string of {where}",
        "package": f"the package of {wire.module}",
    }
    return said[wire.how]


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def own_tests(program: Program) -> Callable[[str], tuple[str, ...]]:
    """Module -> the test files of its own: those that import it."""
    found = importers(program, tests=True)
    return lambda name: _own_tests(program, found, name)


def _own_tests(program: Program, found: Mapping[str, list[tuple[str, int]]], name: str) -> tuple[str, ...]:
    paths = (program.modules[test].path for test, _line in found.get(name, ()))
    return tuple(sorted(path for path in paths if _is_test_file(path)))


def _is_test_file(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.startswith("test_") or name.endswith("_test.py")


def _inside(source: Source, lines: frozenset[int]) -> frozenset[int]:
    """Those of the executed lines that lie in functions; any line where the module has no function."""
    spans = source.facts.inside
    if not spans or not lines:
        return lines
    return frozenset(line for line in lines if any(first <= line <= last for first, last in spans))
