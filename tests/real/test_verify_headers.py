"""Headers and language in a real repository: off by default; with --since a header must stay as it was."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from controller.flows import verify as flow
from manifests.errors import UsageError
from manifests.verify import Finding
from tests.real.test_verify_evidence import planted

PROJECT = '[project]\nname = "app"\nversion = "1"\n[project.scripts]\napp = "app.cli:main"\n'
WANTED = '[tool.hemma.verify]\nheader = """\n# {project}: {path}\n# Owner: the people of app\n"""\n'
HEADER = "# app: somewhere\n# Owner: us\n"
FILES = {
    "pyproject.toml": PROJECT,
    "app/__init__.py": '"""The app."""\n',
    "app/cli.py": HEADER + "from app import work\n\n\ndef main():\n    return work.run()\n",
    "app/work.py": "def run():\n    return 1\n",
    "tests/test_work.py": "from app import work\n\n\ndef test_it():\n    assert work.run()\n",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEMMA_CACHE_DIR", str(tmp_path / "cache"))
    folder = planted(tmp_path, FILES)
    git(folder, "add", "--all")
    git(folder, "commit", "-q", "-m", "All")
    return folder


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True)


def headers(folder: Path, since: str | None = None) -> list[Finding]:
    return [found for found in flow.verify(flow.Request(str(folder), since)).findings if found.kind == "header"]


@pytest.mark.req("S6-R13", "C18")
def test_it_is_off_until_a_repository_asks_for_it(project: Path) -> None:
    assert headers(project) == []
    assert flow.verify(flow.Request(str(project))).ok
    (project / "pyproject.toml").write_text(PROJECT + WANTED)
    (found,) = headers(project)
    assert (found.path, found.message, found.fails) == ("app/work.py", "it has no header", True)
    assert found.remedy == "begin it with: # app: app/work.py | # Owner: the people of app"
    assert not flow.verify(flow.Request(str(project))).ok


@pytest.mark.req("S6-R13", "C18")
def test_a_header_that_was_committed_stays(project: Path) -> None:
    (project / "pyproject.toml").write_text(PROJECT + WANTED)
    cli = project / "app/cli.py"
    cli.write_text(cli.read_text() + "\n\nLIMIT = 3\n")
    assert headers(project, "HEAD") == []
    cli.write_text(cli.read_text().replace("Owner: us", "Owner: them"))
    assert [found.message for found in headers(project, "HEAD")] == [
        "its header changed: '# Owner: us' became '# Owner: them'"
    ]
    assert [found.path for found in headers(project)] == [
        "app/work.py"
    ]  # without a revision there is nothing to compare
    (project / "app/new.py").write_text("VALUE = 1\n")
    assert {found.path for found in headers(project, "HEAD")} == {"app/cli.py", "app/new.py"}


@pytest.mark.parametrize("header", ["no comment", "# one\\nx = 1", "#!/bin/sh"])
def test_a_template_that_is_no_comment_is_refused(header: str, project: Path) -> None:
    (project / "pyproject.toml").write_text(PROJECT + f'[tool.hemma.verify]\nheader = "{header}"\n')
    with pytest.raises(UsageError, match="comment"):
        flow.verify(flow.Request(str(project)))


@pytest.mark.req("S6-R21", "C17")
def test_english_is_wanted_only_where_a_repository_asks_for_it(project: Path) -> None:
    german = "# Wenn die Datei nicht da ist, wird eine neue gemacht.\n"
    (project / "app/work.py").write_text(german + FILES["app/work.py"])
    assert flow.verify(flow.Request(str(project))).ok
    (project / "pyproject.toml").write_text(PROJECT + '[tool.hemma.verify]\nlanguage = "en"\n')
    report = flow.verify(flow.Request(str(project), "HEAD"))
    assert [(found.path, found.line) for found in report.findings if found.kind == "language"] == [("app/work.py", 1)]
    (project / "pyproject.toml").write_text(PROJECT + '[tool.hemma.verify]\nlanguage = "klingon"\n')
    with pytest.raises(UsageError, match="language"):
        flow.verify(flow.Request(str(project)))
