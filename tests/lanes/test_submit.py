"""The submit invariant: no secret and no place of another machine goes to the host, and nothing harmless is refused."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lanes.submit import invariant, places
from lanes.verdict import Verdict
from manifests.train import EXAMPLE, parse

HERE = "/Users/me/work/project"
FILE = "file://"
pytestmark = pytest.mark.req("S8-R05")


def request(**changes: Any) -> dict[str, Any]:
    """The example's request, changed by dotted keys."""
    said: dict[str, Any] = yaml.safe_load(EXAMPLE)
    for key, value in changes.items():
        *path, last = key.split("__")
        place = said
        for each in path:
            place = place.setdefault(each, {})
        place[last] = value
    if said["model"].get("id"):
        said["model"].pop("config")
    return parse(yaml.safe_dump(said), "x.yaml").job() | {"who": "me@/Users/me", "manifest": "manifests/runs/x.yaml"}


def judge(asked: dict[str, Any], *there: str, script: str | None = None) -> Verdict:
    """The verdict on a host that has `there` and a home folder."""
    named = places(asked, script)
    exists = {place.to_ask: place.to_ask in ("~", *there) for place in named if not place.is_foreign}
    return invariant(asked, named, exists, clone_here=HERE)


def test_example_passes() -> None:
    assert judge(request()).allowed


LOCAL: dict[str, dict[str, Any]] = {
    "a home of a Mac": {"dataset__source": "/Users/me/data/train.jsonl"},
    "a home of a Mac in the clone": {"dataset__source": f"{HERE}/data/train.jsonl"},
    "a home of Linux": {"dataset__eval_source": "/home/me/eval.jsonl"},
    "the home folder": {"dataset__source": "~/data/train.jsonl"},
    "another's home folder": {"model__id": "~bob/models/base"},
    "a drive": {"dataset__source": "C:\\Users\\me\\data.jsonl"},
    "a drive with slashes": {"dataset__source": "d:/data/x.jsonl"},
    "a share": {"model__id": "\\\\server\\share\\model"},
    "a file address": {"dataset__source": FILE + "/Users/me/x.jsonl"},
    "a file address of a drive": {"dataset__source": FILE + "/C:/x.jsonl"},
    "a volume": {"model__tokenizer": "/Volumes/Disk/tokenizer"},
    "a model": {"model__id": "/opt/models/base"},
    "an argument": {"arguments__output_dir": "/Users/me/out"},
    "an argument deep down": {"arguments__model_init_kwargs": {"cache_dir": "/Users/me/cache"}},
    "an argument in a list": {"arguments__data_files": ["a.jsonl", "/Users/me/b.jsonl"]},
    "the environment": {"environment__HF_HOME": "/Users/me/.cache/huggingface"},
    "the python": {"python": "/Users/me/venv/bin/python"},
    "the destination": {"persist__destination": "/Users/me/models"},
    "the destination in the clone": {"persist__destination": f"{HERE}/models"},
    "the destination on a drive": {"persist__destination": "C:\\models"},
}


@pytest.mark.parametrize("what", LOCAL)
def test_place_of_another_machine_is_refused_with_what_to_do(what: str) -> None:
    changes = LOCAL[what]
    found = judge(request(**changes))
    key = next(iter(changes)).replace("__", ".")
    assert not found.allowed
    assert found.reasons[0].fact.startswith(key.split("__")[0])
    assert "machine" in found.reasons[0].rule
    assert found.next_steps
    if HERE in str(changes):
        assert f"{key}: {str(changes[next(iter(changes))]).removeprefix(HERE + '/')}" in found.next_steps


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset__source": "/data/shared/train.jsonl"},
        {"model__id": "~/models/base"},
        {"python": "/opt/venv/bin/python"},
        {"environment__HF_HOME": "/data/cache"},
    ],
)
def test_place_that_the_host_has_is_none_of_another_machine(changes: dict[str, Any]) -> None:
    there = [str(value) for value in changes.values() if value]
    assert judge(request(**changes), *there).allowed


def test_destination_need_not_be_there_yet() -> None:
    assert judge(request(persist__destination="~/new/models")).allowed
    assert judge(request(persist__destination="/data/new/models"), "/data").allowed


@pytest.mark.parametrize(
    "word",
    [
        "org/model-7b", "data/train.jsonl", "a / b", "/think", "https://host/x", "and/or", "s3://bucket/key", "//", "/",
        "{{ x }}/{{ y }}", "~ about 3", "1/2", "C: the third", "cosine", "a:b", "module:function", "</s>", "\\n",
    ],
)  # fmt: skip
def test_word_that_is_no_place_passes(word: str) -> None:
    assert judge(request(arguments__some=word)).allowed


def test_script_that_comes_along_is_read_as_code_not_as_text() -> None:
    asked = request(method="grpo", dataset__reward="rewards.length:score")
    bad = 'X = open("/Users/me/words.txt")  # a comment: /Users/me/other\nY = f"/home/{X}/data"\n'
    found = judge(asked, script=bad)
    assert [reason.fact.partition(":")[0] for reason in found.reasons] == ["rewards.length, line 1"]
    assert judge(asked, script="# /Users/me\nX = 1\n").allowed
    assert judge(asked, script="no python (").allowed


@pytest.mark.req("S20-R03")
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("arguments__hub_token", "hf_" + "aB3dE6gH9jK2mN5pQ8sT1vW4"),
        ("environment__WANDB_API_KEY", "0123456789abcdef0123456789abcdef01234567"),
        ("environment__MY_PASSWORD", "correct horse"),
        ("dataset__source", "https://me:s3cr3tpw@host/data.jsonl"),
        ("task", "use ghp_" + "aB3dE6gH9jK2mN5pQ8sT1vW4xY7zA0cD1eF2"),
    ],
)
def test_secret_is_refused_and_not_repeated(key: str, value: str) -> None:
    found = judge(request(**{key: value}))
    assert not found.allowed
    assert key.replace("__", ".") in found.reasons[0].fact
    assert value not in str(found.as_dict())
    assert "environment of the host" in found.next_steps[0]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("arguments__eos_token", "<|im_end|>"),
        ("arguments__pad_token", "<pad>"),
        ("model__revision", "0123456789abcdef0123456789abcdef01234567"),
        ("environment__TOKENIZERS_PARALLELISM", "false"),
        ("dataset__source", "HuggingFaceH4/ultrachat_200k"),
        ("arguments__run_name", "Qwen2.5-0.5B-Instruct-LoRA-r16-v2"),
    ],
)
def test_setting_that_is_no_secret_passes(key: str, value: str) -> None:
    assert judge(request(**{key: value})).allowed


@given(st.dictionaries(st.text(), st.recursive(st.text() | st.integers() | st.none(), st.lists, max_leaves=5)))
def test_any_data_is_judged(arguments: dict[str, Any]) -> None:
    asked = {**request(), "arguments": arguments}
    named = places(asked, "x = 1")
    assert isinstance(invariant(asked, named, {}).allowed, bool)
