"""What of a request does not fit its model, seen from the config alone: vocabulary, special tokens, LoRA targets.

The model is made on torch's `meta` device: names and shapes, no weights, no memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from training.findings import Finding
from training.models import adapter_config, load_config, load_tokenizer, named_modules

# Embeddings are padded to round numbers; beyond both of these there are rows that no token ever reads.
SPARE_SHARE, SPARE_ROWS = 0.25, 1024
_SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id")


def check_model(job: Mapping[str, Any]) -> list[Finding]:
    """Findings on the job's tokenizer and adapter against its model's config. Raises TrainingError where one cannot be had."""
    config = load_config(job)
    text = config.get_text_config()
    found = list(_vocabulary(load_tokenizer(job), getattr(text, "vocab_size", None)))
    if job.get("lora"):
        found += _targets(job, config)
    return found


def _vocabulary(tokenizer: Any, rows: int | None) -> Iterator[Finding]:
    if rows is None:
        return
    size = len(tokenizer)
    largest = max(tokenizer.get_vocab().values(), default=-1)
    for name in _SPECIAL:
        number = getattr(tokenizer, name, None)
        if isinstance(number, int) and number >= rows:
            fact = (
                f"is {number}, and the model's embedding has {rows:,} rows: the first batch that holds it ends the job"
            )
            yield Finding(
                "error", f"model.tokenizer: {name}", fact, "name the model's own tokenizer, or a larger vocab_size"
            )
    if largest >= rows:
        fact = f"has ids up to {largest:,}, the model's embedding has {rows:,} rows; the data audit says whether a row needs them"
        yield Finding("warn", "model.tokenizer", fact, "name the model's own tokenizer")
    elif rows - size > max(SPARE_ROWS, SPARE_SHARE * rows):
        fact = f"has {size:,} tokens, the model's embedding {rows:,} rows: {rows - size:,} of them would never be read"
        mend = f"model.config.vocab_size: {size}, or the tokenizer that the model was trained with"
        yield Finding("warn", "model.tokenizer", fact, mend)


def _targets(job: Mapping[str, Any], config: Any) -> Iterator[Finding]:
    from peft.tuners.tuners_utils import check_target_module_exists

    adapter, names = adapter_config(job), named_modules(config, str(job["method"]))
    wanted = adapter.target_modules if adapter is not None else None
    if adapter is None or wanted == "all-linear" or wanted is None:
        return
    there = sorted({name.rpartition(".")[2] for name, is_leaf in names.items() if is_leaf})
    mend = f"lora.target_modules: some of {', '.join(there[:16])}, or all-linear"
    for each in [wanted] if isinstance(wanted, str) else sorted(wanted):
        adapter.target_modules = each if isinstance(wanted, str) else {each}
        if not any(check_target_module_exists(adapter, name) for name in names):
            yield Finding("error", "lora.target_modules", f"{each} is no module of {config.model_type}", mend)
