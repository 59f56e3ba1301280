"""What the executor's children do with a trainer: the CPU smoke, the preflight on the real model, the full job (S7, S8).

Each takes the job and the run directory and returns plain data; a failure is an exception, whose traceback in the log is
what the classifier reads. `checks` hold what was looked at, `not_covered` what could not be.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers.utils.logging import disable_progress_bar

from lanes.precision import Gpu, Host, PrecisionPlan, plan
from manifests.commands import Command, command, joined
from training import datasets_of_job as data
from training.checkpoint_writer import available_memory
from training.checkpoints import Checkpoint, newest_valid, tidy
from training.content import imported
from training.errors import ArgumentsRefused, CheckpointBroken, TrainingError
from training.findings import blocking
from training.models import load_config, parameter_count, proxy
from training.monitor import Monitor
from training.tracker import Mirror
from training.trainer_state import check_request

# Bars of a library in a log file are noise: what is going on is told by the progress line.
disable_progress_bar()
Job = dict[str, Any]
MODULES = {"sft": "sft", "dpo": "dpo", "grpo": "grpo", "reward": "reward", "causal-lm": "from_scratch"}
STOPPED = "stopped.json"
# A real model that the CPU smoke loads itself; a larger one is stood in for by a proxy of the same architecture.
SMOKE_PARAMETERS = 300_000_000
# fp32 weights, gradients, two moments, and as much again for activations and the copy of a checkpoint.
SMOKE_BYTES_PER_PARAMETER = 32
SMOKE_ROWS = 8
SMOKE_COMPLETION = 16


class StoppedInOrder(TrainingError):
    """The training was asked to stop and did, with a checkpoint; the exit code is no success."""

    code = "stopped"
    exit_code = 75


def smoke(job: Job, folder: Path) -> dict[str, Any]:
    """Exactly one train step, then one eval step, on the CPU in fp32, on a tiny real slice (S7-R02, S6-R07)."""
    scratch = _fresh(folder / "work" / "smoke")
    refuse_findings(job)
    source, model_used, why = _smoke_model(job, scratch)
    # Trials tell nothing to the run's own logs: theirs lie beside them.
    monitor = Monitor(scratch, method=job["method"])
    sets = data.tiny(job, SMOKE_ROWS)
    overrides = _one_step(job) | {"use_cpu": True, "bf16": False, "fp16": False}
    begun = time.monotonic()
    trainer = _module(job).build(job, scratch, _cpu(), sets, source=source, overrides=overrides)
    result = _module(job).train(trainer, job, monitor, scratch)
    evaluated = _evaluated(trainer, sets)
    monitor.close("completed")
    first = _first_loss(scratch)
    _remove(scratch)
    return {
        "train_steps": result["step"],
        "eval_steps": 1 if evaluated is not None else 0,
        "first_metric": first,
        "eval_loss": evaluated,
        "alert_log": True,
        "model_used": model_used,
        "used_proxy_model": source is not None,
        "proxy_reason": why,
        "seconds": round(time.monotonic() - begun, 2),
        "modules": imported(Path.cwd()),
        "knobs": {"maxSteps": 1, "evalSteps": 1, "cpu": True, "fp32": True, "proxyModel": source is not None},
        "checks": [
            _check("one train step", result["step"] == 1, f"{result['step']} steps, loss {first}"),
            _check("one eval step", evaluated is not None, f"eval loss {evaluated}"),
        ],
    }


def preflight(job: Job, folder: Path) -> dict[str, Any]:
    """The real model: the longest real batch at the frozen length, one optimizer step, eval, checkpoint there and back.

    After the checkpoint is read back one more step runs from it: with the optimizer's state in memory, which is where the
    second step of a job runs out of it (S7-R17). Without a GPU the same runs on the CPU, and `not_covered` says so.
    """
    scratch = _fresh(folder / "work" / "preflight")
    refuse_findings(job)
    precision = precision_here(job)
    monitor = Monitor(scratch, method=job["method"])
    sets, longest = data.longest(job, _rows_per_step(job) * 2)
    module = _module(job)
    _reset_peak()
    first = module.build(job, scratch, precision, sets, overrides=_one_step(job, per_device=None))
    facts = {"parameters": _parameters(first), "dtype": precision.dtype, "profile": precision.profile}
    done = module.train(first, job, monitor, scratch)
    evaluated = _evaluated(first, sets)
    peak = _peak()
    del first
    _give_memory_back()
    again = module.build(job, scratch, precision, sets, overrides=_one_step(job, per_device=None) | {"max_steps": 2})
    checkpoint = _newest(scratch, monitor)
    resumed = module.train(again, job, monitor, scratch, resume_from=checkpoint)
    monitor.close("completed")
    device = "cuda" if precision.profile != "cpu" else "cpu"
    result = {
        "device": f"{device} ({torch.cuda.get_device_name()})" if device == "cuda" else "cpu",
        "real_model_loaded": True,
        "longest_tokens": longest,
        "sequence_length": job["sequence_length"],
        "first_metric": _first_loss(scratch),
        "eval_loss": evaluated,
        "peak_bytes": max(peak, _peak()),
        "stalls_s": done["stalls_s"],
        "effective_batch_size": done["effective_batch_size"],
        "tracker": "trackio" if importlib.util.find_spec("trackio") else "none",
        "not_covered": _not_covered(device),
        "modules": imported(Path.cwd()),
        "no_gpu_reason": _no_gpu_reason(job, device),
        **facts,
        "checks": [
            _check("real model loaded", True, f"{facts['parameters']} parameters, {precision.dtype} on {device}"),
            _check(
                "one optimizer step on the longest batch", done["step"] == 1, f"{longest} tokens in its longest row"
            ),
            _check("one eval step", evaluated is not None, f"eval loss {evaluated}"),
            _check("checkpoint read back, second step from it", resumed["step"] == 2, checkpoint.path.name),
        ],
    }
    _remove(scratch)
    return result


def full(job: Job, folder: Path, resume: str | None = None) -> dict[str, Any]:
    """The job, from the newest whole checkpoint where there is one: of this run, else of the run to resume (S11-R13..R15).

    Raises StoppedInOrder after an orderly stop (SIGTERM, a `stop` file): the checkpoint is made, `stopped.json` says where.
    """
    (folder / STOPPED).unlink(missing_ok=True)
    refuse_findings(job)
    monitor = Monitor(folder, method=job["method"])
    monitor.listen()
    state = "failed"
    mirror = Mirror(folder, project=str(job["name"]), run=str(job["run_id"]), space=_space(job))
    try:
        checkpoint = _resume_from(job, folder, monitor, resume or job.get("resume"))
        sets = data.whole(job, folder)
        trainer = _module(job).build(job, folder, precision_here(job), sets)
        result = _module(job).train(trainer, job, monitor, folder, resume_from=checkpoint)
        state = result["status"]
    finally:
        monitor.close(state)
        delivered = mirror.stop()
    if state == "stopped":
        _stopped(folder, result)
    return {**result, "tracker": {"project": job["name"], "run": job["run_id"], "is_complete": delivered}}


def precision_here(job: Mapping[str, Any]) -> PrecisionPlan:
    """The precision plan for the hardware of this machine, or for the CPU where the job uses no GPU (C9)."""
    uses = torch.cuda.is_available() and (job.get("resources") or {}).get("gpu") != "none"
    if not uses:
        return _cpu()
    facts = torch.cuda.get_device_properties(0)
    free, _ = torch.cuda.mem_get_info(0)
    gpu = Gpu(facts.name, facts.total_memory, (facts.major, facts.minor), free)
    host = Host(has_flash_attention=importlib.util.find_spec("flash_attn") is not None)
    said = job.get("arguments") or {}
    requested: Any = "bf16" if said.get("bf16") else "fp16" if said.get("fp16") else None
    found = plan(gpu, host, is_frozen=True, requested=requested)
    if not isinstance(found, PrecisionPlan):
        reason = "; ".join(each.fact for each in found.reasons)
        raise ArgumentsRefused(f"precision: {reason}", remedy=joined(found.next_steps, "; "))
    return found


def refuse_findings(job: Mapping[str, Any]) -> None:
    """Raises ArgumentsRefused when a check of the method blocks (S11-R21)."""
    found = blocking(_module(job).check(job))
    if found:
        words = "; ".join(f"{each.name}: {each.fact}" for each in found)
        raise ArgumentsRefused(words, remedy=joined((Command(each.fix) for each in found), "; "))


# --- pieces ------------------------------------------------------------------------------------------------------


def _module(job: Mapping[str, Any]) -> Any:
    # By its name at run time: in a payload our packages have a prefix.
    return importlib.import_module(f"{__package__}.{MODULES[job['method']]}")


def _cpu() -> PrecisionPlan:
    found = plan(None, Host())
    assert isinstance(found, PrecisionPlan)
    return found


def _one_step(job: Mapping[str, Any], per_device: int | None = 1) -> dict[str, Any]:
    """Arguments of a trial: one step, all of it logged and saved. `per_device` None keeps the job's own batch."""
    wanted: dict[str, Any] = {"max_steps": 1, "logging_steps": 1, "save_steps": 1, "eval_strategy": "no"}
    wanted |= {"save_strategy": "steps", "load_best_model_at_end": False, "warmup_steps": 0, "eval_batches": 1}
    if per_device is not None:
        # The smallest group of completions is a pair; what is too long for a CPU is tried in the preflight.
        group = {"num_generations": 2, "generation_batch_size": None, "steps_per_generation": None}
        group |= {"max_completion_length": SMOKE_COMPLETION}
        size = 2 if job["method"] == "grpo" else per_device
        wanted |= {"per_device_train_batch_size": size, "per_device_eval_batch_size": size}
        wanted |= {"gradient_accumulation_steps": 1, "torch_compile": False}
        wanted |= group if job["method"] == "grpo" else {}
    return wanted


def _smoke_model(job: Mapping[str, Any], scratch: Path) -> tuple[str | None, str, str]:
    """(the proxy's path or None, which model, why a proxy): the real one where the CPU can hold it (S6-R08)."""
    name = str(job["model"].get("id") or "from config")
    count = parameter_count(load_config(job))
    needed, there = count * SMOKE_BYTES_PER_PARAMETER, available_memory()
    if count <= SMOKE_PARAMETERS and needed < there:
        return None, name, ""
    why = f"{count} parameters: more than {SMOKE_PARAMETERS}, or than the {there} bytes of memory here hold"
    return proxy(job, scratch), f"proxy of {name}", why


def _evaluated(trainer: Any, sets: Mapping[str, Any]) -> float | None:
    """The loss of one evaluation step; None where there is nothing to evaluate on."""
    if sets.get("eval") is None:
        return None
    if hasattr(trainer, "evaluate"):
        trainer.model.eval()
        return float(trainer.evaluate()["eval_loss"])
    from training.from_scratch import evaluate_loss

    return evaluate_loss(trainer, 1)


def _resume_from(job: Mapping[str, Any], folder: Path, monitor: Monitor, resume: object) -> Checkpoint | None:
    own = folder / "checkpoints"
    if own.is_dir():
        for done in tidy(own):
            monitor.events.append("checkpoints-tidied", {"what": done})
    found = newest_valid(own, monitor.damaged)
    if found is None and resume:
        place = Path(str(resume))
        place = place if place.is_absolute() else folder.parent / place
        found = newest_valid(place / "checkpoints", monitor.damaged)
        if found is None:
            raise CheckpointBroken(f"{resume} has no whole checkpoint", remedy="start without --resume")
    if found is not None:
        check_request(found, job)
    return found


def _newest(scratch: Path, monitor: Monitor) -> Checkpoint:
    found = newest_valid(scratch / "checkpoints", monitor.damaged)
    if found is None:
        raise CheckpointBroken("the checkpoint of the preflight is not whole", remedy="look at the disk: df -h; dmesg")
    return found


def _stopped(folder: Path, result: Mapping[str, Any]) -> None:
    facts = {"reason": result["stop_reason"], "step": result["step"], "max_steps": result["max_steps"]}
    temporary = folder / f".{STOPPED}.tmp"
    temporary.write_text(json.dumps(facts), encoding="utf-8")
    temporary.replace(folder / STOPPED)
    raise StoppedInOrder(
        f"stopped at step {result['step']} of {result['max_steps']} ({result['stop_reason']}), with a checkpoint",
        remedy=command("hemma train --resume {}", folder.name),
    )


def _rows_per_step(job: Mapping[str, Any]) -> int:
    said = job.get("arguments") or {}
    return int(said.get("per_device_train_batch_size", 8)) * int(said.get("gradient_accumulation_steps", 1))


def _first_loss(folder: Path) -> float | None:
    with open(folder / "metrics.jsonl", encoding="utf-8") as file:
        return next((float(row["loss"]) for row in map(json.loads, file) if "loss" in row), None)


def _parameters(trainer: Any) -> int:
    return sum(each.numel() for each in trainer.model.parameters())


def _not_covered(device: str) -> list[str]:
    return [] if device == "cuda" else ["no GPU here: GPU memory, kernels, mixed precision and speed were not tried"]


def _no_gpu_reason(job: Mapping[str, Any], device: str) -> str:
    if device == "cuda":
        return ""
    said = (job.get("accept") or {}).get("no-gpu")
    return str(said or "the job trains on this CPU, which is what the preflight used")


def _space(job: Mapping[str, Any]) -> str | None:
    return (job.get("arguments") or {}).get("trackio_space_id")


def _check(name: str, held: bool, fact: str) -> dict[str, Any]:
    return {"name": name, "held": held, "fact": fact}


def _fresh(folder: Path) -> Path:
    _remove(folder)
    folder.mkdir(parents=True)
    return folder


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _give_memory_back() -> None:
    # Trainer and callbacks hold each other: only the collector lets the first model go before the second comes.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _peak() -> int:
    """Bytes that were needed at most: of the GPU, or of this process where there is none."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if os.uname().sysname == "Darwin" else 1024)
