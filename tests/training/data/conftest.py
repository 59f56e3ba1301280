"""A tokenizer and jobs for the data tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.training.support import make_tokenizer

MakeJob = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained tokenizer with a chat template, on disk."""
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer") / "t")


@pytest.fixture
def tokenizer(tokenizer_folder: Path) -> Any:
    """The tokenizer, fresh: a test may change it."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tokenizer_folder)


@pytest.fixture
def make_job(tmp_path: Path) -> MakeJob:
    """A job over these rows, which are written below its root; keywords change the job or, by name, its dataset."""

    def make(rows: list[Any], method: str = "sft", **more: Any) -> dict[str, Any]:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (tmp_path / "rows.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        spec: dict[str, Any] = {"source": "rows.jsonl", "eval_fraction": 0.1, "mapping": {}}
        spec |= {name: more.pop(name) for name in ("eval_fraction", "eval_source", "mapping", "source") if name in more}
        return {
            "method": method,
            "root": str(tmp_path),
            "dataset": spec,
            "sequence_length": 16,
            "packing": "none",
            "seed": 7,
            "thresholds": {"token_loss": 0.02, "untrainable_rows": 0.01, "leakage": 0.0, "equal_pairs": 0.0},
            "accept": {},
            **more,
        }

    return make
