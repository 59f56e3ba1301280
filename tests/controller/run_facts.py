"""A training run as its directory would hold it, whole and hostile, for tests of what is made from it."""

from __future__ import annotations

import json
import math
from typing import Any

from lanes.gates import STAGES

RUN_ID = "20261121T101112-1f2e3d4c"
# Names that would be markup, code, or no text at all in a careless page.
HOSTILE = (
    "<script>document.title='pwned'</script>",
    '"><img src=x onerror=alert(1)>',
    "</script><script>alert(2)</script>",
    "javascript:alert(3)",
    "{{7*7}} ${7*7} <!-- -->",
    "\x1b[31mred\x00\x7f\u202egnp.exe",
    "\udcff\ud800 lone",
    "åäö 世界 🦌 " + "x" * 300,
    "' onmouseover='alert(4)",
    "&lt;b&gt; &amp;",
)


def facts(name: str = "tiny-text", *, said: str = "") -> dict[str, Any]:
    """A run that went through all stages; `said` is put into every place where text comes from outside."""
    return {
        "run_id": RUN_ID,
        "job": _job(name, said),
        "evidence": [_evidence(stage, number, said) for number, stage in enumerate(STAGES)],
        "hashes": dict.fromkeys(("script", "config", "dataset", "model", "environment"), "0123456789abcdef" * 4),
        "stopped": None,
        "finished": "conformance",
        "events": _events(said),
        "alerts": [
            {"seq": 0, "level": "WARN", "title": f"loss spike {said}", "step": 41, "text": "4.21 is 2.1 times the median of 2.01", "action": "lower the learning rate"},
            {"seq": 1, "level": "ERROR", "title": "NaN in the gradient", "step": 77, "text": f"grad_norm nan {said}", "action": "x 0.1"},
            {"seq": 2, "level": "INFO", "title": "plateau", "step": 190, "text": "no better for 40 steps"},
        ],
        "metrics": _metrics(),
        "results": _results(said),
    }  # fmt: skip


def files(found: dict[str, Any]) -> dict[str, bytes | None]:
    """The same as the files of the run directory."""
    index = {
        "evidence": found["evidence"],
        "hashes": found["hashes"],
        "stopped": found["stopped"],
        "finished": found["finished"],
    }
    return {
        "job.json": json.dumps(found["job"]).encode(),
        "evidence/index.json": json.dumps(index).encode(),
        **{f"{kind}.jsonl": _jsonl(found[kind]) for kind in ("events", "alerts", "metrics")},
        "artifacts/results/benchmark_results.json": json.dumps(found["results"]).encode(),
    }


def _jsonl(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def _job(name: str, said: str) -> dict[str, Any]:
    return {
        "run_id": RUN_ID, "name": name + said, "task": f"A small causal model of this repository's own text. {said}", "method": "sft",
        "model": {"id": None, "config": {"model_type": "llama", "hidden_size": 64, said or "a": 1}, "tokenizer": "data/tokenizer"},
        "dataset": {"source": f"data/text.jsonl{said}", "split": "train", "eval_fraction": 0.1},
        "sequence_length": 128, "packing": "bfd_split", "seed": 42, "root": "somewhere",
        "arguments": {"max_steps": 200, "learning_rate": 0.003, "per_device_train_batch_size": 4, "logging_steps": 1},
        "resources": {"gpu": "optional", "timeout_s": 1800.0, "cost_per_hour": 0.0, "max_cost": 0.0, "max_gpu_hours": 24.0},
        "references": ["https://huggingface.co/docs/trl/sft_trainer", said], "attempts": 3, "python": ".venv/bin/python",
        "accept": {"no-gpu": f"a model this small trains on a CPU {said}"},
    }  # fmt: skip


def _evidence(stage: str, number: int, said: str) -> dict[str, Any]:
    more: dict[str, dict[str, Any]] = {
        "intake": {"versions": {"torch": "2.13.0", "transformers": "5.23.0", "trl": "1.16.0"}, "destination": said},
        "resources": {"gpus": [{"name": "NVIDIA H200" + said}], "estimated_s": 312.4, "memory_bytes": 1 << 36, "free_bytes": 1 << 38,
                      "precision": {"dtype": "bf16", "reasons": ["capability 9.0"]}, "plan": {"words": f"2.1 GiB of 139 GiB {said}"}},
        "job": {"spent": {"money": 0.0, "gpu_hours": 0.09}, "final_loss": 2.0131},
        "conformance": {"conforms": True, "missing": []},
    }  # fmt: skip
    return {
        "stage": stage,
        "outcome": "partial" if stage == "gpu-preflight" else "passed",
        "sequence": number,
        "hashes": {"script": "ab" * 32, "config": "cd" * 32, "dataset": "ef" * 32, "environment": "01" * 32},
        "checks": [
            {"name": f"first check of {stage}", "held": True, "fact": f"12 of 12 {said}"},
            {"name": f"a longer check with its numbers {said}", "held": True, "fact": "23.4 GiB free, 3.1 GiB wanted"},
        ],
        "facts": {"rows": 4182, "share": 0.9731, "note": said, **more.get(stage, {})},
        "not_covered": [f"the real model on a GPU {said}"] if stage == "gpu-preflight" else [],
        "created_at": f"2026-11-21T10:{11 + number}:12+00:00",
        "run_id": "20261120T090000-00000000" if stage == "data-audit" else RUN_ID,
    }


def _events(said: str) -> list[dict[str, Any]]:
    told: list[tuple[str, dict[str, Any]]] = [
        ("started", {"name": said, "until": "conformance"}),
        ("reserve", {"attempt": "full_job-1", "amount": "0.00 in money, 0.50 GPU hours"}),
        ("submit", {"attempt": "full_job-1", "job": "job-1", "kind": "full"}),
        ("job-ended", {"job": "job-1", "outcome": "failed", "code": 1, "seconds": 81.2}),
        ("analysis", {"attempt": "full_job-1", "category": "oom", "code": "cuda-oom", "evidence": f"CUDA out of memory. {said}", "change": "micro-batch 8 to 4, accumulation 1 to 2"}),
        ("settle", {"attempt": "full_job-1", "amount": "0.00 in money, 0.02 GPU hours"}),
        ("submit", {"attempt": "full_job-2", "job": "job-2", "kind": "full"}),
        ("job-ended", {"job": "job-2", "outcome": "completed", "code": 0, "seconds": 241.8}),
        ("persisted", {"destination": f"/srv/models/tiny-text/{RUN_ID}{said}", "sha256": "ab" * 32, "reread_sha256": "ab" * 32}),
        ("links", {"model": "https://example.invalid/models/tiny-text", "dashboard": "hemma dashboard last", "other": said or "-"}),
        ("committed", {"commit": "66dee5f1c0ffee66dee5f1c0ffee66dee5f1c0ff", "paths": [said]}),
    ]  # fmt: skip
    return [
        {"seq": number, "kind": kind, "at": f"2026-11-21T10:{10 + number}:00.000+00:00", "data": data}
        for number, (kind, data) in enumerate(told)
    ]


def _metrics() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for step in range(1, 201):
        loss = 2 + 4 * math.exp(-step / 40) + 0.15 * math.sin(step * 1.7)
        rows.append({"step": step, "loss": round(loss, 4) if step != 77 else float("nan"), "grad_norm": 1.0})
        if step % 25 == 0:
            rows.append({"step": step, "eval_loss": round(loss + 0.2, 4)})
    return rows


def _results(said: str) -> dict[str, Any]:
    return {
        "rows": [
            {"metric": "perplexity", "value": 8.21, "baseline": 142.7, "improvement_percent": 94.2, "higher_is_better": False},
            {"metric": f"rouge_l {said}", "value": 0.312, "baseline": 0.118, "improvement_percent": 164.4, "higher_is_better": True},
            {"metric": "tokens_per_s", "value": 18234.0, "baseline": 18310.0, "improvement_percent": -0.4, "higher_is_better": True},
            {"metric": "flops_per_token", "value": 1.2e9, "baseline": None, "improvement_percent": None, "higher_is_better": False},
        ],
        "metrics": {"perplexity": 8.21, f"rouge_l {said}": 0.312},
        "conditions": {"rows": 418, "sequence_length": 128, "note": said},
        "not_covered": [f"lm-eval: not asked for {said}"],
    }  # fmt: skip
