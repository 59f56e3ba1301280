"""manifests/runs/X.yaml: a fine-tuning or pre-training request, as a person commits it (S1-R04, S1-R08).

What it says of model, dataset, method and sequence length is the frozen baseline: nothing downstream may change it
silently (S1-R09, S4-R04). A person writes it, so every fault is a UsageError with file, key, rule and mend.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self, cast

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from manifests.adapters import Integrate
from manifests.commands import command
from manifests.errors import UsageError
from manifests.model import FileModel, Model, RepoPath, demand_size, faults, slip_for, slips

Method = Literal["sft", "dpo", "grpo", "reward", "causal-lm"]
Packing = Literal["none", "bfd", "bfd_split", "wrapped", "best-fit"]
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)", re.IGNORECASE)
_UNIT_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PLACEHOLDER = re.compile(r"your[-_ ]|[<>{}$…]|\b(todo|tbd|changeme|placeholder)\b", re.IGNORECASE)


def _seconds(value: object) -> object:
    if isinstance(value, str):
        found = _DURATION.fullmatch(value.strip())
        if found is None:
            raise ValueError("must be a duration such as 90s, 30m, 4h or 1d")
        return float(found[1]) * _UNIT_S[found[2].lower()]
    return value


def _concrete(value: str) -> str:
    if not value.strip() or _PLACEHOLDER.search(value):
        raise ValueError("must be a concrete place, not a placeholder (S6-R05)")
    return value


Duration = Annotated[float, BeforeValidator(_seconds), Field(gt=0, le=30 * 86400)]
Amount = Annotated[float, Field(ge=0)]


class ModelSpec(Model):
    """The model: `id` (a hub id, or a path in the repository), or `config`, a transformers config to start from scratch."""

    id: str | None = None
    revision: str | None = None
    config: dict[str, Any] | None = None
    tokenizer: str | None = None
    trust_remote_code: bool = False

    @model_validator(mode="after")
    def _is_one_of(self) -> Self:
        if (self.id is None) == (self.config is None):
            raise ValueError("needs `id` or `config`, not both")
        if self.config is not None and self.tokenizer is None:
            raise ValueError("a model from `config` needs `tokenizer`")
        return self


class DatasetSpec(Model):
    """The dataset: a path in the repository or a hub id, its format by suffix unless given, and the column mapping."""

    source: str = Field(min_length=1)
    format: Literal["jsonl", "parquet", "csv", "text", "markdown", "disk", "hub"] | None = None
    split: str = "train"
    eval_source: str | None = None
    eval_fraction: float = Field(default=0.02, ge=0, lt=0.9)
    mapping: dict[str, str] = Field(default_factory=dict)
    reward: str | None = Field(default=None, pattern=r"^[\w.]+:[\w]+$")


class LoraSpec(Model):
    """LoRA; the defaults are those of S11-R17."""

    r: int = Field(default=8, ge=1, le=1024)
    lora_alpha: int = Field(default=16, ge=1)
    target_modules: list[str] | str = Field(default_factory=lambda: ["q_proj", "v_proj"])
    lora_dropout: float = Field(default=0.05, ge=0, lt=1)


class Resources(Model):
    """What the run may use. Amounts in one currency; an unknown cost is never approved by itself (S8-R19)."""

    gpu: Literal["required", "optional", "none"] = "optional"
    timeout: Duration = 4 * 3600.0
    cost_per_hour: Amount | None = 0.0
    max_cost: Amount = 0.0
    max_gpu_hours: Amount = 24.0


class Thresholds(Model):
    """Where the data audit blocks (shares of 1)."""

    token_loss: float = Field(default=0.02, ge=0, le=1)
    untrainable_rows: float = Field(default=0.01, ge=0, le=1)
    leakage: float = Field(default=0.0, ge=0, le=1)
    equal_pairs: float = Field(default=0.0, ge=0, le=1)


class Persist(Model):
    """Where the result goes before the run counts as done; resolved before the launch (S14-R03, S14-R04)."""

    kind: Literal["directory", "host", "hub"] = "directory"
    destination: Annotated[str, AfterValidator(_concrete)]


class Evaluate(Model):
    """What is measured after training."""

    metrics: list[str] = Field(default_factory=lambda: ["perplexity"])
    limit: int | None = Field(default=None, ge=1)


class TrainManifest(FileModel):
    """One training request. `name` names it in tables, folders and the tracker; `references` are what it was modelled on."""

    kind: Literal["train"] = "train"
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")
    task: str = ""
    method: Method
    model: ModelSpec
    dataset: DatasetSpec
    sequence_length: int = Field(default=1024, ge=8, le=1 << 20)
    packing: Packing = "none"
    arguments: dict[str, Any] = Field(default_factory=dict)
    lora: LoraSpec | None = None
    seed: int = Field(default=42, ge=0, lt=1 << 31)
    python: str = ".venv/bin/python"
    environment: dict[str, str] = Field(default_factory=dict)
    references: list[str] = Field(default_factory=list)
    resources: Resources = Field(default_factory=Resources)
    thresholds: Thresholds = Field(default_factory=Thresholds)
    persist: Persist
    evaluate: Evaluate = Field(default_factory=Evaluate)
    accept: dict[str, str] = Field(default_factory=dict)
    attempts: int = Field(default=3, ge=1, le=8)
    commit: list[RepoPath] = Field(default_factory=list)
    results: RepoPath = "results"
    integrate: Integrate = Field(default_factory=Integrate)

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if self.method == "grpo" and not self.dataset.reward:
            raise ValueError("grpo needs dataset.reward, `module:function` in the repository")
        if self.method == "causal-lm" and self.lora is not None:
            raise ValueError("causal-lm trains a whole model; lora belongs to sft, dpo, grpo or reward")
        reasons = [name for name, reason in self.accept.items() if not str(reason).strip()]
        if reasons:
            raise ValueError(f"accept.{reasons[0]} needs the reason why it is acceptable")
        return self

    def job(self) -> dict[str, Any]:
        """The request as the executor takes it: plain data, durations in seconds (`resources.timeout_s`).

        What is asked of an adapter later (`integrate`) is no part of the training, nor of what its evidence is bound to.
        """
        data = self.as_dict()
        del data["integrate"]
        data["resources"]["timeout_s"] = data["resources"].pop("timeout")
        return data


def parse(text: str, name: str) -> TrainManifest:
    """The manifest in `text`, called `name` in errors. Raises UsageError naming every key at fault, its rule and the mend."""
    demand_size(text, name)
    try:
        value: object = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise UsageError(
            f"{name} is not valid YAML{where}: {getattr(error, 'problem', error)}", remedy=command("$EDITOR {}", name)
        ) from error
    if not isinstance(value, dict):
        raise UsageError(f"{name} holds no mapping", remedy=command("hemma train --example > {}", name))
    try:
        manifest = TrainManifest.model_validate(value)
    except ValidationError as error:
        said = "; ".join(_said(key, rule, value) for key, rule in faults(error))
        raise UsageError(
            f"{name}: {said}", remedy=command("$EDITOR {}   (a whole one: hemma train --example)", name)
        ) from error
    misspelt = slips(manifest)
    if misspelt:
        raise UsageError(f"{name}: " + "; ".join(misspelt), remedy=command("$EDITOR {}", name))
    return manifest


def _said(key: str, rule: str, written: object) -> str:
    """One fault for people; of a key that is missing, the one that was most likely meant to be it."""
    above, _, last = key.rpartition(".")
    for part in above.split(".") if above else ():
        written = cast("dict[str, object]", written).get(part) if isinstance(written, dict) else None
    slip = slip_for(last, written) if rule == "Field required" else None
    beside = f"{above}." if above else ""
    return f"`{beside}{slip}` is unknown; did you mean `{key}`?" if slip else f"{key or 'the manifest'}: {rule}"


EXAMPLE = """\
schema_version: 1
kind: train
name: tiny-text
task: A small causal model of this repository's own text.
method: sft
model:
  config: {model_type: llama, hidden_size: 64, intermediate_size: 128, num_hidden_layers: 2, num_attention_heads: 4}
  tokenizer: data/tokenizer
dataset:
  source: data/text.jsonl
  eval_fraction: 0.1
sequence_length: 128
packing: bfd_split
arguments: {max_steps: 30, per_device_train_batch_size: 4, learning_rate: 0.003, logging_steps: 1}
python: .venv/bin/python
references: [https://huggingface.co/docs/trl/sft_trainer]
resources: {gpu: optional, timeout: 30m}
persist: {kind: directory, destination: ~/hemma-models}
evaluate: {metrics: [perplexity]}
accept: {no-gpu: a model this small trains on a CPU}
commit: [manifests/runs/tiny-text.yaml]
"""
