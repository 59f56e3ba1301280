"""Where a result will go is asked of its back-end before anything dear starts, and what goes there is found beside it (S14-R04, S14-R05)."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

import pytest

from manifests.errors import HemmaError
from manifests.train import parse
from tests.training import hub_stand_in
from tests.training.bench import REQUEST, Bench
from training import content
from training.content import tree
from training.course import Course
from training.persist import MANIFEST
from training.persist_backends import backend_for
from training.stages.intake import destination
from training.stages.side_artefacts import gathered


def course_with(folder: Path, **persist: str) -> Course:
    """A run that is to persist there."""
    (folder / "clone").mkdir(exist_ok=True)
    job = parse(json.dumps({**REQUEST, "persist": persist}), "the request").job() | {"run_id": "run-1"}
    return Course(job, folder / "clone", folder / "runs/run-1/training", "0" * 64)


@pytest.mark.req("S14-R04")
def test_a_directory_is_tried_before_the_launch(tmp_path: Path) -> None:
    place, fact = destination(course_with(tmp_path, destination=str(tmp_path / "models")))
    assert place == str(tmp_path / "models/tiny/run-1")
    assert "GiB free" in fact
    (tmp_path / "a-file").write_text("in the way")
    place, fact = destination(course_with(tmp_path, destination=str(tmp_path / "a-file/models")))
    assert place is None
    assert "cannot be written" in fact


@pytest.mark.req("S14-R04")
def test_a_second_host_is_reached_before_the_launch(second_host: str, tmp_path: Path) -> None:
    there = f"{second_host}:{tmp_path}/there"
    assert destination(course_with(tmp_path, kind="host", destination=there))[0] == f"{there}/tiny/run-1"
    place, fact = destination(course_with(tmp_path, kind="host", destination="no-such-host-here:models"))
    assert place is None
    assert "no-such-host-here" in fact
    assert "do: " in fact


@pytest.mark.req("S14-R04")
def test_the_hub_is_asked_who_may_write_before_the_launch(hub: hub_stand_in.StandIn, tmp_path: Path) -> None:
    assert destination(course_with(tmp_path, kind="hub", destination="team/tiny"))[0] == "team/tiny"
    place, fact = destination(course_with(tmp_path, kind="hub", destination="stranger/tiny"))
    assert place is None
    assert "may not write to stranger" in fact


@pytest.mark.req("S14-R04")
def test_a_destination_that_cannot_be_ends_the_run_at_intake(host_with_nursery: Bench, tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("in the way")
    run = host_with_nursery.run(code=75, name="nowhere", persist={"destination": str(tmp_path / "a-file/models")})
    assert list(run.stages()) == ["intake"]
    assert "a-file" in run.stop()["message"]
    assert "cannot be written" in run.stop()["message"]


@pytest.mark.parametrize("name", ["example/run-1", "todo/run-1", "your-model/run-1"])
def test_a_run_may_be_called_anything_that_stays_below_its_destination(tmp_path: Path, name: str) -> None:
    spec = {"kind": "directory", "destination": str(tmp_path)}
    assert backend_for(spec, root=tmp_path, name=name).resolve()["destination"] == f"{tmp_path}/{name}"
    for wrong in ("../out", "/etc/out", "a\nb", " "):
        with pytest.raises(HemmaError, match="names no result"):
            backend_for(spec, root=tmp_path, name=wrong)


def fill(course: Course) -> None:
    """What a run leaves."""
    for name in ("logs/job.log", "evidence/job.json", "artifacts/results/report.txt", "artifacts/model/model.bin"):
        (course.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (course.folder / name).write_text(name)
    for name in ("metrics.jsonl", "alerts.jsonl"):
        (course.folder / name).write_text("{}\n")
    course.event("started")


@pytest.mark.req("S14-R05")
def test_what_tells_how_it_came_about_is_gathered_and_the_model_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    course = course_with(tmp_path, destination=str(tmp_path / "models"))
    fill(course)
    (course.root / "rewards").mkdir()
    (course.root / "rewards/short.py").write_text("def f(): ...\n")
    (course.root / "run.yaml").write_text("kind: train\n")
    course.job = {**course.job, "dataset": {"source": "x", "reward": "rewards.short:f"}, "manifest": "run.yaml"}
    payload = tmp_path / "payload.zip"
    payload.write_bytes(b"our program")
    course.payload_digest = sha256_of_bytes(b"our program")
    monkeypatch.setattr(sys, "argv", [str(payload), "execute"])
    with gathered(course) as folder:
        names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        course.event("more")
        # A copy: what is written meanwhile is not in it.
        assert len((folder / "events.jsonl").read_text().splitlines()) == 1
    assert names >= {
        "logs/job.log", "evidence/job.json", "artifacts/results/report.txt", "metrics.jsonl", "alerts.jsonl",
        "events.jsonl", "job.json", "scripts/payload.zip", "scripts/rewards/short.py", "scripts/run.yaml",
    }  # fmt: skip
    assert not [name for name in names if "model.bin" in name]
    assert not folder.exists()


def sha256_of_bytes(raw: bytes) -> str:
    """The sha256 of bytes."""
    return hashlib.sha256(raw).hexdigest()


@pytest.mark.req("S14-R05")
def test_both_parts_lie_in_the_hubs_one_repository_and_are_read_back(hub: hub_stand_in.StandIn, tmp_path: Path) -> None:
    spec = {"kind": "hub", "destination": "team/tiny"}
    for name, files in (("model", ("model.safetensors", "config.json")), ("beside", ("logs/job.log", "config.json"))):
        for each in files:
            (tmp_path / name / each).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / each).write_text(f"{each} of {name}")
    whole, part = (backend_for(spec, root=tmp_path, name="tiny/run-1", part=part) for part in ("", "run"))
    receipt, beside = whole.put(tmp_path / "model"), part.put(tmp_path / "beside")
    assert whole.verify(receipt)["sha256"] == tree(tmp_path / "model")
    assert part.verify(beside)["sha256"] == tree(tmp_path / "beside")
    assert beside["destination"] == "team/tiny/run-1-run"
    assert beside["url"] == f"{hub.url}/team/tiny/tree/{beside['revision']}/run-1-run"
    files = hub.commits[beside["revision"]]
    assert {"model.safetensors", "config.json", MANIFEST, "run-1-run/config.json", f"run-1-run/{MANIFEST}"} <= set(
        files
    )
    files["run-1-run/logs/job.log"] = b"another"
    assert part.verify(beside)["differences"] == ["logs/job.log is changed"]


@pytest.mark.req("S7-R18")
def test_the_environment_is_read_once_and_again_after_an_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    before = content.environment()
    reads = content._environment_as_it_was.cache_info().misses
    assert content.environment() == before
    assert content._environment_as_it_was.cache_info().misses == reads
    metadata = tmp_path / "new_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: new-package\nVersion: 1.0\n")
    assert content.environment() != before
    shutil.rmtree(metadata)
    assert content.environment() == before
