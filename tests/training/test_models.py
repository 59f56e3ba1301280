"""Models and tokenizers of a job, proxies of the same architecture, and the native engine's arithmetic (S4, S6-R08, S11)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.training.runs import ArraySource
from tests.training.support import TINY, cpu, datasets_of, make_job
from training import dpo, from_scratch, grpo
from training.errors import TrainingError
from training.events import read_metrics
from training.models import adapter_config, load_model, load_tokenizer, materialize, parameter_count, proxy, shrunk
from training.monitor import Monitor
from training.native_config import NativeConfig

LARGE: dict[str, dict[str, Any]] = {
    "llama": {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8},
    "qwen3": {"hidden_size": 5120, "num_hidden_layers": 40, "num_attention_heads": 40, "num_key_value_heads": 8},
    "gpt2": {"n_embd": 1600, "n_layer": 48, "n_head": 25},
    "gemma3_text": {"hidden_size": 2304, "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4},
    "qwen3_moe": {"hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 32, "num_experts": 64},
    "mistral": {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8},
    "phi3": {"hidden_size": 3072, "num_hidden_layers": 32, "num_attention_heads": 32, "pad_token_id": 0},
}


@pytest.mark.req("S6-R08")
@pytest.mark.parametrize("kind", LARGE)
def test_proxy_is_tiny_and_of_the_same_architecture(kind: str) -> None:
    config = AutoConfig.for_model(kind, vocab_size=1000, **LARGE[kind])
    small = shrunk(config)
    assert type(small) is type(config)
    assert small.vocab_size == 1000
    assert parameter_count(small) < 3e6
    model = AutoModelForCausalLM.from_config(small)
    ids = torch.randint(5, 900, (1, 20))
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    assert torch.isfinite(loss)


def test_a_model_from_a_config_is_made_once_from_the_seed(tmp_path: Path) -> None:
    job = make_job(tmp_path / "root", "sft")
    first, second = materialize(job, tmp_path / "a"), materialize(job, tmp_path / "b")
    other = materialize({**job, "seed": 7}, tmp_path / "c")
    weights = [(Path(place) / "model.safetensors").read_bytes() for place in (first, second, other)]
    assert weights[0] == weights[1] != weights[2]
    assert materialize(job, tmp_path / "a") == first
    assert proxy(job, tmp_path / "a") == str(tmp_path / "a/proxy")


@pytest.mark.req("S4-R04")
@pytest.mark.parametrize("what", ["model", "tokenizer"])
def test_what_is_not_there_is_said_and_nothing_else_taken(tmp_path: Path, what: str) -> None:
    job = make_job(tmp_path / "root", "sft")
    job["model"] = {"id": "no/such-model", "tokenizer": "no/such-tokenizer"}
    with pytest.raises(TrainingError, match="no/such") as told:
        load_model(job, tmp_path, cpu()) if what == "model" else load_tokenizer(job)
    assert told.value.code == "resource-unavailable"


def test_tokenizer_without_padding_gets_its_end_token(tmp_path: Path) -> None:
    job = make_job(tmp_path / "root", "sft")
    plain = load_tokenizer(job)
    plain.pad_token = None
    plain.save_pretrained(tmp_path / "root/unpadded")
    job["model"]["tokenizer"] = "unpadded"
    assert load_tokenizer(job).pad_token is not None


def test_adapter_of_a_reward_model_brings_its_head(tmp_path: Path) -> None:
    job = make_job(tmp_path / "root", "reward", lora={"r": 4})
    found = adapter_config(job)
    assert found is not None
    assert (found.task_type, found.r) == ("SEQ_CLS", 4)
    assert adapter_config({**job, "lora": None}) is None


@pytest.mark.req("S4-R04")
@pytest.mark.parametrize("module", [dpo, grpo])
def test_reference_is_of_the_same_revision_as_the_model(tmp_path: Path, module: Any) -> None:
    job = make_job(tmp_path / "root", module.__name__.rpartition(".")[2])
    place = materialize(job, tmp_path)
    job["model"] = {"id": place, "revision": "abc123", "tokenizer": "tokenizer"}
    trainer = module.build(job, tmp_path / "run", cpu(), datasets_of(job["method"]))
    assert trainer.args.model_init_kwargs["revision"] == "abc123"
    assert trainer.ref_model is not None


@pytest.mark.req("S11-R04")
def test_schedule_warms_up_and_decays() -> None:
    config = NativeConfig(learning_rate=1.0, warmup_steps=10, min_lr_ratio=0.1)
    rates = [from_scratch.learning_rate(config, step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[100] == pytest.approx(0.1)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    share = NativeConfig(learning_rate=1.0, warmup_steps=0.1, lr_scheduler_type="linear", min_lr_ratio=0.0)
    assert from_scratch.learning_rate(share, 4, 100) == pytest.approx(0.5)
    assert from_scratch.learning_rate(share, 55, 100) == pytest.approx(0.5)


@pytest.mark.req("S11-R03")
def test_overflow_of_a_scaled_gradient_is_no_poison(tmp_path: Path) -> None:
    """fp16 with a scaler, on the CPU for want of a T4: the first scales are too large, and that is how they are found."""
    job = make_job(tmp_path / "root", "causal-lm", arguments={"max_steps": 30, "save_steps": 10})
    half = dataclasses.replace(cpu(), dtype="fp16", needs_scaler=True)
    run = tmp_path / "run"
    monitor = Monitor(run, method="causal-lm")
    trainer = from_scratch.build(job, run, half, {"train": ArraySource(1)})
    weight = trainer.model.get_output_embeddings().weight
    # Large at first, so that the scaled gradient overflows; as it should be after the scale has come down.
    hook = weight.register_hook(lambda grad: grad * (float("inf") if trainer.step < 3 else 1.0))
    result = from_scratch.train(trainer, job, monitor, run)
    hook.remove()
    monitor.close("completed")
    norms = [row["grad_norm"] for row in read_metrics(run / "metrics.jsonl") if "loss" in row]
    assert result["status"] == "completed"
    assert norms[0] is None
    assert norms[-1] > 0
    assert (run / "checkpoints/checkpoint-30/scaler.pt").exists()


@pytest.mark.req("S13-R31")
def test_native_accumulation_equals_a_larger_batch(tmp_path: Path) -> None:
    """Two micro-batches of two rows, and one of four, with the same rows: the same losses and weights but for rounding."""
    source = ArraySource(1)

    class Pairs:
        def batch(self, index: int) -> Any:
            import numpy as np

            return np.concatenate([source.batch(2 * index), source.batch(2 * index + 1)])

        def __len__(self) -> int:
            return 6

    weights: list[dict[str, torch.Tensor]] = []
    for data, batch, micro in ((source, 2, 2), (Pairs(), 4, 1)):
        job = make_job(tmp_path / "root", "causal-lm", arguments={"per_device_train_batch_size": batch, "max_steps": 4})
        job["arguments"]["gradient_accumulation_steps"] = micro
        job["model"]["config"] = {**TINY, "vocab_size": 400, "attention_dropout": 0.0}
        run = tmp_path / f"run-{micro}"
        monitor = Monitor(run, method="causal-lm")
        trainer = from_scratch.build(job, run, cpu(), {"train": data})
        from_scratch.train(trainer, job, monitor, run)
        monitor.close("completed")
        weights.append(trainer.model.state_dict())
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-5) for name in weights[0])
