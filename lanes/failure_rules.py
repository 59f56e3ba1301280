"""What the type of an exception, its message and where it was raised say together, where its words alone do not.

`KeyError: 'seq_len'` is a missing column when a collator raised it and nothing of the sort when a registry did.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lanes.log_structure import Frame, Raised

# Where rows are read, formatted, tokenised or put into batches.
_DATA_FILE = re.compile(
    r"datasets/|dataset|data_?loader|data_?utils|data_?module|collat|_utils/fetch|preprocess|pandas/|arrow_|formatting|/data/|tokeniz",
    re.IGNORECASE,
)
_DATA_FUNCTION = re.compile(
    r"collat|preprocess|tokeniz|format|prompt|_map\b|\bmap\b|batch|example|sample|dataset|to_text|template|concatenate",
    re.IGNORECASE,
)
_ELSEWHERE = re.compile(
    r"importlib|registry|configuration_|auto_factory|/os\.py|<frozen os>|optim|lr_scheduler|state_dict|checkpoint|modeling_|sys\.modules|environ"
)
# Names of columns as libraries build them: input_ids_chosen, attention_mask_j, labels_0.
_COLUMN = re.compile(
    r"(input_ids|attention_mask|labels?|pixel_values|token_type_ids|text|prompt|chosen|rejected|completion)[_\w]*\Z"
)
# A model type that the installed transformers does not know yet.
_MODEL_TYPES = re.compile(r"configuration_auto|auto_factory|models/auto/")
_MODEL_TYPE = re.compile(
    r"(?:llama|mistral|mixtral|qwen|gemma|phi|falcon|chatglm|baichuan|internlm|deepseek|glm|olmo|mllama|smollm|granite|starcoder|minicpm)[\w.\-]*"
)
_FILE = re.compile(r"\.(?:png|jpe?g|wav|npy|npz|txt|jsonl?|csv|mp4|flac)\Z", re.IGNORECASE)
_QUOTED = re.compile(r"[\"'](.+)[\"']\Z")
# Asked for in the end; how far from the exception the place of its kind is looked for.
_NEAR = 4


@dataclass(frozen=True)
class Judged:
    """What a rule makes of an exception; the weights are those of the signatures."""

    code: str
    weight: float
    name: str = ""


def judge(raised: Raised) -> Iterator[Judged]:
    """What the exception says by its type and place; nothing for most."""
    if raised.name == "KeyError":
        yield from _key_error(raised)
    elif raised.name in {"UndefinedError", "TemplateError", "TemplateSyntaxError"} or (
        raised.frames and "jinja2" in raised.frames[-1].file
    ):
        yield Judged("chat-roles", 3.0)
    elif raised.name == "KeyboardInterrupt":
        yield Judged("stopped", 1.0)


def _key_error(raised: Raised) -> Iterator[Judged]:
    quoted = _QUOTED.match(raised.message)
    name = quoted.group(1) if quoted else raised.message
    if "in DataLoader worker" in raised.message:
        yield Judged("missing-column", 2.2, "it")
        return
    at = raised.frames[-1].file if raised.frames else ""
    if _MODEL_TYPES.search(at) or (quoted and not at and _MODEL_TYPE.fullmatch(name)):
        yield Judged("incompatible-versions", 2.6, name)
    elif quoted and _COLUMN.match(name):
        yield Judged("missing-column", 2.6, name)
    elif re.fullmatch(r"-?\d+", name) and (not raised.frames or is_data(raised.frames)):
        yield Judged("missing-column", 2.2, f"row or column {name}")
    elif quoted and _FILE.search(name):
        yield Judged("data-missing", 2.2, name)
    elif quoted and is_data(raised.frames):
        yield Judged("missing-column", 2.6, name)


def is_data(frames: tuple[Frame, ...]) -> bool:
    """Whether the innermost of these places are about rows."""
    near = frames[-_NEAR:]
    if not near or _ELSEWHERE.search(near[-1].file):
        return False
    return any(_DATA_FILE.search(frame.file) or _DATA_FUNCTION.search(frame.function) for frame in near)
