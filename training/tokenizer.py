"""A tokenizer for a model from scratch: byte-level BPE, trained on the manifest's own dataset, where the manifest names it.

Runs on the host in the training environment (`hemma tokenizer`). What it does it prints as JSON lines, the result last.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from manifests.errors import HemmaError
from manifests.files import read_json, write_json
from training.answer import tell
from training.content import tree
from training.data.sources import open_source
from training.errors import TrainingError

PROVENANCE = "trained_on.json"
END, PAD, TURN, TURN_END = "<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>"
# Every byte is a token already, and so are the special ones: a smaller vocabulary cannot be.
SMALLEST = 256 + 4
_PROGRESS_ROWS = 500
# ChatML: the form that most tools read without being told.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


class TokenizerRefused(TrainingError):
    """There is no place for it, or nothing to learn from."""

    code = "tokenizer-refused"


def main(path: str) -> int:
    """Make the tokenizer that the request file asks for; 0 done, else the error's own code."""
    try:
        request = read_json(path)
        found = make({**request["job"], "root": os.getcwd()}, int(request["vocab_size"]))
    except HemmaError as error:
        tell("refused", **error.as_dict())
        return error.exit_code
    tell("tokenizer", **found)
    return 0


def make(job: Mapping[str, Any], vocab_size: int) -> dict[str, Any]:
    """Train it on every row and put it into place; returns path, vocab_size, rows, bytes_per_token and sha256.

    What stands there already is never replaced (S10-R07): another tokenizer makes another model of the same name.
    Raises TokenizerRefused.
    """
    root = Path(str(job["root"]))
    target = _target(job, root)
    source = open_source(job["dataset"], root)
    counted = {"rows": 0, "bytes": 0}
    trained = _trained(_texts(source.rows(), counted), vocab_size)
    if not counted["bytes"]:
        raise TokenizerRefused(
            f"{source.name} has no text to learn from",
            remedy="hemma train MANIFEST --until data-audit says what it has",
        )
    staged = target.with_name(f".{target.name}.staged-{os.getpid()}")
    shutil.rmtree(staged, ignore_errors=True)
    _complete(trained).save_pretrained(staged)
    facts = {"source": source.name, "source_sha256": source.digest(), "rows": counted["rows"], "asked_size": vocab_size}
    write_json(str(staged / PROVENANCE), facts)
    staged.rename(target)
    tokens = _tokens(trained, open_source(job["dataset"], root).rows())
    return {
        "path": str(target.relative_to(root)),
        "vocab_size": trained.get_vocab_size(),
        "rows": counted["rows"],
        "bytes_per_token": round(tokens["bytes"] / max(tokens["tokens"], 1), 2),
        "sha256": tree(target),
    }


def _target(job: Mapping[str, Any], root: Path) -> Path:
    named = job["model"].get("tokenizer")
    if not named:
        raise TokenizerRefused("the manifest names no tokenizer", remedy="model: {tokenizer: data/tokenizer}")
    target = root / str(named)
    if not target.resolve().is_relative_to(root.resolve()):
        raise TokenizerRefused(f"{named} lies outside the repository", remedy="name a folder in it: data/tokenizer")
    if target.exists():
        raise TokenizerRefused(
            f"{named} exists, and is not replaced", remedy="use it, or name another folder in model.tokenizer"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _trained(texts: Iterator[str], vocab_size: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=max(vocab_size, SMALLEST),
        special_tokens=[END, PAD, TURN, TURN_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer=trainer)
    return made


def _complete(trained: Any) -> Any:
    from transformers import PreTrainedTokenizerFast

    made = PreTrainedTokenizerFast(
        tokenizer_object=trained,
        bos_token=END,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[TURN, TURN_END],
    )
    made.chat_template = CHAT_TEMPLATE
    return made


def _texts(rows: Iterator[tuple[Any, dict[str, Any]]], counted: dict[str, int]) -> Iterator[str]:
    for _, row in rows:
        counted["rows"] += 1
        if counted["rows"] % _PROGRESS_ROWS == 0:
            tell("progress", rows=counted["rows"])
        for text in strings(row):
            counted["bytes"] += len(text.encode("utf-8", "surrogatepass"))
            yield text


def strings(value: object) -> Iterator[str]:
    """Every text in a row, in whatever form it lies there; a message's role is a word of the template, not text."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if key != "role":
                yield from strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from strings(inner)


def _tokens(trained: Any, rows: Iterator[tuple[Any, dict[str, Any]]], most: int = 2000) -> dict[str, int]:
    """How many bytes and tokens the first rows have."""
    found = {"bytes": 0, "tokens": 0}
    for number, (_, row) in enumerate(rows):
        if number == most:
            break
        for text in strings(row):
            found["bytes"] += len(text.encode("utf-8", "surrogatepass"))
            found["tokens"] += len(trained.encode(text).ids)
    return found
