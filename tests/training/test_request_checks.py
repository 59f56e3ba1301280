"""What a cheap look at the request finds before anything is loaded: each kind of fault with its key, and no legal one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lanes.precision import Gpu, Host, PrecisionPlan, plan
from tests.training.support import TINY, cpu, make_job
from training.findings import blocking
from training.models import load_model, load_tokenizer
from training.request_checks import check_request

ILLEGAL: list[tuple[str, dict[str, Any], str]] = [
    ("sft", {"num_train_epochs": 0, "max_steps": -1}, "num_train_epochs"),
    ("dpo", {"num_train_epochs": -1.0, "max_steps": -1}, "num_train_epochs"),
    ("sft", {"max_steps": 0}, "max_steps"),
    ("sft", {"learning_rate": 0}, "learning_rate"),
    ("grpo", {"learning_rate": -1e-5}, "learning_rate"),
    ("reward", {"learning_rate": float("nan")}, "learning_rate"),
    ("sft", {"learning_rate": 50}, "learning_rate"),
    ("dpo", {"learning_rate": "50"}, "learning_rate"),
    ("causal-lm", {"learning_rate": 0.5}, "learning_rate"),
    ("sft", {"learning_rate": 30, "optim": "sgd"}, "learning_rate"),
    ("sft", {"per_device_train_batch_size": 0}, "per_device_train_batch_size"),
    ("sft", {"gradient_accumulation_steps": -1}, "gradient_accumulation_steps"),
    ("sft", {"learning_rte": 1e-5}, "learning_rte"),
]
LEGAL: list[tuple[str, dict[str, Any]]] = [
    ("sft", {"num_train_epochs": 0.5, "max_steps": -1}),
    ("sft", {"num_train_epochs": 0, "max_steps": 5}),
    ("sft", {"learning_rate": 1.0, "optim": "sgd"}),
    ("sft", {"learning_rate": "2e-5"}),
    ("grpo", {"learning_rate": 1e-6}),
    ("causal-lm", {"learning_rate": 6e-4}),
    ("dpo", {"learning_rate": 0.05}),
]


@pytest.mark.req("S11-R21")
@pytest.mark.parametrize(("method", "arguments", "name"), ILLEGAL)
def test_numbers_that_make_no_training_are_refused(
    method: str, arguments: dict[str, Any], name: str, tmp_path: Path
) -> None:
    job = make_job(tmp_path, method)
    job["arguments"] = arguments
    assert [each.name for each in blocking(check_request(job))] == [name]


@pytest.mark.parametrize(("method", "arguments"), LEGAL)
def test_legal_numbers_pass(method: str, arguments: dict[str, Any], tmp_path: Path) -> None:
    job = make_job(tmp_path, method)
    job["arguments"] = arguments
    assert blocking(check_request(job)) == []


def test_a_misspelt_argument_is_told_what_was_meant(tmp_path: Path) -> None:
    job = make_job(tmp_path, "sft")
    job["arguments"] = {"learing_rate": 1e-5}
    [found] = blocking(check_request(job))
    assert "did you mean learning_rate?" in found.fact


@pytest.mark.parametrize(
    "arguments",
    [
        {"eval_strategy": "steps"},
        {"load_best_model_at_end": True, "eval_strategy": "epoch"},
        {"early_stopping_patience": 2},
    ],
)
def test_an_evaluation_without_rows_for_it_is_refused(arguments: dict[str, Any], tmp_path: Path) -> None:
    job = make_job(tmp_path, "sft", arguments=arguments)
    job["dataset"]["eval_fraction"] = 0.0
    assert any("no rows for it" in each.fact for each in blocking(check_request(job)))
    for has_rows in ({"eval_fraction": 0.1}, {"eval_source": "more.jsonl"}):
        given = {**job, "dataset": {**job["dataset"], **has_rows}}
        assert not any("no rows for it" in each.fact for each in check_request(given))


def findings(root: Path, **more: Any) -> dict[str, str]:
    """Severity by name of what does not fit the model."""
    from training.model_checks import check_model

    return {each.name: each.severity for each in check_model(make_job(root, "sft", **more))}


def model(**facts: Any) -> dict[str, Any]:
    """A model from a config of the tiny llama with other facts."""
    return {"id": None, "revision": None, "config": {**TINY, "vocab_size": 400, **facts}, "tokenizer": "tokenizer"}


def test_a_vocabulary_that_is_not_the_tokenizers_is_told(tmp_path: Path) -> None:
    assert findings(tmp_path) == {}
    assert findings(tmp_path, model=model(vocab_size=32_000)) == {"model.tokenizer": "warn"}
    assert findings(tmp_path, model=model(vocab_size=1024)) == {}  # padded to a round number
    assert findings(tmp_path, model=model(vocab_size=200)) == {"model.tokenizer": "warn"}
    tokenizer = load_tokenizer(make_job(tmp_path, "sft"))
    rows = len(tokenizer)
    tokenizer.add_special_tokens({"pad_token": "<extra>"})
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    found = findings(tmp_path, model=model(vocab_size=rows))
    assert found == {"model.tokenizer: pad_token_id": "error", "model.tokenizer": "warn"}


@pytest.mark.parametrize(
    ("targets", "is_there"),
    [
        (["q_proj", "v_proj"], True),
        ("all-linear", True),
        (r".*\.(q|v)_proj", True),
        (["c_attn"], False),
        (["q_proj", "v_porj"], False),
        (r".*\.c_attn", False),
    ],
)
def test_lora_targets_are_looked_for_in_the_model(targets: Any, is_there: bool, tmp_path: Path) -> None:
    lora = {"r": 4, "lora_alpha": 8, "target_modules": targets, "lora_dropout": 0.0}
    assert findings(tmp_path, lora=lora) == ({} if is_there else {"lora.target_modules": "error"})


MAMBA = {
    "model_type": "mamba",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "state_size": 4,
    "vocab_size": 400,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def test_a_model_without_attention_can_be_loaded(tmp_path: Path) -> None:
    job = make_job(tmp_path, "sft", model={"id": None, "revision": None, "config": MAMBA, "tokenizer": "tokenizer"})
    assert load_model(job, tmp_path, cpu()).config.model_type == "mamba"
    card = plan(Gpu("NVIDIA H100", 80 << 30, (9, 0)), Host(has_flash_attention=True), is_frozen=True)
    assert isinstance(card, PrecisionPlan)
    assert card.attention == "flash_attention_2"
    assert load_model(job, tmp_path, card).config.model_type == "mamba"


def test_attention_is_sdpa_where_the_class_has_it(tmp_path: Path) -> None:
    assert load_model(make_job(tmp_path, "sft"), tmp_path, cpu()).config._attn_implementation == "sdpa"


@pytest.mark.req("S12-R02")
def test_the_preflight_sees_a_run_that_diverges(tmp_path: Path) -> None:
    from training.errors import TrainingError
    from training.work import preflight

    wild = {"optim": "adafactor", "optim_args": "scale_parameter=False,relative_step=False", "learning_rate": 9.0}
    job = make_job(tmp_path, "sft", arguments=wild)
    with pytest.raises(TrainingError, match="Loss diverged: step=2") as caught:
        preflight(job, tmp_path)
    assert caught.value.code == "loss-diverged"
