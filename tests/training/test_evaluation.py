"""A result is measured as it lies on disk, beside its base, under the same conditions; the numbers are those of others."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from manifests.errors import HemmaError
from tests.training.support import cpu, make_job, rows_of
from training import measures
from training.benchmark_files import report, write
from training.evaluation import RESULTS, evaluate
from training.measures import improvement_percent, is_higher_better, kinds_of, of_classes, of_pictures, of_texts
from training.models import adapter_config, load_model, load_tokenizer
from training.scoring import Encoder, Scorer
from training.suites import command, numbers

Job = dict[str, Any]


def needs(*libraries: str) -> pytest.MarkDecorator:
    """Skip where a library of the train group is not installed."""
    missing = [name for name in libraries if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)} of the `train` group")


def job_for(root: Path, method: str, *, asked: list[str] | None = None, **more: Any) -> Job:
    """A tiny job whose model has no dropout, so that numbers can be compared."""
    made = make_job(root, method, **more)
    made["model"]["config"]["attention_dropout"] = 0.0
    made["dataset"]["eval_fraction"] = 0.3
    if asked is not None:
        made["evaluate"]["metrics"] = asked
    return made


def with_rows(job: Job, rows: list[dict[str, Any]]) -> Job:
    """The same job on other rows."""
    source = Path(job["root"]) / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    job["dataset"]["source"] = source.name
    return job


def trained(job: Job, folder: Path, steps: int = 25, lr: float = 5e-3) -> Path:
    """A model saved where the job saves it: the base, after some steps on the job's own kind of rows."""
    target = folder / "artifacts" / "model"
    model, tokenizer = load_model(job, folder, cpu()), load_tokenizer(job)
    model.config.pad_token_id = tokenizer.pad_token_id
    adapter: Any = adapter_config(job)
    if adapter is not None:
        from peft import get_peft_model

        model = get_peft_model(model, adapter)
    encoder = Encoder(tokenizer)
    rows = [json.loads(line) for line in (Path(job["root"]) / job["dataset"]["source"]).read_text().splitlines()]
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=lr)
    for step in range(steps):
        row = rows[step % len(rows)]
        if job["method"] == "reward":
            good, bad = (torch.tensor([encoder.whole(row, side).ids]) for side in ("chosen", "rejected"))
            loss = -torch.nn.functional.logsigmoid(model(input_ids=good).logits - model(input_ids=bad).logits).mean()
        else:
            ids = torch.tensor(
                [
                    encoder.whole(row).ids
                    if "text" in row or "chosen" in row or "completion" in row
                    else encoder.prompt(row)
                ]
            )
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(target)
    return target


def run(job: Job, folder: Path, steps: int = 25, lr: float = 5e-3) -> dict[str, Any]:
    """Train a little and evaluate."""
    (folder / "metrics.jsonl").write_text(
        "".join(json.dumps({"step": step, "loss": 6 / step, "eval_loss": 7 / step}) + "\n" for step in range(1, 9))
    )
    return evaluate(job, trained(job, folder, steps, lr), folder, None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run directory."""
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def value_of(found: dict[str, Any], metric: str) -> tuple[float, float | None]:
    """(value, baseline) of a metric."""
    row = next(row for row in found["rows"] if row["metric"] == metric)
    return row["value"], row["baseline"]


# --- perplexity ---------------------------------------------------------------------------------------------------


@needs("sacrebleu", "rouge_score", "matplotlib")
@pytest.mark.req("S14-R02", "S14-R10")
def test_result_is_better_than_its_base_and_the_files_say_so(tmp_path: Path, folder: Path) -> None:
    seen: list[str] = []
    job = job_for(tmp_path / "repo", "sft", asked=["perplexity", "bleu", "rouge", "exact_match"])
    model_dir = trained(job, folder)
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 6.0}\n{"step": 2, "loss": 5.0}\n')
    found = evaluate(job, model_dir, folder, lambda *told: seen.append(told[2]))
    value, baseline = value_of(found, "perplexity")
    assert baseline is not None
    assert 1 < value < baseline
    results = json.loads((folder / RESULTS / "benchmark_results.json").read_text())
    assert results["rows"] == found["rows"]
    assert found["files"] == ["benchmark_results.json", "benchmark_report.txt", "loss_curves.png"]
    assert (folder / RESULTS / "loss_curves.png").read_bytes().startswith(b"\x89PNG")
    words = (folder / RESULTS / "benchmark_report.txt").read_text()
    assert "metric" in words
    assert all(name in words for name in ("perplexity", "rouge_l", "bleu", "tokens_per_s", "peak_memory_bytes"))
    assert found["smoke"]["rows"] == 4
    assert [each.partition(":")[0] for each in dict.fromkeys(seen)] == [
        "smoke",
        "smoke",
        "result",
        "result",
        "base",
        "base",
    ]
    assert found["metrics"].keys() == {"perplexity", "bleu", "rouge_1", "rouge_2", "rouge_l", "exact_match"}
    assert (found["evaluated"], found["metric"], found["value"]) == (True, "perplexity", value)


def reference_nll(model: Any, ids: list[int], start: int) -> tuple[float, int]:
    """Transformers' own loss of the tokens from `start` on, as a sum."""
    labels = torch.tensor([[-100] * start + ids[start:]])
    counted = len(ids) - max(1, start)
    with torch.no_grad():
        return float(model(input_ids=torch.tensor([ids]), labels=labels).loss) * counted, counted


@pytest.mark.parametrize("shape", ["text", "prompt-completion", "messages", "chat-pairs"])
def test_perplexity_is_the_one_of_transformers(tmp_path: Path, folder: Path, shape: str) -> None:
    job = job_for(tmp_path / "repo", "sft")
    texts = [row["text"] for row in rows_of("sft", 12)]
    rows: list[dict[str, Any]] = {
        "text": [{"text": text} for text in texts],
        "prompt-completion": [{"prompt": text[:20], "completion": text[20:]} for text in texts],
        "messages": [{"messages": [{"role": "user", "content": text[:20]}, {"role": "assistant", "content": text[20:]}]} for text in texts],
        "chat-pairs": [{"prompt": [{"role": "user", "content": text[:20]}], "completion": [{"role": "assistant", "content": text[20:]}]} for text in texts],
    }[shape]  # fmt: skip
    model, tokenizer = load_model(job, folder, cpu()).eval(), load_tokenizer(job)
    encoder = Encoder(tokenizer)
    sequences = [encoder.whole(row) for row in rows]
    assert all(each.start > 0 for each in sequences) == (shape not in ("text", "messages"))
    assert all(tokenizer.decode(each.ids[each.start :]).endswith(("</s>", "<|end|>")) for each in sequences)
    sums = [reference_nll(model, each.ids, each.start) for each in sequences]
    wanted = math.exp(sum(each for each, _ in sums) / sum(count for _, count in sums))
    for batch_tokens in (1, 64, 4096):
        scorer = Scorer(model, tokenizer, 64, "cpu")
        scorer.batch_tokens = batch_tokens
        assert scorer.perplexity(sequences, lambda _: None) == pytest.approx(wanted, rel=1e-5)


def test_long_sequence_is_scored_whole_in_windows(tmp_path: Path, folder: Path) -> None:
    job = job_for(tmp_path / "repo", "sft")
    model, tokenizer = load_model(job, folder, cpu()).eval(), load_tokenizer(job)
    (one,) = [Encoder(tokenizer).whole({"text": " ".join(row["text"] for row in rows_of("sft", 20))})]
    assert len(one.ids) > 150
    windows = [one.ids[begin : begin + 16] for begin in range(0, len(one.ids), 16)]
    sums = [reference_nll(model, ids, 0) for ids in windows if len(ids) > 1]
    wanted = math.exp(sum(each for each, _ in sums) / sum(count for _, count in sums))
    assert Scorer(model, tokenizer, 16, "cpu").perplexity([one], lambda _: None) == pytest.approx(wanted, rel=1e-5)


def test_adapter_is_compared_with_the_same_base(tmp_path: Path, folder: Path) -> None:
    lora = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "lora_dropout": 0.0}
    job = job_for(tmp_path / "repo", "sft", lora=lora)
    found = run(job, folder)
    value, baseline = value_of(found, "perplexity")
    assert baseline is not None
    assert value < baseline
    whole = job_for(tmp_path / "repo", "sft")
    (tmp_path / "other").mkdir()
    _, same = value_of(run(whole, tmp_path / "other"), "perplexity")
    assert baseline == pytest.approx(same, rel=1e-6)


@needs("rouge_score")
def test_same_result_gives_the_same_numbers(tmp_path: Path, folder: Path) -> None:
    job = job_for(tmp_path / "repo", "sft", asked=["rouge"])
    first = run(job, folder)
    again = evaluate(job, folder / "artifacts" / "model", folder, None)
    assert first["metrics"] == again["metrics"]
    assert first["sample"] == again["sample"]


# --- other methods ------------------------------------------------------------------------------------------------


def test_pairs_of_dpo_are_judged_by_likelihood(tmp_path: Path, folder: Path) -> None:
    job = job_for(tmp_path / "repo", "dpo")
    found = run(job, folder)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder / "artifacts/model").eval(), load_tokenizer(job)
    encoder, won = Encoder(tokenizer), list[bool]()
    from training.data.rendering import splits

    held_out = splits(job)[1]
    assert held_out is not None
    for row in held_out.rows():
        sides = [encoder.whole(row, side) for side in ("chosen", "rejected")]
        good, bad = (-reference_nll(model, each.ids, each.start)[0] for each in sides)
        won.append(good > bad)
    assert value_of(found, "preference_accuracy")[0] == pytest.approx(sum(won) / len(won))
    assert found["metrics"].keys() == {"perplexity", "preference_accuracy", "preference_margin"}


@pytest.mark.parametrize("with_lora", [False, True])
def test_reward_model_is_measured_by_its_pairs(tmp_path: Path, folder: Path, with_lora: bool) -> None:
    lora = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "lora_dropout": 0.0} if with_lora else None
    rows = [
        {"prompt": "the cat ", "chosen": "likes " * 3, "rejected": "sees " * (2 + number % 3)} for number in range(20)
    ]
    job = with_rows(job_for(tmp_path / "repo", "reward", lora=lora), rows)
    found = run(job, folder, steps=60)
    assert value_of(found, "reward_accuracy")[0] == 1.0
    assert value_of(found, "reward_margin")[0] > (value_of(found, "reward_margin")[1] or 0.0)
    assert "perplexity: not a measure of reward" in found["not_covered"]
    if not with_lora:
        model = AutoModelForSequenceClassification.from_pretrained(folder / "artifacts/model").eval()
        encoder = Encoder(load_tokenizer(job))
        good, bad = (
            model(torch.tensor([encoder.whole(rows[0], side).ids])).logits.item() for side in ("chosen", "rejected")
        )
        assert good > bad


def test_grpo_is_measured_by_its_own_reward(tmp_path: Path, folder: Path) -> None:
    found = run(job_for(tmp_path / "repo", "grpo"), folder)
    value, baseline = value_of(found, "mean_reward")
    assert baseline is not None
    assert 0 <= value < 5
    assert found["conditions"]["most_new_tokens"] == 8


@needs("sklearn")
@pytest.mark.req("S14-R09")
def test_classes_are_the_completions_and_a_model_can_tell_them_apart(tmp_path: Path, folder: Path) -> None:
    rows = [
        {"prompt": f"{word} {word} ->", "completion": " red" if word == "cat" else " blue"}
        for word in ("cat", "dog") * 20
    ]
    for number, row in enumerate(rows):
        row["prompt"] = f"{'the ' * (number % 7)}{row['prompt']}"
    job = with_rows(
        job_for(tmp_path / "repo", "sft", asked=["accuracy", "precision", "recall", "f1", "confusion", "roc_auc"]), rows
    )
    found = run(job, folder, steps=300, lr=2e-3)
    assert value_of(found, "accuracy")[0] > 0.9
    assert value_of(found, "roc_auc")[0] > 0.9
    assert found["confusion"]["classes"] == [" blue", " red"]
    assert sum(map(sum, found["confusion"]["rows_are_truth"])) == found["conditions"]["rows"]


# --- refusals -----------------------------------------------------------------------------------------------------


@needs("sklearn")
@pytest.mark.parametrize(
    ("metrics", "code"),
    [(["perplexities"], "metric-refused"), (["iou"], "metric-unavailable"), (["lm-eval:hellaswag"], "metric-unavailable"), (["accuracy"], "metric-refused")],
)  # fmt: skip
def test_metric_that_cannot_be_is_refused(tmp_path: Path, folder: Path, metrics: list[str], code: str) -> None:
    job = job_for(tmp_path / "repo", "sft", asked=metrics)
    with pytest.raises(HemmaError) as caught:
        run(job, folder, steps=1)
    assert caught.value.code == code
    assert caught.value.remedy
    assert not (folder / RESULTS).exists()


def test_metric_is_refused_before_any_model_is_loaded(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(HemmaError, match="perplexities"):
        evaluate(job_for(tmp_path / "repo", "sft", asked=["perplexities"]), folder / "nowhere", folder, None)
    with pytest.raises(HemmaError, match="holds no model"):
        evaluate(job_for(tmp_path / "repo", "sft"), folder / "nowhere", folder, None)


def test_numbers_of_training_rows_are_called_that(tmp_path: Path, folder: Path) -> None:
    job = job_for(tmp_path / "repo", "sft")
    job["dataset"]["eval_fraction"] = 0.0
    job["evaluate"]["limit"] = 3
    found = run(job, folder, steps=1)
    assert any("trained on" in each for each in found["not_covered"])
    assert found["conditions"]["rows"] == 3
    assert any("only the first 3 rows" in each for each in found["not_covered"])


def test_weights_that_are_not_numbers_are_no_good_result(tmp_path: Path, folder: Path) -> None:
    job = job_for(tmp_path / "repo", "sft")
    model_dir = trained(job, folder, steps=1)
    model = AutoModelForCausalLM.from_pretrained(model_dir)
    with torch.no_grad():
        model.lm_head.weight[3] = float("nan")
    model.save_pretrained(model_dir)
    found = evaluate(job, model_dir, folder, None)
    assert not math.isfinite(found["metrics"]["perplexity"])
    assert json.loads((folder / RESULTS / "benchmark_results.json").read_text())["metrics"]["perplexity"] == "nan"


# --- measures by themselves ---------------------------------------------------------------------------------------


@needs("sacrebleu", "rouge_score")
def test_text_measures_are_those_of_their_libraries() -> None:
    same = of_texts(["bleu", "rouge", "exact_match"], ["the cat sat on the mat"] * 3, ["the cat sat on the mat"] * 3)
    assert same == {"bleu": pytest.approx(100.0), "rouge_1": 1.0, "rouge_2": 1.0, "rouge_l": 1.0, "exact_match": 1.0}
    half = of_texts(["rouge"], ["the cat"], ["the cat sat here"])
    assert half["rouge_1"] == pytest.approx(2 / 3)
    assert of_texts(["bleu", "rouge"], [""], ["the cat"])["bleu"] == 0.0


@needs("sklearn")
def test_class_measures_are_those_of_scikit_learn() -> None:
    scores = [[0.0, -1.0, -2.0], [-1.0, 0.0, -2.0], [0.0, -1.0, -2.0], [-2.0, -1.0, 0.0]]
    found, more = of_classes(
        ["accuracy", "precision", "recall", "f1", "confusion", "roc_auc"], ["a", "b", "c"], [0, 1, 1, 2], scores
    )
    assert found["accuracy"] == 0.75
    assert found["precision"] == pytest.approx((0.5 + 1 + 1) / 3)
    assert found["recall"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert more["confusion"]["rows_are_truth"] == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert 0.5 < found["roc_auc"] <= 1.0
    missing, note = of_classes(["roc_auc"], ["a", "b"], [0, 0], [[0.0, -1.0], [0.0, -1.0]])
    assert (missing, "no row" in note["note"]) == ({}, True)


@pytest.mark.parametrize(
    ("metric", "value", "baseline", "wanted"),
    [("perplexity", 5.0, 10.0, 50.0), ("bleu", 30.0, 20.0, 50.0), ("bleu", 10.0, 20.0, -50.0), ("bleu", 1.0, 0.0, None), ("bleu", 1.0, None, None), ("reward_margin", -1.0, -2.0, 50.0), ("perplexity", math.inf, 10.0, None), ("wikitext/word_perplexity", 9.0, 10.0, 10.0)],
)  # fmt: skip
def test_improvement_counts_in_the_direction_of_the_metric(
    metric: str, value: float, baseline: float | None, wanted: float | None
) -> None:
    assert improvement_percent(metric, value, baseline) == (None if wanted is None else pytest.approx(wanted))
    assert is_higher_better(metric) == ("perplexity" not in metric)


@needs("sacrebleu", "rouge_score", "sklearn")
def test_every_metric_has_a_way_of_measuring() -> None:
    installed = [name for name, (_, library) in measures.WANTED.items() if library != "torchmetrics"]
    assert set(kinds_of(installed)) == {"likelihood", "generation", "classes", "pairs", "rewards", "samples"}


def test_pictures_are_measured_from_predictions(tmp_path: Path) -> None:
    pytest.importorskip("torchmetrics")
    path = tmp_path / "predictions.jsonl"
    rows = [
        {"scores": [0.1, 0.7, 0.2], "label": 1, "mask": [[0, 1], [1, 1]], "target": [[0, 1], [1, 0]]},
        {"scores": [0.5, 0.3, 0.2], "label": 2, "mask": [[0, 0], [1, 1]], "target": [[0, 0], [1, 1]]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = of_pictures(["top_1", "top_5", "dice", "iou"], path)
    assert (found["top_1"], found["top_5"]) == (0.5, 1.0)
    assert found["dice"] == pytest.approx((2 * 3 / 7 + 2 * 4 / 9) / 2)
    assert found["iou"] == pytest.approx((3 / 4 + 4 / 5) / 2)
    with pytest.raises(HemmaError, match="boxes"):
        of_pictures(["map"], path)


def test_predictions_that_are_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(HemmaError, match="cannot be read"):
        of_pictures(["top_1"], tmp_path / "nowhere.jsonl")


# --- lm-eval ------------------------------------------------------------------------------------------------------

# The shape that lm-eval 0.4 writes (its docs/interface.md, --output_path).
WRITTEN = {"results": {"hellaswag": {"alias": "hellaswag", "acc,none": 0.41, "acc_stderr,none": 0.005, "acc_norm,none": 0.52}, "wikitext": {"word_perplexity,none": 21.3}}, "versions": {}}  # fmt: skip
FAKE = """
import json, pathlib, sys
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
out = pathlib.Path(words["--output_path"]) / "model"
out.mkdir(parents=True)
value = 0.5 if "/artifacts/model" in words["--model_args"] else 0.25
(out / "results_2026.json").write_text(json.dumps({"results": {"tiny": {"acc,none": value}}}))
"""


def test_suite_numbers_are_read_as_lm_eval_writes_them() -> None:
    assert numbers(WRITTEN, ["hellaswag", "wikitext"]) == {"hellaswag/acc_norm": 0.52, "wikitext/word_perplexity": 21.3}
    with pytest.raises(HemmaError, match="no number for arc"):
        numbers(WRITTEN, ["arc"])


def test_suite_command_takes_the_adapter_on_its_base() -> None:
    argv = command(["a", "b"], {"sequence_length": 64, "seed": 1}, "base", "adapter", Path("out"), 5)
    assert argv[argv.index("--model_args") + 1] == "pretrained=base,tokenizer=adapter,max_length=64,peft=adapter"
    assert argv[-2:] == ["--limit", "5"]
    with pytest.raises(HemmaError, match="commas"):
        command(["a"], {"sequence_length": 64}, "base,x", None, Path("out"), None)


def test_suite_runs_as_a_program_for_result_and_base(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "lm_eval"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(FAKE)
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    found = run(job_for(tmp_path / "repo", "sft", asked=["lm-eval:tiny"]), folder, steps=1)
    assert value_of(found, "tiny/acc") == (0.5, 0.25)


# --- files --------------------------------------------------------------------------------------------------------


@needs("matplotlib")
def test_report_is_a_table_and_hostile_names_stay_text(tmp_path: Path) -> None:
    record = {
        "name": "$x$ \x1b[31m", "run_id": "r", "conditions": {"rows": 3}, "not_covered": ["a"],
        "rows": [{"metric": "perplexity", "value": 8.21, "baseline": None, "improvement_percent": None}],
        "sample": {"prompt": "a\nb\x1b[0m", "said": "", "reference": "c"},
    }  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 3.0}\n{"step": 2, "loss": NaN}\n{"step": 3, "lo')
    names, missing = write(tmp_path, tmp_path / "out", record)
    assert (len(names), missing) == (3, [])
    lines = report(record).splitlines()
    assert lines[2].split() == ["metric", "value", "baseline", "improvement", "%"]
    assert lines[3].split() == ["perplexity", "8.21", "-", "-"]


def test_without_losses_there_is_no_picture_and_it_is_said(tmp_path: Path) -> None:
    record = {"name": "x", "run_id": "r", "conditions": {}, "not_covered": [], "rows": []}
    names, missing = write(tmp_path, tmp_path / "out", record)
    assert names == ["benchmark_results.json", "benchmark_report.txt"]
    assert missing == ["loss_curves.png: no losses were logged"]
