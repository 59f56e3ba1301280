"""`hemma gotcha`: a failure becomes a draft, a person judges it, and only then something is written."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from controller.cli import gotcha as cli
from controller.cli.app import main
from controller.flows import gotcha as flow
from controller.flows import gotcha_queue, runbook
from lanes.gotcha_match import pattern_of, why_unsafe
from lanes.runbook_routing import larger_than_an_entry
from lanes.runbook_rules import check
from manifests.errors import HemmaError, NeedsPerson, UsageError
from manifests.runbooks import Gotcha

TODAY = dt.datetime.now(dt.UTC).date()
LOG = "step 1\nRuntimeError: frobnicator 12 of 40 lost its sync at /data/x/y\nbye\n"
TOKEN = "hf_" + "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9v"
WHOLE = ("--about", "universal", "--basis", "mechanistic", "--general", "--cause", "The bus is shared.", "--fix", "Use one.",
         "--source", "https://example.org/bus")  # fmt: skip


def run(*words: str, stdin: str | None = None) -> tuple[int, str]:
    """Exit code and stdout of `hemma gotcha *words`; an expected error is raised."""
    app = typer.Typer()
    cli.register(app)
    app.callback()(lambda: None)
    result = CliRunner().invoke(app, ["gotcha", *words], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def proposed(*words: str) -> dict[str, Any]:
    """The proposal that `hemma gotcha propose *words` drafts."""
    return json.loads(run("propose", *words, "--json")[1])["proposal"]


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder and what it holds."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a log of a failure, and a state folder of its own; we stand in it."""
    monkeypatch.setenv("HEMMA_STATE_DIR", str(tmp_path / "state"))
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "log").write_text(LOG)
    monkeypatch.chdir(repository)
    return repository


def entries(repository: Path) -> dict[str, Gotcha]:
    """The entries of the repository's own runbooks."""
    return {entry.id: entry for entry in runbook.load(str(repository)).entries()}


# --- drafting ------------------------------------------------------------------------------------------------------


@pytest.mark.req("S17-R01", "S17-R02", "S17-R07")
def test_a_failure_becomes_a_draft_and_nothing_else(own: Path) -> None:
    before = tree(own)
    made = proposed("--log", "log")
    assert made["evidence"] == ["RuntimeError: frobnicator 12 of 40 lost its sync at /data/x/y"]
    assert made["symptom"] == "RuntimeError: frobnicator 12 of 40 lost its sync at …"
    assert (made["route"], made["missing"], made["status"]) == ("project", ["fix"], "open")
    assert tree(own) == before
    (file,) = Path(gotcha_queue.queue()).iterdir()
    assert file.name == made["id"] + ".json"
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.req("S17-R11")
def test_no_secret_gets_into_a_draft(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PASSWORD", "correct horse battery")
    (own / "log").write_text(f"ValueError: refused {TOKEN} and correct horse battery\n")
    proposed("--log", "log", "--cause", f"the token {TOKEN} was old")
    kept = b"".join(tree(Path(gotcha_queue.queue())).values())
    assert b"refused" in kept
    assert TOKEN.encode() not in kept
    assert b"correct horse battery" not in kept


def test_what_is_known_already_is_named_and_not_drafted(own: Path) -> None:
    (own / "log").write_text("fatal: detected dubious ownership in repository at '/repo'\n")
    found = json.loads(run("propose", "--log", "log", "--json")[1])
    assert found["proposal"] is None
    assert [entry["id"] for entry in found["known"]] == ["git-dubious-ownership"]
    assert gotcha_queue.proposals() == []


@pytest.mark.req("S17-R03")
def test_the_same_failure_again_counts_up_and_keeps_what_was_said(own: Path) -> None:
    first = proposed("--log", "log", "--about", "universal", "--fix", "Use one.")
    (own / "log").write_text(LOG.replace("12 of 40", "39 of 40"))
    second = proposed("--log", "log", "--about", "universal")
    assert (first["route"], second["route"]) == ("note", "project")
    assert (second["id"], second["seen"], second["fix"]) == (first["id"], 2, "Use one.")
    assert len(gotcha_queue.proposals()) == 1


def test_the_classifier_says_whose_it_is(own: Path) -> None:
    (own / "log").write_text("TypeError: SFTConfig.__init__() got an unexpected keyword argument 'no_such_thing'\n")
    made = proposed("--log", "log", "--basis", "reproduced", "--general", "--cause", "c", "--fix", "f")
    assert (made["about"], made["code"], made["route"]) == ("training", "unknown-argument", "training")
    assert made["missing"] == ["sources"]


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("last", "--log", "log"),
        ("--log", "no-such-file"),
        ("--log", "."),
        ("--log", "/dev/null"),
        ("--log", "log", "--about", "everybody"),
        ("--log", "log", "--basis", "felt"),
        ("--log", "log", "--source", "http://localhost/"),
        ("--log", "log", "--platform", "../../etc"),
        ("--log", "log", "--corrects", "no-such-entry"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_with_a_remedy(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as refused:
        run("propose", *words)
    assert refused.value.remedy
    assert gotcha_queue.proposals() == []


def test_any_bytes_may_be_a_log(own: Path) -> None:
    (own / "log").write_bytes(os.urandom(200_000) + b"\nRuntimeError: \xff\xfe gone\n")
    assert proposed("--log", "log")["evidence"]
    (own / "empty").write_bytes(b"")
    assert proposed("--log", "empty", "--symptom", "It hangs.")["symptom"] == "It hangs."


@pytest.mark.parametrize(
    "line",
    [
        "RuntimeError: lost 3 of 4 at /a/b (why)",
        "x" * 500,
        "ValueError: [a-z]+ (?P<n>",
        "OSError: 0xdeadbeef in 1.5 s",
        "é" * 40,
    ],
)
def test_the_expression_of_a_line_fits_it_and_is_safe(line: str) -> None:
    pattern = pattern_of(line)
    assert pattern
    assert why_unsafe(pattern) == ""
    assert re.search(pattern, line)


# --- approving -----------------------------------------------------------------------------------------------------


@pytest.mark.req("S17-R06")
@pytest.mark.parametrize(
    "words", [("--about", "host", "--fix", "Use one."), ("--about", "project", "--fix", "Use one.")]
)
def test_what_holds_here_only_is_not_offered_upstream(words: tuple[str, ...]) -> None:
    assert "upstream" not in run("approve", proposed("--log", "log", *words)["id"], "--yes")[1]


@pytest.mark.req("S17-R06")
def test_the_commands_for_offering_upstream_make_a_patch_of_that_entry_alone(own: Path) -> None:
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "Begin"]):
        subprocess.run(["git", *words], check=True, capture_output=True)
    said = run("approve", proposed("--log", "log", *WHOLE)["id"], "--yes")[1]
    steps = [line.removeprefix("do").strip() for line in said.splitlines() if line.startswith("do ")]
    (own / "log").write_text("something else changed as well\n")
    for step in steps[:2]:
        subprocess.run(step, shell=True, check=True, capture_output=True)
    patch = (own / "gotcha.patch").read_text()
    assert "cause: The bus is shared." in patch
    assert [line for line in patch.splitlines() if line.startswith("+++")] == ["+++ b/runbooks/gotchas/learned.yaml"]


@pytest.mark.req("S17-R08")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--fix", "First.\n\nAnd another chapter."), "several paragraphs"),
        (("--cause", "- one\n- two"), "several paragraphs or points"),
        (("--symptom", "1. one\n2. two"), "several paragraphs or points"),
        (("--fix", "x" * 801), "801 letters"),
        (tuple(word for n in range(9) for word in ("--source", f"https://example.org/{n}")), "9 sources"),
    ],
)
def test_what_is_larger_than_one_entry_is_refused_and_named_a_task_of_its_own(
    own: Path, words: tuple[str, ...], said: str
) -> None:
    before = tree(own)
    with pytest.raises(HemmaError, match=said) as refused:
        run("propose", "--log", "log", *words)
    assert (refused.value.code, "a task of its own" in refused.value.remedy) == ("larger-than-an-entry", True)
    assert gotcha_queue.proposals() == []
    made = proposed("--log", "log", *WHOLE)
    with pytest.raises(HemmaError, match=said):
        run("approve", made["id"], "--yes", *words)
    assert tree(own) == before
    assert [each.status for each in gotcha_queue.proposals()] == ["open"]


@pytest.mark.req("S17-R08")
def test_every_entry_that_came_with_hemma_is_small_enough_to_be_one() -> None:
    for entry in runbook.load(runbook.SHIPPED, runbook.SHIPPED).entries():
        texts = {"symptom": entry.symptom, "cause": entry.cause, "fix": entry.fix}
        assert larger_than_an_entry(texts, len(entry.sources)) == "", entry.id


@pytest.mark.req("S17-R07", "C23")
def test_the_memory_is_written_by_itself_and_pages_of_people_only_when_they_say_yes(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(["git", "init", "-q"], check=True)
    (own / "AGENTS.md").write_text("# Rules\n")
    assert main(["memory", "init"]) == 0
    log = own / ".claude/project_log.json"
    # Whatever the verb says of it: that it was tried is noted, and nobody is asked.
    main(["tokenizer", "no-such-manifest.yaml"])
    assert json.loads(log.read_text())["entries"][-1]["executed"] == "hemma tokenizer"
    before = tree(own)
    made = proposed("--log", "log", "--about", "project", "--fix", "Use one.")
    with pytest.raises(NeedsPerson):
        run("approve", made["id"])
    assert tree(own) == before
    run("approve", made["id"], "--yes")
    changed = {name for name, content in tree(own).items() if before.get(name) != content}
    assert changed == {"AGENTS.md"}


@pytest.mark.req("S17-R07", "C23")
def test_nothing_is_written_before_a_person_says_yes(own: Path) -> None:
    made = proposed("--log", "log", *WHOLE)
    before = tree(own)
    code, said = run("approve", made["id"], "--dry-run")
    assert (code, tree(own)) == (0, before)
    assert "+    cause: The bus is shared." in said
    with pytest.raises(NeedsPerson):
        run("approve", made["id"])
    assert tree(own) == before
    assert [proposal.status for proposal in gotcha_queue.proposals()] == ["open"]


@pytest.mark.req("S17-R04", "S17-R09", "S17-R13")
def test_what_is_approved_stands_in_the_catalogue_with_this_months_stamp(own: Path) -> None:
    made = proposed("--log", "log", *WHOLE)
    assert run("approve", made["id"], "--yes")[0] == 0
    ((name, entry),) = entries(own).items()
    assert (entry.cause, entry.fix, entry.basis) == ("The bus is shared.", "Use one.", "mechanistic")
    assert entry.verified == f"{TODAY:%Y-%m}"
    library = runbook.load(str(own))
    assert check(library.texts, library.others, TODAY) == []
    known = json.loads(run("propose", "--log", "log", "--json")[1])["known"]
    assert [each["id"] for each in known] == [name]
    assert [match.entry.id for match in flow.hints(LOG)] == [name]
    assert gotcha_queue.proposals() == []
    assert [proposal.status for proposal in gotcha_queue.proposals(every=True)] == ["approved"]
    with pytest.raises(HemmaError, match="approved already"):
        run("approve", made["id"], "--yes")


def test_what_lacks_something_is_not_written_and_can_be_completed(own: Path) -> None:
    made = proposed("--log", "log", *WHOLE[:-2])
    before = tree(own)
    with pytest.raises(HemmaError) as refused:
        run("approve", made["id"], "--yes")
    assert refused.value.code == "proposal-not-ready"
    assert "--source URL" in refused.value.remedy
    assert tree(own) == before
    assert run("approve", made["id"][:-3], "--yes", "--source", "https://example.org/bus")[0] == 0
    assert len(entries(own)) == 1


@pytest.mark.req("S17-R09")
def test_what_would_not_pass_the_checks_is_not_written(own: Path) -> None:
    made = proposed("--log", "log", *WHOLE)
    path = Path(gotcha_queue.queue()) / f"{made['id']}.json"
    path.write_text(path.read_text().replace(json.dumps(made["matches"][0])[1:-1], "(a+)+b"))
    before = tree(own)
    with pytest.raises(HemmaError, match="would not pass"):
        run("approve", made["id"], "--yes")
    assert tree(own) == before


def test_a_file_that_changed_meanwhile_is_not_written_over(own: Path) -> None:
    made = proposed("--log", "log", *WHOLE)
    ready = flow.completed(made["id"], flow.Draft())
    changes = flow.patches(ready, TODAY)
    path = Path(changes[0].path)
    path.parent.mkdir(parents=True)
    path.write_text("title: Mine\n")
    with pytest.raises(HemmaError, match="changed meanwhile"):
        flow.approve(ready, changes)
    assert path.read_text() == "title: Mine\n"


@pytest.mark.req("S17-R03")
def test_a_project_fact_goes_into_the_page_that_agents_read(own: Path) -> None:
    (own / "CLAUDE.md").write_text("# Rules\n\nBe kind.\n")
    made = proposed("--log", "log", "--about", "project", "--fix", "Use one.")
    run("approve", made["id"], "--yes")
    assert (own / "CLAUDE.md").read_text() == (
        "# Rules\n\nBe kind.\n\n## Known failures\n\n- RuntimeError: frobnicator 12 of 40 lost its sync at … Do: Use one.\n"
    )


@pytest.mark.req("S17-R02", "S17-R03")
@pytest.mark.parametrize(
    ("words", "folder"), [(("--about", "host", "--fix", "Use one."), "memory"), (("--about", "universal"), "notes")]
)
def test_what_is_ones_own_or_below_the_bar_stays_out_of_the_repository(
    own: Path, words: tuple[str, ...], folder: str
) -> None:
    before = tree(own)
    made = proposed("--log", "log", *words)
    run("approve", made["id"], "--yes")
    assert tree(own) == before
    (note,) = (Path(os.environ["HEMMA_STATE_DIR"]) / folder).iterdir()
    assert "frobnicator" in note.read_text()


@pytest.mark.req("S17-R03")
def test_a_platforms_failure_is_named_in_its_profile(own: Path) -> None:
    source = Path(runbook.SHIPPED)
    (own / "runbooks/profiles").mkdir(parents=True)
    (own / "runbooks/gotchas").mkdir()
    for name in ("profiles/lambda.md", "gotchas/platform-lambda.yaml"):
        (own / "runbooks" / name).write_text((source / name).read_text("utf-8"), "utf-8")
    made = proposed("--log", "log", *WHOLE[2:], "--platform", "lambda")
    assert made["route"] == "profile"
    run("approve", made["id"], "--yes")
    (name,) = set(entries(own)) - {"lambda-has-no-stop", "lambda-filesystem-bills-on"}
    assert f"  - {name}\n---\n" in (own / "runbooks/profiles/lambda.md").read_text("utf-8")


@pytest.mark.req("S17-R05", "S17-R15")
def test_a_correction_keeps_what_was_said_and_where_the_new_was_read(own: Path) -> None:
    run("approve", proposed("--log", "log", *WHOLE)["id"], "--yes")
    (name,) = entries(own)
    made = proposed("--corrects", name, "--fix", "Use none.", "--source", "https://example.org/new")
    assert made["route"] == "correction"
    run("approve", made["id"], "--yes")
    entry = entries(own)[name]
    (note,) = entry.corrections
    assert (entry.fix, note.field, note.old, note.new) == ("Use none.", "fix", "Use one.", "Use none.")
    assert (note.source, note.day) == ("https://example.org/new", TODAY)
    assert entry.cause == "The bus is shared."


def test_a_shipped_entry_is_not_rewritten_where_it_lies(own: Path) -> None:
    before = tree(Path(runbook.SHIPPED))
    made = proposed("--corrects", "pad-is-eos", "--fix", "Do nothing.", "--source", "https://example.org/new")
    with pytest.raises(HemmaError, match="came with Hemma"):
        run("approve", made["id"], "--yes")
    assert tree(Path(runbook.SHIPPED)) == before
    # Nor where the repository has learned something of its own.
    other = proposed("--log", "log", *WHOLE)
    assert run("approve", other["id"], "--yes")[0] == 0
    with pytest.raises(HemmaError, match="came with Hemma"):
        run("approve", made["id"], "--yes")
    assert tree(Path(runbook.SHIPPED)) == before


def test_what_comes_with_hemma_is_still_known_after_the_first_entry_of_ones_own(own: Path) -> None:
    assert run("approve", proposed("--log", "log", *WHOLE)["id"], "--yes")[0] == 0
    (own / "log").write_text("RuntimeError: 3.00 GiB is reserved by PyTorch but unallocated.\n")
    known = json.loads(run("propose", "--log", "log", "--json")[1])["known"]
    assert [each["id"] for each in known] == ["memory-in-fragments"]


@pytest.mark.req("S17-R04")
def test_an_error_with_a_known_symptom_names_its_entry(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole way: learned from a log, approved, and shown by another command that fails with it."""
    (own / "out").mkdir()
    assert main(["verify", "--format", "json", "--out", "out"]) == 1
    (own / "log").write_text(capsys.readouterr().err)
    made = proposed("--log", "log", *WHOLE)
    assert made["symptom"] == "… cannot be written: Is a directory"  # without the word that the screen shows before it
    assert run("approve", made["id"], "--yes")[0] == 0
    ((name, entry),) = entries(own).items()
    for form, shown in (("json", 1), ("nonsense", 0)):  # a slip of the user's is no symptom
        capsys.readouterr()
        assert main(["verify", "--format", form, "--out", "out"]) != 0
        said = capsys.readouterr().err
        assert said.count(f"known    {name}: {entry.fix}   (hemma runbook show {name})") == shown, said
    assert main(["runbook", "show", name]) == 0


def test_the_next_command_asks_for_what_is_lacking(own: Path) -> None:
    (own / "log").write_text("the frobnicator is out of phase\n")
    said = run("propose", "--log", "log")[1].splitlines()[-1]
    assert re.fullmatch(r"do +hemma gotcha approve \S+ --fix TEXT", said)


# --- the queue -----------------------------------------------------------------------------------------------------


def test_a_rejected_proposal_is_kept_with_its_reason(own: Path) -> None:
    made = proposed("--log", "log")
    assert run("reject", made["id"], "--why", "a typing slip")[0] == 0
    assert gotcha_queue.proposals() == []
    (kept,) = json.loads(run("list", "--all", "--json")[1])
    assert (kept["status"], kept["why"]) == ("rejected", "a typing slip")


@pytest.mark.parametrize("name", ["no-such", "", "../../etc/passwd", "*", "a/b", "x" * 5000])
def test_a_name_that_fits_no_proposal_is_refused(name: str) -> None:
    proposed("--log", "log")
    with pytest.raises(HemmaError) as refused:
        run("reject", name)
    assert refused.value.code == "no-proposal"


def test_a_beginning_that_two_have_names_them_and_a_whole_id_is_that_one(own: Path) -> None:
    made = proposed("--log", "log")
    kept = Path(gotcha_queue.queue()) / f"{made['id']}.json"
    longer = f"{made['id']}a"
    kept.with_name(f"{longer}.json").write_text(kept.read_text().replace(made["id"], longer))
    with pytest.raises(HemmaError, match="2 proposals begin with") as refused:
        run("reject", made["id"][:-1])
    assert refused.value.remedy == f"one of: {made['id']}, {longer}"
    assert run("reject", made["id"])[0] == 0
    assert [proposal.id for proposal in gotcha_queue.proposals()] == [longer]


@pytest.mark.req("S17-R06")
def test_a_person_reads_what_is_drafted_what_waits_and_what_was_written(own: Path) -> None:
    code, said = run("list")
    assert (code, said) == (0, "")
    said = run("propose", "--log", "-", *WHOLE[:-2], stdin=LOG)[1]
    (made,) = gotcha_queue.proposals()
    assert f"{made.id}, open" in said
    assert "lacks     sources" in said
    assert f"do       hemma gotcha approve {made.id}" in said
    assert f"{made.id}  open, universal, seen 1, lacks sources" in run("list")[1]
    said = run("approve", made.id, "--yes", "--source", "https://example.org/bus")[1]
    assert said.count("learned.yaml") >= 2
    assert "offering upstream" in said
    assert "git format-patch -1 --stdout -- runbooks/gotchas/learned.yaml > gotcha.patch" in said
    assert "known: " in run("propose", "--log", "log")[1]
    other = proposed("--log", "log", "--symptom", "Something else.")
    assert "is rejected" in run("reject", other["id"])[1]
    assert json.loads(run("list", "--json")[1]) == []


def test_a_correction_that_says_what_stands_there_already_is_refused(own: Path) -> None:
    run("approve", proposed("--log", "log", *WHOLE)["id"], "--yes", "--json")
    (name,) = entries(own)
    lacking = proposed("--corrects", name)
    assert lacking["missing"] == ["fix", "sources"]
    same = proposed("--corrects", name, "--fix", "Use one.", "--source", "https://example.org/new")
    with pytest.raises(HemmaError, match="says that already"):
        run("approve", same["id"], "--yes")


def test_hints_never_raise_whatever_lies_there(own: Path) -> None:
    (own / "runbooks/gotchas").mkdir(parents=True)
    (own / "runbooks/gotchas/x.yaml").write_bytes(b"\xff: [")
    assert [match.entry.id for match in flow.hints("EADDRINUSE")] == ["port-29500-is-taken"]
    assert flow.hints("", "no-such-code", start="/no/such/folder") == []
