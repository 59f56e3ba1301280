"""`hemma verify` with real git, real coverage and real JUnit files: --since, TESTED and ACTIVE."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from controller.flows import verify as flow
from controller.flows import verify_trace
from manifests.errors import UsageError
from manifests.verify import VerifyReport
from tests.support import make_repository

FILES = {
    "pyproject.toml": '[project]\nname = "app"\nversion = "1"\n[project.scripts]\napp = "app.cli:main"\n',
    "app/__init__.py": '"""The app."""\n',
    "app/cli.py": "from app import rare, tables, work\n\n\ndef main(all_of_it=False):\n"
    "    return rare.run() if all_of_it else work.run(tables.LIMIT)\n\n\nif __name__ == '__main__':\n    main()\n",
    "app/work.py": "def run(limit):\n    return limit + 1\n",
    "app/rare.py": "def run():\n    return 0\n",
    "app/tables.py": "LIMIT = 3\n",
    "tests/test_work.py": "from app import work\n\n\ndef test_run():\n    assert work.run(1) == 2\n",
    "tests/test_rare.py": "from app.rare import run\n\n\ndef test_run():\n    assert run() == 1\n",
    "tests/test_import_only.py": "import app.cli\n\n\ndef test_it_is_there():\n    assert app.cli\n",
    "tests/test_tables.py": "import pytest\nfrom app.tables import LIMIT\n\n\n@pytest.mark.skip\ndef test_limit():\n    assert LIMIT\n",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEMMA_CACHE_DIR", str(tmp_path / "cache"))
    return planted(tmp_path, FILES)


def planted(tmp_path: Path, files: dict[str, str]) -> Path:
    """A clone with these files in its work tree, not yet committed."""
    folder = make_repository(tmp_path).path
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


def run(folder: Path, *argv: str) -> int:
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("COV_", "COVERAGE_", "PYTEST_"))
    }
    environ |= {"PYTHONPATH": str(folder), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run([sys.executable, *argv], cwd=folder, env=environ, capture_output=True, check=False).returncode


def words(report: VerifyReport) -> dict[str, tuple[bool | None, ...]]:
    return {
        r.name: (r.words.exists, r.words.tested, r.words.wired, r.words.active, r.words.complete)
        for r in report.modules
    }


@pytest.mark.req("S19-R07", "S19-R09")
def test_tested_and_active_rest_on_what_ran(project: Path) -> None:
    before = words(flow.verify(flow.Request(str(project))))
    assert set(before.values()) == {(True, None, True, None, None)}  # no evidence, no word
    assert run(project, "-m", "coverage", "run", "--data-file=real", "-m", "app.cli") == 0
    (project / "rc").write_text("[run]\ndynamic_context = test_function\n")
    argv = [
        "-m",
        "coverage",
        "run",
        "--rcfile=rc",
        "--data-file=tests.data",
        "-m",
        "pytest",
        "-q",
        "--junitxml=junit.xml",
    ]
    assert run(project, *argv, "tests") == 1
    request = flow.Request(
        str(project),
        active=(str(project / "real"),),
        tested=(str(project / "tests.data"),),
        junit=(str(project / "junit.xml"),),
    )
    report = flow.verify(request)
    said = words(report)
    assert said["app.work"] == (True, True, True, True, True)
    assert said["app.rare"] == (True, False, True, False, False)  # its test failed, and the run did not come by
    assert said["app.cli"] == (True, False, True, True, False)  # the test only imports it
    assert said["app.tables"] == (True, False, True, True, False)  # its test was skipped; it has no function to go into
    assert said["app"] == (True, True, True, True, True)  # it has no function: a test that passed imported it
    counts = report.counts
    assert (counts["tested"], counts["active"], counts["complete"]) == (2, 4, 2)


@pytest.mark.req("S19-R07", "S19-R08")
def test_each_test_file_is_run_alone(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(project))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    # Passes after the other file alone: run together, in this order, nobody would see it.
    (project / "app/leaning.py").write_text("KNOWN = []\n\n\ndef ask():\n    return KNOWN[0]\n")
    (project / "tests/test_a_first.py").write_text(
        "from app import leaning\n\n\ndef test_it():\n    leaning.KNOWN.append(1)\n"
    )
    (project / "tests/test_b_after.py").write_text(
        "from app.leaning import ask\n\n\ndef test_it():\n    assert ask()\n"
    )
    for name in ("test_rare.py", "test_import_only.py", "test_tables.py"):
        (project / "tests" / name).unlink()
    seen: list[str] = []
    report = flow.verify(flow.Request(str(project), run_tests=lambda _done, _total, what: seen.append(what)))
    assert seen == ["tests/test_a_first.py", "tests/test_b_after.py", "tests/test_work.py", ""]
    tested = {row.name: row.words.tested for row in report.modules}
    assert tested == {
        "app": True, "app.cli": False, "app.leaning": False, "app.rare": False, "app.tables": False, "app.work": True,
    }  # fmt: skip
    assert not [path for path in project.iterdir() if path.name.startswith(".coverage")]


def test_a_context_is_the_file_of_its_test(project: Path) -> None:
    """As `--context=FILE`, pytest-cov, coverage's dynamic_context and JUnit write them."""
    tests = verify_trace.Tests(str(project), ["tests/test_work.py", "tests/a/test_two.py", "tests/b/test_two.py"])
    for context in (
        "tests/test_work.py", "tests/test_work.py::test_run|run", f"{project}/tests/test_work.py",
        "tests.test_work.test_run", "tests.test_work.TestAll.test_run", "tests.test_work", "test_work.test_run",
    ):  # fmt: skip
        assert tests.find(context) == "tests/test_work.py", context
    for context in ("", "nightly", "tests.gone.test_run", "gone.py::test", "test_two.test_run"):
        assert tests.find(context) is None, context


@pytest.mark.req("S19-R05")
def test_since_looks_at_what_changed_alone(project: Path) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", str(project), *arguments], check=True, capture_output=True)

    git("add", "--all")
    git("commit", "-q", "-m", "All")
    (project / "app/old.py").write_text("def run():\n    return 0\n")
    git("add", "--all")
    git("commit", "-q", "-m", "Unwired, and long ago")
    (project / "app/work.py").write_text("def run(limit):\n    return limit + 2\n")
    (project / "app/new.py").write_text("def run():\n    return 5\n")
    report = flow.verify(flow.Request(str(project), since="HEAD"))
    assert {row.name: row.status for row in report.modules} == {"app.work": "WIRED", "app.new": "NOT WIRED"}
    assert [f.module for f in report.findings if f.fails] == ["app.new"]
    (project / "app/new.py").unlink()
    assert flow.verify(flow.Request(str(project), since="HEAD")).ok
    assert not flow.verify(flow.Request(str(project), since="HEAD~1")).ok
    for revision in ("no-such-branch", "--output=stolen", ""):
        with pytest.raises(UsageError, match="revision"):
            flow.verify(flow.Request(str(project), since=revision))
    assert not (project / "stolen").exists()


@pytest.mark.parametrize("raw", [b"", b"SQLite format 3\0 and no more", b"<testsuites>", b"\xff\xfe"])
def test_evidence_that_cannot_be_read_is_refused_in_words(raw: bytes, project: Path) -> None:
    (project / "odd").write_bytes(raw)
    odd = (str(project / "odd"),)
    with pytest.raises(UsageError):
        flow.verify(flow.Request(str(project), active=odd, tested=odd, junit=odd))
