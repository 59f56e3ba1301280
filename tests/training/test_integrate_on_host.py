"""`hemma integrate` against a real host: code by value, the training environment's python, the registry in the host's clone."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from controller.cli import integrate as cli
from controller.flows import integrate as flow
from manifests.adapters import Registry
from manifests.errors import HemmaError, UsageError
from manifests.train import parse
from tests.support import EnvironFor, RepositoryOnHost, end_brokers, make_repository
from tests.training.test_integrate import LORA, PREFERS, TEXT, a_job, teach
from training.persist_backends import backend_for

MANIFEST = "manifests/runs/tiny.yaml"


def manifest(job: dict[str, Any], **more: Any) -> str:
    """The manifest that a job came from."""
    kept = {name: job[name] for name in ("name", "method", "model", "sequence_length", "arguments", "seed", "lora")}
    model = {name: value for name, value in kept["model"].items() if value is not None}
    dataset = {"source": job["dataset"]["source"]}
    spec = {
        **kept,
        "model": model,
        "dataset": dataset,
        "python": sys.executable,
        "persist": {"kind": "directory", "destination": "models"},
        "resources": {"gpu": "none"},
        "environment": {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        "integrate": {"checks": [PREFERS, {**TEXT, "contains": ["red"], "differs_from_base": True}]},
        **more,
    }
    return yaml.safe_dump(spec)


@pytest.fixture
def clone(tmp_path: Path, settings_env: EnvironFor, monkeypatch: pytest.MonkeyPatch) -> Iterator[RepositoryOnHost]:
    """The host's clone with manifest, tokenizer and a persisted adapter; we stand elsewhere."""
    made = make_repository(tmp_path / "on-host")
    job = a_job(made.path)
    teach(job, made.path / "run", made.path / "run" / "adapter")
    backend_for({"kind": "directory", "destination": "models"}, root=made.path, name="tiny/run-1").put(
        made.path / "run" / "adapter"
    )
    (made.path / "manifests/runs").mkdir(parents=True)
    (made.path / MANIFEST).write_text(manifest(job))
    state = tmp_path / "state"
    for name, value in settings_env(root=made.path, state=state).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield made
    end_brokers(state / "state")


def invoke(*words: str) -> Any:
    """The verb by itself; its exceptions are the ones that the command line turns into words."""
    app = typer.Typer()
    app.callback()(lambda: None)
    cli.register(app)
    return CliRunner().invoke(app, ["integrate", *words], standalone_mode=False)


@pytest.mark.req("S14-R11", "S14-R13")
def test_adapter_is_checked_and_registered_on_the_host(clone: RepositoryOnHost) -> None:
    done = invoke("models/tiny/run-1", "--manifest", MANIFEST)
    assert done.exception is None, done.exception
    assert "is entry 0 of adapters/registry.json" in done.stdout
    (entry,) = Registry.read(str(clone.path / "adapters/registry.json")).entries
    assert entry.run_id
    assert (clone.path / entry.path / "adapter_model.safetensors").is_file()


def test_failing_check_and_refusal_arrive_with_their_words(clone: RepositoryOnHost) -> None:
    manifest_ = clone.path / MANIFEST
    spec = yaml.safe_load(manifest_.read_text())
    spec["integrate"]["checks"] = [{**TEXT, "kind": "json"}]
    manifest_.write_text(yaml.safe_dump(spec))
    done = invoke("models/tiny/run-1", "--manifest", MANIFEST, "--json")
    assert isinstance(done.exception, flow.NotIntegrated)
    assert "it is no json" in done.exception.message
    assert done.exception.as_dict()["integration"]["checks"][0]["said"]
    done = invoke("models/tiny/run-1", "--manifest", MANIFEST, "--sha256", "0" * 64)
    assert isinstance(done.exception, HemmaError)
    assert done.exception.code == "digest-mismatch"
    assert not (clone.path / "adapters").exists()


def test_environment_without_torch_is_told(clone: RepositoryOnHost) -> None:
    manifest_ = clone.path / MANIFEST
    spec = yaml.safe_load(manifest_.read_text())
    manifest_.write_text(yaml.safe_dump({**spec, "python": os.path.join(sys.base_prefix, "bin", "python3")}))
    done = invoke("models/tiny/run-1", "--manifest", MANIFEST)
    assert isinstance(done.exception, HemmaError)
    assert done.exception.code == "integration-failed"
    assert "No module named" in done.exception.message


REQUEST: dict[str, Any] = {"called": None, "sha256": None}


@pytest.mark.parametrize(
    ("change", "more"),
    [({"lora": None}, {}), ({}, {"called": "../x"}), ({}, {"sha256": "abc"}), ({"integrate": {"checks": [{"prompt": "x", "kind": "poem"}]}}, {}), ({"integrate": {"checks": [{"prompt": "x", "matches": "("}]}}, {}), ({"integrate": {"place": "../out"}}, {})],
)  # fmt: skip
def test_request_that_cannot_be_is_refused_before_the_host_is_asked(
    tmp_path: Path, change: dict[str, Any], more: dict[str, Any]
) -> None:
    job = a_job(tmp_path)
    said = manifest({**job, **({"lora": None} if "lora" in change else {})}, **change)
    with pytest.raises(UsageError):
        flow.request_of(parse(said, "x.yaml"), "x.yaml", "models/tiny", **{**REQUEST, **more})


def test_request_travels_as_plain_json(tmp_path: Path) -> None:
    made = flow.request_of(
        parse(manifest(a_job(tmp_path)), "x.yaml"), "x.yaml", "models/tiny", called=None, sha256=None
    )
    assert json.loads(json.dumps(made)) == made
    assert made["integrate"]["place"] == "adapters"
    assert made["job"]["lora"]["r"] == LORA["r"]
