"""The scan of one file: whatever stands in it, and what its pieces mean."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanes.wiring_facts import Facts, from_row
from lanes.wiring_graph import ALL, Entry, Program, Source, reach
from lanes.wiring_scan import scan as scan_tree


def scan(text: str, name: str, *, is_package: bool = False) -> Facts:
    return scan_tree(ast.parse(text), text, name, is_package=is_package)


HOSTILE = {
    "deep attributes": "x" + ".a" * 900,
    "deep sums": "x = " + "1+" * 900 + "1",
    "deep ifs": "".join(" " * n + "if x:\n" for n in range(90)) + " " * 90 + "import a",
    "odd characters": "ª = 'x'\nimport ﬁle as ſ\n",
    "too far up": "from ..... import x\nx()",
    "starred": "from . import *",
    "shadowed": "import x\ndel x\nx = x\n",
    "matched": "match x:\n  case {'a': y, **z}: y\n  case [p, *q]: q\n",
    "walrus": "[y := x for x in (z := [])]",
    "nothing": "",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_tree_is_a_surprise(text: str) -> None:
    facts = scan(text, "a.b", is_package=True)
    assert from_row(facts.as_row()) == facts


LINES = st.sampled_from(
    [
        "import m{n}",
        "import m{n} as x",
        "from m{n} import f",
        "from m{n} import f as y",
        "x.f()",
        "f()",
        "y",
        "m{n}.f()",
        "f = 1",
    ]
)


@given(st.lists(st.tuples(LINES, st.integers(0, 3)), max_size=12))
def test_what_runs_through_an_import_is_wired(lines: list[tuple[str, int]]) -> None:
    """The oracle is Python: modules whose function really ran are wired, whatever the order of imports and uses."""
    body = [line.format(n=number) for line, number in lines]
    ran: set[int] = set()

    class Module:
        def __init__(self, number: int) -> None:
            self.f = lambda: ran.add(number)

    names: dict[str, object] = {"__builtins__": {"__import__": lambda name, *_: Module(int(name[1:]))}}
    for line in body:
        try:
            exec(line, names)
        except (NameError, TypeError, AttributeError):
            body = [each for each in body if each is not line]
    sources = [Source(f"m{n}", f"m{n}.py", scan("def f():\n    pass\n", f"m{n}")) for n in range(4)]
    sources.append(Source("main", "main.py", scan("\n".join(body), "main")))
    reached = reach(Program(sources), [Entry("main", ALL, "test")])
    wired = {int(name[1:]) for name in reached.wires if name != "main"}
    assert ran <= wired
