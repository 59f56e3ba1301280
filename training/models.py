"""Model and tokenizer of a job: from an id, a path or a config; with LoRA; or a tiny proxy of the same architecture.

A model from a config is written to `<run>/base_model` once, from the seed: every later load (a resume, the reference model
of DPO, which is loaded by name) then reads the same weights.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    set_seed,
)

from lanes.precision import PrecisionPlan
from training.errors import TrainingError

BASE_MODEL = "base_model"
PROXY = "proxy"
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
# What a proxy shrinks, to at most this; everything else of the architecture stays (S6-R08).
_PROXY_SIZES = {
    "hidden_size": 64,
    "n_embd": 64,
    "d_model": 64,
    "intermediate_size": 128,
    "n_inner": 128,
    "ffn_dim": 128,
    "moe_intermediate_size": 64,
    "shared_expert_intermediate_size": 64,
    "num_hidden_layers": 2,
    "n_layer": 2,
    "num_layers": 2,
    "num_attention_heads": 4,
    "n_head": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "sliding_window": 64,
}


def load_tokenizer(job: Mapping[str, Any]) -> Any:
    """The tokenizer, with a padding token (the end token where it has none). Raises TrainingError when it cannot be had."""
    spec = job["model"]
    name = _place(job, str(spec.get("tokenizer") or spec["id"]))
    loaded = _from_library(
        lambda: AutoTokenizer.from_pretrained(
            name, revision=_revision(spec, "tokenizer"), trust_remote_code=bool(spec.get("trust_remote_code"))
        ),
        f"the tokenizer {name}",
    )
    if loaded.pad_token is None:
        loaded.pad_token = loaded.eos_token or loaded.unk_token
    return loaded


def load_config(job: Mapping[str, Any]) -> PreTrainedConfig:
    """The model's config: nothing of the weights is read."""
    spec = job["model"]
    if spec.get("config"):
        return AutoConfig.for_model(**spec["config"])
    name = _place(job, spec["id"])
    return _from_library(
        lambda: AutoConfig.from_pretrained(
            name, revision=spec.get("revision"), trust_remote_code=bool(spec.get("trust_remote_code"))
        ),
        f"the model {name}",
    )


def materialize(job: Mapping[str, Any], folder: Path) -> str:
    """The path or hub id to load the model by; one that is only a config is made from the seed and written first."""
    if not job["model"].get("config"):
        return _place(job, job["model"]["id"])
    target = folder / BASE_MODEL
    if not (target / "config.json").exists():
        _write(_causal_from(load_config(job), int(job.get("seed", 42))), target)
    return str(target)


def load_model(job: Mapping[str, Any], folder: Path, precision: PrecisionPlan, *, source: str | None = None) -> Any:
    """The model to train, weights in fp32 unless an adapter is trained on top: those may be stored in the plan's dtype.

    `source` overrides where it is loaded from (a proxy). For `reward` it has a head with one output, made from the seed.
    """
    name = source or materialize(job, folder)
    spec = job["model"]
    # fp32 weights under autocast: a full fine-tune in bare bf16 loses updates smaller than the weight's last bit.
    dtype = DTYPES[precision.dtype] if job.get("lora") and precision.dtype != "fp16" else torch.float32
    config = load_config(job) if source is None else AutoConfig.from_pretrained(source)
    more: dict[str, Any] = {"dtype": dtype, **attention(config, precision)}
    if source is None and not spec.get("config"):
        more |= {"revision": spec.get("revision"), "trust_remote_code": bool(spec.get("trust_remote_code"))}
    # Convolutions (state space models, vision towers) search for their quickest kernel, where the profile says so (S4-R10).
    torch.backends.cudnn.benchmark = precision.cudnn_benchmark
    set_seed(int(job.get("seed", 42)))
    kind: Any = AutoModelForCausalLM
    if job["method"] == "reward":
        kind, more = AutoModelForSequenceClassification, {**more, "num_labels": 1}
    return _from_library(lambda: kind.from_pretrained(name, **more), f"the model {name}")


def attention(config: PreTrainedConfig, precision: PrecisionPlan) -> dict[str, str]:
    """The attention to ask for: FlashAttention where the plan has it and the model's class too, else the class's own choice.

    That is `sdpa` for a class that has it. A model without attention (Mamba), or with an older one, refuses to be told.
    """
    kind: Any = AutoModelForCausalLM._model_mapping.get(type(config), None)  # noqa: SLF001 - transformers has no other door
    is_flash = precision.attention == "flash_attention_2" and getattr(kind, "_supports_flash_attn", False)
    return {"attn_implementation": "flash_attention_2"} if is_flash else {}


def named_modules(config: PreTrainedConfig, method: str) -> dict[str, bool]:
    """The names of all modules of a model of this config, and whether each is one that an adapter can take; nothing is allocated."""
    kind: Any = AutoModelForSequenceClassification if method == "reward" else AutoModelForCausalLM
    with torch.device("meta"):
        model = kind.from_config(config)
    leaves = (torch.nn.Linear, torch.nn.Embedding, torch.nn.Conv1d)
    return {
        name: isinstance(each, leaves) or type(each).__name__ == "Conv1D"
        for name, each in model.named_modules()
        if name
    }


def adapter_config(job: Mapping[str, Any]) -> Any | None:
    """peft's config of the job's LoRA, None for a full fine-tune (S11-R17)."""
    lora = job.get("lora")
    if not lora:
        return None
    from peft import LoraConfig

    # With this type peft trains and saves the reward model's head as well.
    task = "SEQ_CLS" if job["method"] == "reward" else "CAUSAL_LM"
    names = ("r", "lora_alpha", "target_modules", "lora_dropout")
    return LoraConfig(task_type=task, **{name: lora[name] for name in names if name in lora})


def trainable(model: Any) -> dict[str, int | float]:
    """How many parameters there are, how many are trained, and the share in percent."""
    every = sum(each.numel() for each in model.parameters())
    trained = sum(each.numel() for each in model.parameters() if each.requires_grad)
    return {"parameters": every, "trainable": trained, "percent": round(100 * trained / max(every, 1), 4)}


def proxy(job: Mapping[str, Any], folder: Path) -> str:
    """A tiny model of the same architecture and vocabulary, made from the real config and the seed; returns its path."""
    target = folder / PROXY
    if not (target / "config.json").exists():
        _write(_causal_from(shrunk(load_config(job)), int(job.get("seed", 42))), target)
    return str(target)


def shrunk(config: PreTrainedConfig) -> PreTrainedConfig:
    """The config with its widths and depths cut down; per-layer lists are cut to the layers that are left."""
    facts = config.to_dict()
    small = _smaller(facts)
    made = type(config).from_dict(small)
    made.dtype = None
    return made


def parameter_count(config: PreTrainedConfig) -> int:
    """Parameters of a model of this config; nothing is allocated."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return sum(each.numel() for each in model.parameters())


def _smaller(facts: dict[str, Any]) -> dict[str, Any]:
    small: dict[str, Any] = {}
    layers = next((facts[key] for key in ("num_hidden_layers", "n_layer", "num_layers") if facts.get(key)), None)
    for name, value in facts.items():
        if isinstance(value, dict) and name.endswith("_config"):
            small[name] = _smaller(cast("dict[str, Any]", value))
        elif name in _PROXY_SIZES and isinstance(value, int):
            small[name] = min(value, _PROXY_SIZES[name])
        elif isinstance(value, list) and layers and len(cast("list[Any]", value)) == layers:
            small[name] = value[: _PROXY_SIZES["num_hidden_layers"]]
        else:
            small[name] = value
    return _whole_heads(small)


def _whole_heads(small: dict[str, Any]) -> dict[str, Any]:
    """Key and value heads divide the query heads; rotary sections fit the head."""
    heads, groups = small.get("num_attention_heads"), small.get("num_key_value_heads")
    if isinstance(heads, int) and isinstance(groups, int):
        small["num_key_value_heads"] = math.gcd(heads, groups) or 1
    return small


def _causal_from(config: PreTrainedConfig, seed: int) -> Any:
    set_seed(seed)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def _write(model: Any, target: Path) -> None:
    """Staged and renamed: a crash leaves no half model under the name."""
    staged = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(staged, ignore_errors=True)
    model.save_pretrained(staged)
    shutil.rmtree(target, ignore_errors=True)
    staged.rename(target)


def _place(job: Mapping[str, Any], name: str) -> str:
    """A path inside the repository where there is one, else the name as it is: a hub id."""
    place = Path(str(job.get("root") or ".")) / Path(name).expanduser()
    return str(place) if place.exists() else name


def _revision(spec: Mapping[str, Any], of: str) -> str | None:
    # A tokenizer of its own has no revision of the model's.
    return None if spec.get(of) else spec.get("revision")


def _from_library(load: Callable[[], Any], what: str) -> Any:
    try:
        return load()
    except (OSError, ValueError, KeyError) as error:
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise TrainingError(
            f"{what} cannot be loaded: {said}",
            remedy="name one that is on the host or that its network reaches; nothing is substituted (S4-R04)",
            code="resource-unavailable",
        ) from error
