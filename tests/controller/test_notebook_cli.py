"""The verbs of `hemma notebook` as a person meets them: words, JSON, exit codes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from controller.cli import app as cli
from tests.lanes.test_notebooks import notebook, of_text

pytestmark = pytest.mark.req("S18-R03")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one committed notebook, as the working directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("config", "state", "cache"):
        monkeypatch.setenv(f"HEMMA_{name.upper()}_DIR", str(tmp_path / name))
    write("nb.ipynb", notebook("# Data", "a = 1", "x"))
    for words in (["init", "-q"], ["add", "nb.ipynb"], ["commit", "-q", "-m", "Begin"]):
        subprocess.run(["git", *words], check=True)
    return tmp_path


def write(name: str, made: dict[str, Any]) -> None:
    """Write a notebook."""
    Path(name).write_text(json.dumps(made))


def test_diff_shows_cells_and_not_json(capsys: pytest.CaptureFixture[str]) -> None:
    write("b.ipynb", notebook("# Data", "a = 2", "x", "new = [bold]\nmore", title="T"))
    assert cli.main(["notebook", "diff", "nb.ipynb", "b.ipynb"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "notebook  metadata", "  -{}", '  +{"title":"T"}',
        "cell 1 (Data)  source", "  -a = 1", "  +a = 2",
        "cell 3 (Data)  added", "  +new = [bold]", "  +more",
        "meaningful  nb.ipynb -> b.ipynb",
    ]  # fmt: skip


@pytest.mark.parametrize(("cell", "kind", "code"), [("a = 1", "metadata-only", 0), ("a = 2", "meaningful", 1)])
def test_one_path_is_compared_with_its_commit(
    cell: str, kind: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    write("nb.ipynb", notebook("# Data", {**of_text(cell), "execution_count": 5}, "x"))
    Path("below").mkdir()
    for words in (
        ["nb.ipynb"],
        ["HEAD:nb.ipynb", "nb.ipynb"],
        [":nb.ipynb", "./nb.ipynb"],
        ["HEAD:./nb.ipynb", "nb.ipynb"],
    ):
        assert cli.main(["notebook", "diff", *words, "--exit-code", "--json"]) == code
        told = json.loads(capsys.readouterr().out)
        assert told["kind"] == kind
        assert told["drift"] == ["execution counts"]


def test_outputs_count_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    stream = {"output_type": "stream", "name": "stdout", "text": "1"}
    write("nb.ipynb", notebook("# Data", {**of_text("a = 1"), "outputs": [stream]}, "x"))
    assert cli.main(["notebook", "diff", "nb.ipynb", "--exit-code"]) == 0
    assert "metadata  outputs\nmetadata-only  HEAD:./nb.ipynb -> nb.ipynb\n" in capsys.readouterr().out
    assert cli.main(["notebook", "diff", "nb.ipynb", "--exit-code", "--outputs"]) == 1


@pytest.mark.parametrize(
    "words", [["nowhere.ipynb"], ["HEAD:nowhere.ipynb", "nb.ipynb"], ["--", "-x:y", "nb.ipynb"], ["a", "b", "c"]]
)
def test_what_is_not_there_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["notebook", "diff", *words]) == 2
    assert capsys.readouterr().err.startswith("refused  ")


def test_moves_and_broken_notebooks_are_said_plainly(capsys: pytest.CaptureFixture[str]) -> None:
    write("b.ipynb", notebook("# Data", "x", "a = 1"))
    assert cli.main(["notebook", "diff", "nb.ipynb", "b.ipynb"]) == 0
    assert "order\n  cell 2 -> cell 1\n" in capsys.readouterr().out
    Path("b.ipynb").write_text("no \x1b[31m json")
    assert cli.main(["notebook", "diff", "nb.ipynb", "b.ipynb", "--exit-code"]) == 1
    shown = capsys.readouterr().out
    assert "notebook  broken" in shown
    assert "\x1b" not in shown


@pytest.mark.req("S18-R01")
def test_check_names_file_cell_section_line_rule_and_mend(capsys: pytest.CaptureFixture[str]) -> None:
    write("bad.ipynb", notebook("# Data", "x = 1\ndef f(): pass"))
    assert cli.main(["notebook", "check", "bad.ipynb", "nb.ipynb"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "fail     bad.ipynb: cell 1 (Data) line 2: defines the function f [function]"
    assert lines[1] == "ok       nb.ipynb: thin"
    assert lines[2].startswith("do       function: move it into a committed module")
    assert cli.main(["notebook", "check", "bad.ipynb", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)[0]["rule"] == "function"
    assert cli.main(["notebook", "check", ":nb.ipynb"]) == 0
    assert cli.main(["notebook", "check", "nowhere.ipynb"]) == 2


class Stream(io.TextIOWrapper):
    """A standard stream over bytes."""

    def __init__(self, data: bytes = b"") -> None:
        super().__init__(io.BytesIO(data), encoding="utf-8")


def test_strip_is_a_filter_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Stream()
    monkeypatch.setattr(sys, "stdin", Stream(b"\xff no notebook\r\n"))
    monkeypatch.setattr(sys, "stdout", out)
    assert cli.main(["notebook", "strip"]) == 0
    out.seek(0)
    assert out.buffer.read() == b"\xff no notebook\r\n"


def test_strip_waits_for_no_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stdin = Stream()
    monkeypatch.setattr(stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdin", stdin)
    assert cli.main(["notebook", "strip"]) == 2
    assert "stdin" in capsys.readouterr().err


def test_text_prints_cells(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert cli.main(["notebook", "text", "nb.ipynb"]) == 0
    assert capfdbinary.readouterr().out == b"# %% [markdown]\n# Data\n\n# %% [code]\na = 1\n\n# %% [code]\nx\n\n"


def test_merge_writes_the_result_in_the_place_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    write("ours", notebook("# Data", "a = 2", "x"))
    write("theirs", notebook("# Data", "a = 1", "y"))
    assert cli.main(["notebook", "merge", "nb.ipynb", "ours", "theirs"]) == 0
    assert ["".join(cell["source"]) for cell in json.loads(Path("ours").read_text())["cells"]] == [
        "# Data",
        "a = 2",
        "y",
    ]
    write("theirs", notebook("# Data", "a = 3", "x"))
    assert cli.main(["notebook", "merge", "nb.ipynb", "ours", "theirs", "shown.ipynb"]) == 1
    assert capsys.readouterr().err.startswith("needs you shown.ipynb: cell 1 (Data): both sides changed it (source)\n")
    assert cli.main(["notebook", "merge", "nb.ipynb", "ours", "theirs", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)[0]["index"] == 1
    assert cli.main(["notebook", "merge", "nowhere", "ours", "theirs"]) == 2
