"""`hemma verify` on trees whose truth is known, on packages of others, and on itself."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import grimp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.cli import app
from controller.flows import verify as flow
from controller.flows import verify_scan, verify_sources
from lanes.wiring_facts import from_row
from lanes.wiring_graph import Program
from manifests.errors import UsageError
from manifests.verify import VerifyReport, VerifySettings
from tests.verify_trees import TREES, Tree

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEMMA_CACHE_DIR", str(tmp_path / "cache"))


def verified(folder: Path, **more: object) -> VerifyReport:
    return flow.verify(flow.Request(str(folder), **more))  # type: ignore[arg-type]


# --- planted facts ---------------------------------------------------------------------------------------------------


@pytest.mark.req("S19-R02", "S19-R03", "S19-R09", "S2-R01", "S2-R02", "C19")
@pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.name)
def test_every_planted_fact_is_found_and_nothing_else(tree: Tree, tmp_path: Path) -> None:
    report = verified(tree.plant(tmp_path / "repo"))
    said = {row.path if row.status == "DUPLICATE" else row.name: row.status for row in report.modules}
    assert said == tree.statuses
    reasons = {row.path if row.status == "DUPLICATE" else row.name: row.why for row in report.modules}
    assert {name: reasons[name] for name in tree.reasons} == tree.reasons
    others = {
        (f.kind, f.path) for f in report.findings if f.fails and f.kind not in ("not-wired", "duplicate", "shadow")
    }
    assert others == set(tree.findings)


def test_the_trees_plant_every_kind_of_fact() -> None:
    assert {status for tree in TREES for status in tree.statuses.values()} == {"WIRED", "NOT WIRED", "DUPLICATE"}
    kinds = {kind for tree in TREES for kind, _where in tree.findings}
    assert kinds == {"empty", "stub", "placeholder", "broken", "entry-missing"}


@pytest.mark.req("S19-R05")
def test_only_a_critical_module_ends_the_check(tmp_path: Path) -> None:
    unwired = next(tree for tree in TREES if tree.name == "unwired")
    folder = unwired.plant(tmp_path)
    assert not verified(folder).ok
    project = folder / "pyproject.toml"
    text = project.read_text()
    project.write_text(text + '[tool.hemma.verify]\ncritical = ["app.work", "app/cli.py"]\n')
    report = verified(folder)
    assert (report.ok, report.counts["critical"], report.counts["not_wired"]) == (True, 2, 8)
    project.write_text(text + '[tool.hemma.verify]\noptional = "app.[!l]*"\n')
    assert [f.module for f in verified(folder).findings if f.fails] == ["app.lonely", "app.lonely_friend"]


@pytest.mark.req("S2-R03")
def test_a_changed_file_is_read_again_and_a_kept_scan_says_the_same(tmp_path: Path) -> None:
    folder = next(tree for tree in TREES if tree.name == "lazy").plant(tmp_path / "repo")
    for path in folder.rglob("*.py"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    first = verified(folder)
    assert list((tmp_path / "cache/verify").iterdir())
    assert verified(folder) == first
    (folder / "app/inside.py").write_text("def run():\n    return 1\n")
    now = {row.name: row.status for row in verified(folder).modules}
    assert (now["app.inside"], now["app.fast"], now["app.slow"]) == ("WIRED", "NOT WIRED", "NOT WIRED")
    for kept in (tmp_path / "cache/verify").iterdir():
        kept.write_text('{"files": 1')
    assert verified(folder).counts == verified(folder).counts


def test_many_files_are_scanned_by_children_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = next(tree for tree in TREES if tree.name == "dynamic").plant(tmp_path / "repo")
    alone = verified(folder)
    monkeypatch.setattr(verify_scan, "_MANY", 2)
    monkeypatch.setenv("HEMMA_CACHE_DIR", str(tmp_path / "another"))
    assert verified(folder) == alone


@pytest.mark.req("S19-R03")
def test_who_loads_the_code_of_others_says_so_and_is_not_warned_of(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/__init__.py").write_text('"""The app."""\n')
    (tmp_path / "app/cli.py").write_text(
        "import importlib\n\n\ndef main(theirs):\n    importlib.import_module(theirs).run()\n"
    )
    project = '[project]\nname = "app"\nversion = "1"\n[project.scripts]\napp = "app.cli:main"\n'
    (tmp_path / "pyproject.toml").write_text(project)
    (warned,) = verified(tmp_path).findings
    assert (warned.kind, warned.module, warned.fails) == ("dynamic", "app.cli", False)
    assert "loads_others = ['app.cli']" in warned.remedy
    (tmp_path / "pyproject.toml").write_text(project + '[tool.hemma.verify]\nloads_others = "app.*"\n')
    assert verified(tmp_path).findings == ()


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ('entrys = ["a"]', "did you mean `entry`"),
        ("sent = 3", "`sent`"),
        ('allow_empty_init = "yes"', "`allow_empty_init`"),
        ('entry = [""]', "`entry.0`"),
    ],
)
def test_a_slip_in_the_settings_is_named(section: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(f"[tool.hemma.verify]\n{section}\n")
    with pytest.raises(UsageError) as refused:
        verified(tmp_path)
    assert said in refused.value.message


def test_declared_modules_that_are_nowhere_are_said(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.hemma.verify]\nentry = ["gone"]\nsent = "lost as x"\n')
    (tmp_path / "here.py").write_text("VALUE = 1\n")
    found = {f.message: f.kind for f in verified(tmp_path).findings if f.kind == "entry-missing"}
    assert len(found) == 2
    assert not verified(tmp_path).ok


@pytest.mark.req("S2-R01", "C19")
def test_an_empty_init_may_be_allowed(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.hemma.verify]\nallow_empty_init = true\n")
    (tmp_path / "a").mkdir()
    (tmp_path / "a/__init__.py").write_text("")
    assert verified(tmp_path).ok
    (tmp_path / "pyproject.toml").write_text("")
    assert [f.kind for f in verified(tmp_path).findings] == ["empty"]


# --- other people's code ---------------------------------------------------------------------------------------------


def installed(package: str, folder: Path) -> Path:
    """A copy of an installed pure-Python package as a repository of its own, with what its metadata says of scripts."""
    found = importlib.util.find_spec(package)
    assert found is not None
    assert found.origin is not None
    shutil.copytree(Path(found.origin).parent, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "{package}"\nversion = "1"\n[tool.hemma.verify]\nentry = "{package}"\n'
    )
    return folder


# What is not wired there with the package's own __init__ as the only entry point, and why that is true. Names, not counts:
# they say the same of several releases. Each would be declared by its maintainers: [tool.hemma.verify] entry = ["click.testing"].
OTHERS = {
    # Offered under its full name to those who test their own commands; nothing inside takes anything from it.
    "click": {"click.testing"},
    # A class for those who keep a file open; the same.
    "tomlkit": {"tomlkit.toml_file"},
    # The deprecated name of a pattern class: `patterns/__init__` still imports it for old users, and nothing uses the name.
    "pathspec": {"pathspec.patterns.gitwildmatch"},
}


@pytest.mark.req("S19-R03", "S19-R09")
@pytest.mark.parametrize("package", OTHERS)
def test_packages_of_others_are_judged_as_a_reader_would(package: str, tmp_path: Path) -> None:
    report = verified(installed(package, tmp_path))
    assert {row.name for row in report.modules if row.status != "WIRED"} == OTHERS[package]
    declared = ", ".join(f'"{name}"' for name in [package, *sorted(OTHERS[package])])
    project = tmp_path / "pyproject.toml"
    project.write_text(f'[project]\nname = "{package}"\n[tool.hemma.verify]\nentry = [{declared}]\n')
    assert {row.status for row in verified(tmp_path).modules} == {"WIRED"}


@pytest.mark.parametrize("package", ["click", "tomlkit", "pathspec", "typer", "rich", "grimp"])
def test_every_import_that_grimp_sees_is_seen(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An oracle of other hands: the edges of grimp's graph are exactly the imports noted here, types included."""
    folder = installed(package, tmp_path)
    graph = grimp.build_graph(package, cache_dir=None)
    theirs = {(a, b) for a in graph.modules for b in graph.find_modules_directly_imported_by(a)}
    found = verify_sources.collect(str(folder), VerifySettings())
    program = Program(found.sources)
    assert {source.name for source in found.sources} == graph.modules
    ours = {
        (source.name, module)
        for source in found.sources
        for target in [*(target for target, _line in source.facts.imports), *source.facts.type_only]
        if (module := nearest(target, program)) and module != source.name
    }
    assert ours == {edge for edge in theirs if edge[0] != edge[1]}


def nearest(target: str, program: Program) -> str | None:
    """The module that an import statement names, as grimp counts: the submodule when there is one, else the module."""
    base, _, name = target.partition(":")
    below = f"{base}.{name}"
    return below if name and below in program.modules else base if base in program.modules else None


# --- this repository -------------------------------------------------------------------------------------------------


def test_the_tables_of_this_repository_are_followed() -> None:
    """The verbs of the command line are imported by a name that is made of a table: each is wired through it."""
    report = verified(ROOT)
    rows = {row.name: row for row in report.modules}
    for module in app.MODULES:
        assert (rows[f"controller.cli.{module}"].status, rows[f"controller.cli.{module}"].how) in {
            ("WIRED", "dynamic"),
            ("WIRED", "uses"),
        }
    assert rows["lanes.verdict"].status == "WIRED"
    assert not [
        f for f in report.findings if f.kind in ("empty", "stub", "placeholder", "broken", "duplicate", "shadow")
    ]


HOSTILE = {
    "NUL": "x = 1\0",
    "deep": "(" * 5000 + ")" * 5000,
    "deep attributes": "x" + ".a" * 20000,
    "deep sums": "x = " + "1+" * 20000 + "1",
    "tabs": "if x:\n\ty\n        z\n",
    "unfinished": "def f(",
    "old": "print 'hello'",
    "other coding": "# -*- coding: no-such-code -*-\n",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_file_that_python_cannot_read_is_a_finding_and_no_surprise(text: str, tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(text)
    (tmp_path / "bytes.py").write_bytes(b"x = '\xff'\n")
    report = verified(tmp_path)
    assert not report.ok
    kinds = {f.path: f.kind for f in report.findings if f.kind == "broken"}
    assert kinds in ([BOTH, {"bytes.py": "broken"}] if text in READABLE else [BOTH])


BOTH = {"odd.py": "broken", "bytes.py": "broken"}
# What some release of Python reads after all.
READABLE = {HOSTILE["deep attributes"], HOSTILE["deep sums"]}


@given(st.text(max_size=200))
def test_any_text_gives_facts(text: str) -> None:
    facts = verify_scan.facts_of(text, "a.b", is_package=True)
    assert from_row(facts.as_row()) == facts
