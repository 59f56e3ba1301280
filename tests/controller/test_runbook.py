"""`hemma runbook`: what is shipped holds, is found, and any repository can have its own."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from controller.cli import runbook as cli
from controller.cli.app import main
from controller.flows import runbook as flow
from lanes.runbook_rules import SECTIONS, check
from lanes.runbook_stamps import Limits
from manifests.errors import HemmaError, UsageError
from manifests.runbooks import ProfileMatter

# The day on which the shipped stamps were last looked at: they age, this test does not.
LOOKED_AT = dt.date(2026, 11, 21)
REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = "---\ntitle: Mine\ndate: 2026-01-02\n---\n\n# Mine\n\n## Frobnicate\n\nTurn the\nfrobnicator twice.\n"


def run(*words: str) -> tuple[int, str]:
    """Exit code and stdout of `hemma runbook *words`."""
    app = typer.Typer()
    cli.register(app)
    app.callback()(lambda: None)
    result = CliRunner().invoke(app, ["runbook", *words], catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


@pytest.fixture
def shipped() -> flow.Library:
    """The runbooks that come with Hemma."""
    return flow.load(flow.SHIPPED, flow.SHIPPED)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with runbooks of its own; we stand in it."""
    folder = tmp_path / "runbooks"
    (folder / "host").mkdir(parents=True)
    (folder / "README.md").write_text("---\ntitle: R\ndate: 2026-01-02\n---\n\n# R\n\n[mine](host/mine.md)\n")
    (folder / "host/mine.md").write_text(PAGE)
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.req("S17-R09", "S17-R13", "S17-R16", "S17-R18")
def test_what_is_shipped_holds(shipped: flow.Library) -> None:
    assert flow.findings(shipped, LOOKED_AT, Limits()) == []


@pytest.mark.req("S17-R04")
def test_at_least_forty_failures_are_known_each_with_its_sources(shipped: flow.Library) -> None:
    files = shipped.files()
    about_machines_or_training = [e for _, file in files for e in file.gotchas if file.scope != "platform"]
    assert len(about_machines_or_training) >= 40
    assert all(entry.sources for _, file in files for entry in file.gotchas)
    assert {file.scope for _, file in files} == {"universal", "training", "platform"}


@pytest.mark.req("S17-R13", "S17-R15")
def test_six_platforms_have_the_same_eight_sections_and_facts_with_sources(shipped: flow.Library) -> None:
    pages = [page for page in shipped.pages() if page.path.startswith("profiles/")]
    assert {page.path for page in pages} == {
        f"profiles/{name}.md" for name in ("ssh-host", "colab", "runpod", "vast-ai", "lambda", "slurm")
    }
    for page in pages:
        assert [section.title for section in page.sections] == list(SECTIONS)
        matter = ProfileMatter.model_validate(page.matter)
        assert all(fact.source.startswith("https://") for _, fact in matter.facts())
        if matter.kind in {"marketplace", "cloud"}:
            assert all(fact.money for fact in matter.teardown), page.path


def test_the_shipped_folder_is_the_one_beside_the_package() -> None:
    assert Path(flow.SHIPPED) == REPOSITORY / "runbooks"


def test_a_repository_without_runbooks_gets_those_that_are_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = run("list", "--json")
    assert code == 0
    assert json.loads(said)["shipped"] is True


def test_a_repository_has_its_own(own: Path) -> None:
    found = json.loads(run("list", "--json")[1])
    assert (found["shipped"], found["folder"]) == (False, str(own))
    assert [page["name"] for page in found["pages"] if not page["shipped"]] == ["README", "host/mine"]
    assert run("check", "--today", "2026-11-21") == (0, "ok       2 files hold\n")


@pytest.mark.req("S17-R04", "S17-R13")
def test_a_repositorys_own_stands_before_what_comes_with_hemma_and_hides_none_of_it(own: Path) -> None:
    (own / "gotchas").mkdir()
    (own / "gotchas/learned.yaml").write_text(
        "title: Learned here\nscope: universal\ngotchas:\n  - id: pad-is-eos\n    symptom: ours\n    cause: c\n"
        "    fix: f\n    sources: [https://example.org/x]\n    verified: 2026-11\n    basis: reproduced\n"
    )
    (own / "host/setup.md").write_text(PAGE)
    found = json.loads(run("list", "--json")[1])
    names = [page["name"] for page in found["pages"]]
    assert names[:3] == ["README", "host/mine", "host/setup"]
    assert (names.count("README"), names.count("host/setup"), "profiles/slurm" in names) == (1, 1, True)
    ours = {entry["id"]: entry["shipped"] for entry in found["gotchas"]}
    assert (ours["pad-is-eos"], ours["memory-in-fragments"]) == (False, True)
    assert run("show", "setup")[1].startswith("# Mine\n")
    assert run("show", "slurm")[1].startswith("# A Slurm cluster\n")
    assert json.loads(run("show", "pad-is-eos", "--json")[1])["symptom"] == "ours"
    assert json.loads(run("show", "memory-in-fragments", "--json")[1])["sources"]
    assert json.loads(run("search", "bus", "error", "--json")[1])[0]["name"] == "shared-memory-too-small"
    # --folder names that folder alone, and what is checked is the repository's.
    assert [page["name"] for page in json.loads(run("list", "-C", "runbooks", "--json")[1])["pages"]] == names[:3]
    assert json.loads(run("check", "--json")[1])["folder"] == str(own)


def test_a_page_is_shown_by_its_path_or_its_name(own: Path) -> None:
    for name in ("host/mine", "mine", "host/mine.md", "runbooks/host/mine.md"):
        code, said = run("show", name)
        assert code == 0
        assert said.startswith("# Mine\n")


def test_a_name_that_fits_nothing_or_two_pages_is_refused(own: Path) -> None:
    (own / "lanes").mkdir()
    (own / "lanes/mine.md").write_text(PAGE)
    for name in ("no-such", "mine", "", "../README", "/"):
        with pytest.raises(HemmaError) as refused:
            run("show", name)
        assert refused.value.code == "no-runbook"


def test_a_profile_is_shown_with_its_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = run("show", "profiles/runpod")[1]
    assert "[teardown] " in said
    assert ", costs money)" in said
    shown: dict[str, Any] = json.loads(run("show", "runpod", "--json")[1])
    assert shown["kind"] == "profile"
    assert shown["facts"]["teardown"][0]["source"].startswith("https://")


def test_an_entry_is_shown_by_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = json.loads(run("show", "pad-is-eos", "--json")[1])
    assert (shown["kind"], shown["scope"]) == ("gotcha", "training")
    assert "source    https://" in run("show", "pad-is-eos")[1]


def test_a_search_for_nothing_says_so(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runbook", "search", "no-such-word-anywhere"]) == 1
    told = capsys.readouterr()
    assert (told.out, told.err.splitlines()[0]) == ("", "warn     no page and no entry holds all of these words")


def test_a_search_finds_a_section_with_its_line_and_an_entry_first(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hit = json.loads(run("search", "FROBNICATOR", "twice", "--json")[1])[0]
    assert (hit["path"], hit["section"], hit["says"]) == ("host/mine.md", "Frobnicate", "frobnicator twice.")
    assert PAGE.splitlines()[hit["line"] - 1] == hit["says"]
    assert run("search", "no-such-word-anywhere")[0] == 1
    monkeypatch.chdir(tmp_path.parent)
    hits = json.loads(run("search", "bus", "error", "--json")[1])
    assert hits[0]["name"] == "shared-memory-too-small"


@pytest.mark.req("S17-R16")
def test_check_names_file_and_line_and_ends_with_one(own: Path) -> None:
    page = own / "host/mine.md"
    page.write_text(page.read_text() + "\n[gone](no.md)\n")
    line = len(page.read_text().splitlines())
    code, said = run("check", "--today", "2026-11-21")
    assert code == 1
    assert f"runbooks/host/mine.md:{line} link: no.md leads nowhere" in said
    code, said = run("check", "--json")
    (finding,) = json.loads(said)["findings"]
    assert (code, finding["line"], finding["rule"]) == (1, line, "link")


@pytest.mark.req("S17-R15", "S17-R16")
def test_stamps_grow_stale_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("check", "--today", LOOKED_AT.isoformat())[0] == 0
    code, said = run("check", "--today", "2028-01-01", "--json")
    assert code == 1
    assert {finding["rule"] for finding in json.loads(said)["findings"]} == {"stale"}
    assert run("check", "--today", "2028-01-01", "--months", "99", "--money-months", "99")[0] == 0


@pytest.mark.req("S17-R17", "C28")
def test_check_says_when_to_look_again_and_schedules_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    # Whatever could schedule something would be found on PATH and leave a word.
    planners = tmp_path / "bin"
    planners.mkdir()
    for name in ("crontab", "at", "batch", "systemd-run", "systemctl", "launchctl", "gh"):
        (planners / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/scheduled\n")
        (planners / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{planners}:{os.environ['PATH']}")
    home = {path: path.stat().st_mtime_ns for path in Path(os.environ["HOME"]).rglob("*")}
    assert main(["runbook", "check", "--today", LOOKED_AT.isoformat()]) == 0
    said = capsys.readouterr().err
    found = re.search(
        r"^do +again from (\S+) on: hemma runbook check {3}\(hemma schedules nothing: plan it yourself\)$",
        said,
        re.MULTILINE,
    )
    assert found, said
    day = dt.date.fromisoformat(found[1])
    # That day and not the one before: it is when the first stamp does not hold any more.
    assert main(["runbook", "check", "--today", (day - dt.timedelta(days=1)).isoformat()]) == 0
    capsys.readouterr()
    assert main(["runbook", "check", "--today", day.isoformat()]) == 1
    assert "then: hemma runbook check" in capsys.readouterr().err
    assert json.loads(run("check", "--today", LOOKED_AT.isoformat(), "--json")[1])["next_check"] == day.isoformat()
    assert not (tmp_path / "scheduled").exists()
    assert {path: path.stat().st_mtime_ns for path in Path(os.environ["HOME"]).rglob("*")} == home


def test_a_folder_without_stamps_has_no_day_to_look_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runbooks").mkdir()
    monkeypatch.chdir(tmp_path)
    # A slip in a CI file would say that nothing is wrong with nothing.
    with pytest.raises(HemmaError, match="holds no page and no entry"):
        run("check")
    (tmp_path / "runbooks/mine.md").write_text(PAGE)
    assert json.loads(run("check", "--json")[1])["next_check"] is None


def test_a_day_that_is_none_is_refused(own: Path) -> None:
    with pytest.raises(UsageError):
        run("check", "--today", "soon")


def test_a_link_out_of_the_folder_may_lead_to_what_is_there(own: Path) -> None:
    (own.parent / "LICENSE").write_text("x")
    page = own / "host/mine.md"
    page.write_text(page.read_text() + "\n[there](../../LICENSE) [not](../../COPYING)\n")
    found = flow.findings(flow.load(str(own.parent)), LOOKED_AT, Limits())
    assert [finding.says for finding in found] == ["../../COPYING leads nowhere"]


def test_bytes_that_are_no_text_and_weird_names_do_no_harm(own: Path) -> None:
    (own / "host/bad.md").write_bytes(b"---\ntitle: \xff\xfe\n")
    (own / "host/a b\n.md").write_text("x")
    (own / "gotchas").mkdir()
    (own / "gotchas/x.yaml").write_bytes(b"\x00\x01")
    library = flow.load(str(own.parent))
    rules = {(finding.path, finding.rule) for finding in check(library.texts, library.others, LOOKED_AT)}
    assert {("host/bad.md", "front-matter"), ("gotchas/x.yaml", "entries")} <= rules
    assert run("list")[0] == 0


def test_a_folder_that_is_not_there_is_named(own: Path) -> None:
    with pytest.raises(HemmaError, match="no folder of runbooks"):
        run("list", "--folder", "nowhere")


def test_lists_are_tables_for_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "profiles/slurm" in run("list")[1]
    rows = run("list", "--platform", "slurm")[1].splitlines()
    assert len(rows) == 6
    assert all(" slurm " in row for row in rows[1:])
    assert "pad-is-eos" in run("list", "--gotchas")[1]
    assert "shared-memory-too-small  (gotchas/machine.yaml:" in run("search", "bus", "error")[1]
    assert run("check", "--today", "2026-11-21")[1].startswith("ok ")
