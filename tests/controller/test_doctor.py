"""`hemma doctor` where nothing is asked of a host: settings, hooks, memory and Drive of this machine, and runs that it does not know."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from controller import trust
from controller.cli.app import main
from controller.flows.failed import Failed, Training, last_analysis
from controller.settings import read_files


@pytest.fixture(autouse=True)
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone whose project names a host, in which we stand."""
    for name in ("config", "state", "cache"):
        monkeypatch.setenv(f"HEMMA_{name.upper()}_DIR", str(tmp_path / name))
    folder = tmp_path / "clone"
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    (folder / "pyproject.toml").write_text('[tool.hemma]\nhost = "gpu"\nroot = "~/clone"\n')
    trust.allow(str(folder), read_files(str(folder), {}).project)
    monkeypatch.chdir(folder)
    return folder


def git(*words: str) -> None:
    subprocess.run(["git", *words], check=True, capture_output=True)


@pytest.fixture
def looked(capsys: pytest.CaptureFixture[str]) -> Any:
    """`looked(expect=0)`: the rows of `hemma doctor --offline --json` by part and name."""

    def look(expect: int = 0) -> dict[str, dict[str, Any]]:
        capsys.readouterr()
        code = main(["doctor", "--offline", "--json"])
        found = json.loads(capsys.readouterr().out)
        assert (code, found["is_well"]) == (expect, expect == 0), found
        return {f"{row['part']}, {row['name']}": row for row in found["rows"]}

    return look


def test_offline_nothing_is_asked_of_the_host(looked: Any) -> None:
    rows = looked()
    assert [(row["level"], row["fact"]) for name, row in rows.items() if name.startswith("host,")] == [
        ("not checked", "nothing was asked of it (--offline)")
    ]
    assert all(row["mend"] for row in rows.values() if row["level"] in ("warn", "fail"))


def test_a_memory_that_forgot_something_is_bad(looked: Any, clone: Path) -> None:
    assert main(["memory", "init"]) == 0
    assert main(["memory", "log", "a", "b"]) == 0
    git("add", "-A")
    git("commit", "-q", "-m", "Memory")
    assert looked()["memory, only grows"]["fact"].startswith("nothing was lost")
    (clone / ".claude/project_log.json").write_text('{\n  "schema_version": 1,\n  "entries": [\n  ]\n}\n')
    row = looked(expect=1)["memory, only grows"]
    assert (row["level"], bool(row["mend"])) == ("fail", True)


@pytest.mark.parametrize(("text", "name"), [("[tool.hemma]\nroot = \n", "files"), ("[tool.hemma\n", "project")])
def test_broken_settings_are_a_row_and_not_the_end(looked: Any, clone: Path, text: str, name: str) -> None:
    (clone / "pyproject.toml").write_text(text)
    row = looked(expect=1)[f"settings, {name}"]
    assert (row["level"], "not valid TOML" in row["fact"], bool(row["mend"])) == ("fail", True, True)


def test_without_a_host_the_rest_is_looked_at(looked: Any, clone: Path) -> None:
    (clone / "pyproject.toml").unlink()
    rows = looked(expect=1)
    assert rows["settings, host"]["mend"].startswith("hemma init")
    assert rows["settings, project"]["mend"] == "hemma init"
    assert "hooks, local" in rows


def test_outside_a_clone_it_says_so_and_does_not_fail(
    looked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEMMA_HOST", "gpu")
    assert "not in a git repository" in looked()["hooks, local"]["fact"]


@pytest.mark.req("S17-R03")
def test_what_is_broken_in_the_personal_memory_is_named(looked: Any, tmp_path: Path) -> None:
    (tmp_path / "state/memory").mkdir(parents=True)
    (tmp_path / "state/memory/gpu-of-x-0.json").write_text("{")
    row = looked()["settings, personal memory"]
    assert (row["level"], "gpu-of-x-0.json" in row["fact"]) == ("warn", True)


@pytest.mark.req("S17-R11")
def test_whether_the_trackers_key_is_there_is_told_and_never_what_it_is(
    looked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text("plain-old-secret")
    for named, there in (("A_TOKEN", "is set"), (str(tmp_path / "key"), "is there")):
        assert main(["init", "--tracker-key", named]) == 0
        monkeypatch.setenv("A_TOKEN", "plain-old-secret")
        row = looked()["tracker, key"]
        assert (row["level"], row["fact"]) == ("ok", f"{named} {there}")
    (tmp_path / "key").unlink()
    assert looked()["tracker, key"]["level"] == "warn"


def test_a_drive_that_cannot_be_meant_is_bad(looked: Any, clone: Path, tmp_path: Path) -> None:
    project = clone / "pyproject.toml"
    text = project.read_text()
    assert looked()["drive, place"]["level"] == "ok"
    project.write_text(text + 'drive = "no link at all"\n')
    row = looked(expect=1)["drive, place"]
    assert (row["level"], bool(row["mend"])) == ("fail", True)
    project.write_text(text + f'drive = "folder:{tmp_path}/drive"\n')
    assert looked(expect=1)["settings, trust"]["level"] == "fail"
    trust.allow(str(clone), read_files(str(clone), {}).project)
    assert looked()["drive, place"]["level"] == "ok"
    assert not (tmp_path / "drive").exists()  # looking changes nothing


def test_a_folder_of_configurations_that_is_gone_is_told(looked: Any, clone: Path) -> None:
    (clone / "pyproject.toml").write_text((clone / "pyproject.toml").read_text() + 'configs = "conf"\n')
    assert looked()["project, configs"]["mend"] == "hemma init --interview"
    (clone / "conf").mkdir()
    assert "project, configs" not in looked()


def test_people_read_a_line_for_each_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--offline"]) == 0
    said = capsys.readouterr().out.splitlines()
    at = next(number for number, line in enumerate(said) if line.startswith("warn     hooks, local"))
    assert said[at + 1] == "do       hemma hooks install"
    assert said[-1].startswith("ok ")


def test_a_run_in_drive_has_a_doctor_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    link = "https://drive.google.com/drive/folders/0123456789"
    assert main(["doctor", link]) == 2
    assert f"do       hemma colab doctor {link}" in capsys.readouterr().err
    assert main(["doctor", "last", "--offline"]) == 2


# --- what a training's own files say ---------------------------------------------------------------------------------


def an_event(kind: str, **data: Any) -> dict[str, Any]:
    return {"kind": kind, "data": data}


def test_a_failure_that_the_training_outlived_is_none() -> None:
    failed, passed = an_event("analysis", code="cuda-oom"), an_event("stage", stage="job", outcome="passed")
    assert last_analysis([failed]) == {"code": "cuda-oom"}
    assert last_analysis([failed, passed]) is None
    assert last_analysis([failed, an_event("stage", outcome="failed")]) == {"code": "cuda-oom"}
    assert last_analysis([failed, passed, an_event("analysis", code="nan-loss")]) == {"code": "nan-loss"}
    assert last_analysis([{}, {"kind": "analysis"}, {"kind": "stage", "data": None}]) is None


def test_the_executors_own_diagnosis_counts_more_than_the_log() -> None:
    view = {"state": "finished", "exit_code": 1}
    analysis = {"category": "oom", "code": "cuda-oom", "evidence": "CUDA out of memory"}
    found = Failed(view, "ValueError: other", Training("tiny", {"message": "gave up"}, analysis)).diagnosis()
    assert (found["code"], found["evidence"][0]["line"]) == ("cuda-oom", "CUDA out of memory")
    assert found["smallest_mend"]
    assert Failed(view, "OSError: [Errno 28] No space left on device").diagnosis()["code"] == "disk-full"


@pytest.mark.parametrize(
    ("state", "code", "is_bad"),
    [
        ("finished", 0, False),
        ("finished", 1, True),
        ("lost", None, True),
        ("running", None, False),
        ("starting", None, False),
    ],
)
def test_a_run_is_bad_when_it_ended_otherwise_than_well(state: str, code: int | None, is_bad: bool) -> None:
    assert Failed({"state": state, "exit_code": code}, "").is_bad is is_bad
