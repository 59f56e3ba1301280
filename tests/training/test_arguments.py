"""Arguments are judged by the classes that are installed: names, successors, types, what is forced (S11-R21, S11-R22)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.training.support import cpu, make_job
from training.arguments import FORCED, build_config, check, fields_of, renamed
from training.arguments import config_class as class_of
from training.errors import ArgumentsRefused

METHODS = ("sft", "dpo", "grpo", "reward", "causal-lm")


def severities(method: str, arguments: dict[str, Any]) -> dict[str, str]:
    """Severity by argument."""
    return {each.name: each.severity for each in check(method, arguments)}


@pytest.mark.parametrize("method", METHODS)
def test_defaults_of_the_installed_class_pass(method: str) -> None:
    plain = {"learning_rate": 1e-5, "num_train_epochs": 2, "weight_decay": 0, "per_device_train_batch_size": 8}
    assert check(method, plain) == []
    assert check(method, {}) == []


@pytest.mark.req("S11-R21")
@pytest.mark.parametrize(
    ("method", "name", "value", "successor"),
    [
        ("sft", "evaluation_strategy", "no", "eval_strategy"),
        ("sft", "warmup_ratio", 0.1, "warmup_steps"),
        ("sft", "max_seq_length", 64, "max_length"),
        ("dpo", "no_cuda", True, "use_cpu"),
        ("grpo", "vllm_guided_decoding_regex", "a+", "vllm_structured_outputs_regex"),
    ],
)
def test_a_renamed_argument_is_used_under_its_new_name(method: str, name: str, value: Any, successor: str) -> None:
    if successor not in fields_of(class_of(method)):
        pytest.skip(f"{successor} is not in the installed class")
    (found,) = check(method, {name: value}, is_built=False)
    if successor == "use_cpu":  # the manifest's own
        assert (found.severity, found.name) == ("error", "use_cpu")
        return
    assert (found.severity, found.successor) == ("warn", successor)
    assert renamed(method, {name: value}) == {successor: value}


@pytest.mark.parametrize(
    ("arguments", "name", "words"),
    [
        ({"bogus": 1}, "bogus", "no argument"),
        ({"num_train_epoch": 3}, "num_train_epoch", "num_train_epochs"),
        ({"overwrite_output_dir": True}, "overwrite_output_dir", "always False"),
        ({"save_safetensors": True}, "save_safetensors", "gone"),
        ({"group_by_length": True}, "group_by_length", "train_sampling_strategy"),
        ({"fp16": "yes"}, "fp16", "not bool"),
        ({"max_steps": 1.5}, "max_steps", "not int"),
        ({"max_steps": True}, "max_steps", "not int"),
        ({"learning_rate": "fast"}, "learning_rate", "not float"),
        ({"save_strategy": "sometimes"}, "save_strategy", "none of: no, steps"),
        ({"auto_find_batch_size": True}, "auto_find_batch_size", "always False"),
        ({"eval_strategy": "steps", "evaluation_strategy": "no"}, "evaluation_strategy", "given too"),
        ({"seed": 1}, "seed", "manifest"),
        ({"packing": True}, "packing", "manifest"),
        ({"deepspeed": {}}, "deepspeed", "manifest"),
        ({"early_stopping_patience": "three"}, "early_stopping_patience", "not int"),
        (
            {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 2, "save_steps": 3},
            "arguments",
            "multiple",
        ),
    ],
)
def test_what_would_fail_hours_later_is_named_now(arguments: dict[str, Any], name: str, words: str) -> None:
    found = {each.name: each for each in check("sft", arguments)}
    assert name in found
    assert words in found[name].fact
    assert found[name].fix
    expected = "warn" if name == "overwrite_output_dir" else "error"
    assert found[name].severity == expected


def test_text_that_is_a_number_is_one() -> None:
    assert severities("sft", {"learning_rate": "2e-5", "max_steps": "7"}) == {
        "learning_rate": "info",
        "max_steps": "info",
    }
    assert renamed("sft", {"learning_rate": "2e-5", "max_steps": "7"}) == {"learning_rate": 2e-5, "max_steps": 7}


def test_methods_own_constraints_speak() -> None:
    (found,) = check("grpo", {"num_generations": 3, "per_device_train_batch_size": 4})
    assert "divisible" in found.fact


@pytest.mark.req("S11-R22")
@pytest.mark.parametrize("method", METHODS)
def test_what_is_forced_is_in_the_config(tmp_path: Path, method: str) -> None:
    said = {
        name: not value for name, value in FORCED.items() if name != "auto_find_batch_size" and isinstance(value, bool)
    }
    job = make_job(tmp_path, method, arguments=said if method != "causal-lm" else {})
    if method == "causal-lm":
        del job["arguments"]["gradient_checkpointing"]
    config = build_config(job, tmp_path / "run", cpu())
    for name, value in FORCED.items():
        assert getattr(config, name, value) == value, name
    assert config.seed == 42
    assert config.project == "tiny"
    assert config.run_name == "run-1"
    assert config.output_dir == str(tmp_path / "run/checkpoints")
    if method != "causal-lm":
        assert config.report_to in ([], ["none"], "none")
        assert config.logging_first_step
        assert config.data_seed == 42
    if method != "grpo":
        assert config.max_length == 64


def test_another_length_than_the_frozen_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentsRefused, match="sequence_length"):
        build_config(make_job(tmp_path, "sft", arguments={"max_seq_length": 32}), tmp_path, cpu())
    assert build_config(make_job(tmp_path, "sft", arguments={"max_seq_length": 64}), tmp_path, cpu()).max_length == 64


@pytest.mark.parametrize(
    ("packing", "wanted"),
    [
        ("none", {"packing": False, "padding_free": False}),
        ("bfd_split", {"packing": True, "packing_strategy": "bfd_split"}),
        ("wrapped", {"packing": True, "packing_strategy": "wrapped"}),
        ("best-fit", {"packing": False, "padding_free": True, "max_length": None}),
    ],
)
def test_packing_is_the_manifests(tmp_path: Path, packing: str, wanted: dict[str, Any]) -> None:
    config = build_config(make_job(tmp_path, "sft", packing=packing), tmp_path, cpu())
    assert {name: getattr(config, name) for name in wanted} == wanted


def test_the_native_engine_does_not_swallow_what_it_cannot_do() -> None:
    found = check("causal-lm", {"early_stopping_patience": 2})
    assert [(each.severity, each.name) for each in found] == [("error", "early_stopping_patience")]
    assert not check("sft", {"early_stopping_patience": 2})
