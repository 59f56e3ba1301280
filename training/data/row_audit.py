"""One split, row by row: what a trainer would make of each row, counted (S5-R03, S5-R18..R20)."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from lanes.data_audit import FormatVerdict, Shape, row_fault
from lanes.data_mapping import Made, parse, render
from lanes.data_values import Kind, odd_turns, text_of
from lanes.token_loss import LengthRule, fate_of
from training.data.readers import Row
from training.data.scanning import Histogram, Scan
from training.data.sources import Place, Source
from training.data.splitting import SPACE, Fingerprints, fingerprint
from training.data.tokens import RowTokens, TokenCounter

OnProgress = Callable[[int, "int | None", str], None]
SCANNED_ROWS = 64
BATCH_ROWS = 256
# A few very long documents must not be in memory beside each other for long.
BATCH_CHARACTERS = 4 << 20
KEPT_ROWS = 100
KEPT_CHARACTERS = 100_000
# Turns that hardly anybody means to train on; the other oddities are notes.
HARD = ("unknown role", "no assistant turn")
CHARACTERS_PER_SAMPLE = 600


class Rendering:
    """From a dataset's row to the columns that the trainer reads, by a verdict's mapping."""

    def __init__(self, verdict: FormatVerdict, kinds: Mapping[str, Kind]) -> None:
        self.shape: Shape = verdict.shape
        self._made: dict[str, Made] = {name: parse(source, kinds) for name, source in verdict.mapping.items()}
        first = verdict.shape[0] if verdict.shape else ""
        kind = self._made[first].kind(kinds) if first in self._made else kinds.get(first)
        self.is_chat = kind != "text"
        self.is_paired = "chosen" in self.shape and "rejected" in self.shape
        # Whether the shape's columns, in its order, are all that a rendered row has.
        self.is_exact = not self._made or tuple(self._made) == self.shape

    def __call__(self, row: Row) -> Row:
        """The target columns of a row; those of a mapping, or the shape's own."""
        return render(self._made, row) if self._made else {name: row.get(name) for name in self.shape}


class RowAudit:
    """The counts of one split. `counter` None: no tokenizer, so no tokens are counted."""

    def __init__(
        self, method: str, rendering: Rendering | None, counter: TokenCounter | None, rule: LengthRule, seed: int
    ) -> None:
        self._method, self._rendering, self._counter, self._rule, self._seed = method, rendering, counter, rule, seed
        self.scan, self.tokens, self.found = Scan(), Histogram(), Fingerprints()
        self.counts: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.samples: list[Row] = []
        self.longest: list[tuple[int, str]] = []
        self._kept: list[tuple[int, int, Row]] = []
        self._worst_kept = -SPACE
        self._batch: list[tuple[str, Row]] = []
        self._batch_characters = 0

    def run(self, source: Source, on_progress: OnProgress | None = None) -> None:
        """Read the whole split."""
        rows = source.rows()
        while some := list(itertools.islice(rows, SCANNED_ROWS)):
            self.scan.add([row for _, row in some])
            self.samples += [row for _, row in some[: 3 - len(self.samples)]]
            if self._rendering is not None:
                for at, row in some:
                    self._look_at(source, at, row, self._rendering)
            if on_progress and not self.scan.rows % 2048:
                on_progress(self.scan.rows, None, f"{source.split} rows")
        if self._counter is not None and self._batch:
            self._count_tokens(self._counter)
        self.counts["unreadable"] = source.faults.total
        if source.faults.first:
            self.examples["unreadable-rows"] = source.faults.first[0]

    @property
    def kept(self) -> list[Row]:
        """Rendered rows from all over the split: those with the smallest fingerprints."""
        return [row for _, _, row in sorted(self._kept, reverse=True)]

    @property
    def usable_rows(self) -> int:
        """Rows that a trainer can read."""
        return self.scan.rows - self.counts["invalid"]

    def _look_at(self, source: Source, at: Place, row: Row, rendering: Rendering) -> None:
        made = rendering(row)
        values = list(made.values()) if rendering.is_exact else [made.get(name) for name in rendering.shape]
        fault = None
        if rendering.is_chat or set(map(type, values)) != {str}:
            fault = row_fault(made, rendering.shape, is_chat=rendering.is_chat)
        try:
            mark = fingerprint(values, self._seed) if fault is None else 0
        except UnicodeEncodeError:
            fault, mark = "holds half a character (a lone surrogate)", 0
        if fault is not None:
            self._count("invalid", "invalid-rows", source, at, fault)
            return
        self.found.add(mark)
        if -mark > self._worst_kept:
            self._keep(mark, made)
        self._look_at_content(source, at, made, rendering)
        if self._counter is not None:
            self._queue(self._counter, source.place(at), row, made)

    def _queue(self, counter: TokenCounter, place: str, row: Row, made: Row) -> None:
        options = {name: row[name] for name in ("tools", "chat_template_kwargs") if row.get(name)}
        self._batch.append((place, {**options, **made}))
        self._batch_characters += sum(len(value) for value in made.values() if isinstance(value, str))
        if len(self._batch) >= BATCH_ROWS or self._batch_characters > BATCH_CHARACTERS:
            self._count_tokens(counter)

    def _look_at_content(self, source: Source, at: Place, made: Row, rendering: Rendering) -> None:
        if rendering.is_paired:
            self.counts["pairs"] += 1
            if made["chosen"] == made["rejected"]:
                self._count("equal", "equal-pairs", source, at, "chosen equals rejected")
            elif any(not text_of(made[side]).strip() for side in ("chosen", "rejected")):
                self._count("empty-side", "empty-sides", source, at, "a side is empty")
        elif not self._has_answer(made):
            self._count("untrainable", "untrainable-rows", source, at, "there is nothing to answer with")
            self.counts["empty-answer"] += 1
        if "prompt" in made and isinstance(made["prompt"], str) and not made["prompt"].strip():
            self.counts["empty-prompt"] += 1
        if rendering.is_chat:
            self.counts["conversations"] += 1
            self._look_at_turns(source, at, made)

    def _has_answer(self, made: Row) -> bool:
        """Whether there is a text to learn (or, for GRPO, a prompt to answer) at all."""
        text = made.get("text")
        if text is not None:
            return bool(text) and not text.isspace()
        turns = made.get("messages")
        if turns is not None:
            said = [turn for turn in turns if turn.get("role") == "assistant"] or turns
            return any(text_of(turn).strip() or turn.get("tool_calls") for turn in said)
        answer = next((made[name] for name in ("completion", "prompt") if name in made), "")
        called = not isinstance(answer, str) and any(turn.get("tool_calls") for turn in answer)
        return called or bool(text_of(answer).strip())

    def _look_at_turns(self, source: Source, at: Place, made: Row) -> None:
        prompt = made.get("prompt") or []
        odd: dict[str, None] = {}
        for name in ("messages", "completion", "chosen", "rejected"):
            if name in made:
                odd |= dict.fromkeys(odd_turns([*prompt, *made[name]]))
        if self._method == "grpo":
            odd = dict.fromkeys(each for each in odd_turns(prompt) if each != "no assistant turn")
        self.notes.update(list(odd))
        hard = next((each for each in odd if each.startswith(HARD)), None)
        if hard is not None:
            self._count("odd", "turns", source, at, hard)

    def _count_tokens(self, counter: TokenCounter) -> None:
        rows = counter.count([row for _, row in self._batch])
        for (place, made), tokens in zip(self._batch, rows, strict=True):
            self._count_row(place, made, tokens)
        self._batch, self._batch_characters = [], 0

    def _count_row(self, place: str, made: Row, tokens: RowTokens) -> None:
        if tokens.fault is not None:
            self.counts["refused"] += 1
            self.examples.setdefault("template-rows", f"{place}: {tokens.fault}")
            return
        fates = [fate_of(self._rule, size, prompt) for size, prompt in tokens.sequences]
        # The reward trainer drops both sides when either of them is too long.
        is_dropped = self._rule.drops_long_rows and any(fate.lost for fate in fates)
        for fate in fates:
            self.tokens.add(fate.tokens)
            self.counts["tokens"] += fate.tokens
            self.counts["lost"] += fate.tokens if is_dropped else fate.lost
            self.counts["trainable"] += 0 if is_dropped else fate.trainable
        self.counts["long"] += any(fate.lost for fate in fates)
        if is_dropped or any(not fate.trainable for fate in fates):
            self.counts["masked"] += 1
            if "chosen" in made or self._has_answer(made):  # else it was counted before
                self.counts["untrainable"] += 1
                self.examples.setdefault("untrainable-rows", f"{place}: {max(fate.tokens for fate in fates)} tokens")
        self._note_longest(max(fate.tokens for fate in fates), place)

    def _note_longest(self, tokens: int, place: str) -> None:
        entry = (tokens, place)
        if len(self.longest) < 8:
            heapq.heappush(self.longest, entry)
        elif entry > self.longest[0]:
            heapq.heapreplace(self.longest, entry)

    def _keep(self, mark: int, made: Row) -> None:
        if sum(len(value) for value in made.values() if isinstance(value, str)) > KEPT_CHARACTERS:
            return
        entry = (-mark, self.found.rows, made)
        if len(self._kept) < KEPT_ROWS:
            heapq.heappush(self._kept, entry)
        else:
            heapq.heapreplace(self._kept, entry)
        if len(self._kept) == KEPT_ROWS:
            self._worst_kept = self._kept[0][0]

    def _count(self, name: str, check: str, source: Source, at: Place, fact: str) -> None:
        self.counts[name] += 1
        if check not in self.examples:
            self.examples[check] = f"{source.place(at)}: {fact}"


def shown(value: Any) -> Any:
    """A value as people and evidence get to see it: JSON, long texts cut."""
    if isinstance(value, str):
        return (
            value
            if len(value) <= CHARACTERS_PER_SAMPLE
            else f"{value[:CHARACTERS_PER_SAMPLE]}… ({len(value)} characters)"
        )
    if isinstance(value, dict):
        return {str(name): shown(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [shown(each) for each in list(value)[:12]]
    return value if value is None or isinstance(value, bool | int | float) else str(value)
