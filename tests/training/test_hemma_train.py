"""`hemma train` as a person types it: real sshd, real git, a tiny real model, every gate, to a commit on the host."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lanes.gates import STAGES
from manifests.train import EXAMPLE
from tests.support import Cli, EnvironFor, make_repository
from tests.training.bench import Bench
from tests.training.support import make_tokenizer, rows_of

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
MODEL = {
    "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 4, "max_position_embeddings": 128, "vocab_size": 400,
}  # fmt: skip
# The host's python; most tests use one whose children start in a second (tests/training/host_python.py).
PYTHON = {"path": sys.executable}


@pytest.fixture(autouse=True)
def _quick_children(host_with_nursery: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PYTHON, "path", str(host_with_nursery.python))


def git(folder: Path, *words: str) -> str:
    """Run git, which must succeed."""
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def project(hemma_with: Callable[[dict[str, str]], Cli], settings_env: EnvironFor, tmp_path: Path) -> tuple[Cli, Path]:
    """(the CLI, the host's clone): a repository with text, a tokenizer and a manifest for a tiny model."""
    (tmp_path / "on-host").mkdir()
    root = make_repository(tmp_path / "on-host").path
    make_tokenizer(root / "data/tokenizer")
    rows = rows_of("causal-lm", 200)
    (root / "data/text.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    write_manifest(root, destination=str(tmp_path / "models"))
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "a request")
    return hemma_with(settings_env(root=root)), root


def write_manifest(root: Path, *, destination: str, **changes: Any) -> Path:
    """The example with our model, and changes."""
    said: dict[str, Any] = yaml.safe_load(EXAMPLE)
    said |= {"python": PYTHON["path"], "sequence_length": 64}
    said["model"]["config"] = MODEL
    said["arguments"] |= {"max_steps": 4}
    said["persist"]["destination"] = destination
    path = root / "manifests/runs/tiny-text.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(said | changes), encoding="utf-8")
    return path


def train(cli: Cli, *options: str, expect: int = 0) -> list[dict[str, Any]]:
    """Run `hemma train --json`; returns its events."""
    done = cli("train", "manifests/runs/tiny-text.yaml", "--json", *options, timeout_s=240)
    assert done.returncode == expect, (done.stdout[-3000:], done.stderr[-3000:])
    return [event for event in map(json.loads, done.stdout.splitlines()) if "kind" in event]


def stages(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """(stage, outcome) of every stage event, in order."""
    return [(event["data"]["stage"], event["data"]["outcome"]) for event in events if event["kind"] == "stage"]


@pytest.mark.req("S21-R05")
def test_a_request_goes_through_every_gate_to_a_commit(project: tuple[Cli, Path], tmp_path: Path) -> None:
    cli, root = project
    events = train(cli)
    assert stages(events) == [(stage, "passed") for stage in STAGES]
    said = git(root, "log", "-1", "--format=%B")
    assert "Hemma-Run: " in said
    assert "Hemma-Lane: hemma" in said
    persisted = next(event["data"] for event in events if event["kind"] == "persisted")
    assert persisted["sha256"] == persisted["reread_sha256"]
    assert (Path(persisted["destination"]) / "config.json").exists()
    names = git(root, "show", "--name-only", "--format=", "HEAD").split()
    assert [name for name in names if name.endswith(("benchmark_results.json", "loss_curves.png", "digests.json"))]
    # What is proven and unchanged is not repeated: the second run takes three stages over.
    again = train(cli, "--until", "readiness")
    taken = [
        event["data"] for event in again if event["kind"] == "stage" and event["data"]["from_run"] != run_of(again)
    ]
    assert [each["stage"] for each in taken] == ["data-audit", "cpu-smoke", "gpu-preflight"]
    look_at_the_dashboard(cli)
    rows = json.loads(cli("gates", "last", "--json").stdout)["stages"]
    assert {row["stage"] for row in rows if row["state"] == "proven"} == set(STAGES[: STAGES.index("job")])


def look_at_the_dashboard(cli: Cli) -> None:
    """The host's trackio answers here, and ends with us."""
    shown = cli.start("dashboard", "last", "--no-open")
    assert shown.stdout is not None
    url = shown.stdout.readline().decode().strip()
    assert url.endswith("project=tiny-text")
    with urllib.request.urlopen(url, timeout=30) as page:
        assert b"rackio" in page.read()
    shown.send_signal(signal.SIGINT)
    assert shown.wait(30) == 0


def run_of(events: list[dict[str, Any]]) -> str:
    """The run that these events are of."""
    return next(event["data"]["run_id"] for event in events if event["kind"] == "started")


@pytest.mark.req("S7-R18")
def test_a_changed_dataset_closes_the_gates_again(project: tuple[Cli, Path], tmp_path: Path) -> None:
    cli, root = project
    first = train(cli, "--until", "cpu-smoke")
    forge_in_the_index(cli, run_of(first))
    with (root / "data/text.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"text": "one more row that nobody audited"}) + "\n")
    again = train(cli, "--until", "data-audit")
    assert next(event["data"]["from_run"] for event in again if event["kind"] == "stage") == run_of(again)


def forge_in_the_index(cli: Cli, run: str) -> None:
    """What somebody wrote into a run's folder by hand is shown as such, and as nothing that is proven."""
    own = Path(cli("run", "--", "sh", "-c", 'printf %s "$HEMMA_RUN_DIR"').stdout.decode())
    index = own.parent / run / "training/evidence/index.json"
    kept = index.read_bytes()
    said = json.loads(kept)
    said["evidence"][2]["facts"]["rows"] = 1_000_000
    index.write_text(json.dumps(said))
    rows = {row["stage"]: row for row in json.loads(cli("gates", run, "--json").stdout)["stages"]}
    for broken in (b"[]", b"{}", b"[" * 100_000, b'{"evidence": [1]}', kept[: len(kept) // 2]):
        index.write_bytes(broken)
        done = cli("gates", run)
        assert (done.returncode, b"Traceback" in done.stderr) == (255, False), (broken[:20], done.stderr)
    index.write_bytes(kept)
    assert (rows["data-audit"]["state"], rows["intake"]["state"]) == ("altered", "proven")
    assert f"not what run {run} recorded" in rows["data-audit"]["fact"]


@pytest.mark.req("S5-R10")
def test_data_that_does_not_fit_stops_before_any_training(project: tuple[Cli, Path], tmp_path: Path) -> None:
    cli, root = project
    write_manifest(root, destination=str(tmp_path / "models"), python=sys.executable)
    (root / "data/text.jsonl").write_text('{"question": 1}\n{"question": 2}\n', encoding="utf-8")
    events = train(cli, expect=75)
    assert stages(events)[-1] == ("data-audit", "failed")
    assert events[-1]["data"]["reason"] == "dataset_format_incompatible"


@pytest.mark.req("S11-R21")
def test_an_argument_that_was_removed_is_named_before_anything_runs(project: tuple[Cli, Path], tmp_path: Path) -> None:
    cli, root = project
    write_manifest(root, destination=str(tmp_path / "models"), arguments={"no_such_argument": 1, "max_steps": 2})
    events = train(cli, expect=75)
    assert stages(events) == [("intake", "failed")]
    assert "no_such_argument" in events[-1]["data"]["message"]


@pytest.mark.req("S7-R09")
def test_without_a_gpu_the_manifest_must_accept_it(project: tuple[Cli, Path], tmp_path: Path) -> None:
    cli, root = project
    write_manifest(root, destination=str(tmp_path / "models"), accept={})
    events = train(cli, expect=75)
    assert events[-1]["data"]["reason"] == "gpu_preflight_unavailable"


@pytest.mark.req("S8-R11")
def test_two_at_once_are_one(project: tuple[Cli, Path], tmp_path: Path) -> None:
    cli, _ = project
    first = cli.start("train", "manifests/runs/tiny-text.yaml", "--json", "--until", "data-audit")
    second = cli("train", "manifests/runs/tiny-text.yaml", "--json", "--until", "data-audit", timeout_s=120)
    first.communicate(timeout=120)
    codes = sorted([first.returncode, second.returncode])
    assert codes == [0, 75], (codes, second.stderr)


@pytest.mark.req("S8-R12")
def test_gpu_time_needs_a_yes(project: tuple[Cli, Path], tmp_path: Path) -> None:
    cli, root = project
    write_manifest(root, destination=str(tmp_path / "models"), resources={"gpu": "required", "timeout": "1h"})
    done = cli("train", "manifests/runs/tiny-text.yaml", "--json")
    assert done.returncode == 75
    assert json.loads(done.stdout or done.stderr)["verdict"]["allowed"] is False


def test_a_manifest_at_fault_is_a_usage_error(project: tuple[Cli, Path], tmp_path: Path) -> None:
    cli, root = project
    write_manifest(root, destination="<your-folder>")
    done = cli("train", "manifests/runs/tiny-text.yaml")
    assert (done.returncode, b"placeholder" in done.stderr, b"Traceback" in done.stderr) == (2, True, False)
    done = cli("train", "manifests/runs/none.yaml")
    assert (done.returncode, b"hemma put" in done.stderr) == (2, True)
