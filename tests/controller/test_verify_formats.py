"""The forms of a verify report: each is what its reader parses, whatever the names in it hold."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from controller.reports import verify_formats, verify_map, verify_table
from manifests.verify import EntryRow, Finding, ModuleRow, StatusWords, VerifyReport
from tests.verify_trees import TREES

HOSTILE = "a<b>&\"'%::\n\x1b[31m\ud800é,line=9"


def report(name: str = "app.one") -> VerifyReport:
    def row(each: str, status: str) -> ModuleRow:
        words = StatusWords(exists=True, wired=status == "WIRED")
        return ModuleRow(name=each, path=f"{each}.py", status=status, words=words, why=name)  # type: ignore[arg-type]

    bad = Finding(kind="not-wired", path=f"{name}.py", line=3, module=name, message=name, remedy=name, fails=True)
    lost = Finding(kind="entry-missing", path="pyproject.toml", message=f"{name} is nowhere", fails=True)
    note = Finding(kind="stub-function", path="b.py", module="b", message="later does nothing")
    return VerifyReport(
        root=name,
        ok=False,
        counts={"modules": 2, "critical": 2, "wired": 1, "not_wired": 1, "duplicate": 0, "findings": 3, "failing": 2},
        entries=(),
        modules=(row(name, "NOT WIRED"), row("b", "WIRED")),
        findings=(bad, lost, note),
        edges=(("b", name),),
    )


@pytest.mark.parametrize("name", ["app.one", HOSTILE])
def test_junit_has_a_case_per_module_and_counts_what_it_holds(name: str) -> None:
    suite = ET.fromstring(verify_formats.junit(report(name)))
    cases = suite.findall("testcase")
    failed = [case for case in cases if case.find("failure") is not None]
    assert (suite.get("tests"), suite.get("failures"), len(cases), len(failed)) == ("3", "2", 3, 2)
    assert {case.get("file") for case in cases} >= {"b.py", "pyproject.toml"}


@pytest.mark.parametrize("name", ["app.one", HOSTILE])
def test_every_annotation_is_one_line_that_github_reads(name: str) -> None:
    lines = verify_formats.github(report(name)).split("\n")
    assert len(lines) == 5  # three findings, the sum, and what follows the last line end
    shape = re.compile(r"::(error|warning|notice) file=[^:,]+,line=[1-9]\d*,title=[^:,]+::.+")
    assert [bool(shape.fullmatch(line)) for line in lines[:3]] == [True] * 3
    assert [line.split(" ")[0] for line in lines[:3]] == ["::error", "::error", "::notice"]


@pytest.mark.parametrize("name", ["app.one", HOSTILE])
def test_page_and_map_are_well_formed_and_show_names_as_text(name: str) -> None:
    drawn = ET.fromstring(verify_map.svg(report(name)))
    assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
    boxes = drawn.findall(".//{http://www.w3.org/2000/svg}rect")
    assert len(boxes) == 2
    assert "vm-bad" in "".join(box.get("class", "") for box in boxes)
    page = verify_formats.page(report(name))
    assert "<b>&" not in page
    assert page.startswith("<!doctype html>")


def test_a_large_map_stays_readable() -> None:
    rows = tuple(
        ModuleRow(
            name=f"p{n % 60}.s{n % 7}.m{n}", path=f"m{n}.py", status="WIRED", words=StatusWords(exists=True, wired=True)
        )
        for n in range(3000)
    )
    many = report().model_copy(
        update={"modules": rows, "edges": tuple((a.name, b.name) for a, b in itertools.pairwise(rows))}
    )
    drawn = ET.fromstring(verify_map.svg(many))
    assert len(drawn.findall(".//{http://www.w3.org/2000/svg}rect")) == 60


@pytest.mark.parametrize(("count", "said"), [(0, "0 of 1 module wired"), (1, "0 of 2 modules wired")])
def test_one_is_one_and_two_are_two(count: int, said: str) -> None:
    one = report()
    counts = {**one.counts, "modules": count + 1, "wired": 0}
    point = EntryRow(module="b", part="", told_by="x")
    summary = verify_table.summary(one.model_copy(update={"counts": counts, "entries": (point,) * (count + 1)}))
    assert summary.startswith(said)
    assert summary.endswith("; 1 entry point" if count == 0 else "; 2 entry points")
    failing = one.model_copy(update={"counts": {**one.counts, "failing": count + 1}})
    assert verify_formats.github(failing).endswith(
        "1 finding fails the check\n" if count == 0 else "2 findings fail the check\n"
    )
    nothing = one.model_copy(update={"counts": {**one.counts, "modules": 0}, "since": "main"})
    assert verify_table.summary(nothing) == "no module changed since main"


# --- the command line ------------------------------------------------------------------------------------------------

COMMAND = "import sys; from controller.cli import app; app.MODULES.setdefault('verify', ('verify',)); sys.exit(app.main(sys.argv[1:]))"


def hemma(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    root = Path(__file__).resolve().parent.parent.parent
    return subprocess.run(
        [sys.executable, "-c", COMMAND, "verify", str(folder), *arguments],
        capture_output=True,
        cwd=root,
        env={"PATH": "/usr/bin:/bin", "HEMMA_CACHE_DIR": str(folder.parent / "cache"), "NO_COLOR": "1"},
        check=False,
    )


@pytest.mark.req("S19-R04", "S19-R05")
def test_the_verb_ends_as_the_report_says(tmp_path: Path) -> None:
    folder = next(tree for tree in TREES if tree.name == "unwired").plant(tmp_path / "repo")
    told = hemma(folder, "--json")
    said = json.loads(told.stdout)
    assert (told.returncode, said["ok"], said["counts"]["not_wired"]) == (1, False, 8)
    assert VerifyReport.model_validate(said).as_dict() == said
    table = hemma(folder)
    assert table.returncode == 1
    assert b"NOT WIRED  app.idle" in table.stdout
    assert b"3 of 11 modules wired, 8 not wired" in table.stdout
    # What mends it stands there too: once for each kind of fault.
    assert table.stdout.count(b"\ndo ") == 1
    assert b'[tool.hemma.verify] optional = ["app.' in table.stdout
    (tmp_path / "empty").mkdir()
    assert hemma(tmp_path / "empty").stdout == b"warn     there is no Python module here\n"
    good = next(tree for tree in TREES if tree.name == "layouts")
    assert good.statuses["agent.unsent"] == "NOT WIRED"
    gone = {"space/app/twice.py", "agent/unsent.py", "bench/parts/dial.py", "src/space/other/unused.py"}
    good = dataclasses.replace(good, files={name: text for name, text in good.files.items() if name not in gone})
    assert hemma(good.plant(tmp_path / "good"), "--format", "junit").returncode == 0


def test_a_report_goes_into_a_file_and_a_wrong_request_is_refused(tmp_path: Path) -> None:
    folder = next(tree for tree in TREES if tree.name == "library").plant(tmp_path / "repo")
    told = hemma(folder, "--format", "html", "--out", str(tmp_path / "page.html"))
    assert (told.returncode, told.stdout) == (1, b"")
    assert b"NOT WIRED" in (tmp_path / "page.html").read_bytes()
    nowhere = hemma(tmp_path / "rpeo")
    assert (nowhere.returncode, nowhere.stdout) == (2, b"")
    assert b"rpeo is no folder" in nowhere.stderr
    for words in (["--format", "pdf"], ["--out", "x"], ["--tested", "x"], ["--active", "gone"], ["--since", "HEAD"]):
        refused = hemma(folder, *words)
        assert refused.returncode == 2, words
        assert b"Traceback" not in refused.stderr


@pytest.mark.req("S19-R01")
def test_the_script_at_the_root_is_the_same_verb(tmp_path: Path) -> None:
    folder = next(tree for tree in TREES if tree.name == "unwired").plant(tmp_path / "repo")
    root = Path(__file__).resolve().parent.parent.parent
    told = subprocess.run(
        [sys.executable, str(root / "verify_integration.py"), str(folder), "--json"],
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", "HEMMA_CACHE_DIR": str(tmp_path / "cache")},
        check=False,
    )
    assert (told.returncode, json.loads(told.stdout)["counts"]["wired"]) == (1, 3)
