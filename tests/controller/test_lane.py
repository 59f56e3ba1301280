"""`hemma lane` as a person and an agent use it: the answer, the exit code of each lane, the refusals."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from controller.cli import app as cli
from controller.flows import lane as flow
from controller.flows.work_tree import parse_status
from tests.support import WEIRD_NAMES

RULES = """
[tool.hemma]
root = "~/repo"
[tool.hemma.lanes]
"site/**" = "local"
"labs/**" = { lane = "colab", why = "classes use it" }
"""


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder (no git in it) as working directory, with Hemma's folders beside it."""
    (tmp_path / "repo" / "src").mkdir(parents=True)
    (tmp_path / "repo" / "pyproject.toml").write_text(RULES)
    monkeypatch.chdir(tmp_path / "repo")
    for name in ("config", "state", "cache"):
        monkeypatch.setenv(f"HEMMA_{name.upper()}_DIR", str(tmp_path / name))
    return tmp_path / "repo"


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    """The exit code and the JSON answer of `hemma lane --json ARGUMENTS`."""
    capsys.readouterr()
    code = cli.main(["lane", "--json", *arguments])
    return code, json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert cli.main(["lane", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("refused  ")
    assert "\ndo       " in said.err
    return said.err


@pytest.mark.req("S9-R01")
@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["src/a.py"], 10, "hemma"),
        (["labs/x"], 11, "colab"),
        (["site/a.py"], 12, "local"),
        (["site/a.py", "src/a.py"], 13, "mixed"),
        (["--command", "python", "train.py", "--json", "--lr", "3"], 10, "hemma"),
        (["--command", "--", "git", "log"], 12, "local"),
        (["--command", "git log && python x"], 10, "hemma"),
    ],
)
def test_each_lane_has_its_exit_code(
    repo: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, word: str
) -> None:
    told, answer = asked(capsys, *arguments)
    assert (told, answer["lane"], answer["exit_code"]) == (code, word, code)
    assert cli.main(["lane", *arguments]) == code


@pytest.mark.req("S9-R02", "S9-R04")
def test_the_answer_names_owner_committer_rule_and_why(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, answer = asked(capsys, "src/a.py", "labs/x", "site/i.html", "what.ever")
    told = {each["subject"]: each for each in answer["decisions"]}
    assert (told["src/a.py"]["owner"], told["src/a.py"]["commits"]) == ("host", "host")
    assert (told["labs/x"]["owner"], told["labs/x"]["commits"], told["labs/x"]["why"]) == (
        "colab",
        "host",
        "classes use it",
    )
    assert (told["site/i.html"]["owner"], told["site/i.html"]["rule"]) == ("local", "site/**")
    assert not told["what.ever"]["known"]
    assert [part["lane"] for part in answer["parts"]] == ["hemma", "colab", "local"]
    assert answer["parts"][0]["next_steps"][0] == "hemma edit src/a.py"


def test_people_read_the_same(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lane", "src/a.py", "README.md"]) == 13
    said = capsys.readouterr()
    assert "src/a.py" in said.out
    assert said.out.index("do       hemma edit src/a.py") < said.out.index("do       git add -- README.md")
    assert said.err.startswith("mixed: hemma, then local")


def test_paths_are_judged_from_the_project_whatever_the_folder(
    repo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (repo / "site").mkdir()
    monkeypatch.chdir(repo / "site")
    _, answer = asked(capsys, "index.html", "../src", str(repo / "src" / "a.py"))
    assert {each["subject"]: each["lane"] for each in answer["decisions"]} == {
        "index.html": "local",
        "../src": "hemma",
        str(repo / "src" / "a.py"): "hemma",
    }


def test_a_linked_way_in_is_followed_and_the_last_link_is_not(
    repo: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "way").symlink_to(repo)
    (repo / "site").mkdir()
    (repo / "site" / "link.py").symlink_to(repo / "src" / "a.py")
    code, _ = asked(capsys, str(tmp_path / "way" / "src" / "a.py"))
    assert code == 10
    code, _ = asked(capsys, "site/link.py")
    assert code == 12


@pytest.mark.parametrize("name", WEIRD_NAMES.values(), ids=WEIRD_NAMES)
def test_a_weird_name_is_answered_for(repo: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    code, answer = asked(capsys, "--", f"site/{name}", f"src/{name}", name)
    assert code == 13
    assert {each["subject"] for each in answer["decisions"]} == {f"site/{name}", f"src/{name}", name}
    assert cli.main(["lane", "--", name]) == 10


def test_bytes_outside_utf8_are_answered_for(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"site/caf\xe9")
    code, answer = asked(capsys, name)
    assert (code, answer["decisions"][0]["subject"]) == (12, name)
    assert cli.main(["lane", name]) == 12
    assert "caf\\udce9" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "one of PATH..."),
        (["a", "--diff", "HEAD"], "not several"),
        (["a", "--command", "x"], "not several"),
        (["--command"], "needs a command"),
        ([""], "lies outside"),
        (["../elsewhere"], "lies outside"),
        (["/etc/passwd"], "lies outside"),
        (["--manifest", "none.yaml"], "cannot be read"),
        (["--manifest", "src"], "cannot be read"),
    ],
)
def test_a_question_that_cannot_be_read_is_refused(
    repo: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert said in refused(capsys, *arguments)


def test_a_broken_rule_is_refused_by_file_rule_and_mend(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repo / "pyproject.toml").write_text('[tool.hemma.lanes]\n"docs/**" = "lokal"\n')
    said = refused(capsys, "docs/x")
    assert "pyproject.toml [tool.hemma]: `lanes` rule `docs/**`" in said
    assert "did you mean `local`?" in said


@pytest.mark.parametrize(
    ("text", "code"),
    [("lane: colab\n", 11), ("command: [python, x.py]\n", 10), ('{"lane": "local"}', 12), ("1: 2\n", 10)],
)
def test_a_manifest_is_read_for_its_lane(repo: Path, capsys: pytest.CaptureFixture[str], text: str, code: int) -> None:
    (repo / "run.yaml").write_text(text)
    assert asked(capsys, "--manifest", "run.yaml")[0] == code


@pytest.mark.parametrize(
    "data",
    [b"", b"- a\n", b"a: [", b"\xff\xfe\x00", b"a: !!python/object:os.system x\n", b"[" * 5000, b"--- 1\n--- 2\n"],
    ids=["empty", "list", "cut", "bytes", "object", "deep", "several"],
)
def test_a_broken_manifest_is_refused(repo: Path, capsys: pytest.CaptureFixture[str], data: bytes) -> None:
    (repo / "run.yaml").write_bytes(data)
    assert "run.yaml" in refused(capsys, "--manifest", "run.yaml")


def test_a_manifest_beyond_all_measure_is_refused_unread(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repo / "run.yaml").write_bytes(b"key: value\n" * 3_000_000)
    assert "run.yaml is larger than 256 KiB" in refused(capsys, "--manifest", "run.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"metadata": {"hemma": {"lane": "colab"}}}', "colab"),
        ('{"metadata": {"hemma": {"lane": ["colab"]}}}', None),
        ('{"metadata": {"colab": {}}}', None),
        ("[]", None),
        ("{", None),
        ("[" * 100_000, None),
        ("\udcff", None),
    ],
    ids=["marked", "list", "colab-metadata", "array", "cut", "deep", "bytes"],
)
def test_a_notebooks_own_word_is_read_and_a_broken_one_says_nothing(
    repo: Path, text: str, expected: str | None
) -> None:
    (repo / "a.ipynb").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert flow.notebook_facts(str(repo / "a.ipynb")).notebook_lane == expected
    assert flow.notebook_facts(str(repo / "none.ipynb")).notebook_lane is None


def test_a_marked_notebook_is_colabs(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repo / "a.ipynb").write_text('{"metadata": {"hemma": {"lane": "colab"}}}')
    assert asked(capsys, "a.ipynb")[0] == 11
    assert asked(capsys, "b.ipynb")[0] == 10


def test_status_is_read_entry_by_entry() -> None:
    raw = b"M  a\0 M b\0A  c\0AD d\0 D e\0UU f\0?? g h\ni\0D  k\0?? k\0AA \xff\0D  l\0 A n\0 T t\0"
    assert [(file.path, file.state) for file in parse_status(raw)] == [
        ("a", "changed"),
        ("b", "changed"),
        ("c", "added"),
        ("d", "gone"),
        ("e", "deleted"),
        ("f", "conflicted"),
        ("g h\ni", "untracked"),
        ("k", "untracked"),
        ("l", "removed"),
        ("n", "added"),
        ("t", "changed"),
        ("\udcff", "conflicted"),
    ]
    assert parse_status(b"") == []
