"""Tiny jobs for the tests of the training room: a tokenizer trained here, models of a few thousand weights, made-up rows."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from lanes.precision import Host, PrecisionPlan, plan

SAID = "the a cat dog bird sees hears likes red blue small big house tree river and then because it was not"
WORDS = tuple(SAID.split())
TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<|user|>", "<|assistant|>", "<|end|>"]
TINY = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    # Dropout makes the order of random numbers count: a resume that forgets a generator then shows.
    "attention_dropout": 0.1,
}
REWARD = """
def length(completions, **kwargs):
    return [float(len(each if isinstance(each, str) else each[0]["content"])) / 50 for each in completions]
"""


def cpu() -> PrecisionPlan:
    """The precision plan of a machine without a GPU."""
    found = plan(None, Host())
    assert isinstance(found, PrecisionPlan)
    return found


def sentence(chance: random.Random, words: int) -> str:
    """Words in an order of their own."""
    return " ".join(chance.choice(WORDS) for _ in range(words))


def make_tokenizer(folder: Path) -> Path:
    """A byte-level BPE tokenizer with a chat template, trained on the words above."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    chance = random.Random(0)
    trained = ByteLevelBPETokenizer()
    texts = [sentence(chance, 12) for _ in range(200)]
    trained.train_from_iterator(texts, vocab_size=400, min_frequency=1, special_tokens=SPECIAL, show_progress=False)
    made = PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    made.chat_template = TEMPLATE
    made.save_pretrained(folder)
    return folder


def rows_of(method: str, count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Rows in the form that a method takes."""
    chance = random.Random(seed)

    def row() -> dict[str, Any]:
        prompt, good, bad = (sentence(chance, chance.randint(3, 9)) for _ in range(3))
        if method in ("dpo", "reward"):
            return {"prompt": prompt + " ", "chosen": good, "rejected": bad}
        if method == "grpo":
            return {"prompt": prompt}
        return {"text": f"{prompt} {good}"}

    return [row() for _ in range(count)]


def datasets_of(method: str, count: int = 48) -> dict[str, Any]:
    """The rows as Hugging Face datasets, with a small evaluation split."""
    from datasets import Dataset

    return {
        "train": Dataset.from_list(rows_of(method, count)),
        "eval": Dataset.from_list(rows_of(method, 6, seed=2)),
    }


def make_job(root: Path, method: str, *, rows: int = 48, **more: Any) -> dict[str, Any]:
    """A whole job below `root` for a tiny model: tokenizer, data and reward function are written there."""
    root.mkdir(parents=True, exist_ok=True)
    tokenizer = root / "tokenizer"
    if not tokenizer.exists():
        make_tokenizer(tokenizer)
    (root / "tiny_rewards.py").write_text(REWARD)
    source = root / f"{method}.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows_of(method, rows)))
    arguments: dict[str, Any] = {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "max_steps": 8,
        "save_steps": 2,
        "logging_steps": 1,
        "learning_rate": 1e-3,
        "gradient_checkpointing": False,
        "lr_scheduler_type": "linear",
    }
    if method == "grpo":
        arguments |= {"num_generations": 2, "max_completion_length": 8, "beta": 0.1}
    return {
        "schema_version": 1,
        "run_id": "run-1",
        "root": str(root),
        "commit": "0" * 40,
        "name": "tiny",
        "method": method,
        "model": {"id": None, "revision": None, "config": dict(TINY, vocab_size=400), "tokenizer": "tokenizer"},
        "dataset": {
            "source": source.name,
            "format": "jsonl",
            "split": "train",
            "eval_source": None,
            "eval_fraction": 0.1,
            "mapping": {},
            "reward": "tiny_rewards:length" if method == "grpo" else None,
        },
        "sequence_length": 64,
        "packing": "none",
        "lora": None,
        "seed": 42,
        "resources": {"gpu": "none", "timeout_s": 600, "cost_per_hour": 0, "max_cost": 0, "max_gpu_hours": 1},
        "thresholds": {},
        "persist": {"kind": "directory", "destination": "results"},
        "evaluate": {"metrics": ["perplexity"], "limit": None},
        "accept": {},
        "attempts": 1,
        **more,
        "arguments": {**arguments, **(more.get("arguments") or {})},
    }
