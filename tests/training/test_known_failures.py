"""A training that fails for a reason that the runbooks know: whoever follows it, or asks later, is shown the entry (S17-R04)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import Cli, EnvironFor, make_repository
from tests.training.bench import Bench
from tests.training.support import make_tokenizer, rows_of
from tests.training.test_hemma_train import PYTHON, write_manifest

pytestmark = [pytest.mark.real, pytest.mark.timeout(300), pytest.mark.req("S17-R04")]
MANIFEST = "manifests/runs/tiny-text.yaml"
ARGUMENTS = {"max_steps": 4, "per_device_train_batch_size": 4, "logging_steps": 1}
ENTRY = b"known    nan-loss-is-logged-as-a-mean: "


@pytest.fixture(autouse=True)
def _quick_children(host_with_nursery: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PYTHON, "path", str(host_with_nursery.python))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The host's clone: text, a tokenizer, no manifest yet."""
    (tmp_path / "on-host").mkdir()
    made = make_repository(tmp_path / "on-host").path
    make_tokenizer(made / "data/tokenizer")
    rows = rows_of("causal-lm", 200)
    (made / "data/text.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return made


@pytest.fixture
def cli(hemma_with: Callable[[dict[str, str]], Cli], settings_env: EnvironFor, root: Path) -> Cli:
    """The CLI for that clone."""
    return hemma_with(settings_env(root=root))


def test_a_known_failure_is_named_by_every_verb_that_shows_it(cli: Cli, root: Path, tmp_path: Path) -> None:
    # A decay that makes the first loss after it no number.
    arguments = {**ARGUMENTS, "weight_decay": 1e30}
    write_manifest(root, destination=str(tmp_path / "models"), arguments=arguments, attempts=1)
    page = str(tmp_path / "run.html")
    ends = {"train": 1, "watch": 1, "report": 0, "gates": 0}
    told = {
        "train": cli("train", MANIFEST, timeout_s=240),
        "watch": cli("watch", "last"),
        "report": cli("report", "last", "-o", page),
        "gates": cli("gates", "last"),
        "json": cli("watch", "last", "--json"),
    }
    assert {verb: told[verb].returncode for verb in ends} == ends, told["train"].stderr.decode()
    for verb, done in told.items():
        assert done.stderr.count(b"\nknown ") + done.stderr.startswith(b"known ") == 1, (verb, done.stderr.decode())
        assert ENTRY in done.stderr, verb
    # The events themselves stay what they are.
    assert all("kind" in json.loads(line) for line in told["json"].stdout.splitlines())
    found = json.loads(cli("doctor", "last", "--json").stdout)
    assert (found["training"], found["is_bad"], found["diagnosis"]["code"]) == ("tiny-text", True, "nan-loss")
    assert "is nan at step" in found["diagnosis"]["evidence"][0]["line"]
    assert [entry["id"] for entry in found["known"]] == ["nan-loss-is-logged-as-a-mean"]
    assert all(source.startswith("https://") for source in found["known"][0]["sources"])
    assert "hemma runbook show nan-loss-is-logged-as-a-mean" in found["next"]
    rows = json.loads(cli("doctor", "--json").stdout)["rows"]
    (row,) = [each for each in rows if each["name"] == found["run"]["run_id"]]
    assert "training tiny-text" in row["fact"]
    assert [each["id"] for each in row["known"]] == ["nan-loss-is-logged-as-a-mean"]


def test_what_nothing_knows_gets_no_hint_but_the_way_to_a_draft(cli: Cli, root: Path, tmp_path: Path) -> None:
    arguments = {**ARGUMENTS, "max_length": 12}
    write_manifest(root, destination=str(tmp_path / "models"), arguments=arguments)
    done = cli("train", MANIFEST, timeout_s=240)
    assert (done.returncode, b"max_length" in done.stderr) == (75, True)
    assert b"\nknown " not in done.stderr
    assert b"\nknown " not in cli("gates", "last").stderr
    found = cli("doctor", "last")
    assert found.returncode == 1
    assert b"hemma gotcha propose 2" in found.stdout
    drafted = json.loads(cli("gotcha", "propose", "last", "--json").stdout)["proposal"]
    assert "max_length" in drafted["symptom"]
