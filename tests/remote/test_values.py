"""Things kept by digest on the host, and files of a run read from afar."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from remote.agent import run_files, values, verbs


def ask(verb: str, state: Path, **fields: Any) -> dict[str, Any]:
    """The agent's answer to a verb, in this process."""
    return verbs.answer({"verb": verb, "state_dir": str(state), **fields})


def named(content: bytes, suffix: str = "zip") -> str:
    return f"{hashlib.sha256(content).hexdigest()}.{suffix}"


@pytest.mark.req("S8-R01")
def test_what_is_kept_is_what_was_sent(tmp_path: Path) -> None:
    content = os.urandom(5000)
    name = named(content)
    assert ask("values-missing", tmp_path, names=[name])["missing"] == [name]
    path = Path(ask("value-put", tmp_path, name=name, content_base64=base64.b64encode(content).decode())["path"])
    assert path.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o600
    assert ask("values-missing", tmp_path, names=[name]) == {"missing": [], "folder": str(path.parent)}


def test_other_content_under_a_name_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    answer = ask("value-put", tmp_path, name=named(b"x"), content_base64=base64.b64encode(b"y").decode())
    assert answer["error"] == "digest-mismatch"
    assert not list(tmp_path.rglob("*.zip"))


@pytest.mark.parametrize(
    "name", ["", "../../etc/passwd", "a" * 64, "a" * 64 + ".sh", "A" * 64 + ".zip", "/" + "a" * 64 + ".zip"]
)
def test_a_name_that_is_no_digest_is_refused(tmp_path: Path, name: str) -> None:
    assert ask("value-put", tmp_path, name=name, content_base64="")["exit_code"] == 2
    assert ask("values-missing", tmp_path, names=[name])["exit_code"] == 2


def test_values_that_nobody_used_for_long_are_forgotten(tmp_path: Path) -> None:
    old, new = b"old", b"new"
    for content in (old, new):
        ask("value-put", tmp_path, name=named(content), content_base64=base64.b64encode(content).decode())
        if content == old:
            os.utime(tmp_path / "values" / named(old), (0, 0))
    assert [each.name for each in (tmp_path / "values").iterdir()] == [named(new)]
    assert values.KEPT_S > 86400


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's directory with a few files, and a newer run without them."""
    folder = tmp_path / "runs/20260101-000000000-aaaaaaaa"
    (folder / "training").mkdir(parents=True)
    (folder / "training/job.json").write_text("{}")
    (folder / "log").write_bytes(b"0123456789")
    (folder / "out").symlink_to("/etc/hostname")
    (tmp_path / "runs/20260102-000000000-bbbbbbbb").mkdir()
    return folder


@pytest.mark.req("S9-R14")
def test_several_files_come_in_one_reply_from_their_offsets(run: Path, tmp_path: Path) -> None:
    answer = ask("run-files", tmp_path, run=run.name, paths=["log", "none"], offsets={"log": 7})
    assert base64.b64decode(answer["files"]["log"]["content_base64"]) == b"789"
    assert (answer["files"]["log"]["size"], answer["files"]["none"]) == (10, None)


@pytest.mark.parametrize("name", ["../../secret", "/etc/hostname", "out", "", ".", "training"])
def test_nothing_outside_the_runs_directory_is_read(run: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("x")
    assert ask("run-files", tmp_path, run=run.name, paths=[name])["files"][name] is None


def test_last_is_the_newest_run_that_has_the_file(run: Path, tmp_path: Path) -> None:
    assert ask("run-files", tmp_path, run="last", paths=[], having="training/job.json")["run_id"] == run.name
    assert ask("run-files", tmp_path, run="last", paths=[])["run_id"].endswith("bbbbbbbb")
    assert ask("run-files", tmp_path, run="no-such", paths=[])["error"] == "no-such-run"


def test_a_reply_has_a_limit(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_files, "MAX_BYTES", 12)
    (run / "more").write_bytes(b"x" * 100)
    found = ask("run-files", tmp_path, run=run.name, paths=["log", "more"])["files"]
    assert len(base64.b64decode(found["more"]["content_base64"])) <= 12
    assert found["more"]["size"] == 100
