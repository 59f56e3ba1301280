"""The audit's verdict is what a real training step says: fixtures of tests/cases/data_audit, four methods, TRL itself.

compatible: a step on the rows as they are, and on the rendered ones. mappable: on the rendered ones. Refused: TRL fails on
the rows, or takes them silently, which the case then says (`trl_accepts`): that is what the audit is for.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import io
import json
import os
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.training.support import TINY, make_tokenizer

IS_FULL = os.environ.get("HEMMA_FULL") == "1"
METHODS = ("sft", "dpo", "grpo", "reward")
CASES = [
    (path.stem, case)
    for path in sorted((Path(__file__).parents[2] / "cases/data_audit").glob("*.yaml"))
    for case in yaml.safe_load(path.read_text(encoding="utf-8"))
]
# Checks that say that a trainer could not go on; the others are about what it should not be given.
FATAL = {"format", "critic", "rows", "invalid-rows", "unreadable-rows", "chat-template", "template-rows"}


def is_drawn(name: str) -> bool:
    """Whether a pair of case and method is in the smaller sample of every day: one in five, always the same ones."""
    return IS_FULL or hashlib.sha256(name.encode()).digest()[0] % 5 == 0


PAIRS = [
    pytest.param(case, method, id=f"{stem}: {case['name']} as {method}")
    for stem, case in CASES
    for method in METHODS
    if is_drawn(f"{stem}{case['name']}{method}")
]


class Bench:
    """A tiny model and tokenizer on disk, and one step of each method on any rows."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

        self.folder = folder
        self.tokenizer = AutoTokenizer.from_pretrained(make_tokenizer(folder / "tokenizer"))
        settings: dict[str, Any] = {**TINY, "vocab_size": len(self.tokenizer)}
        config = AutoConfig.for_model(**settings)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder / "model")
        config.num_labels = 1
        AutoModelForSequenceClassification.from_config(config).save_pretrained(folder / "reward")

    def step(self, method: str, dataset: Any) -> None:
        """One step over all rows. Raises whatever TRL raises."""
        from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

        kind = AutoModelForSequenceClassification if method == "reward" else AutoModelForCausalLM
        model = kind.from_pretrained(self.folder / ("reward" if method == "reward" else "model"))
        trainer = self._trainer(method, model, dataset)
        trainer.train()
        assert trainer.state.global_step == 1

    def _trainer(self, method: str, model: Any, dataset: Any) -> Any:
        # By name: type checkers see other exports than there are.
        trl: Any = importlib.import_module("trl")
        common: dict[str, Any] = {
            "output_dir": str(self.folder / "out"),
            "max_steps": 1,
            "per_device_train_batch_size": len(dataset) * (2 if method == "grpo" else 1),
            "use_cpu": True,
            "bf16": False,
            "report_to": "none",
            "save_strategy": "no",
            "logging_strategy": "no",
            "disable_tqdm": True,
        }
        parts: dict[str, Any] = {"model": model, "train_dataset": dataset, "processing_class": self.tokenizer}
        if method == "grpo":
            args = trl.GRPOConfig(max_completion_length=4, num_generations=2, **common)
            return trl.GRPOTrainer(**parts, args=args, reward_funcs=by_length)
        kinds: dict[str, Any] = {
            "sft": (trl.SFTTrainer, trl.SFTConfig),
            "dpo": (trl.DPOTrainer, trl.DPOConfig),
            "reward": (trl.RewardTrainer, trl.RewardConfig),
        }
        trainer, config = kinds[method]
        return trainer(**parts, args=config(max_length=64, **common))


def by_length(completions: list[Any], **_: Any) -> list[float]:
    """A reward."""
    return [float(len(str(each))) for each in completions]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Made once: the steps are what takes time."""
    return Bench(tmp_path_factory.mktemp("bench"))


def works(run: Any) -> bool:
    """Whether a step went through; whatever TRL raises is its way to say no."""
    try:
        with redirect_stdout(io.StringIO()):
            run()
    except Exception:  # noqa: BLE001
        return False
    return True


@pytest.mark.req("S5-R09")
@pytest.mark.req("S5-R13")
@pytest.mark.parametrize(("case", "method"), PAIRS)
def test_the_verdict_is_what_a_training_step_says(
    case: dict[str, Any], method: str, bench: Bench, tmp_path: Path
) -> None:
    from datasets import Dataset

    from training.data.audit import audit
    from training.data.rendering import splits, to_dataset

    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in case["rows"]), encoding="utf-8")
    spec: dict[str, Any] = {"source": "rows.jsonl", "eval_fraction": 0.0, "mapping": {}}
    job: dict[str, Any] = {"method": method, "root": str(tmp_path), "dataset": spec, "sequence_length": 64, "seed": 1}
    found = audit(job, tmp_path, bench.tokenizer)
    failed = [check["name"] for check in found["checks"] if not check["held"]]

    assert found["verdict"] == case["verdicts"][method]
    if found["verdict"] != "incompatible":
        assert failed == case.get("refused", {}).get(method, [])
    is_raw_fine = works(functools.partial(as_it_is, bench, method, case["rows"], Dataset))
    if failed:
        assert is_raw_fine is (method in case.get("trl_accepts", []))
    elif found["verdict"] == "compatible":
        assert is_raw_fine
    if not FATAL & set(failed):
        mapped = {**job, "dataset": {**spec, "mapping": found["mapping"]}}
        bench.step(method, to_dataset(splits(mapped)[0], tmp_path / "cache"))


def as_it_is(bench: Bench, method: str, rows: list[Any], dataset: Any) -> None:
    """A step on rows that nothing was done to; also loading them may fail."""
    bench.step(method, dataset.from_list(rows))


def test_there_are_enough_fixtures() -> None:
    assert len(CASES) >= 60
    assert len({case["name"] + stem for stem, case in CASES}) == len(CASES)
