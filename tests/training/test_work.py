"""What the executor's children do: smoke, preflight and full job on real files, with every method (S7, S8, S20)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from lanes.failures import FailureFacts, classify
from tests.training import runs
from training import work
from training.errors import ArgumentsRefused, NoRoom, NotFinite
from training.events import read_metrics
from training.models import load_config, parameter_count

METHODS = ("sft", "sft-lora", "dpo", "dpo-lora", "grpo", "reward", "reward-lora", "causal-lm")
CANARY = "hf_canary0123456789abcdef"


@pytest.fixture(autouse=True)
def _own_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))


def held(result: dict[str, Any]) -> dict[str, bool]:
    """The checks of a trial by name."""
    return {each["name"]: each["held"] for each in result["checks"]}


@pytest.mark.req("S7-R02")
@pytest.mark.parametrize("method", METHODS)
def test_every_method_passes_smoke_preflight_and_job(tmp_path: Path, method: str) -> None:
    job, run = runs.prepare(tmp_path / "root", method), tmp_path / "run"
    run.mkdir()
    smoke = work.smoke(job, run)
    assert (smoke["train_steps"], smoke["eval_steps"], smoke["used_proxy_model"]) == (1, 1, False)
    assert all(held(smoke).values())
    preflight = work.preflight(job, run)
    assert all(held(preflight).values())
    assert preflight["not_covered"]
    assert preflight["no_gpu_reason"]
    assert not list((run / "work").iterdir())
    assert not (run / "metrics.jsonl").exists()
    full = work.full(job, run)
    assert (full["status"], full["step"]) == ("completed", 8)
    assert json.dumps([smoke, preflight, full])
    names = {path.name for path in (run / "artifacts/model").iterdir()}
    assert ("adapter_model.safetensors" if "lora" in method else "model.safetensors") in names
    assert "tokenizer.json" in names
    assert not {"optimizer.pt", "manifest.json", "hemma_state.json"} & names
    assert (full["trainable"] < full["parameters"]) is ("lora" in method)


@pytest.mark.req("S6-R08")
def test_model_too_large_for_the_cpu_is_stood_in_for_by_a_proxy(tmp_path: Path) -> None:
    job = runs.prepare(tmp_path / "root", "sft")
    large = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32}
    job["model"]["config"] |= large | {"num_key_value_heads": 8, "head_dim": 128}
    assert parameter_count(load_config(job)) > 6e9
    smoke = work.smoke(job, tmp_path / "run")
    assert smoke["used_proxy_model"]
    assert smoke["model_used"].startswith("proxy")
    assert "parameters" in smoke["proxy_reason"]
    assert all(held(smoke).values())


def test_refused_arguments_stop_before_a_model_is_loaded(tmp_path: Path) -> None:
    job = runs.prepare(tmp_path / "root", "sft", arguments={"max_length": 32, "bogus": 1})
    for piece in (work.smoke, work.preflight, work.full):
        with pytest.raises(ArgumentsRefused, match="bogus"):
            piece(job, tmp_path / "run")
    assert not (tmp_path / "run/base_model").exists()


def test_a_job_goes_on_from_its_own_checkpoint_and_from_another_runs(tmp_path: Path) -> None:
    job = runs.prepare(tmp_path / "root", "sft")
    short = {**job, "arguments": {**job["arguments"], "max_steps": 4}}
    first, second = tmp_path / "runs/first", tmp_path / "runs/second"
    assert work.full(short, first)["resumed_from"] is None
    assert work.full(job, first)["resumed_from"] == 4
    assert work.full({**job, "resume": "first"}, second)["resumed_from"] == 8
    assert [row["step"] for row in read_metrics(first / "metrics.jsonl") if "loss" in row] == list(range(1, 9))
    with pytest.raises(Exception, match="no whole checkpoint"):
        work.full({**job, "resume": "nowhere"}, tmp_path / "runs/third")


@pytest.mark.parametrize("format_", ["prompt and completion", "messages"])
def test_longest_rows_come_first_in_the_preflight(tmp_path: Path, format_: str) -> None:
    job = runs.prepare(tmp_path / "root", "sft")
    rows: list[dict[str, Any]] = []
    for size in (3, 40, 5, 30, 4, 6):
        answer = "bird " * size
        said = [{"role": "user", "content": "the cat"}, {"role": "assistant", "content": answer}]
        rows.append({"messages": said} if format_ == "messages" else {"prompt": "the cat ", "completion": answer})
    (tmp_path / "root/sft.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    job["dataset"]["eval_fraction"] = 0.0
    result = work.preflight(job, tmp_path / "run")
    assert 40 <= result["longest_tokens"] <= 64


@pytest.mark.req("S20-R03")
def test_no_secret_of_the_environment_is_in_any_file(tmp_path: Path) -> None:
    job, run = runs.prepare(tmp_path / "root", "sft"), tmp_path / "run"
    run.mkdir()
    (run / "job.json").write_text(json.dumps(job))
    code = (
        "import json, sys; from pathlib import Path; from training import work; f = Path(sys.argv[1]);"
        "job = json.loads((f / 'job.json').read_text()); work.smoke(job, f); work.full(job, f)"
    )
    secrets = dict.fromkeys(("HF_TOKEN", "WANDB_API_KEY", "TRACKIO_WRITE_TOKEN", "MY_PASSWORD"), CANARY)
    done = subprocess.run(
        [sys.executable, "-c", code, str(run)],
        env={**os.environ, **secrets, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert CANARY.encode() not in done.stdout + done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 30
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []


@pytest.mark.parametrize(
    ("error", "category"),
    [
        (NotFinite("loss", 5, "nan"), "divergence_nan"),
        (NotFinite("grad_norm", 5, "inf"), "divergence_nan"),
        (NotFinite("weight a.b", 5, "not finite"), "divergence_nan"),
        (NoRoom("a checkpoint", "/x", needed_bytes=9, free_bytes=1), "quota_flavor_unavailable"),
    ],
)
def test_the_classifier_knows_our_own_failures(error: Exception, category: str) -> None:
    for text in (f"failed   {error}\n", "".join(traceback.format_exception(error))):
        assert classify(f"step 3/8  loss 2.3\n{text}", FailureFacts(exit_code=1)).category == category
