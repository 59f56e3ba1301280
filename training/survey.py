"""One look at a request from inside the training environment: model, tokenizer, arguments, GPUs, precision, memory, time.

Nothing of the model's weights is loaded. What comes out is JSON that intake and host audit turn into evidence (S4, S11-R21).
"""

from __future__ import annotations

import importlib.util
import os
import time
from pathlib import Path
from typing import Any, cast

from lanes.memory_plan import Architecture, Setup, duration_s, estimate, first_micro_batch_that_fits
from lanes.precision import Gpu, Host, PrecisionPlan
from lanes.precision import plan as precision_plan
from training.content import versions
from training.errors import TrainingError
from training.findings import Finding
from training.request_checks import check_request

DISTRIBUTIONS = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "trackio")
# A step of a small model is bound by its own bookkeeping, not by arithmetic: measured on two CPU cores.
STEP_OVERHEAD_S = 0.3
START_S = 30.0
BYTES_PER_TOKEN = 4.0
METHOD_OF_PLAN = {"causal-lm": "native"}


def survey(job: dict[str, Any]) -> dict[str, Any]:
    """Everything that intake and host audit want to know of the environment, as plain data."""
    root = Path.cwd()
    model, missing = _model(job, root)
    gpus = _gpus()
    has = {name: importlib.util.find_spec(name) is not None for name in ("flash_attn", "bitsandbytes")}
    host = Host(devices=max(1, len(gpus)), has_flash_attention=has["flash_attn"], has_bitsandbytes=has["bitsandbytes"])
    precision = precision_plan(gpus[0] if gpus else None, host)
    missing = missing or _tokenizer_missing(job, root)
    findings = [each.as_dict() for each in [*check_request(job), *([] if missing else _of_model(job, root))]]
    return {
        "missing": missing,
        "model": model,
        "versions": versions(DISTRIBUTIONS),
        "findings": findings,
        "gpus": [_gpu_facts(each) for each in gpus],
        "precision": _precision_facts(precision),
        "plan": _plan(job, root, model, gpus),
    }


def _of_model(job: dict[str, Any], root: Path) -> list[Finding]:
    from training.model_checks import check_model

    try:
        return check_model({**job, "root": str(root)})
    except TrainingError as error:
        return [Finding("error", "model", error.message, error.remedy)]


def _model(job: dict[str, Any], root: Path) -> tuple[dict[str, Any], str]:
    """(facts of the architecture, what is missing): by the config alone, of a path, a hub id, or the manifest."""
    from transformers import AutoConfig

    spec = job["model"]
    try:
        if spec.get("config"):
            config = AutoConfig.for_model(**spec["config"])
        else:
            place = root / os.path.expanduser(spec["id"])
            name = str(place) if place.is_dir() else spec["id"]
            config = AutoConfig.from_pretrained(
                name, revision=spec.get("revision"), trust_remote_code=bool(spec.get("trust_remote_code"))
            )
    except (OSError, ValueError, KeyError) as error:
        said = str(error).splitlines()
        return {"summary": "unknown", "architecture": None}, f"the model cannot be found: {said[0] if said else error}"
    shape = _architecture(config)
    length = getattr(config, "max_position_embeddings", None)
    words = f"{config.model_type}, {_millions(shape.parameters)} parameters, up to {length} positions"
    short = f"the model has {length} positions, the request asks for {job['sequence_length']}"
    is_short = isinstance(length, int) and length < job["sequence_length"]
    return {
        "summary": words,
        "type": config.model_type,
        "parameters": shape.parameters,
        "positions": length,
        "architecture": vars(shape),
    }, short if is_short else ""


def _architecture(config: Any) -> Architecture:
    """The shape that the memory plan needs; names differ between families."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    hidden = int(getattr(text, "hidden_size", None) or getattr(text, "n_embd", 768))
    heads = int(getattr(text, "num_attention_heads", None) or getattr(text, "n_head", 12))
    return Architecture(
        layers=int(getattr(text, "num_hidden_layers", None) or getattr(text, "n_layer", 12)),
        hidden=hidden,
        heads=heads,
        kv_heads=int(getattr(text, "num_key_value_heads", None) or heads),
        intermediate=int(getattr(text, "intermediate_size", None) or getattr(text, "n_inner", None) or 4 * hidden),
        vocabulary=int(text.vocab_size),
        is_gated="gelu" not in str(getattr(text, "hidden_act", getattr(text, "activation_function", "silu"))),
        is_tied=bool(getattr(text, "tie_word_embeddings", False)),
    )


def _tokenizer_missing(job: dict[str, Any], root: Path) -> str:
    from transformers import AutoTokenizer

    name = job["model"].get("tokenizer") or job["model"]["id"]
    place = root / os.path.expanduser(name)
    try:
        AutoTokenizer.from_pretrained(str(place) if place.exists() else name)
    except (OSError, ValueError, KeyError) as error:
        said = str(error).splitlines()
        return f"the tokenizer {name} cannot be loaded: {said[0] if said else error}"
    return ""


def _gpus() -> list[Gpu]:
    import torch

    if not torch.cuda.is_available():
        return []
    found: list[Gpu] = []
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        free, _ = torch.cuda.mem_get_info(index)
        found.append(Gpu(facts.name, facts.total_memory, (facts.major, facts.minor), free))
    return found


def _gpu_facts(gpu: Gpu) -> dict[str, Any]:
    return {
        "name": gpu.name,
        "total_bytes": gpu.memory_bytes,
        "free_bytes": gpu.free_bytes,
        "capability": list(gpu.capability),
    }


def _precision_facts(found: Any) -> dict[str, Any]:
    if not isinstance(found, PrecisionPlan):
        return {"refused": found.as_dict()}
    return {
        "profile": found.profile,
        "dtype": found.dtype,
        "attention": found.attention,
        "arguments": found.trainer_arguments,
        "proposals": list(found.proposals),
        "reasons": [f"{reason.rule}: {reason.fact}" for reason in found.reasons],
    }


def _plan(job: dict[str, Any], root: Path, model: dict[str, Any], gpus: list[Gpu]) -> dict[str, Any]:
    """What the job will take: memory by the formulae of lanes/memory_plan.py, time by this machine's measured arithmetic."""
    if not model.get("architecture"):
        return {
            "checkpoint_bytes": 0,
            "host_bytes": 0,
            "fits": True,
            "words": "unknown",
            "estimated_s": 0.0,
        } | _no_source()
    shape = Architecture(**model["architecture"])
    said, lora = job["arguments"], job.get("lora") or {}
    batch = int(said.get("per_device_train_batch_size", 8))
    setup = Setup(
        method=cast("Any", METHOD_OF_PLAN.get(job["method"], job["method"])),
        length=job["sequence_length"],
        micro_batch=batch,
        compute="bf16" if gpus else "fp32",
        is_checkpointing_on=bool(said.get("gradient_checkpointing", True)),
        lora_rank=int(lora.get("r", 0)),
    )
    found = estimate(shape, setup)
    free = min((gpu.free_bytes or gpu.memory_bytes for gpu in gpus), default=None)
    fitting = first_micro_batch_that_fits(shape, setup, free, batch) if free is not None else (batch, found)
    steps, tokens, source = _amount_of_work(job, root, batch, max(1, len(gpus)))
    peak = _measured_flops(on_gpu=bool(gpus))
    seconds = START_S + steps * STEP_OVERHEAD_S + duration_s(shape, setup, tokens, peak_flops=peak)
    return {
        "checkpoint_bytes": int(shape.parameters * (12 if not setup.lora_rank else 1)),
        "host_bytes": found.total if not gpus else int(shape.parameters * 4),
        "memory": found.as_dict(),
        "micro_batch": fitting[0] if fitting else None,
        "fits": fitting is not None,
        "words": _words(fitting, batch, gpus),
        "steps": steps,
        "tokens": tokens,
        "estimated_s": round(seconds, 1),
        "estimate_source": f"{source}; {peak / 1e12:.2f} TFLOP/s measured",
    }


def _no_source() -> dict[str, Any]:
    return {"estimate_source": "nothing is known of the model"}


def _words(fitting: tuple[int, Any] | None, batch: int, gpus: list[Gpu]) -> str:
    if not gpus:
        return "no GPU: the CPU's memory counts"
    if fitting is None:
        return "not even a batch of 1 fits"
    if fitting[0] == batch:
        return f"a batch of {batch} fits"
    return f"a batch of {fitting[0]} fits, {batch // fitting[0]} times accumulated for {batch}"


def _amount_of_work(job: dict[str, Any], root: Path, batch: int, devices: int) -> tuple[int, int, str]:
    """(optimizer steps, tokens, where that is from): `max_steps` if given, else the dataset's bytes at 4 to a token."""
    said = job["arguments"]
    rows = batch * int(said.get("gradient_accumulation_steps", 1)) * devices
    per_step = rows * int(job["sequence_length"])
    if int(said.get("max_steps", -1)) > 0:
        return int(said["max_steps"]), int(said["max_steps"]) * per_step, "max_steps x batch x length"
    place = root / os.path.expanduser(job["dataset"]["source"])
    files = place.rglob("*") if place.is_dir() else [place]
    size = sum(path.stat().st_size for path in files if path.is_file())
    tokens = int(size / BYTES_PER_TOKEN * float(said.get("num_train_epochs", 3)))
    return max(1, tokens // max(1, per_step)), tokens, "dataset bytes / 4 x epochs"


def _measured_flops(*, on_gpu: bool, size: int = 1024, rounds: int = 4) -> float:
    """Floating point operations a second of a matrix product on this machine."""
    import torch

    device, kind = ("cuda", torch.bfloat16) if on_gpu else ("cpu", torch.float32)
    left = torch.randn(size, size, device=device, dtype=kind)
    torch.matmul(left, left)
    begun = time.perf_counter()
    for _ in range(rounds):
        torch.matmul(left, left)
    if on_gpu:
        torch.cuda.synchronize()
    return 2.0 * size**3 * rounds / max(time.perf_counter() - begun, 1e-6)


def _millions(count: int) -> str:
    return f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.1f} M"
