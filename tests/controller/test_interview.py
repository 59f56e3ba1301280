"""The interview without a terminal: answers by file and option, where they are kept, and who takes them later (S17-R10..R12)."""

from __future__ import annotations

import datetime as dt
import json
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.cli.app import main
from controller.flows import gotcha, interview, personal
from manifests.personal import PersonalFact
from manifests.train import EXAMPLE, parse

TODAY = dt.date(2026, 11, 21)
TOKEN = "hf_" + "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9v"
ANSWERS = {
    "host": "gpu-box", "platform": "runpod", "root": "~/work/one", "entry": "train.py", "configs": "configs",
    "tracker": "me/runs", "tracker_key": "HF_TOKEN", "gpu": "required 8h", "disk_gb": 500,
}  # fmt: skip


@pytest.fixture(autouse=True)
def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with an entry point and configurations, in which we stand; a second one lies beside it."""
    for name in ("config", "state", "cache"):
        monkeypatch.setenv(f"HEMMA_{name.upper()}_DIR", str(tmp_path / name))
    for name in ("one", "two"):
        (tmp_path / name / ".git").mkdir(parents=True)
        (tmp_path / name / "configs").mkdir()
        (tmp_path / name / "train.py").write_text("print('train')\n")
    monkeypatch.chdir(tmp_path / "one")
    return tmp_path / "one"


def answered(**changes: Any) -> str:
    """A file with these answers; None leaves one out."""
    said = {key: value for key, value in {**ANSWERS, **changes}.items() if value is not None}
    Path("../answers.yaml").write_text(yaml.safe_dump(said, allow_unicode=True), encoding="utf-8")
    return "../answers.yaml"


def everything(folder: Path) -> dict[str, bytes]:
    """Every file below a folder and what it holds."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def known(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What `hemma init --show --json` says."""
    capsys.readouterr()
    assert main(["init", "--show", "--json"]) == 0
    return json.loads(capsys.readouterr().out)["known"]


# --- where answers go ------------------------------------------------------------------------------------------------


@pytest.mark.req("S17-R10", "S17-R03")
def test_the_projects_answers_are_committed_and_ones_own_are_not(one: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--answers", answered()]) == 0
    hemma = tomllib.loads((one / "pyproject.toml").read_text())["tool"]["hemma"]
    assert (hemma["host"], hemma["root"], hemma["configs"]) == ("gpu-box", "~/work/one", "configs")
    assert hemma["verify"]["entry"] == ["train.py"]
    assert not {"tracker", "tracker_key", "gpu", "disk_gb", "platform"} & set(hemma)
    memory = personal.read()
    assert memory.problems == ()
    assert {(fact.key, fact.host, fact.value) for fact in memory.facts} == {
        ("host", None, "gpu-box"),
        ("platform", "gpu-box", "runpod"),
        ("entry", None, "train.py"),
        ("configs", None, "configs"),
        ("tracker", None, "me/runs"),
        ("tracker_key", None, "HF_TOKEN"),
        ("gpu", "gpu-box", "required 8h"),
        ("disk_gb", "gpu-box", "500"),
        ("repositories", "gpu-box", "~/work"),
    }
    assert all(path.stat().st_mode & 0o077 == 0 for path in Path(personal.folder()).iterdir())
    rows = known(capsys)
    assert rows["gpu"]["value"] == "required 8h"
    assert rows["gpu"]["from"].startswith("personal memory: ")
    assert rows["root"] == {"value": "~/work/one", "from": str(one / "pyproject.toml")}


@pytest.mark.req("S17-R03")
def test_one_fact_has_one_file_however_often_and_differently_it_is_told(one: Path) -> None:
    main(["init", "--answers", answered()])
    before = everything(Path(personal.folder()))
    project = (one / "pyproject.toml").read_bytes()
    main(["init", "--answers", answered()])
    assert everything(Path(personal.folder())) == before
    assert (one / "pyproject.toml").read_bytes() == project
    main(["init", "--gpu", "none"])
    after = everything(Path(personal.folder()))
    assert set(after) == set(before)
    assert [name for name in before if before[name] != after[name]] == [
        os.path.basename(personal.place("gpu", "gpu-box"))
    ]
    main(["init", "--gpu", "-"])
    assert set(before) - set(everything(Path(personal.folder()))) == {
        os.path.basename(personal.place("gpu", "gpu-box"))
    }


def test_hosts_whose_names_differ_in_odd_letters_only_have_files_of_their_own() -> None:
    places = {personal.place("gpu", host) for host in ("a/b", "a_b", "a b", "../a", "a" * 300, "a" * 301)}
    assert len(places) == 6
    assert {os.path.dirname(place) for place in places} == {personal.folder()}


def test_options_say_it_too_and_stand_over_the_file(one: Path) -> None:
    assert main(["init", "--answers", answered(), "--disk-gb", "1.5 TB", "--platform", "ssh"]) == 0
    memory = personal.read()
    assert (memory.value("disk_gb", "gpu-box"), memory.value("platform", "gpu-box")) == ("1500", "ssh-host")


def test_the_usual_options_alone_keep_nothing_of_ones_own(one: Path) -> None:
    assert main(["init", "--host", "gpu-box", "--root", "~/work/one"]) == 0
    assert main(["init", "--no-interview", "--host", "gpu-box", "--root", "~/work/one"]) == 0
    assert personal.read().facts == ()
    assert not os.path.exists(personal.folder())


def test_entries_of_verify_that_are_there_stay(one: Path) -> None:
    (one / "pyproject.toml").write_text('[tool.hemma.verify]\nentry = "other.py" # mine\n')
    assert main(["init", "--answers", answered()]) == 0
    text = (one / "pyproject.toml").read_text()
    assert tomllib.loads(text)["tool"]["hemma"]["verify"]["entry"] == ["other.py", "train.py"]


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.req("S17-R11")
@pytest.mark.parametrize("key", sorted(ANSWERS))
def test_a_secret_is_refused_wherever_it_is_given_and_nothing_is_written(
    one: Path, tmp_path: Path, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    option = "--" + key.replace("_", "-")
    before = everything(tmp_path)
    for words in (["init", "--answers", answered(**{key: TOKEN})], ["init", option, TOKEN]):
        (tmp_path / "answers.yaml").rename(tmp_path / "given.yaml") if words[1] == option else None
        assert main(words) == 2
        said = capsys.readouterr()
        assert TOKEN not in said.out + said.err
        assert "\ndo " in said.err
    (tmp_path / "given.yaml").unlink()
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe\x00", "neither YAML nor JSON"),
        (b"host: [a\n", "neither YAML nor JSON"),
        (b"- host\n", "no mapping"),
        (b"", "no mapping"),
        (b"hots: gpu\n", "no question"),
        (b"host: {a: b}\n", "text or a number"),
        (b"gpu: true\n", "text or a number"),
        (b'{"host": "gpu\\nbox"}', "one line"),
        (b'{"host": "caf\\ud800"}', "UTF-8"),
        (b"host: " + b"x" * 10_000, "longer than"),
        (b"host: " + b"x" * 100_000, "larger than"),
        (b"[" * 1_500, "neither YAML nor JSON"),
        (b"a: &a [x, x]\nb: &b [*a, *a]\nhost: [*b, *b]\n", "no question"),
        (b"entry: no-such.py\n", "not in this clone"),
        (b"configs: no-such\n", "not in this clone"),
    ],
)
def test_a_file_that_holds_no_answers_is_refused_with_a_remedy(
    one: Path, tmp_path: Path, content: bytes, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "answers").write_bytes(content)
    before = everything(tmp_path)
    assert main(["init", "--answers", str(tmp_path / "answers")]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert "\ndo " in told
    assert "Traceback" not in told
    assert everything(tmp_path) == before


def test_a_file_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--answers", "no such file"]) == 2
    assert "ls -l 'no such file'" in capsys.readouterr().err


def test_an_interview_needs_a_terminal_and_json_needs_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--interview"]) == 2
    assert "hemma init --answers FILE" in capsys.readouterr().err
    assert main(["init", "--json"]) == 2


# --- the next repository ---------------------------------------------------------------------------------------------


@pytest.mark.req("S17-R12")
def test_the_next_repository_is_offered_what_is_usual(one: Path, tmp_path: Path) -> None:
    main(["init", "--answers", answered(root="/srv/data/one")])
    where = interview.ground(str(tmp_path / "two" / "pyproject.toml"))
    offers = {key: interview.offered(where, key, "gpu-box") for key in ANSWERS}
    assert {key: offer.value if offer else None for key, offer in offers.items()} == {
        **{key: str(value) for key, value in ANSWERS.items()},
        "root": "/srv/data/two",
    }
    assert interview.is_first(where)
    other = interview.offered(where, "gpu", "another-box")
    assert other is None
    (tmp_path / "two" / "train.py").unlink()
    assert interview.offered(where, "entry", "gpu-box") is None


def test_without_a_memory_this_machine_is_looked_at(one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    where = interview.ground(str(one / "pyproject.toml"))
    assert interview.offered(where, "host", None) is None
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").write_text("Host *\n  User me\nHost gpu\n")
    found = interview.offered(where, "host", None)
    assert found == interview.Known("gpu", str(tmp_path / ".ssh/config"))
    (tmp_path / ".ssh/config").write_text("Host gpu other\n")
    assert interview.offered(where, "host", None) is None  # which of them is a person's to say


@pytest.mark.req("S17-R12")
def test_config_shows_what_later_commands_take_and_from_where(capsys: pytest.CaptureFixture[str]) -> None:
    main(["init", "--answers", answered()])
    capsys.readouterr()
    assert main(["config", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["settings"]
    taken = {key: row["value"] for key, row in rows.items() if row["from"] == "personal memory"}
    assert taken == {
        "train.resources.gpu": "required",
        "train.resources.max_gpu_hours": 8.0,
        "train.arguments.trackio_space_id": "me/runs",
        "prune.size_gb": 500.0,
    }


@pytest.mark.req("S17-R12")
def test_a_request_takes_what_is_usual_only_where_it_says_nothing() -> None:
    main(["init", "--answers", answered()])
    manifest = parse(EXAMPLE, "manifests/runs/tiny-text.yaml")
    assert manifest.resources.gpu == "optional"  # it says so itself
    filled, taken = personal.completed(manifest, "gpu-box")
    assert taken == {"resources.max_gpu_hours": 8.0, "arguments.trackio_space_id": "me/runs"}
    assert (filled.resources.gpu, filled.resources.timeout) == ("optional", 1800.0)
    job = filled.job()
    assert job["resources"]["max_gpu_hours"] == 8.0
    assert job["arguments"] == {**manifest.arguments, "trackio_space_id": "me/runs"}
    silent = parse(EXAMPLE.replace("gpu: optional, ", ""), "x.yaml")
    assert personal.completed(silent, "gpu-box")[0].resources.gpu == "required"
    assert personal.completed(manifest, "another-box")[1] == {"arguments.trackio_space_id": "me/runs"}
    said = parse(EXAMPLE.replace("{max_steps", "{trackio_space_id: a/b, max_steps"), "x.yaml")
    assert personal.completed(said, "gpu-box")[0].arguments["trackio_space_id"] == "a/b"


def test_without_a_memory_a_request_stays_as_it_is() -> None:
    manifest = parse(EXAMPLE, "x.yaml")
    assert personal.completed(manifest, "gpu-box") == (manifest, {})


@pytest.mark.req("S17-R12")
def test_what_is_known_of_a_platform_comes_by_its_code_where_the_host_is_one_of_it() -> None:
    assert gotcha.hints("", "preempted") == []
    by_code = [
        entry for entry in gotcha.runbook.load(".").entries() if "preempted" in entry.codes and not entry.matches
    ]
    main(["init", "--answers", answered(platform="slurm")])
    found = [match.entry.id for match in gotcha.hints("", "preempted")]
    assert found
    assert set(found) <= {entry.id for entry in by_code}
    main(["init", "--platform", "ssh"])
    assert gotcha.hints("", "preempted") == []


@pytest.mark.req("S17-R12")
def test_a_draft_about_a_platform_is_about_the_hosts_own(capsys: pytest.CaptureFixture[str]) -> None:
    Path("log").write_text("RuntimeError: frobnicator 12 lost its sync\n")
    drafted = ["gotcha", "propose", "--log", "log", "--about", "platform", "--json"]
    found: list[str | None] = []
    for words in ([], ["init", "--answers", answered()]):
        assert main(words) == 0 if words else True
        capsys.readouterr()
        assert main([*drafted, "--cause", f"c{len(found)}"]) == 0
        found.append(json.loads(capsys.readouterr().out)["proposal"]["platform"])
    assert found == [None, "runpod"]


# --- a memory that was damaged ---------------------------------------------------------------------------------------


BROKEN = (
    b"",
    b"{",
    b"\xff",
    b"[]",
    b'{"key": "tracker"}',
    json.dumps({"key": "tracker", "value": TOKEN, "day": "2026-11-21"}).encode(),
    json.dumps({"key": "tracker", "value": "a\nb", "day": "2026-11-21"}).encode(),
    json.dumps({"key": "gpu", "value": "many", "host": "gpu-box", "day": "2026-11-21"}).encode(),
    json.dumps({"key": "what", "value": "x", "day": "2026-11-21"}).encode(),
    json.dumps({"schema_version": 9, "key": "tracker", "value": "x", "day": "2026-11-21"}).encode(),
)


def test_a_damaged_fact_is_told_and_passed_over() -> None:
    main(["init", "--answers", answered()])
    broken = Path(personal.place("tracker"))
    for content in BROKEN:
        broken.write_bytes(content)
        memory = personal.read()
        assert [str(broken) in problem for problem in memory.problems] == [True], content
        assert TOKEN not in memory.problems[0]
        assert (memory.value("tracker"), memory.value("gpu", "gpu-box")) == (None, "required 8h")
        assert not [key for key in personal.usual("gpu-box") if "trackio" in key]


def test_what_is_damaged_is_shown_and_mended_by_the_next_answer(capsys: pytest.CaptureFixture[str]) -> None:
    main(["init", "--answers", answered()])
    Path(personal.place("tracker")).write_bytes(BROKEN[5])
    capsys.readouterr()
    assert main(["config"]) == main(["init", "--show"]) == 0
    said = capsys.readouterr()
    assert personal.place("tracker") in said.err
    assert TOKEN not in said.out + said.err
    assert main(["init", "--tracker", "me"]) == 0
    assert personal.read().problems == ()
    assert personal.read().value("tracker") == "me"


def test_a_memory_that_cannot_be_written_is_told(one: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path(os.environ["HEMMA_STATE_DIR"]).write_text("a file where the folder should be")
    assert main(["init", "--answers", answered()]) == 1
    said = capsys.readouterr().err
    assert "cannot be written" in said
    assert "\ndo " in said
    assert "Traceback" not in said
    assert main(["config"]) == 0


def test_notes_of_hemma_gotcha_lie_in_the_same_place_and_are_no_facts() -> None:
    personal.keep("tracker", "me", None, TODAY)
    (Path(personal.folder()) / "a-note.md").write_text("# A note\n")
    assert [fact.value for fact in personal.read().facts] == ["me"]
    assert personal.read().problems == ()


def test_a_fact_of_a_host_without_its_name_is_not_kept() -> None:
    assert personal.keep("gpu", "none", None, TODAY) is None
    assert personal.keep("tracker", "", None, TODAY) is None
    assert personal.read().facts == ()


def test_a_fact_survives_its_file_and_an_unknown_field_too() -> None:
    sample = Path(__file__).resolve().parents[1] / "old_versions/personal-fact.v1.json"
    assert PersonalFact.read(str(sample)).as_dict() == json.loads(sample.read_text())
