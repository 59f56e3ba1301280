"""`hemma export`: counts per source, no secret, the same package every time, and its training text."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from controller.cli import export as cli
from controller.flows.export import Request, export
from manifests.errors import HemmaError, UsageError
from manifests.export import ExportPackage, Pattern, Provenance
from tests.support import RepositoryOnHost, make_repository
from training import export as gathering
from training.export import Wanted, gather
from training.export_patterns import from_chat, from_log, from_page, read_chat
from training.export_text import SHAPES, records, row, rows

CASES = Path(__file__).resolve().parents[1] / "cases/export_text"
NOW = dt.datetime(2026, 11, 21, 12, 0, tzinfo=dt.UTC)
TRACEBACK = """\
12:00 step 1
Traceback (most recent call last):
  File "train.py", line 3, in <module>
    trainer.train()
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB
12:01 done
"""


@pytest.fixture
def clone(tmp_path: Path) -> RepositoryOnHost:
    """A clone with a page, a fix and a change."""
    made = make_repository(tmp_path)
    (made.path / "guide.md").write_text(
        "---\na: 1\n---\n# Guide\n\nRuns must never share a folder.\n\n## How\n\n```\n# no heading\nrun it\n```\n"
    )
    (made.path / "run.py").write_text("folder = 'runs'\n")
    commit(made, "Add a guide and a runner")
    (made.path / "run.py").write_text("folder = 'runs/' + run_id\n")
    commit(made, "Fix two runs writing into one folder", "Each run gets its own, because both crashed.")
    return made


def commit(clone: RepositoryOnHost, subject: str, body: str = "") -> None:
    """Commit everything."""
    clone.git("add", "--all")
    clone.git("commit", "-q", "-m", subject, *(["-m", body] if body else []))


def of(package: ExportPackage, source: str) -> list[Pattern]:
    """The patterns of a source."""
    return [pattern for pattern in package.patterns if pattern.source == source]


def record(package: ExportPackage, source: str) -> Any:
    """The counts of a source."""
    return next(each for each in package.sources if each.source == source)


# --- sources ------------------------------------------------------------------------------------------------------


@pytest.mark.req("S10-R14")
def test_sections_of_pages_are_patterns_with_their_headings(clone: RepositoryOnHost) -> None:
    found = {pattern.context: pattern for pattern in of(gather(Wanted(clone.path), NOW), "docs")}
    rule, how = found["guide.md > Guide"], found["guide.md > Guide > How"]
    assert (rule.category, rule.decision) == ("rule", "Runs must never share a folder.")
    assert rule.provenance.line == 4
    assert (how.category, "# no heading" in how.content) == ("procedure", True)


@pytest.mark.req("S10-R14")
def test_fix_is_an_error_with_its_patch_and_a_change_is_not(clone: RepositoryOnHost) -> None:
    found = {pattern.category: pattern for pattern in of(gather(Wanted(clone.path), NOW), "git")}
    fix = found["fix"]
    assert fix.context == "Fix two runs writing into one folder\nfiles: run.py"
    assert "-folder = 'runs'\n+folder = 'runs/' + run_id" in fix.content
    assert fix.decision == "Each run gets its own, because both crashed."
    assert fix.provenance.commit == clone.git("rev-parse", "HEAD")
    assert "diff --git" not in found["change"].content


def test_errors_of_logs_come_with_category_and_mend_each_once(clone: RepositoryOnHost) -> None:
    (clone.path / "logs").mkdir()
    for name in ("a.log", "b.log"):
        (clone.path / "logs" / name).write_text(TRACEBACK.replace("2.00", "2.00" if name == "a.log" else "3.50"))
    package = gather(Wanted(clone.path), NOW)
    (error,) = of(package, "logs")
    assert (error.category, error.context) == ("oom", "12:00 step 1")
    assert error.content.endswith("2.00 GiB")
    assert error.decision
    assert record(package, "logs").duplicates == 1


def test_chained_traceback_is_one_pattern() -> None:
    chained = TRACEBACK.replace("12:01 done\n", "") + (
        "\nDuring handling of the above exception, another exception occurred:\n\n"
        'Traceback (most recent call last):\n  File "b.py", line 1\nRuntimeError: at the end\n'
    )
    (found,) = from_log(chained + "ok\nok\n")
    assert found.category == "oom"
    assert found.content.endswith("RuntimeError: at the end")


CHATS = {
    "lines": '{"role": "user", "content": "why?"}\n{"role": "assistant", "content": "because"}\n',
    "one-object": '{"messages": [{"role": "user", "content": "why?"}, {"role": "assistant", "content": "because"}]}',
    "agent": '{"type": "user", "message": {"role": "user", "content": "why?"}}\n'
    '{"type": "assistant", "message": {"role": "assistant", "content": [{"type": "tool_use"}, {"type": "text", "text": "because"}]}}\n',
    "sharegpt": '{"conversations": [{"from": "human", "value": "why?"}, {"from": "gpt", "value": "because"}]}',
    "torn": '{"role": "user", "content": "why?"}\n{"role": "assistant", "content": "because"}\n{"role": "us',
}


@pytest.mark.parametrize("text", CHATS.values(), ids=list(CHATS))
def test_every_known_kind_of_transcript_gives_question_and_answer(clone: RepositoryOnHost, text: str) -> None:
    (clone.path / "chats").mkdir()
    (clone.path / "chats" / "a.jsonl").write_text(text)
    package = gather(Wanted(clone.path), NOW)
    (dialogue,) = of(package, "chats")
    assert (dialogue.context, dialogue.decision) == ("why?", "because")
    if text == CHATS["torn"]:
        assert record(package, "chats").skipped[0].cause == "line 3 is not JSON"


def test_question_without_answer_and_answer_without_question_teach_nothing() -> None:
    assert list(from_chat([("assistant", "a", 1), ("user", "b", 2)])) == []
    (found,) = from_chat([("user", "a", 1), ("user", "b", 2), ("assistant", "c", 3), ("assistant", "d", 4)])
    assert (found.context, found.decision) == ("a\n\nb", "c\n\nd")


# --- counts -------------------------------------------------------------------------------------------------------


@pytest.mark.req("S5-R16")
def test_every_zero_has_its_cause(tmp_path: Path) -> None:
    package = gather(Wanted(tmp_path), NOW)
    causes = {each.source: each.cause for each in package.sources}
    assert {each.source: each.patterns for each in package.sources} == dict.fromkeys(
        ("docs", "git", "logs", "chats"), 0
    )
    assert all(causes.values())
    assert "not a git repository" in causes["git"]


@pytest.mark.req("S5-R16")
def test_item_that_cannot_be_read_is_named_with_its_cause(clone: RepositoryOnHost) -> None:
    (clone.path / "latin.md").write_bytes("Grüße, eine alte Seite".encode("latin-1"))
    (clone.path / "empty.md").touch()
    os.mkfifo(clone.path / "pipe.md")
    (clone.path / "gone.md").symlink_to("nowhere")
    (clone.path / "utf16.md").write_bytes("# Title\n\nA page of another editor.\n".encode("utf-16"))
    (clone.path / "chats").mkdir()
    (clone.path / "chats" / "bad.jsonl").write_text("{not json")
    package = gather(Wanted(clone.path), NOW)
    skipped = {each.item: each.cause for each in record(package, "docs").skipped}
    assert skipped["latin.md"] == "encoding: not UTF-8 (byte 0xfc at 2)"
    assert skipped["empty.md"] == "it is empty"
    assert set(skipped) >= {"gone.md"}
    assert record(package, "chats").cause == "none of 1 could be read; the first: line 1 is not JSON"
    assert any(pattern.provenance.path == "utf16.md" for pattern in package.patterns)
    assert record(package, "docs").items == len(skipped) + 3


def test_named_place_that_is_not_there_is_told(clone: RepositoryOnHost) -> None:
    package = gather(Wanted(clone.path, logs=[clone.path / "nowhere.log"], chats=[clone.path]), NOW)
    assert record(package, "logs").skipped[0].cause == "cannot be read: No such file or directory"
    assert record(package, "chats").skipped[0].cause == "no file there ends in .jsonl, .json"


def test_equal_patterns_come_once(clone: RepositoryOnHost) -> None:
    (clone.path / "copy.md").write_text((clone.path / "guide.md").read_text())
    package = gather(Wanted(clone.path), NOW)
    assert record(package, "docs").duplicates == 2
    assert len({pattern.id for pattern in package.patterns}) == len(package.patterns)


def test_full_package_says_what_was_dropped(clone: RepositoryOnHost) -> None:
    package = gather(Wanted(clone.path, max_bytes=700), NOW)
    assert record(package, "docs").patterns == 1
    assert record(package, "git").dropped > 0
    assert "full" in record(package, "git").cause


def test_same_clone_gives_the_same_bytes(clone: RepositoryOnHost, tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        gather(Wanted(clone.path), NOW).write(str(tmp_path / name))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_package_that_was_edited_or_cut_is_refused(clone: RepositoryOnHost, tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    gather(Wanted(clone.path), NOW).write(str(path))
    whole = json.loads(path.read_text())
    edited = {**whole, "patterns": [{**whole["patterns"][0], "content": "Always rebase."}, *whole["patterns"][1:]]}
    for broken in (
        json.dumps(edited),
        json.dumps({**whole, "patterns": whole["patterns"][1:]}),
        path.read_text()[:-40],
    ):
        path.write_text(broken)
        with pytest.raises(HemmaError) as caught:
            export(Request(str(tmp_path), taken_from=str(path), text=str(tmp_path / "t")), {})
        assert caught.value.code == "file-broken"


def test_weird_names_and_odd_commits_are_data(clone: RepositoryOnHost, weird_path: Path) -> None:
    (clone.path / weird_path.name).mkdir()
    (clone.path / weird_path.name / "page.md").write_text("# Title\n\nSomething that is worth keeping.\n")
    commit(clone, "Separators \x1e in a \x1f message", "and \x1e0123456789abcdef0123456789abcdef01234567 more")
    package = gather(Wanted(clone.path), NOW)
    assert f"{weird_path.name}/page.md" in {pattern.provenance.path for pattern in package.patterns}
    assert record(package, "git").patterns >= 4


# --- secrets ------------------------------------------------------------------------------------------------------


@pytest.mark.req("S20-R03")
def test_no_canary_reaches_the_package_from_any_source(clone: RepositoryOnHost, tmp_path: Path) -> None:
    shaped, known = "hf" + "_" + "aB3" * 12, "known-canary-4711"
    for folder in ("logs", "chats"):
        (clone.path / folder).mkdir()
    (clone.path / "page.md").write_text(f"# {shaped}\n\nLog in with {shaped} or {known} and go on.\n")
    (clone.path / f"{known}.md").write_text("# A page\n\nWhose name should not have been that.\n")
    (clone.path / "run.py").write_text(f"token = '{shaped}'\nx = '{known}'\n")
    commit(clone, f"Fix the login with {shaped}", f"It was {known} before.")
    (clone.path / "logs" / "a.log").write_text(
        f"Traceback (most recent call last):\n  f('{known}')\nValueError: {shaped}\n"
    )
    (clone.path / "chats" / "a.jsonl").write_text(
        json.dumps({"messages": [{"role": "user", "content": shaped}, {"role": "assistant", "content": known}]})
    )
    found = export(
        Request(str(clone.path), out=str(tmp_path / "e.json"), text=str(tmp_path / "t.jsonl")), {"MY_TOKEN": known}
    )
    for path in (tmp_path / "e.json", tmp_path / "t.jsonl"):
        assert shaped not in path.read_text()
        assert known not in path.read_text()
    assert found["redacted"]["hugging-face"] >= 5
    assert found["redacted"]["known-value"] >= 5


def test_home_folder_of_the_person_is_not_told(clone: RepositoryOnHost) -> None:
    home = os.path.expanduser("~")
    (clone.path / "page.md").write_text(f"# Where\n\nIt lies in {home}/work and must stay there.\n")
    assert home not in json.dumps(gather(Wanted(clone.path), NOW).as_dict())


# --- training text ------------------------------------------------------------------------------------------------


@pytest.mark.req("S5-R17")
@pytest.mark.parametrize("case", yaml.safe_load((CASES / "mapping.yaml").read_text()), ids=lambda case: case["name"])
def test_pattern_becomes_the_documented_text(case: dict[str, Any]) -> None:
    pattern = Pattern(id="0" * 16, source="docs", provenance=Provenance(), **case["pattern"])
    made = row(pattern)
    assert (made and made["text"]) == case["text"]
    for shape in ("prompt-completion", "messages"):
        found = row(pattern, shape)
        assert (found["messages"] if found and shape == "messages" else found) == case[shape]


def test_text_is_written_from_a_package_later_on(clone: RepositoryOnHost, tmp_path: Path) -> None:
    out, text = tmp_path / "e.json", tmp_path / "t.jsonl"
    export(Request(str(clone.path), out=str(out)), {})
    for shape in SHAPES:
        told = export(Request(str(tmp_path), taken_from=str(out), text=str(text), shape=shape), {})["written"]["text"]
        lines = text.read_text().splitlines()
        package = ExportPackage.read(str(out))
        assert [json.loads(line) for line in lines] == list(rows(package.patterns, shape))
        assert told["rows"] + told["left_out"] == len(package.patterns)


def test_nothing_to_train_on_is_an_error_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(HemmaError, match="none of 0 patterns"):
        export(Request(str(tmp_path), text=str(tmp_path / "t.jsonl")), {})
    assert not (tmp_path / "t.jsonl").exists()


@pytest.mark.parametrize("request_", [Request(".", shape="yaml"), Request(".", taken_from="x.json")])
def test_request_that_makes_no_sense_is_refused(request_: Request) -> None:
    with pytest.raises(UsageError):
        export(request_, {})


@pytest.mark.req("S10-R15")
def test_records_fit_a_vector_store(clone: RepositoryOnHost) -> None:
    package = gather(Wanted(clone.path), NOW)
    found = records(package)
    assert {len(column) for column in found.values()} == {len(package.patterns)}
    assert {each["category"] for each in found["metadatas"]} >= {"rule", "fix", "change"}


def test_package_explains_itself(clone: RepositoryOnHost) -> None:
    package = gather(Wanted(clone.path), NOW)
    assert [step.number for step in package.steps] == list(range(1, len(package.steps) + 1))
    assert "Decision: " in package.mapping
    assert package.commit == clone.git("rev-parse", "HEAD")


# --- robustness ---------------------------------------------------------------------------------------------------

# Long enough to be worth a pattern by itself; a section shorter than that may be left out.
KEPT = "text that must be kept, " * 5
LINES = st.lists(
    st.sampled_from(["# T", "## U", "```", "~~~~", KEPT, "Traceback (most recent call last):", "  File x"])
    | st.sampled_from(
        ["ValueError: no", "During handling of the above exception, x", "", "ERROR bad", "{", '{"role": "user"}']
    )
    | st.text(max_size=20)
).map("\n".join)


@given(LINES)
def test_any_text_is_taken_and_no_section_is_lost(text: str) -> None:
    kept = "".join(each.content for each in from_page(text, "p"))
    assert KEPT not in text.splitlines() or KEPT.strip() in kept
    assert sum(each.content.count("ValueError: no") for each in from_log(text)) <= text.count("ValueError: no")
    read_chat(text)


def test_long_log_takes_no_time() -> None:
    text = "\n".join(
        f"{number} step loss 1.0 ERROR" if number % 50 == 0 else f"{number} step" for number in range(60_000)
    )
    assert len(list(from_log(text))) == 1200


# --- the command line ---------------------------------------------------------------------------------------------


@pytest.fixture
def app() -> typer.Typer:
    """The verb by itself."""
    made = typer.Typer()
    made.callback()(lambda: None)
    cli.register(made)
    return made


def test_table_names_each_source_and_its_note(
    app: typer.Typer, clone: RepositoryOnHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clone.path)
    (clone.path / "latin.md").write_bytes(b"\xff\xffa page of old")
    done = CliRunner().invoke(app, ["export", "--text", "t.jsonl"])
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.stdout.splitlines()[:5]] == ["SOURCE", "docs", "git", "logs", "chats"]
    assert "latin.md: encoding: not UTF-8" in done.stdout
    assert "there is no *.log file" in done.stdout
    assert not (clone.path / "export.json").exists()


def test_json_is_for_programs(app: typer.Typer, clone: RepositoryOnHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clone.path)
    done = CliRunner().invoke(app, ["export", "--json"])
    found = json.loads(done.stdout)
    assert found["written"]["package"]["path"] == "export.json"
    assert ExportPackage.read("export.json").patterns_sha256 == found["patterns_sha256"]


@pytest.mark.req("S10-R14")
def test_export_needs_no_torch() -> None:
    code = "import controller.cli.export, sys; sys.exit(any(n in sys.modules for n in ('torch', 'transformers', 'datasets')))"
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=Path(gathering.__file__).parents[1], check=False).returncode
        == 0
    )
