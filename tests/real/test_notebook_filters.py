"""Notebooks in real git: the clean filter hides drift, the driver merges cells, diff shows them; and all of it goes again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from controller.flows.notebook_filters import (
    ATTRIBUTES,
    NAME,
    NEXT_STEP,
    install_notebook_filters,
    own_command,
    remove_notebook_filters,
)
from lanes.notebooks import strip
from manifests.errors import HemmaError, NotARepository, UsageError
from tests.lanes.test_notebooks import notebook, of_text

pytestmark = [pytest.mark.req("S18-R03"), pytest.mark.timeout(180)]
ROOT = Path(__file__).resolve().parents[2]
# The CLI in a process of its own.
LAUNCHER = f"""\
import sys
sys.path.insert(0, {str(ROOT)!r})
from controller.cli import app
sys.exit(app.main(sys.argv[1:]))
"""


@dataclass
class Repository:
    """A repository with the filters installed, and how its git is called."""

    path: Path
    command: list[str]
    environ: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    def git(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run git here; text in and out."""
        return subprocess.run(
            ["git", *arguments],
            cwd=self.path,
            capture_output=True,
            text=True,
            check=check,
            env=self.environ,
            timeout=120,
        )

    def write(self, made: dict[str, Any] | bytes, name: str = "nb.ipynb") -> Path:
        """Write a notebook into the work tree."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made if isinstance(made, bytes) else json.dumps(made, indent=2).encode())
        return path

    def commit(self, made: dict[str, Any] | bytes, name: str = "nb.ipynb") -> None:
        """Commit a notebook."""
        self.write(made, name)
        self.git("add", "--all")
        self.git("commit", "-q", "-m", "A notebook")

    def blob(self, spec: str = "HEAD:nb.ipynb") -> bytes:
        """What git holds."""
        return subprocess.run(["git", "cat-file", "blob", spec], cwd=self.path, capture_output=True, check=True).stdout


@pytest.fixture
def launcher(tmp_path: Path) -> list[str]:
    """The argv of our CLI; its path holds what careless quoting breaks."""
    script = tmp_path / "it's 100%h $HOME.py"
    script.write_text(LAUNCHER)
    return [sys.executable, "-P", str(script)]


@pytest.fixture
def make(tmp_path: Path, launcher: list[str]) -> Callable[[str], Repository]:
    """`make(name)`: a new repository without filters."""

    def of_name(name: str) -> Repository:
        made = Repository(tmp_path / name, launcher)
        made.path.mkdir()
        made.git("init", "-q")
        return made

    return of_name


@pytest.fixture
def repo(make: Callable[[str], Repository]) -> Repository:
    """A repository with the filters installed and committed."""
    made = make("repo")
    install_notebook_filters(str(made.path), command=made.command)
    made.git("add", "--all")
    made.git("commit", "-q", "-m", "Begin")
    return made


def ran(source: str, count: int = 1) -> dict[str, Any]:
    """A code cell after a run."""
    return {
        **of_text(source),
        "execution_count": count,
        "outputs": [{"output_type": "stream", "name": "stdout", "text": ["done\n"]}],
        "metadata": {"executionInfo": {"elapsed": count}},
    }


# --- installing --------------------------------------------------------------------------------------------------


def config_of(repo: Repository) -> list[str]:
    """The config lines that are ours."""
    return [line for line in repo.git("config", "--local", "--list").stdout.splitlines() if NAME in line]


def test_installing_twice_changes_nothing_and_removing_leaves_nothing(make: Callable[[str], Repository]) -> None:
    repo = make("twice")
    before = repo.git("config", "--local", "--list").stdout
    changes = install_notebook_filters(str(repo.path), command=repo.command)
    assert [change.split(" = ")[0] for change in changes] == [
        f"git config filter.{NAME}.clean",
        f"git config merge.{NAME}.name",
        f"git config merge.{NAME}.driver",
        f"git config diff.{NAME}.textconv",
        f".gitattributes + {ATTRIBUTES}",
    ]
    assert install_notebook_filters(str(repo.path), command=repo.command) == []
    assert len(config_of(repo)) == 4
    assert len(remove_notebook_filters(str(repo.path))) == 4
    assert repo.git("config", "--local", "--list").stdout == before
    assert not (repo.path / ".gitattributes").exists()
    assert remove_notebook_filters(str(repo.path)) == []


@pytest.mark.parametrize("text", ["*.bin binary", "*.bin binary\n", "*.bin binary\r\n*.x -text\r\n", ""])
def test_other_attributes_stay_as_they_are(make: Callable[[str], Repository], text: str) -> None:
    repo = make("others")
    path = repo.path / ".gitattributes"
    path.write_bytes(text.encode())
    install_notebook_filters(str(repo.path), command=repo.command)
    end = "\r\n" if "\r\n" in text else "\n"
    assert path.read_bytes().decode() == text + (end if text and not text.endswith("\n") else "") + ATTRIBUTES + end
    assert repo.git("check-attr", "filter", "x/y.ipynb").stdout.endswith(f"filter: {NAME}\n")
    remove_notebook_filters(str(repo.path))
    assert (path.read_text().rstrip() if path.exists() else "") == text.replace("\r\n", "\n").rstrip()


def test_a_later_line_that_takes_notebooks_away_is_overruled(make: Callable[[str], Repository]) -> None:
    repo = make("later")
    (repo.path / ".gitattributes").write_text(f"{ATTRIBUTES}\n*.ipynb -filter\n")
    assert len(install_notebook_filters(str(repo.path), command=repo.command)) == 5
    assert (repo.path / ".gitattributes").read_text() == f"*.ipynb -filter\n{ATTRIBUTES}\n"


def test_the_filter_of_another_tool_is_not_replaced_unasked(make: Callable[[str], Repository]) -> None:
    repo = make("taken")
    (repo.path / ".gitattributes").write_text("*.ipynb filter=nbstripout\n")
    with pytest.raises(UsageError, match="filter=nbstripout"):
        install_notebook_filters(str(repo.path), command=repo.command)
    assert config_of(repo) == []
    assert (repo.path / ".gitattributes").read_text() == "*.ipynb filter=nbstripout\n"
    assert install_notebook_filters(str(repo.path), command=repo.command, force=True)
    assert repo.git("check-attr", "filter", "x.ipynb").stdout.endswith(f"filter: {NAME}\n")


def test_no_repository_and_an_unwritable_one_are_refused(tmp_path: Path, make: Callable[[str], Repository]) -> None:
    for refused in (install_notebook_filters, remove_notebook_filters):
        with pytest.raises(NotARepository):
            refused(str(tmp_path))
    repo = make("locked")
    (repo.path / ".git/config.lock").touch()
    with pytest.raises(HemmaError, match="git config failed"):
        install_notebook_filters(str(repo.path))


def test_git_of_a_hook_does_not_lead_to_another_repository(
    make: Callable[[str], Repository], monkeypatch: pytest.MonkeyPatch
) -> None:
    hook, other = make("hook"), make("other")
    monkeypatch.setenv("GIT_DIR", str(hook.path / ".git"))
    install_notebook_filters(str(other.path))
    monkeypatch.delenv("GIT_DIR")
    assert config_of(hook) == []
    assert len(config_of(other)) == 4


def test_it_works_from_below_and_in_a_folder_with_a_weird_name(weird_path: Path, launcher: list[str]) -> None:
    repo = Repository(weird_path, launcher)
    repo.git("init", "-q")
    (weird_path / "below").mkdir()
    assert install_notebook_filters(str(weird_path / "below"), command=launcher)
    assert (weird_path / ".gitattributes").read_text() == ATTRIBUTES + "\n"
    repo.commit(notebook(ran("a")))
    assert repo.blob() == strip(notebook("a"))


def test_the_program_in_the_config_is_this_installation() -> None:
    told = subprocess.run([*own_command(), "--version"], capture_output=True, text=True, check=True)
    assert told.stdout.startswith("hemma ")


# --- the clean filter --------------------------------------------------------------------------------------------


def test_a_run_leaves_the_work_tree_clean_and_outputs_stay_on_disk(repo: Repository) -> None:
    repo.commit(notebook("# T", "a = 1"))
    path = repo.write({**notebook("# T", ran("a = 1", 7), colab={"provenance": []}), "nbformat_minor": 2})
    on_disk = path.read_bytes()
    repo.git("add", "--all")
    assert repo.git("status", "--porcelain").stdout == ""
    assert repo.git("diff", "HEAD", "--", "nb.ipynb").stdout == ""
    assert path.read_bytes() == on_disk
    repo.write(notebook("# T", ran("a = 2")))
    assert repo.git("status", "--porcelain").stdout == " M nb.ipynb\n"


@pytest.mark.parametrize(
    "name",
    ["two words.ipynb", "it's.ipynb", "mapp-åäö/世界.ipynb", "$(touch pwned).ipynb", "-rf.ipynb", "new\nline.ipynb"],
)
def test_any_file_name_goes_through_the_filter_and_the_driver(repo: Repository, name: str) -> None:
    repo.commit(notebook(ran("a = 1"), "x"), name)
    assert repo.blob(f"HEAD:{name}") == strip(notebook("a = 1", "x"))
    merge_branches(repo, notebook("a = 2", "x"), notebook("a = 1", "y"), name)
    assert repo.blob(f"HEAD:{name}") == strip(notebook("a = 2", "y"))
    assert not (repo.path / "pwned").exists()


@pytest.mark.parametrize("text", [b"", b"no json\n", b"\xff\x00\xfe", b'{"cells": [\n<<<<<<< x\n'])
def test_what_is_no_notebook_is_committed_byte_by_byte(repo: Repository, text: bytes) -> None:
    repo.commit(text)
    assert repo.blob() == text


def test_a_clone_without_hemma_works_on_the_files_as_they_are(repo: Repository, tmp_path: Path) -> None:
    repo.commit(notebook("a = 1"))
    repo.git("clone", "-q", str(repo.path), str(tmp_path / "clone"))
    clone = Repository(tmp_path / "clone", [])
    assert (clone.path / "nb.ipynb").read_bytes() == strip(notebook("a = 1"))
    made = notebook(ran("a = 2"))
    clone.commit(made)
    assert clone.blob() == json.dumps(made, indent=2).encode()


def test_a_vanished_program_blocks_no_commit(repo: Repository) -> None:
    repo.git("config", f"filter.{NAME}.clean", "/nowhere/hemma notebook strip")
    made = notebook(ran("a"))
    repo.commit(made)
    assert repo.blob() == json.dumps(made, indent=2).encode()


def test_outputs_that_are_meant_are_committed(make: Callable[[str], Repository]) -> None:
    repo = make("kept")
    install_notebook_filters(str(repo.path), command=repo.command, keep_outputs=True)
    repo.commit(notebook(ran("a", 5)))
    cell = json.loads(repo.blob())["cells"][0]
    assert (cell["outputs"][0]["text"], cell["execution_count"]) == (["done\n"], None)


def test_the_next_step_brings_old_notebooks_into_their_normal_form(make: Callable[[str], Repository]) -> None:
    repo = make("old")
    repo.commit(notebook(ran("a")), "deep/nb.ipynb")
    install_notebook_filters(str(repo.path), command=repo.command)
    subprocess.run(NEXT_STEP, shell=True, cwd=repo.path, check=True, capture_output=True)
    assert repo.blob("HEAD:deep/nb.ipynb") == strip(notebook("a"))


# --- the merge driver --------------------------------------------------------------------------------------------


def merge_branches(
    repo: Repository, ours: dict[str, Any] | None, theirs: dict[str, Any] | None, name: str = "nb.ipynb"
) -> subprocess.CompletedProcess[str]:
    """Commit both onto the same commit (None: no notebook) and merge theirs into ours."""
    repo.git("switch", "-q", "-c", "theirs")
    for branch, made in (("theirs", theirs), ("main", ours)):
        repo.git("switch", "-q", branch)
        if made is not None:
            repo.commit(made, name)
    return repo.git("merge", "--no-edit", "theirs", check=False)


def test_changes_of_both_branches_come_together_in_any_layout(repo: Repository) -> None:
    repo.commit(notebook("# T", "a = 1\nb = 1\nc = 1", "x"))
    told = merge_branches(
        repo, notebook("# T", ran("a = 2\nb = 1\nc = 1"), "x"), notebook("# T", "a = 1\nb = 1\nc = 3", "x", ran("new"))
    )
    assert told.returncode == 0, told.stderr
    assert repo.blob() == strip(notebook("# T", "a = 2\nb = 1\nc = 3", "x", "new"))
    assert repo.git("status", "--porcelain").stdout == ""


def test_a_conflict_opens_as_a_notebook_and_says_where(repo: Repository) -> None:
    repo.commit(notebook("# Data", "a = 1"))
    told = merge_branches(repo, notebook("# Data", "a = 2"), notebook("# Data", "a = 3"))
    assert told.returncode == 1
    assert "nb.ipynb: cell 1 (Data): both sides changed it (source)" in told.stderr
    cells = json.loads((repo.path / "nb.ipynb").read_bytes())["cells"]
    assert "".join(cells[1]["source"]) == "<<<<<<< ours\na = 2\n=======\na = 3\n>>>>>>> theirs"
    assert repo.git("status", "--porcelain").stdout == "UU nb.ipynb\n"
    repo.git("merge", "--abort")
    assert repo.blob() == (repo.path / "nb.ipynb").read_bytes() == strip(notebook("# Data", "a = 2"))


def test_a_notebook_added_on_both_branches_keeps_both(repo: Repository) -> None:
    told = merge_branches(repo, notebook("mine = 1"), notebook("yours = 1"))
    assert told.returncode == 1
    text = (repo.path / "nb.ipynb").read_text()
    assert "mine = 1" in text
    assert "yours = 1" in text
    json.loads(text)


def test_a_driver_that_fails_leaves_the_conflict_and_both_sides(repo: Repository) -> None:
    repo.commit(notebook("a = 1"))
    repo.git("config", f"merge.{NAME}.driver", "/nowhere/hemma notebook merge %O %A %B")
    told = merge_branches(repo, notebook("a = 2"), notebook("a = 3"))
    assert told.returncode == 1
    assert repo.blob(":2:nb.ipynb") == strip(notebook("a = 2"))
    assert repo.blob(":3:nb.ipynb") == strip(notebook("a = 3"))


# --- diff --------------------------------------------------------------------------------------------------------


def test_git_diff_shows_cells_as_text(repo: Repository) -> None:
    repo.commit(notebook("# T", "a = 1"), "-nb.ipynb")
    repo.write(notebook("# T", ran("a = 2")), "-nb.ipynb")
    shown = repo.git("diff").stdout
    assert "-a = 1\n+a = 2\n" in shown
    assert '"cells"' not in shown


def test_git_shows_our_diff_as_an_external_one(repo: Repository) -> None:
    repo.commit(notebook("# T", "a = 1"))
    repo.write(notebook("# T", "a = 2"))
    repo.write(notebook("b"), "-new.ipynb")
    repo.git("add", "--intent-to-add", "--", "-new.ipynb")
    program = f"{repo.path.parent}/external"
    Path(program).write_text(f'#!/bin/sh\nexec "{repo.command[0]}" -P "$LAUNCHER" notebook diff -- "$@"\n')
    Path(program).chmod(0o755)
    repo.environ |= {"GIT_EXTERNAL_DIFF": program, "LAUNCHER": repo.command[2]}
    shown = repo.git("diff").stdout
    assert "cell 1 (T)  source\n  -a = 1\n  +a = 2\nmetadata  nbformat_minor, cell ids\nmeaningful  nb.ipynb\n" in shown
    assert "cell 0  added\n  +b\nmetadata  nbformat_minor\nmeaningful  -new.ipynb\n" in shown
