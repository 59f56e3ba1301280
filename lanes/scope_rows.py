"""Rows taken away, cut, reordered or made constant by a Python text, in the ways that such texts have (S13-R45)."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from lanes.scope_fold import called
from lanes.scope_tree import Act, Script, is_quiet, is_told, keywords_of, last_name, named_by_getattr

_REDUCERS = frozenset(
    (
        "select",
        "shard",
        "take",
        "skip",
        "head",
        "tail",
        "sample",
        "filter",
        "train_test_split",
        "islice",
        "truncate",
        "drop",
    )
    + (
        "drop_duplicates",
        "dropna",
        "random_split",
        "Subset",
        "SubsetRandomSampler",
        "nlargest",
        "nsmallest",
        "sort",
        "shuffle",
    )
    + (
        "interleave_datasets",
        "concatenate_datasets",
        "select_rows",
        "slice",
        "limit",
        "repeat",
        "query",
        "choices",
        "takewhile",
    )
    + (
        "dropwhile",
        "unique",
        "subsample",
        "narrow",
        "truncate_dataset",
        "RandomSampler",
        "WeightedRandomSampler",
        "compress",
    )
)
_DATA_KEYS = frozenset(
    ("text", "prompt", "completion", "chosen", "rejected", "messages", "input_ids", "labels", "attention_mask")
)


def _constant_columns(


def _slice(
