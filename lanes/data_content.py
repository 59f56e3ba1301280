"""Are a dataset's rows worth the GPU hours? Each check holds, or names its number, its threshold and the mend.

From what a full scan counted (S5-R03, S5-R14, S5-R18..R20). Thresholds are shares of 1 and stand in the manifest;
unreadable and invalid rows are never trained around silently: the manifest accepts them by name, with a reason.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ContentFacts:
    """What the scan of every row counted. Counts are of rows, `*_tokens` of tokens; an example names file and line.

    `total_tokens` None: there was no tokenizer to count with. `examples` is by the name of the check.
    """

    train_rows: int = 0
    eval_rows: int = 0
    unreadable_rows: int = 0
    invalid_rows: int = 0
    refused_rows: int = 0
    odd_rows: int = 0
    untrainable_rows: int = 0
    total_tokens: int | None = None
    lost_tokens: int = 0
    pairs: int = 0
    equal_pairs: int = 0
    empty_sides: int = 0
    leaked_rows: int = 0
    conversations: int = 0
    template_fault: str | None = None
    is_eval_wanted: bool = True
    examples: Mapping[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows that could be read, of both splits."""
        return self.train_rows + self.eval_rows


@dataclass(frozen=True)
class ContentCheck:
    """One check: whether it held, the fact with its numbers, and what mends it."""

    name: str
    held: bool
    fact: str
    mend: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The check as evidence holds it."""
        return {"name": self.name, "held": self.held, "fact": self.fact, "mend": self.mend}


def judge_content(
    facts: ContentFacts, thresholds: Mapping[str, float], accepts: Collection[str] = ()
) -> tuple[ContentCheck, ...]:
    """Every check, in the order in which a person would mend them. `accepts` names checks whose rows may be left out."""
    return tuple(_checks(facts, thresholds, frozenset(accepts)))


def _checks(facts: ContentFacts, limits: Mapping[str, float], accepts: frozenset[str]) -> Iterator[ContentCheck]:
    yield _rows(facts)
    yield _left_out("unreadable-rows", facts.unreadable_rows, facts, accepts)
    yield _left_out("invalid-rows", facts.invalid_rows, facts, accepts)
    if facts.conversations:
        yield _template(facts)
        yield _left_out("template-rows", facts.refused_rows, facts, frozenset())
        yield _share("turns", facts.odd_rows, facts.conversations, limits.get("untrainable_rows", 0.01), facts)
    if facts.total_tokens is not None:
        yield _token_loss(facts, limits.get("token_loss", 0.02))
    yield _share("untrainable-rows", facts.untrainable_rows, facts.rows, limits.get("untrainable_rows", 0.01), facts)
    if facts.pairs:
        yield _share("equal-pairs", facts.equal_pairs, facts.pairs, limits.get("equal_pairs", 0.0), facts)
        yield _share("empty-sides", facts.empty_sides, facts.pairs, limits.get("equal_pairs", 0.0), facts)
    if facts.eval_rows:
        yield _share("leakage", facts.leaked_rows, facts.eval_rows, limits.get("leakage", 0.0), facts)


_WORDS: Mapping[str, tuple[str, str]] = {
    "turns": (
        "conversations have turns that were hardly meant so",
        "mend their roles, or raise thresholds.untrainable_rows",
    ),
    "untrainable-rows": ("rows have nothing to train on", "remove them, or let more of a row fit (sequence_length)"),
    "equal-pairs": ("pairs have chosen equal to rejected", "remove them: they teach nothing"),
    "empty-sides": ("pairs have an empty side", "remove them, or fill them in"),
    "leakage": ("eval rows stand in the train split as well", "remove them from one of the splits"),
}


def _rows(facts: ContentFacts) -> ContentCheck:
    fact = f"{facts.train_rows:,} train rows, {facts.eval_rows:,} eval rows"
    held = facts.train_rows > 0 and (facts.eval_rows > 0 or not facts.is_eval_wanted)
    return ContentCheck("rows", held, fact, "" if held else "both splits need at least one row that can be used")


def _left_out(name: str, count: int, facts: ContentFacts, accepts: frozenset[str]) -> ContentCheck:
    if not count:
        return ContentCheck(name, True, "none")
    fact = f"{count:,} of {facts.rows + facts.unreadable_rows:,} rows; {facts.examples.get(name, 'no example')}"
    if name in accepts:
        return ContentCheck(name, True, f"{fact} (left out, the manifest accepts it)")
    mend = (
        "mend the rows" if name == "template-rows" else f"mend the rows, or accept: {{{name}: REASON}} leaves them out"
    )
    return ContentCheck(name, False, fact, mend)


def _template(facts: ContentFacts) -> ContentCheck:
    if facts.template_fault is None:
        return ContentCheck("chat-template", True, f"{facts.conversations:,} conversations rendered with it")
    return ContentCheck(
        "chat-template", False, facts.template_fault, "name a tokenizer with a chat template (model.tokenizer)"
    )


def _token_loss(facts: ContentFacts, limit: float) -> ContentCheck:
    total = facts.total_tokens or 0
    share = facts.lost_tokens / total if total else 0.0
    fact = f"{facts.lost_tokens:,} of {total:,} tokens ({share:.2%}) would never be seen; the limit is {limit:.2%}"
    mend = "packing: bfd_split (or best-fit) loses none; else a longer sequence_length, or thresholds.token_loss"
    return ContentCheck("token-loss", share <= limit, fact, "" if share <= limit else mend)


def _share(name: str, count: int, of: int, limit: float, facts: ContentFacts) -> ContentCheck:
    share = count / of if of else 0.0
    words, mend = _WORDS[name]
    if not count:
        return ContentCheck(name, True, f"0 of {of:,} {words}")
    example = f"; {facts.examples[name]}" if name in facts.examples else ""
    fact = f"{count:,} of {of:,} {words} ({share:.2%}, the limit is {limit:.2%}){example}"
    return ContentCheck(name, share <= limit, fact, "" if share <= limit else mend)
