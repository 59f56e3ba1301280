"""The quick way to ids gives the tokenizer's own, or leaves the text to the tokenizer."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.training.data.conftest import MakeJob
from tests.training.support import WORDS
from training.data import bins, encoding
from training.data.audit import audit
from training.data.bins import ensure_bin, open_bin
from training.data.fast_bpe import _SETTLED, FastBpe, translated
from training.data.rendering import splits

# The expression of Llama 3 and, but for one digit at a time, of Qwen 2.
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SAID = "it's the cat's 12345 naïve – “quotes”… don't\n\n\tdef f(x):\n        return x  \r\n  "
PIECES = st.sampled_from(
    [*WORDS, "'ll", "'S", "12", "é", "–", "ſ", "猫", "🐈", "<|end|>", "\u200b", "\x85", "\xa0", "\x1c"]
)
JOINED = st.lists(PIECES | st.text(" \t\n\r.,'", max_size=3), max_size=20).map("".join)
TEXTS = st.text(max_size=60) | JOINED | JOINED.map("{}</s>".format) | st.sampled_from(["</s>", "<</s>", "</s></s>"])


def backend_of(kind: str) -> Any:
    """A trained byte-level BPE tokenizer that cuts words in one of the two usual ways."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    made = Tokenizer(models.BPE(ignore_merges=kind == "llama3"))
    if kind == "gpt2":
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        split = pre_tokenizers.Split(Regex(LLAMA3), behavior="isolated")
        level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        made.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<s>", "</s>", "<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    if kind == "llama3":
        made.normalizer = normalizers.NFC()  # Qwen's; it must make no difference to what is looked up
    made.train_from_iterator([SAID, *WORDS, *(f" {word}" for word in WORDS)] * 3, trainer)
    if kind == "llama3":
        made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return made


@functools.cache
def tokenizer_of(kind: str) -> Any:
    """The same, as transformers has it."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=backend_of(kind), eos_token="</s>")


@functools.cache
def fast_of(kind: str) -> FastBpe:
    """The quick way for it."""
    made = FastBpe.of(tokenizer_of(kind))
    assert made is not None
    return made


@pytest.mark.req("S10-R06")
@settings(deadline=None, max_examples=300)
@given(texts=st.lists(TEXTS, max_size=5), kind=st.sampled_from(["gpt2", "llama3"]))
@example(texts=[SAID, "", SAID], kind="gpt2")
@example(texts=[SAID, "", "\r\n \x85 \xa0x\x1cy", "'ſ 'S 'LL"], kind="llama3")
def test_ids_are_the_tokenizer_s_own(texts: list[str], kind: str) -> None:
    want = [tokenizer_of(kind)(text).input_ids for text in texts]
    for ids, own in zip(fast_of(kind).encode(texts), want, strict=True):
        assert ids is None or ids.tolist() == own


@pytest.mark.parametrize("kind", ["gpt2", "llama3"])
def test_usual_text_is_not_left_to_the_tokenizer(kind: str) -> None:
    assert fast_of(kind).encode([SAID])[0] is not None
    assert fast_of(kind).encode([f"{SAID}</s>"])[0] is not None
    left = [fast_of(kind).encode([text])[0] for text in ("猫", "a<|end|>b", "x ſ")]
    assert left == [None, None, None]


def changed(change: Callable[[Any], None]) -> Any:
    """A tokenizer with one thing changed."""
    from transformers import PreTrainedTokenizerFast

    backend = backend_of("gpt2")
    change(backend)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")


def set_pre(backend: Any, **more: Any) -> None:
    """Another way to cut words."""
    from tokenizers import pre_tokenizers

    backend.pre_tokenizer = pre_tokenizers.ByteLevel(**{"add_prefix_space": False, **more})


def test_other_tokenizers_are_left_alone() -> None:
    from tokenizers import models, normalizers, pre_tokenizers

    others: list[Callable[[Any], None]] = [
        lambda backend: setattr(backend, "normalizer", normalizers.Lowercase()),
        lambda backend: setattr(backend, "pre_tokenizer", pre_tokenizers.Whitespace()),
        lambda backend: setattr(backend, "model", models.WordLevel({"a": 0}, unk_token="a")),
        lambda backend: setattr(backend.model, "dropout", 0.1),
        lambda backend: set_pre(backend, add_prefix_space=True),
        lambda backend: set_pre(backend, use_regex=False),
        lambda backend: backend.enable_truncation(5),
        lambda backend: backend.enable_padding(),
    ]
    assert [FastBpe.of(changed(change)) for change in others] == [None] * len(others)
    assert FastBpe.of(object()) is None


@pytest.mark.parametrize("pattern", [r"\w+", r"\p{Lu}+", r"[a-z&&[^b]]+", r"[\S]", r"(", r"\b"])
def test_expressions_that_may_mean_something_else_are_not_used(pattern: str) -> None:
    assert translated(pattern) is None


def test_composing_changes_no_settled_character() -> None:
    for each in _SETTLED:
        assert unicodedata.normalize("NFC", each) == each
        assert not unicodedata.combining(each)


def test_classes_are_written_out() -> None:
    found = translated(r"[^\s\p{L}]+|\S")
    assert found is not None
    assert found.findall("é 1–x") == ["é", "1–", "x"]


def test_text_that_the_expression_leaves_out_is_left_to_the_tokenizer() -> None:
    fast = FastBpe(tokenizer_of("gpt2").backend_tokenizer.model, re.compile("[a-z]+"), None)
    found = fast.encode(["abc", "ab 1", "b"])
    assert [each is None for each in found] == [False, True, False]


def test_the_table_of_words_does_not_grow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.data.fast_bpe.MOST_WORDS", 10)
    fast = FastBpe.of(tokenizer_of("gpt2"))
    assert fast is not None
    for number in range(50):
        text = f"w{number} x{number} the cat"
        ids = fast.encode([text])[0]
        assert ids is not None
        assert ids.tolist() == tokenizer_of("gpt2")(text).input_ids
    assert len(fast._words) < 30


class Lying(FastBpe):
    """Gives other ids than the tokenizer after a while."""

    calls = 0

    def encode(self, texts: Any) -> Any:
        """The right ids three times, then wrong ones."""
        Lying.calls += 1
        found = super().encode(texts)
        return [None if ids is None else ids[::-1] if Lying.calls > 3 else ids for ids in found]


def test_other_ids_than_the_tokenizer_s_are_noticed_and_nothing_of_them_kept(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tokenizer_of("gpt2")
    rows = [{"text": f"the cat {number} sees " * 20} for number in range(200)]
    job = make_job(rows, "causal-lm", eval_fraction=0.0)
    monkeypatch.setattr(bins, "BATCH_CHARACTERS", 4000)
    # The slow way takes no time, and yet the quick one is kept: only the ids decide here.
    monkeypatch.setattr(encoding.Encoder, "_count", lambda self, *_: setattr(self, "_trials", self._trials - 1))
    monkeypatch.setattr(encoding, "FastBpe", Lying)
    file = ensure_bin(splits(job)[0], tokenizer)
    assert Lying.calls > 3
    want = [token for row in rows for token in [*tokenizer(row["text"]).input_ids, tokenizer.eos_token_id]]
    assert file.array().tolist() == want
    mark = {"tokenizer_sha256": file.facts["tokenizer_sha256"], "source": file.facts["source"]}
    assert open_bin(file.path.parent, **mark, verify=True) is not None


def test_an_audit_that_was_lied_to_counts_anew(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Longer(FastBpe):
        """Counts one token too many after a while."""

        calls = 0

        def encode(self, texts: Any) -> Any:
            """The right ids three times, then more of them."""
            Longer.calls += 1
            found = super().encode(texts)
            return [np.append(each, 1) if each is not None and Longer.calls > 3 else each for each in found]

    monkeypatch.setattr(encoding, "FastBpe", Longer)
    monkeypatch.setattr(encoding.Encoder, "_count", lambda self, *_: setattr(self, "_trials", self._trials - 1))
    rows = [{"text": f"the cat {number} sees"} for number in range(2000)]
    result = audit(make_job(rows, eval_fraction=0.0), tmp_path, tokenizer_of("gpt2"))
    assert Longer.calls > 3
    assert result["tokens"]["total"] == sum(len(tokenizer_of("gpt2")(f"{row['text']}</s>").input_ids) for row in rows)


@pytest.mark.parametrize("is_quick", [True, False])
def test_the_quicker_way_is_kept(is_quick: bool) -> None:
    encoder = encoding.Encoder(tokenizer_of("gpt2"), is_fast=True)
    for _ in range(encoding.TRIALS):
        encoder._count(1.0 if is_quick else 3.0, 2.0)
    assert (encoder._fast is not None) is is_quick
    assert np.array_equal(encoder.encode([SAID])[0], tokenizer_of("gpt2")(SAID).input_ids)
