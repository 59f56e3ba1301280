"""Formats, mappings and content checks of the data audit: what is refused, what is mended, and what it says."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lanes.data_audit import REQUIRED, clash, fault_of, judge_format, kept_columns, row_fault
from lanes.data_content import ContentCheck, ContentFacts, judge_content
from lanes.data_mapping import MappingBroken, parse, render
from lanes.data_values import Kind, broken_turn, kind_of, normal_turns, odd_turns, text_of
from lanes.token_loss import Fate, LengthRule, fate_of, rule_for

CASES = [
    (f"{path.stem}: {case['name']}", case)
    for path in sorted((Path(__file__).parent.parent / "cases/data_audit").glob("*.yaml"))
    for case in yaml.safe_load(path.read_text(encoding="utf-8"))
]
METHODS = ("sft", "dpo", "grpo", "reward")
USER, REPLY = {"role": "user", "content": "why"}, {"role": "assistant", "content": "so"}
LIMITS = {"token_loss": 0.02, "untrainable_rows": 0.01, "leakage": 0.0, "equal_pairs": 0.0}


def kinds_of(rows: list[dict[str, Any]]) -> dict[str, Kind]:
    """The kind of each column as the scan has it: that of most rows which have a value."""
    names = dict.fromkeys(name for row in rows for name in row)
    counts: dict[str, Counter[Kind]] = {
        name: Counter(kind_of(row[name]) for row in rows if name in row) for name in names
    }
    kinds: dict[str, Kind] = {}
    for name, count in counts.items():
        there: list[tuple[int, Kind]] = [
            (number, kind) for kind, number in count.items() if kind not in {"null", "empty-list"}
        ]
        kinds[name] = max(there, key=lambda each: each[0])[1] if there else count.most_common(1)[0][0]
    return kinds


# --- the verdict on the format -------------------------------------------------------------------------------------


@pytest.mark.req("S5-R04")
@pytest.mark.req("S5-R05")
@pytest.mark.req("S5-R06")
@pytest.mark.req("S5-R07")
@pytest.mark.req("S5-R09")
@pytest.mark.parametrize("case", [case for _, case in CASES], ids=[name for name, _ in CASES])
@pytest.mark.parametrize("method", METHODS)
def test_format_is_judged_as_the_case_says(case: dict[str, Any], method: str) -> None:
    verdict = judge_format(method, kinds_of(case["rows"]))
    assert verdict.verdict == case["verdicts"][method]
    assert dict(verdict.mapping) == case.get("mappings", {}).get(method, {})
    assert verdict.is_usable is (verdict.verdict != "incompatible")
    assert bool(verdict.reasons) is (verdict.verdict != "compatible")


@pytest.mark.req("S5-R10")
@pytest.mark.parametrize("method", METHODS)
def test_what_a_mapping_makes_is_compatible(method: str) -> None:
    mapped = [case for _, case in CASES if method in case.get("mappings", {})]
    assert len(mapped) > 5
    for case in mapped:
        kinds = kinds_of(case["rows"])
        made = {name: parse(source, kinds) for name, source in case["mappings"][method].items()}
        again = judge_format(method, kinds_of([render(made, row) for row in case["rows"]]))
        assert (case["name"], again.verdict) == (case["name"], "compatible")


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 60


@pytest.mark.req("S5-R10")
def test_a_mapping_of_the_manifest_is_the_only_one_tried() -> None:
    kinds: dict[str, Kind] = {"question": "text", "answer": "text", "text": "text"}
    assert judge_format("sft", kinds, {"text": "answer"}).mapping == {"text": "answer"}
    refused = judge_format("sft", kinds, {"text": "missing"})
    assert not refused.is_usable
    assert "there is no column `missing`" in refused.reasons[0]


@pytest.mark.req("S5-R10")
def test_a_mapping_may_name_only_what_differs() -> None:
    kinds: dict[str, Kind] = {"prompt": "text", "good": "text", "rejected": "text"}
    verdict = judge_format("dpo", kinds, {"chosen": "good"})
    assert verdict.verdict == "mappable"
    assert dict(verdict.mapping) == {"prompt": "prompt", "chosen": "good", "rejected": "rejected"}


@pytest.mark.req("S5-R10")
def test_what_is_missing_is_named_with_what_is_there() -> None:
    verdict = judge_format("dpo", {"prompt": "text", "chosen": "text"})
    assert REQUIRED["dpo"] in verdict.reasons[0]
    assert "prompt (text), chosen (text)" in verdict.reasons[0]
    assert "no column with values" in judge_format("sft", {}).reasons[0]


def test_tokenised_rows_are_refused_with_the_reason() -> None:
    assert "tokenised already" in " ".join(judge_format("sft", {"input_ids": "list"}).reasons)


def test_text_of_causal_lm_is_found_under_its_usual_names() -> None:
    assert judge_format("causal-lm", {"text": "text"}).verdict == "compatible"
    assert judge_format("causal-lm", {"content": "text"}).mapping == {"text": "content"}
    assert not judge_format("causal-lm", {"messages": "messages"}).is_usable


def test_conversations_with_roles_of_another_collection_get_the_usual_ones() -> None:
    rows = [{"messages": [{"role": "human", "content": "why"}, {"role": "gpt", "content": "so"}]}]
    verdict = judge_format("sft", kinds_of(rows))
    assert verdict.mapping == {"messages": "chat(messages)"}
    made = render({"messages": parse("chat(messages)", ["messages"])}, rows[0])
    assert [turn["role"] for turn in made["messages"]] == ["user", "assistant"]


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        ({"text": "messages"}, "not text"),
        ({"messages": "text"}, "not messages"),
        ({"prompt": "number", "completion": "text"}, "prompt is number"),
        ({"prompt": "text", "completion": "reply"}, "mixed"),
        ({"prompt": "messages", "chosen": "messages", "rejected": "reply"}, "twice"),
        ({"prompt": "messages", "chosen": "reply", "rejected": "reply"}, None),
    ],
)
def test_columns_that_cannot_stand_together(kinds: dict[str, Kind], said: str | None) -> None:
    found = clash(kinds)
    assert found is None if said is None else said in (found or "")


def test_a_source_of_the_wrong_kind_is_a_fault() -> None:
    assert fault_of("sft", {"text": "user(n)"}, {"n": "number"}) == "text cannot be made of user(n)"
    assert fault_of("sft", {"prompt": "n"}, {"n": "text"}) == f"sft needs {REQUIRED['sft']}"


def test_what_else_goes_to_the_trainer() -> None:
    kinds: dict[str, Kind] = {"text": "text", "tools": "list", "id": "number"}
    assert kept_columns("sft", ("text",), kinds) == ["tools"]
    asked: dict[str, Kind] = {"prompt": "text", "answer": "text", "chosen": "messages", "completion": "text"}
    # GRPO hands all to the reward, but for what would make TRL take texts for conversations by chance.
    assert kept_columns("grpo", ("prompt",), asked) == ["answer", "completion"]


# --- rows and turns ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("a", "text"),
        (None, "null"),
        (True, "flag"),
        (1.5, "number"),
        ([], "empty-list"),
        ([1], "list"),
        ([USER], "messages"),
        ((REPLY,), "reply"),
        ([{"from": "human", "value": "a"}], "turns"),
        ([{"role": "system", "content": "s"}, {"role": "gpt", "content": "a"}], "turns"),
        ([{"said": "a"}], "list"),
        ({"a": 1}, "object"),
        (b"bytes", "object"),
    ],
)
def test_kinds(value: object, kind: str) -> None:
    assert kind_of(value) == kind


@pytest.mark.req("S5-R20")
@pytest.mark.parametrize(
    ("turns", "said"),
    [
        ([], "no turns"),
        (["a"], "turn 1 is no mapping"),
        ([USER, {"content": "a"}], "turn 2 has no role"),
        ([{"role": "user", "content": None}], "turn 1 (user) has no content"),
        ([{"role": "user", "content": 4}], "holds a number"),
        ([{"role": "assistant", "content": None, "tool_calls": [{}]}], None),
        ([{"role": "user", "content": [{"type": "text", "text": "a"}]}], None),
    ],
)
def test_turns_that_cannot_be_rendered_are_named(turns: list[Any], said: str | None) -> None:
    found = broken_turn(turns)
    assert found is None if said is None else said in (found or "")


@pytest.mark.req("S5-R20")
@pytest.mark.parametrize(
    ("roles", "said"),
    [
        (["user", "assistant"], []),
        (["system", "user", "assistant", "tool", "assistant"], []),
        (["user"], ["no assistant turn"]),
        (["narrator", "assistant"], ["unknown role narrator"]),
        (["user", "system", "assistant"], ["system turn after the first"]),
        (["assistant", "user", "assistant"], ["begins with the assistant"]),
        (["user", "user", "assistant"], ["the same role twice in a row"]),
    ],
)
def test_odd_turns_are_named(roles: list[str], said: list[str]) -> None:
    assert odd_turns([{"role": role, "content": "a"} for role in roles]) == said


def test_turns_lose_what_arrow_filled_in() -> None:
    turn = {"from": "human", "value": "a", "weight": None, "tool_calls": None}
    assert normal_turns([turn]) == [{"role": "user", "content": "a"}]
    assert normal_turns([{"role": "assistant", "content": None, "from": "x"}]) == [
        {"role": "assistant", "content": None}
    ]


def test_all_that_is_said_in_a_value() -> None:
    assert text_of([USER, {"role": "user", "content": [{"type": "text", "text": "and"}]}]) == "why\nand"
    assert (text_of(None), text_of(3), text_of({"content": None})) == ("", "3", "")


@pytest.mark.parametrize(
    ("row", "is_chat", "said"),
    [
        ({"text": "a"}, False, None),
        ({}, False, "text is missing"),
        ({"text": 3}, False, "text is number, not text"),
        ({"text": "a"}, True, "it is text, not turns"),
        ({"text": [{"role": "", "content": "a"}]}, True, "turn 1 has no role"),
        ({"text": [USER]}, True, None),
    ],
)
def test_rows_that_a_trainer_cannot_read(row: dict[str, Any], is_chat: bool, said: str | None) -> None:
    found = row_fault(row, ("text",), is_chat=is_chat)
    assert found is None if said is None else said in (found or "")


# --- mappings ------------------------------------------------------------------------------------------------------


def made(source: str, **row: Any) -> Any:
    """What `source` makes of a row."""
    return parse(source, row).value(row)


@pytest.mark.req("S5-R10")
def test_each_operation_does_what_its_line_says() -> None:
    assert made("a + b", a="x", b="y") == "x\n\ny"
    assert made("a + b", a="x", b=" ") == "x"
    assert made("a + b", a=None, b=None) is None
    assert made("a + b", a="x", b=3) is None
    assert made("user(a)", a="x") == [{"role": "user", "content": "x"}]
    assert made("assistant(a)", a=None) is None
    assert made("chat(a)", a="x") is None
    assert made("before_reply(a)", a=[USER, REPLY]) == [USER]
    assert made("before_reply(a)", a=[USER]) == [USER]
    assert made("before_reply(a)", a=[REPLY]) is None
    assert made("reply(a)", a=[USER, REPLY]) == [REPLY]
    assert made("reply(a)", a=[USER]) is None
    assert made("shared(a, b)", a="to be or", b="to be and") == "to be"
    assert made("shared(a, b)", a="x", b=[USER]) is None
    assert made("after_shared(a, b)", a=None, b="x") is None


def test_a_column_may_be_called_like_an_operation() -> None:
    assert made("a + b", **{"a + b": "x"}) == "x"
    assert made("chat(x)", **{"chat(x)": "y"}) == "y"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("b", "there is no column `b`"),
        ("a + b", "there is no column `b`"),
        ("user(b)", "there is no column `b`"),
        ("shout(a)", "is no operation"),
        ("join(a)", "is no operation"),
        ("shared(a)", "takes 2 column(s), not 1"),
        ("user(", "there is no column"),
    ],
)
def test_a_mapping_that_cannot_be_read_says_why(source: str, said: str) -> None:
    with pytest.raises(MappingBroken, match=said.replace("(", r"\(").replace(")", r"\)").replace("+", r"\+")):
        parse(source, ["a"])


TURNS = st.lists(st.sampled_from([USER, REPLY, {"role": "user", "content": "and"}]), min_size=1, max_size=5)


@pytest.mark.req("S5-R10")
@given(st.text(), st.text())
def test_an_implicit_prompt_and_what_follows_is_the_whole_text(one: str, other: str) -> None:
    row = {"a": one, "b": other}
    assert made("shared(a, b)", **row) + made("after_shared(a, b)", **row) == one
    assert made("shared(a, b)", **row) == made("shared(b, a)", **row)
    assert other.startswith(made("shared(a, b)", **row))


@given(TURNS, TURNS)
def test_an_implicit_prompt_leaves_a_reply_on_both_sides(one: list[Any], other: list[Any]) -> None:
    row = {"a": one, "b": other}
    assert made("shared(a, b)", **row) + made("after_shared(a, b)", **row) == one
    assert made("after_shared(a, b)", **row)
    assert made("after_shared(b, a)", **row)


# --- content -------------------------------------------------------------------------------------------------------


def refused(facts: ContentFacts, accepts: tuple[str, ...] = ()) -> list[ContentCheck]:
    """The checks that do not hold."""
    return [check for check in judge_content(facts, LIMITS, accepts) if not check.held]


FINE = ContentFacts(train_rows=98, eval_rows=2, total_tokens=1000, pairs=100, conversations=100)


def test_good_data_passes() -> None:
    checks = judge_content(FINE, LIMITS)
    assert all(check.held for check in checks)
    assert {"rows", "token-loss", "untrainable-rows", "equal-pairs", "leakage", "turns"} <= {c.name for c in checks}


@pytest.mark.req("S5-R18")
@pytest.mark.req("S5-R19")
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("rows", {"train_rows": 0}),
        ("rows", {"eval_rows": 0}),
        ("unreadable-rows", {"unreadable_rows": 1}),
        ("invalid-rows", {"invalid_rows": 1}),
        ("template-rows", {"refused_rows": 1}),
        ("chat-template", {"template_fault": "the tokenizer has no chat template"}),
        ("turns", {"odd_rows": 2}),
        ("token-loss", {"lost_tokens": 21}),
        ("untrainable-rows", {"untrainable_rows": 2}),
        ("equal-pairs", {"equal_pairs": 1}),
        ("empty-sides", {"empty_sides": 1}),
        ("leakage", {"leaked_rows": 1}),
    ],
)
def test_each_fault_closes_its_check_and_names_a_mend(name: str, change: dict[str, Any]) -> None:
    found = refused(replace(FINE, **change))
    assert [check.name for check in found] == [name]
    assert found[0].mend
    assert found[0].as_dict()["held"] is False


@pytest.mark.req("S5-R18")
def test_thresholds_are_the_manifest_s() -> None:
    facts = replace(FINE, lost_tokens=21, untrainable_rows=1)
    assert [check.name for check in refused(facts)] == ["token-loss"]
    assert all(check.held for check in judge_content(facts, {**LIMITS, "token_loss": 0.05}))


def test_only_left_out_rows_can_be_accepted_by_name() -> None:
    facts = replace(FINE, unreadable_rows=1, invalid_rows=1, leaked_rows=1, refused_rows=1)
    kept = refused(facts, ("unreadable-rows", "invalid-rows", "leakage", "template-rows"))
    assert [check.name for check in kept] == ["template-rows", "leakage"]


def test_no_eval_split_is_fine_where_none_is_wanted() -> None:
    assert not refused(ContentFacts(train_rows=5, is_eval_wanted=False))
    assert not [check for check in judge_content(ContentFacts(train_rows=5), LIMITS) if check.name == "token-loss"]


def test_an_example_names_the_place() -> None:
    facts = replace(FINE, invalid_rows=1, examples={"invalid-rows": "data/x.jsonl:7: text is null"})
    assert "data/x.jsonl:7" in refused(facts)[0].fact


# --- tokens lost ---------------------------------------------------------------------------------------------------


@pytest.mark.req("S5-R18")
@pytest.mark.parametrize(
    ("rule", "tokens", "prompt", "fate"),
    [
        (LengthRule(10), 8, 0, Fate(8, 0, 7)),
        (LengthRule(10), 30, 0, Fate(30, 20, 9)),
        (LengthRule(10), 30, 10, Fate(30, 20, 0)),
        (LengthRule(10), 30, 4, Fate(30, 20, 6)),
        (LengthRule(10, keeps_end=True), 30, 25, Fate(30, 20, 5)),
        (LengthRule(10, masks_prompt=False), 30, 10, Fate(30, 20, 9)),
        (LengthRule(10, "bfd"), 30, 0, Fate(30, 20, 9)),
        (LengthRule(10, "bfd_split"), 30, 0, Fate(30, 0, 29)),
        (LengthRule(10, "best-fit"), 30, 12, Fate(30, 0, 18)),
        (LengthRule(10, "wrapped"), 1, 0, Fate(1, 0, 0)),
        (LengthRule(10, drops_long_rows=True), 11, 0, Fate(11, 11, 0)),
        (LengthRule(10, drops_long_rows=True), 10, 0, Fate(10, 0, 10)),
        (LengthRule(10, generates=True), 4, 0, Fate(4, 0, 6)),
        (LengthRule(10, generates=True), 12, 0, Fate(12, 0, 0)),
    ],
)
def test_the_fate_of_a_row(rule: LengthRule, tokens: int, prompt: int, fate: Fate) -> None:
    assert fate_of(rule, tokens, prompt) == fate


def test_rules_of_the_methods() -> None:
    assert rule_for("sft", 8, "bfd", {"truncation_mode": "keep_end"}) == LengthRule(8, "bfd", keeps_end=True)
    assert rule_for("sft", 8, "none", {"completion_only_loss": False}).masks_prompt is False
    assert rule_for("dpo", 8, "bfd", {"completion_only_loss": False}) == LengthRule(8)
    assert rule_for("reward", 8, "none", {}).drops_long_rows
    assert rule_for("grpo", 8, "none", {}).generates
    assert rule_for("causal-lm", 8, "none", {}).packing == "best-fit"


@given(st.integers(1, 60), st.integers(0, 60), st.integers(1, 40), st.booleans())
def test_nothing_is_lost_twice(tokens: int, prompt: int, length: int, keeps_end: bool) -> None:
    fate = fate_of(LengthRule(length, keeps_end=keeps_end), tokens, min(prompt, tokens))
    assert 0 <= fate.lost <= fate.tokens
    assert 0 <= fate.trainable <= fate.tokens - fate.lost
