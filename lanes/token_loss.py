"""How many tokens of a row a trainer sees at the frozen sequence length, by method and packing strategy (S5-R18).

What TRL 1.16 does, read from its source and counted in tests/training/data: SFT cuts each row at `max_length` (or, packed
as `bfd`, throws the overflow away), `bfd_split` and `wrapped` cut rows in pieces and lose none, rows whose labels are all
masked after the cut are dropped; DPO cuts both sides the same way; the reward trainer drops every row with a side that is
too long; GRPO cuts nothing, so a prompt as long as the sequence leaves no room for an answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Packing = Literal["none", "bfd", "bfd_split", "wrapped", "best-fit"]
LOSSLESS = frozenset({"bfd_split", "wrapped", "best-fit"})


@dataclass(frozen=True)
class LengthRule:
    """The frozen length in tokens and what happens to rows that are longer.

    `masks_prompt`: only the completion is trained on. `drops_long_rows`: a longer row goes as a whole (reward).
    `generates`: a row is a prompt, and what is trained on is generated after it (GRPO).
    """

    length: int
    packing: Packing = "none"
    keeps_end: bool = False
    masks_prompt: bool = True
    drops_long_rows: bool = False
    generates: bool = False


@dataclass(frozen=True)
class Fate:
    """What becomes of one sequence: tokens it has, tokens that no step will see, positions that a loss is computed on."""

    tokens: int
    lost: int
    trainable: int


def rule_for(method: str, length: int, packing: Packing, arguments: dict[str, object]) -> LengthRule:
    """The rule of a request; `arguments` are the trainer's, by TRL's names."""
    if method == "causal-lm":
        return LengthRule(length, "best-fit", masks_prompt=False)
    return LengthRule(
        length,
        packing if method == "sft" else "none",
        keeps_end=arguments.get("truncation_mode") == "keep_end",
        masks_prompt=method == "dpo" or arguments.get("completion_only_loss") is not False,
        drops_long_rows=method == "reward",
        generates=method == "grpo",
    )


def fate_of(rule: LengthRule, tokens: int, prompt: int = 0) -> Fate:
    """The fate of a sequence of `tokens` tokens whose first `prompt` ones are its prompt."""
    if rule.generates:
        return Fate(tokens, 0, max(0, rule.length - tokens))
    if rule.drops_long_rows:
        is_dropped = tokens > rule.length
        return Fate(tokens, tokens if is_dropped else 0, 0 if is_dropped else tokens)
    masked = prompt if rule.masks_prompt else 0
    if rule.packing in LOSSLESS:
        return Fate(tokens, 0, max(0, tokens - max(masked, 1)))
    kept = min(tokens, rule.length)
    begin = tokens - kept if rule.keeps_end and rule.packing == "none" else 0
    # The first token of a sequence is predicted from nothing: no loss is computed on it.
    return Fate(tokens, tokens - kept, max(0, begin + kept - max(masked, begin + 1)))
