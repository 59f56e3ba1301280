"""A well-known training cell that cannot run: raw tokenizer output as the dataset, no labels, generate on a plain list.

It comes to us through both doors that a request has, its data and its code; the CPU smoke says what is wrong with it (S18-R14).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from manifests.train import parse
from tests.training.bench import REQUEST, Bench
from tests.training.support import rows_of
from training.course import Course, Stop
from training.events import read
from training.stages import trials

pytestmark = [pytest.mark.timeout(120), pytest.mark.req("S18-R14")]
PREPARED = """
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments
tokenizer = AutoTokenizer.from_pretrained("data/tokenizer")
shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 400}
model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **shape))
texts = ["the cat sees a bird"] * 8
arguments = TrainingArguments("dataset_cache/cell", use_cpu=True, max_steps=1, report_to="none")
def length(completions, **kwargs):
    return [1.0 for _ in completions]
"""
CELLS = {
    "raw tokenizer output": (
        "Trainer(model=model, args=arguments, train_dataset=tokenizer(texts, padding=True, return_tensors='pt')).train()",
        "batch received was empty",
        "missing-column",
    ),
    "no labels": (
        "Trainer(model=model, args=arguments, train_dataset=[dict(tokenizer(text)) for text in texts]).train()",
        "did not return a loss",
        "missing-column",
    ),
    "generate on a plain list": (
        "model.generate(tokenizer(texts[0])['input_ids'], max_new_tokens=4)",
        "'list' object has no attribute",
        "wrong-type",
    ),
}
Smoke = Callable[..., tuple[Stop, dict[str, Any]]]


@pytest.fixture
def smoke(host_with_nursery: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Smoke:
    """`smoke(method, dataset)`: the real smoke stage, which must refuse: (how it stopped, its analysis)."""
    bench = host_with_nursery
    monkeypatch.setattr(sys, "executable", str(bench.python))
    monkeypatch.setattr(sys, "argv", [str(bench.folder / "payload.zip")])

    def run(method: str, dataset: dict[str, Any]) -> tuple[Stop, dict[str, Any]]:
        said = {**REQUEST, "packing": "none", "persist": {"destination": str(tmp_path / "models")}}
        said["arguments"] = REQUEST["arguments"] | ({"num_generations": 2} if method == "grpo" else {})
        job = parse(json.dumps({**said, "method": method, "dataset": dataset}), "the request").job()
        folder = tmp_path / "runs/run-1/training"
        course = Course(job | {"run_id": "run-1", "root": str(bench.root)}, bench.root, folder, "0" * 64)
        with pytest.raises(Stop) as caught:
            trials.cpu_smoke(course)
        assert not list((folder / "checkpoints").iterdir())
        (analysis,) = [each["data"] for each in read(folder / "events.jsonl") if each["kind"] == "analysis"]
        return caught.value, analysis

    return run


@pytest.mark.parametrize("cell", CELLS)
def test_the_smoke_refuses_the_cell_and_says_why(host_with_nursery: Bench, smoke: Smoke, cell: str) -> None:
    code, words, second_level = CELLS[cell]
    root = host_with_nursery.root
    name = f"cell_{list(CELLS).index(cell)}"
    (root / f"{name}.py").write_text(PREPARED + code + "\n")
    (root / "data/prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_of("grpo", 30)))
    stop, analysis = smoke("grpo", {"source": "data/prompts.jsonl", "reward": f"{name}:length"})
    assert (stop.reason, stop.needs_person) == ("cpu_smoke_unrecoverable", True)
    assert (analysis["category"], analysis["code"]) == ("dataset_schema_mismatch", second_level)
    assert words in analysis["evidence"]
    assert stop.remedy
    assert analysis["changes"] == {}


def write_tokenizer_output(root: Path, *, is_flat: bool) -> str:
    """What the cell's tokenizer call gives, as a file: a row for each text, or one row that holds all of them."""
    tokenizer = AutoTokenizer.from_pretrained(root / "data/tokenizer")
    encoded = tokenizer([row["text"] for row in rows_of("sft", 30)], padding=True)
    rows = [dict(encoded)] if is_flat else [{name: encoded[name][at] for name in encoded} for at in range(30)]
    name = f"data/tokenised-{is_flat}.jsonl"
    (root / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


@pytest.mark.parametrize("is_flat", [False, True])
def test_the_smoke_refuses_tokenizer_output_as_a_dataset(host_with_nursery: Bench, smoke: Smoke, is_flat: bool) -> None:
    name = write_tokenizer_output(host_with_nursery.root, is_flat=is_flat)
    stop, analysis = smoke("sft", {"source": name, "eval_fraction": 0.0})
    assert stop.reason == "cpu_smoke_unrecoverable"
    assert (analysis["category"], analysis["code"]) == ("dataset_schema_mismatch", "missing-column")
    assert "input_ids" in analysis["evidence"] or "does not fit sft" in analysis["evidence"]


def test_in_a_whole_run_the_data_audit_is_there_first(host_with_nursery: Bench) -> None:
    bench = host_with_nursery
    name = write_tokenizer_output(bench.root, is_flat=False)
    run = bench.run(code=75, name="cell", dataset={"source": name})
    assert run.stop()["reason"] == "dataset_format_incompatible"
    assert list(run.stages())[-1] == "data-audit"
