"""`hemma tokenizer`: train a tokenizer on the host, on the dataset of a manifest, where the manifest names it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from controller.flows import host_tools
from manifests.errors import UsageError
from manifests.train import TrainManifest


def make(
    settings: dict[str, Any],
    manifest: TrainManifest,
    name: str,
    vocab_size: int,
    on_event: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Make it on the host; returns path, vocab_size, rows, bytes_per_token, sha256 and run_id.

    Raises UsageError when the manifest names no tokenizer, tokenizer-refused when one is already there.
    """
    if manifest.model.tokenizer is None:
        raise UsageError(
            f"{name} names no tokenizer: it uses that of {manifest.model.id}",
            remedy="model: {tokenizer: data/tokenizer} makes it one of its own",
        )
    answer = host_tools.call(settings, "tokenizer", {"job": manifest.job(), "vocab_size": vocab_size}, on_event)
    if answer.exit_code or not answer.last or answer.last["kind"] != "tokenizer":
        raise answer.failed("tokenizer-failed")
    return {**answer.last["data"], "run_id": answer.run_id}
