"""`hemma tokenizer`: trained on the host on every row, the same twice, and never in the place of another."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import Cli, EnvironFor, make_repository
from tests.training.support import rows_of
from training.tokenizer import SMALLEST, TokenizerRefused, make, strings

ODD = "naïve café, 数据 and \U0001f600\ttabs\n  and <|im_end|> as text"


def a_job(root: Path, rows: list[dict[str, Any]], tokenizer: str | None = "data/tokenizer") -> dict[str, Any]:
    (root / "data").mkdir(parents=True, exist_ok=True)
    (root / "data/text.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {
        "root": str(root),
        "model": {"config": {"model_type": "llama"}, "tokenizer": tokenizer},
        "dataset": {"source": "data/text.jsonl", "format": None, "split": "train", "mapping": {}},
    }


@pytest.mark.req("S10-R07")
def test_the_same_rows_give_the_same_tokenizer(tmp_path: Path) -> None:
    rows = [*rows_of("sft", 300), {"text": ODD}]
    one, two = (make(a_job(tmp_path / name, rows), 600) for name in ("one", "two"))
    assert one == two
    assert one["vocab_size"] <= 600
    assert one["rows"] == 301
    assert one["bytes_per_token"] > 2  # it learned words; bytes alone give 1


def test_what_it_encodes_it_gives_back_and_it_knows_turns(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    make(a_job(tmp_path, rows_of("sft", 50)), SMALLEST)
    read = AutoTokenizer.from_pretrained(tmp_path / "data/tokenizer")
    plain = ODD.replace("<|im_end|>", "")
    assert read.decode(read.encode(plain, add_special_tokens=False)) == plain
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    text = read.apply_chat_template(turns, tokenize=False)
    assert text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nho<|im_end|>\n"
    assert len(read.encode("<|im_start|>")) == 1
    assert read.pad_token_id != read.eos_token_id  # a padded end would be masked away


@pytest.mark.parametrize(
    ("tokenizer", "rows", "said"),
    [
        (None, [{"text": "a"}], "names no tokenizer"),
        ("../outside", [{"text": "a"}], "outside the repository"),
        ("data/text.jsonl", [{"text": "a"}], "is not replaced"),
        ("data/new", [{"number": 1}, {"number": 2}], "no text"),
    ],
)
def test_a_refusal_says_which_and_leaves_nothing(
    tmp_path: Path, tokenizer: str | None, rows: list[dict[str, Any]], said: str
) -> None:
    with pytest.raises(TokenizerRefused, match=said):
        make(a_job(tmp_path / "repo", rows, tokenizer), 300)
    assert [path.name for path in (tmp_path / "repo").rglob("*") if path.is_file()] == ["text.jsonl"]


def test_every_text_of_a_row_is_read_but_not_the_roles() -> None:
    row = {"messages": [{"role": "user", "content": "one"}, {"role": "tool", "content": [{"text": "two"}]}], "n": 3}
    assert list(strings(row)) == ["one", "two"]


@pytest.mark.real
def test_one_command_makes_it_on_the_host_once(
    hemma_with: Callable[[dict[str, str]], Cli], settings_env: EnvironFor, tmp_path: Path
) -> None:
    import sys

    import yaml

    from manifests.train import EXAMPLE

    (tmp_path / "on-host").mkdir()
    root = make_repository(tmp_path / "on-host").path
    a_job(root, rows_of("sft", 60))
    (root / "run.yaml").write_text(yaml.safe_dump(yaml.safe_load(EXAMPLE) | {"python": sys.executable}))
    cli = hemma_with(settings_env(root=root))
    done = cli("tokenizer", "run.yaml", "--vocab-size", "400", "--json", timeout_s=120)
    found = json.loads(done.stdout)
    assert (done.returncode, found["path"], found["rows"]) == (0, "data/tokenizer", 60), done.stderr
    assert (root / "data/tokenizer/tokenizer.json").exists()
    again = cli("tokenizer", "run.yaml", timeout_s=120)
    assert again.returncode != 0
    assert b"is not replaced" in again.stderr
