"""The audit of a whole dataset: what it counts is what is there, what TRL would take silently is refused, and it fits memory."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.training.data.conftest import MakeJob
from tests.training.support import sentence
from training.data.audit import audit
from training.data.sources import SourceMissing

REPOSITORY = Path(__file__).parents[3]


def texts(count: int, words: int = 5) -> list[dict[str, Any]]:
    """Rows of text, no two the same."""
    chance = random.Random(3)
    return [{"text": f"{number} {sentence(chance, words)}"} for number in range(count)]


def held(result: dict[str, Any]) -> dict[str, bool]:
    """Whether each check holds."""
    return {check["name"]: check["held"] for check in result["checks"]}


def failed(result: dict[str, Any]) -> list[str]:
    """The checks that do not hold."""
    return [name for name, is_held in held(result).items() if not is_held]


def fact(result: dict[str, Any], name: str) -> str:
    """What a check says."""
    return next(check["fact"] for check in result["checks"] if check["name"] == name)


@pytest.mark.req("S5-R12")
def test_the_evidence_holds_what_is_asked_of_it(make_job: MakeJob, tokenizer: Any, tmp_path: Path) -> None:
    result = audit(make_job(texts(50)), tmp_path, tokenizer)
    assert json.loads((tmp_path / "evidence/data_audit.json").read_bytes())["checks"] == result["checks"]
    assert result["verdict"] == "compatible"
    assert failed(result) == []
    asked = {
        "columns",
        "splits",
        "samples",
        "notes",
        "format_compatible",
        "required_fields",
        "mapping_needed",
        "issues",
    }
    assert asked <= set(result)
    assert sum(result["splits"].values()) == 50
    assert result["sources"][0]["digest"].startswith("sha256:")


@pytest.mark.req("S5-R02")
@pytest.mark.req("S5-R03")
@pytest.mark.req("S5-R14")
def test_every_row_is_counted(make_job: MakeJob, tmp_path: Path) -> None:
    rows = [*texts(40), {"text": "   ", "label": "rare"}, *({"text": f"x{n}", "label": "often"} for n in range(20))]
    rows += [{"text": "word " * 2000}, rows[0], rows[1]]
    result = audit(make_job(rows), tmp_path)
    columns = {column["name"]: column for column in result["columns"]}
    assert columns["text"]["kinds"] == {"text": 64}
    assert columns["text"]["empty"] == 1
    assert columns["text"]["sizes"]["largest"] == 10_000
    assert columns["label"]["missing"] == 43
    assert columns["label"]["imbalance"] == 20
    assert result["duplicates"] == 2
    notes = " ".join(result["notes"])
    for word in ("label: missing in 43 of 64", "2 of 64 rows repeat", "20.0 times", "longer than", "empty"):
        assert word in notes


@pytest.mark.req("S5-R18")
@pytest.mark.parametrize(
    ("packing", "is_lost"),
    [("none", True), ("bfd", True), ("bfd_split", False), ("wrapped", False), ("best-fit", False)],
)
def test_tokens_lost_are_those_that_trl_would_lose(
    packing: str, is_lost: bool, make_job: MakeJob, tokenizer: Any, tmp_path: Path
) -> None:
    rows = texts(60, words=30)
    result = audit(make_job(rows, packing=packing, eval_fraction=0.0), tmp_path, tokenizer)
    sizes = [len(tokenizer(row["text"] + tokenizer.eos_token).input_ids) for row in rows]
    assert result["tokens"]["total"] == sum(sizes)
    assert result["tokens"]["lost"] == (sum(max(0, size - 16) for size in sizes) if is_lost else 0)
    assert held(result)["token-loss"] is not is_lost
    assert result["longest_rows"][0]["tokens"] == max(sizes)


@pytest.mark.req("S5-R18")
@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_token_counts_and_dropped_rows_are_trl_s_own(
    method: str, make_job: MakeJob, tokenizer: Any, tmp_path: Path
) -> None:
    """Prompt + completion: what TRL keeps after tokenising, truncating and dropping is what the audit said."""
    chance = random.Random(1)
    rows: list[dict[str, Any]] = []
    for number in range(30):
        prompt = f"{number} {sentence(chance, chance.choice([1, 3, 20]))} "
        answers = [sentence(chance, chance.randint(1, 9)) for _ in range(2)]
        names = ("completion",) if method == "sft" else ("chosen", "rejected")
        rows.append({"prompt": prompt, **dict(zip(names, answers, strict=False))})
    result = audit(make_job(rows, method, eval_fraction=0.0), tmp_path, tokenizer)
    kept = prepared_by_trl(method, rows, tokenizer, tmp_path)
    assert len(rows) - result["tokens"]["rows_without_loss"] == len(kept)
    if method == "sft":
        trainable = sum(label != -100 for row in kept for label in row["labels"][1:])
        assert trainable == result["tokens"]["trainable"]
    assert "untrainable-rows" in failed(result)


def prepared_by_trl(method: str, rows: list[dict[str, Any]], tokenizer: Any, folder: Path) -> list[dict[str, Any]]:
    """The rows that TRL's trainer would train on."""
    import importlib

    from datasets import Dataset
    from transformers import AutoConfig, AutoModelForCausalLM

    from tests.training.support import TINY

    trl: Any = importlib.import_module("trl")
    settings: dict[str, Any] = {**TINY, "vocab_size": len(tokenizer)}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings))
    trainer, config = {"sft": (trl.SFTTrainer, trl.SFTConfig), "dpo": (trl.DPOTrainer, trl.DPOConfig)}[method]
    model.save_pretrained(folder / "model")
    args = config(output_dir=str(folder / "o"), max_length=16, use_cpu=True, bf16=False, report_to="none")
    made = trainer(
        model=str(folder / "model"), args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
    )
    return list(made.train_dataset)


@pytest.mark.req("S5-R18")
def test_rows_whose_prompt_fills_the_length_are_refused(make_job: MakeJob, tokenizer: Any, tmp_path: Path) -> None:
    rows = [
        {"prompt": "the cat " * 30, "completion": "a"},
        *({"prompt": f"p{n} ", "completion": "b"} for n in range(20)),
    ]
    result = audit(make_job(rows), tmp_path, tokenizer)
    assert "untrainable-rows" in failed(result)
    assert "rows.jsonl:1" in fact(result, "untrainable-rows")


@pytest.mark.req("S5-R18")
def test_the_reward_trainer_s_dropped_rows_are_lost_tokens(make_job: MakeJob, tokenizer: Any, tmp_path: Path) -> None:
    rows = [{"chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(20)]
    rows.append({"chosen": "the cat " * 30, "rejected": "bad"})
    result = audit(make_job(rows, "reward"), tmp_path, tokenizer)
    assert {"token-loss", "untrainable-rows"} <= set(failed(result))
    assert result["tokens"]["lost"] > 30


@pytest.mark.req("S5-R19")
def test_rows_of_the_eval_split_that_are_trained_on_are_found(make_job: MakeJob, tmp_path: Path) -> None:
    rows = texts(30)
    (tmp_path / "eval.jsonl").write_text(json.dumps({**rows[4], "id": 9}) + '\n{"text": "new"}\n', encoding="utf-8")
    result = audit(make_job(rows, eval_source="eval.jsonl"), tmp_path)
    assert failed(result) == ["leakage"]
    assert "1 of 2" in fact(result, "leakage")
    assert len(result["sources"]) == 2


@pytest.mark.req("S5-R19")
def test_a_held_out_part_never_leaks(make_job: MakeJob, tmp_path: Path) -> None:
    rows = [*texts(40), *texts(40), *texts(40)]
    result = audit(make_job(rows), tmp_path)
    assert failed(result) == []
    assert result["splits"]["eval"] % 3 == 0
    assert result["splits"]["eval"] > 0


@pytest.mark.req("S5-R19")
def test_pairs_that_teach_nothing_are_refused(make_job: MakeJob, tmp_path: Path) -> None:
    rows = [{"prompt": "p", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(20)]
    rows += [{"prompt": "p", "chosen": "same", "rejected": "same"}, {"prompt": "p", "chosen": "a", "rejected": " "}]
    result = audit(make_job(rows, "dpo"), tmp_path)
    assert failed(result) == ["equal-pairs", "empty-sides"]
    assert "rows.jsonl:21" in fact(result, "equal-pairs")


@pytest.mark.req("S5-R20")
def test_conversations_need_a_template(make_job: MakeJob, tokenizer: Any, tmp_path: Path) -> None:
    turns = [
        {"messages": [{"role": "user", "content": f"{n}"}, {"role": "assistant", "content": "b"}]} for n in range(9)
    ]
    tokenizer.chat_template = None
    result = audit(make_job(turns), tmp_path, tokenizer)
    assert failed(result) == ["chat-template"]
    tokenizer.chat_template = "{{ raise_exception('no, never') }}"
    assert "no, never" in fact(audit(make_job(turns), tmp_path, tokenizer), "chat-template")


@pytest.mark.req("S5-R20")
def test_a_conversation_that_the_template_refuses_is_named(make_job: MakeJob, tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('tools are not supported') }}{% endif %}"
        "{{ m.content }}{% endfor %}"
    )
    turns = [
        {"messages": [{"role": "user", "content": f"{n}"}, {"role": "assistant", "content": "b"}]} for n in range(9)
    ]
    turns[5]["messages"].insert(1, {"role": "tool", "content": "x"})
    result = audit(make_job(turns), tmp_path, tokenizer)
    assert failed(result) == ["template-rows"]
    assert "rows.jsonl:6: the chat template refuses it: tools are not supported" in fact(result, "template-rows")


def test_what_cannot_be_read_is_refused_or_accepted_by_name(make_job: MakeJob, tmp_path: Path) -> None:
    rows = [*map(json.dumps, texts(20)), "not json", '{"text": null}', '{"text": 5}']
    result = audit(make_job(rows), tmp_path)
    assert failed(result) == ["unreadable-rows", "invalid-rows"]
    assert "rows.jsonl:21: not JSON" in fact(result, "unreadable-rows")
    assert "rows.jsonl:22: text is missing" in fact(result, "invalid-rows")
    accepted = audit(make_job(rows, accept={"unreadable-rows": "known", "invalid-rows": "known"}), tmp_path)
    assert failed(accepted) == []
    assert accepted["splits"]["train"] + accepted["splits"]["eval"] == 20


def test_a_dataset_that_changes_its_face_after_the_first_rows_is_judged_as_a_whole(
    make_job: MakeJob, tmp_path: Path
) -> None:
    first = [{"question": f"q{n}", "answer": "a"} for n in range(1001)]
    rest = [{"question": f"r{n}", "answer": "a", "text": f"t{n}"} for n in range(1500)]
    result = audit(make_job([*first, *rest]), tmp_path)
    assert result["verdict"] == "compatible"
    assert result["shape"] == ["text"]
    assert "invalid-rows" in failed(result)


@pytest.mark.req("S5-R13")
@pytest.mark.req("S5-R10")
def test_the_mapping_is_recorded_and_a_second_pass_confirms_it(make_job: MakeJob, tmp_path: Path) -> None:
    rows = [{"instruction": f"do {n}", "input": "", "output": "done"} for n in range(20)]
    result = audit(make_job(rows), tmp_path)
    assert result["mapping"] == {"prompt": "instruction + input", "completion": "output"}
    assert held(result)["critic"]
    assert result["rendered_samples"][0]["prompt"].startswith("do ")
    again = audit(make_job(rows, mapping=result["mapping"]), tmp_path)
    assert (again["verdict"], again["mapping"], failed(again)) == ("mappable", result["mapping"], [])


@pytest.mark.req("S5-R13")
def test_the_second_pass_refuses_what_the_first_let_through(make_job: MakeJob, tmp_path: Path) -> None:
    """Most sides are replies, a few are whole conversations: a column has one kind, rows have their own."""
    user, reply = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
    other = {"role": "assistant", "content": "b"}
    rows = [{"prompt": [{**user, "content": f"q{n}"}], "chosen": [reply], "rejected": [other]} for n in range(20)]
    rows.append({"prompt": [user], "chosen": [user, reply], "rejected": [other]})
    assert failed(audit(make_job(rows, "dpo"), tmp_path)) == ["critic"]


@pytest.mark.req("S5-R11")
def test_nothing_to_read_is_an_error_with_a_remedy(make_job: MakeJob, tmp_path: Path) -> None:
    with pytest.raises(SourceMissing):
        audit(make_job([], source="elsewhere.jsonl"), tmp_path)
    result = audit(make_job([]), tmp_path)
    assert {"format", "rows"} <= set(failed(result))


class Tags(HTMLParser):
    """Whether a page's tags are closed, and all that would be loaded from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.loads += [value or "" for name, value in attrs if name in {"src", "href", "onload", "onerror"}]


def test_the_page_is_self_contained_and_hostile_values_stay_text(
    make_job: MakeJob, tokenizer: Any, tmp_path: Path
) -> None:
    nasty = "</script><script src=//evil/x.js></script><img src=x onerror=alert(1)>"
    rows = [{"text": f"{nasty} {n}", nasty: nasty} for n in range(20)]
    audit(make_job(rows), tmp_path, tokenizer)
    page = (tmp_path / "evidence/data_audit.html").read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(page)
    assert tags.loads == []
    assert tags.scripts == 1
    assert "<svg" in page
    embedded = page.split("<script type='application/json' id=data>")[1].split("</script>")[0]
    assert json.loads(embedded)["samples"][0]["text"] == f"{nasty} 0"


MEMORY = """
import sys
sys.path.insert(0, {repository!r})
from training.data.audit import audit
from pathlib import Path
import json
job = json.loads(Path({folder!r}, "job.json").read_text())
audit(job, Path({folder!r}), None)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def test_memory_does_not_grow_with_the_data(make_job: MakeJob, tmp_path: Path) -> None:
    """150 MB of rows, then half of them: the peak is the same to a few MB (fingerprints are 8 bytes a row)."""
    body = "word " * 1000
    peaks: list[int] = []
    for count in (15_000, 30_000):
        job = make_job([])
        with (tmp_path / "rows.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(f'{{"text": "{number} {body}"}}\n' for number in range(count))
        (tmp_path / "job.json").write_text(json.dumps(job), encoding="utf-8")
        code = MEMORY.format(repository=str(REPOSITORY), folder=str(tmp_path))
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        peaks.append(int(told.stdout))
    assert peaks[1] - peaks[0] < 20_000
    assert peaks[1] < 300_000  # KiB
