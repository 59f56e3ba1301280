"""`packing: best-fit` through TRL's own trainer: every token is trained on once, and no document sees another (S5-R18)."""

from __future__ import annotations

import collections
import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.support import cpu, make_job, sentence
from training import datasets_of_job, sft, work
from training.models import load_tokenizer
from training.request_checks import check_request

LENGTH = 64
pytestmark = pytest.mark.req("S5-R18")


def job_with(root: Path, texts: list[str], **arguments: Any) -> dict[str, Any]:
    """A job on these texts, without dropout: what is computed twice has to be the same."""
    job = make_job(root, "sft", packing="best-fit", sequence_length=LENGTH, arguments=arguments)
    job["model"]["config"]["attention_dropout"] = 0.0
    job["dataset"]["eval_fraction"] = 0.0
    (root / "sft.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return job


def texts_of(most_words: int, count: int = 90) -> list[str]:
    """Documents of very different lengths."""
    chance = random.Random(most_words)
    return [sentence(chance, chance.randint(1, most_words)) for _ in range(count)]


def built(job: dict[str, Any], folder: Path) -> Any:
    """The real trainer on the packed dataset."""
    sets = datasets_of_job.whole(job, folder)
    return sft.build(job, folder, cpu(), {"train": sets["train"], "eval": sets["train"]})


def ids_of(job: dict[str, Any], texts: list[str]) -> list[list[int]]:
    """What the tokenizer makes of the texts, each with the end token."""
    tokenizer = load_tokenizer(job)
    return [[*tokenizer(text).input_ids, tokenizer.eos_token_id] for text in texts]


def documents_of(batch: dict[str, Any]) -> list[tuple[int, int]]:
    """(begin, end) of each document of a batch, by its position ids."""
    positions = batch["position_ids"][0]
    begins = torch.nonzero(positions == 0).flatten().tolist()
    return list(zip(begins, [*begins[1:], len(positions)], strict=True))


@pytest.mark.parametrize("most_words", [20, 150])
def test_no_token_is_lost_and_none_is_seen_twice(tmp_path: Path, most_words: int) -> None:
    texts = texts_of(most_words)
    job = job_with(tmp_path / "root", texts)
    wanted = collections.Counter(token for ids in ids_of(job, texts) for token in ids)
    trainer = built(job, tmp_path / "run")
    seen: collections.Counter[int] = collections.Counter()
    documents = 0
    for batch in trainer.get_train_dataloader():
        seen.update(batch["input_ids"].flatten().tolist())
        documents += len(documents_of(batch))
        # Nothing is learned across a border: the first token of each document is no target.
        assert (batch["labels"][batch["position_ids"] == 0] == -100).all()
        assert (batch["labels"] == -100).sum() == (batch["position_ids"] == 0).sum()
    assert seen == wanted
    assert documents >= len(texts)
    rows = trainer.train_dataset["input_ids"]
    assert max(map(len, rows)) <= LENGTH
    assert sum(map(len, rows)) / (len(rows) * LENGTH) > 0.97


def test_a_packed_document_gets_the_very_logits_that_it_gets_alone(tmp_path: Path) -> None:
    texts = texts_of(12)
    trainer = built(job_with(tmp_path / "root", texts, per_device_train_batch_size=3), tmp_path / "run")
    batch = next(iter(trainer.get_train_dataloader()))
    model = trainer.model.eval()
    with torch.no_grad():
        packed = model(**{name: batch[name] for name in ("input_ids", "position_ids")}, use_cache=False).logits[0]
        joined = model(input_ids=batch["input_ids"], use_cache=False).logits[0]
        spans = documents_of(batch)
        alone = [model(input_ids=batch["input_ids"][:, a:b], use_cache=False).logits[0] for a, b in spans]
    assert len(spans) > 9
    assert all(torch.allclose(packed[a:b], each, atol=1e-5) for (a, b), each in zip(spans, alone, strict=True))
    # Without the borders they do see each other: the comparison above could have failed.
    assert not all(torch.allclose(joined[a:b], each, atol=1e-5) for (a, b), each in zip(spans, alone, strict=True))


def test_the_loss_is_that_of_the_unpacked_documents(tmp_path: Path) -> None:
    texts = texts_of(12)
    job = job_with(tmp_path / "root", texts)
    trainer = built(job, tmp_path / "run")
    total, count = 0.0, 0
    model = trainer.model.eval()
    with torch.no_grad():
        for ids in map(torch.tensor, ids_of(job, texts)):
            logits = model(input_ids=ids[None], use_cache=False).logits[0]
            total += float(torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="sum"))
            count += len(ids) - 1
    assert max(map(len, ids_of(job, texts))) <= LENGTH
    batches = list(trainer.get_train_dataloader())
    with torch.no_grad():
        sizes = [int((batch["labels"] != -100).sum()) for batch in batches]
        losses = [float(trainer.compute_loss(model, dict(batch))) for batch in batches]
    assert sum(sizes) == count
    assert sum(size * loss for size, loss in zip(sizes, losses, strict=True)) / count == pytest.approx(
        total / count, abs=1e-4
    )


def rows_with_a_prompt(is_chat: bool) -> list[dict[str, Any]]:
    """Prompts and completions, as texts or as turns; in some, tokens merge across the border."""
    pairs = [(f"the {text} " if number % 2 else f"the {text}", text) for number, text in enumerate(texts_of(8))]
    if not is_chat:
        return [{"prompt": prompt, "completion": text} for prompt, text in pairs]
    return [
        {"prompt": [{"role": "user", "content": prompt}], "completion": [{"role": "assistant", "content": text}]}
        for prompt, text in pairs
    ]


@pytest.mark.parametrize("is_chat", [False, True])
def test_what_is_learned_of_a_completion_is_what_trl_learns_of_it_unpacked(tmp_path: Path, is_chat: bool) -> None:
    job = job_with(tmp_path / "root", [])
    rows = rows_with_a_prompt(is_chat)
    (tmp_path / "root/sft.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    learned = [collections.Counter[int](), collections.Counter[int]()]
    for counter, packing in zip(learned, ("best-fit", "none"), strict=True):
        for batch in built({**job, "packing": packing}, tmp_path / packing).get_train_dataloader():
            counter.update(batch["labels"][batch["labels"] != -100].tolist())
    assert learned[0] == learned[1]
    assert 0 < learned[0].total() < sum(map(len, ids_of(job, texts_of(8)))) + len(rows) * 2


@pytest.mark.parametrize("packing", ["best-fit", "bfd_split", "none"])
def test_the_batch_of_the_preflight_is_full(tmp_path: Path, packing: str) -> None:
    job = {**job_with(tmp_path / "root", texts_of(5, count=40)), "packing": packing}
    sets, longest = datasets_of_job.longest(job, 8)
    trainer = sft.build(job, tmp_path / "run", cpu(), sets)
    rows = [len(ids) for ids in trainer.train_dataset["input_ids"]]
    assert len(rows) >= 8
    assert longest == max(len(ids) for ids in ids_of(job, texts_of(5, count=40)))
    if packing != "none":
        assert sorted(rows)[-8] >= LENGTH - longest


def test_smoke_preflight_and_job_train_on_packed_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    job, run = job_with(tmp_path / "root", texts_of(100), max_steps=3), tmp_path / "run"
    job["dataset"]["eval_fraction"] = 0.1
    for piece in (work.smoke, work.preflight):
        assert all(each["held"] for each in piece(job, run)["checks"])
    assert work.full(job, run)["step"] == 3


def test_what_does_not_go_with_packing_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    job = job_with(tmp_path / "root", ["a"], assistant_only_loss=True)
    assert [each.name for each in check_request(job) if each.severity == "error"] == ["assistant_only_loss"]
    job = {**job_with(tmp_path / "root", ["a"], padding_free=True), "packing": "none"}
    assert [each.name for each in check_request(job) if each.severity == "error"] == ["padding_free"]
    assert not [each for each in check_request({**job, "packing": "bfd_split"}) if each.severity == "error"]
