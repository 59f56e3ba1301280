"""What a model says of rows: likelihood of their tokens, generated answers, scores of a reward model. In batches by tokens.

Rows are encoded as the trainer encodes them: text gets the end token, a completion begins where prompt and whole part,
conversations go through the chat template. Nothing is cut: a long sequence is scored in windows of the frozen length.
"""

from __future__ import annotations

import contextlib
import json
import math
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

Row = Mapping[str, Any]
# Tokens of a batch, padding included: what a forward pass may hold at once.
CPU_TOKENS, GPU_TOKENS = 4096, 16384
MOST_NEW_TOKENS = 128


@dataclass(frozen=True)
class Encoded:
    """One sequence; tokens from `start` on are the ones that count."""

    ids: list[int]
    start: int


@dataclass
class Scorer:
    """A model with its tokenizer on one device. `tokens` and `seconds` count what went through it, for the throughput."""

    model: Any
    tokenizer: Any
    length: int
    device: str
    tokens: int = 0
    seconds: float = 0.0
    batch_tokens: int = field(default=0)

    def __post_init__(self) -> None:
        self.batch_tokens = GPU_TOKENS if self.device == "cuda" else CPU_TOKENS
        self.model.eval().to(self.device)
        if getattr(self.model.config, "pad_token_id", None) is None:
            self.model.config.pad_token_id = self.tokenizer.pad_token_id

    # --- likelihood -----------------------------------------------------------------------------------------------

    def perplexity(self, sequences: Sequence[Encoded], on_done: Callable[[int], None]) -> float:
        """exp of the mean negative log-likelihood of the counted tokens; the first token of a window has nothing before it."""
        # The longest first: what does not fit is seen at once, and neighbours waste little on padding.
        windows = sorted(
            (each for whole in sequences for each in self._windows(whole)), key=lambda each: -len(each.ids)
        )
        total, count = 0.0, 0
        for loss, scored, done in self._losses(windows):
            total += sum(loss)
            count += sum(scored)
            on_done(done)
        mean = total / count if count else math.nan
        return math.inf if mean > 700 else math.exp(mean)

    def likelihoods(self, sequences: Sequence[Encoded]) -> list[float]:
        """The log-likelihood of the counted tokens of each sequence; of a longer one the last window's."""
        found: list[float] = []
        for loss, _, _ in self._losses([self._cut(each) for each in sequences]):
            found += [-each for each in loss]
        return found

    def _windows(self, sequence: Encoded) -> Iterator[Encoded]:
        for begin in range(0, max(1, len(sequence.ids) - 1), self.length):
            ids = sequence.ids[begin : begin + self.length]
            if len(ids) > 1 and begin + len(ids) > sequence.start:
                yield Encoded(ids, max(1, sequence.start - begin))

    def _cut(self, sequence: Encoded) -> Encoded:
        over = max(0, len(sequence.ids) - self.length)
        return Encoded(sequence.ids[over:], max(1, sequence.start - over))

    def _losses(self, sequences: Sequence[Encoded]) -> Iterator[tuple[list[float], list[int], int]]:
        """(negative log-likelihood, tokens counted) of each sequence of a batch, in order, and how many are done."""
        done = 0
        for batch in self._batches([each.ids for each in sequences]):
            part = sequences[done : done + len(batch)]
            loss, scored = self._forward(part)
            done += len(part)
            yield loss, scored, done

    def _forward(self, part: Sequence[Encoded]) -> tuple[list[float], list[int]]:
        ids, mask = self._padded([each.ids for each in part], is_left=False)
        begun = time.perf_counter()
        with torch.inference_mode():
            logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            places = torch.arange(ids.shape[1], device=ids.device)[None, :]
            starts = torch.tensor([max(1, each.start) for each in part], device=ids.device)[:, None]
            counted = (places >= starts) & mask.bool()
            # One row at a time in fp32: the logits of a whole batch in fp32 would be the peak of all memory.
            losses = torch.stack(
                [
                    torch.nn.functional.cross_entropy(each[:-1].float(), wanted[1:], reduction="none")
                    for each, wanted in zip(logits, ids, strict=True)
                ]
            )
            summed = (losses * counted[:, 1:]).sum(dim=1, dtype=torch.float64).tolist()
            scored = counted[:, 1:].sum(dim=1).tolist()
        self._count(int(mask.sum()), begun)
        return summed, scored

    # --- generation -----------------------------------------------------------------------------------------------

    def generate(self, prompts: Sequence[list[int]], new_tokens: int, on_done: Callable[[int], None]) -> list[str]:
        """The greedy answer to each prompt, at most `new_tokens` long; a prompt too long for both keeps its end."""
        room = max(1, self.length - new_tokens)
        order = sorted(range(len(prompts)), key=lambda each: -len(prompts[each]))
        said = [""] * len(prompts)
        done = 0
        for batch in self._batches([prompts[each][-room:] for each in order], more=new_tokens):
            part = order[done : done + len(batch)]
            for each, text in zip(part, self._answers(batch, new_tokens), strict=True):
                said[each] = text
            done += len(part)
            on_done(done)
        return said

    def _answers(self, prompts: list[list[int]], most: int) -> list[str]:
        ids, mask = self._padded(prompts, is_left=True)
        begun = time.perf_counter()
        with torch.inference_mode():
            made = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=most,
                do_sample=False,
                num_beams=1,
                # Sampling settings of the model's own would only make warnings here.
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        self._count(int(mask.sum()) + made.shape[0] * (made.shape[1] - ids.shape[1]), begun)
        return self.tokenizer.batch_decode(made[:, ids.shape[1] :], skip_special_tokens=True)

    # --- rewards --------------------------------------------------------------------------------------------------

    def rewards(self, sequences: Sequence[Encoded]) -> list[float]:
        """The reward model's score of each sequence, of a longer one of its last tokens."""
        found: list[float] = []
        cut = [self._cut(each).ids for each in sequences]
        for batch in self._batches(cut):
            ids, mask = self._padded(batch, is_left=False)
            begun = time.perf_counter()
            with torch.inference_mode():
                found += self.model(input_ids=ids, attention_mask=mask).logits[:, 0].float().tolist()
            self._count(int(mask.sum()), begun)
        return found

    # --- batches --------------------------------------------------------------------------------------------------

    def _batches(self, sequences: Sequence[list[int]], more: int = 0) -> Iterator[list[list[int]]]:
        """Neighbours together while their padded size, and `more` tokens for each, fit; at least one."""
        batch: list[list[int]] = []
        longest = 0
        for ids in sequences:
            wider = max(longest, len(ids))
            if batch and (wider + more) * (len(batch) + 1) > self.batch_tokens:
                yield batch
                batch, wider = [], len(ids)
            batch.append(ids)
            longest = wider
        if batch:
            yield batch

    def _padded(self, batch: Sequence[list[int]], *, is_left: bool) -> tuple[torch.Tensor, torch.Tensor]:
        width, pad = max(map(len, batch)), int(self.tokenizer.pad_token_id or 0)
        ids = [
            ([pad] * (width - len(each)) + each) if is_left else (each + [pad] * (width - len(each))) for each in batch
        ]
        mask = [[0] * (width - len(each)) + [1] * len(each) if is_left else [1] * len(each) + [0] * (width - len(each)) for each in batch]  # fmt: skip
        return torch.tensor(ids, device=self.device), torch.tensor(mask, device=self.device)

    def _count(self, tokens: int, begun: float) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()
        self.tokens += tokens
        self.seconds += time.perf_counter() - begun


# --- rows to tokens -----------------------------------------------------------------------------------------------


class Encoder:
    """Rows of a job as sequences, prompts and references, with the real tokenizer and chat template."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._end = tokenizer.eos_token or ""

    def whole(self, row: Row, side: str | None = None) -> Encoded:
        """A row as one sequence: its text, its messages, or its prompt with `side` (completion, chosen, rejected)."""
        side = side or next((name for name in ("completion", "chosen") if name in row), None)
        if side is None:
            value = row["text"] if "text" in row else row["messages"]
            return Encoded(self._ids(value), 0)
        prompt = row.get("prompt")
        if prompt is None or prompt in ("", []):
            return Encoded(self._ids(row[side], row=row), 0)
        if isinstance(prompt, str) and isinstance(row[side], str):
            return self._parted(self._plain(prompt), self._ids(prompt + row[side]))
        opened = self._template(prompt, row, opens=True)
        return self._parted(self._plain(opened, special=False), self._ids([*prompt, *row[side]], row=row))

    def question(self, row: Row) -> tuple[list[int], str]:
        """(prompt tokens, reference) for a generated answer; of plain text the second half is the reference."""
        side = next((name for name in ("completion", "chosen") if name in row), None)
        if "messages" in row:
            return self._last_turn(row)
        if side is None and "prompt" not in row:
            ids = self._plain(row["text"])
            half = max(1, len(ids) // 2)
            return ids[:half], self._tokenizer.decode(ids[half:], skip_special_tokens=True)
        return self.prompt(row), _said(row[side]) if side else ""

    def prompt(self, row: Row) -> list[int]:
        """The tokens that an answer comes after."""
        prompt = row.get("prompt") or ""
        if isinstance(prompt, str):
            return self._plain(prompt) or [int(self._tokenizer.bos_token_id or 0)]
        return self._plain(self._template(prompt, row, opens=True), special=False)

    def answer(self, prompt: Row, text: str) -> Encoded:
        """A row's prompt with another answer, for the likelihood of each class."""
        value: Any = text if isinstance(prompt.get("prompt") or "", str) else [{"role": "assistant", "content": text}]
        return self.whole({**prompt, "completion": value}, "completion")

    def _last_turn(self, row: Row) -> tuple[list[int], str]:
        turns = list(row["messages"])
        at = max((number for number, turn in enumerate(turns) if turn.get("role") == "assistant"), default=len(turns))
        opened = self._template(turns[:at] or turns, row, opens=True)
        return self._plain(opened, special=False), _said(turns[at : at + 1])

    def _ids(self, value: Any, *, row: Row | None = None) -> list[int]:
        if isinstance(value, str):
            return self._plain(value if value.endswith(self._end) else value + self._end)
        return self._plain(self._template(value, row or {}), special=False)

    def _plain(self, text: str, *, special: bool = True) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=special)["input_ids"])

    def _template(self, turns: Sequence[Any], row: Row, *, opens: bool = False) -> str:
        tools = row.get("tools")
        tools = json.loads(tools) if isinstance(tools, str) else tools
        more = row.get("chat_template_kwargs") or {}
        return self._tokenizer.apply_chat_template(
            list(turns), tokenize=False, add_generation_prompt=opens, tools=tools or None, **more
        )

    def _parted(self, prompt: list[int], whole: list[int]) -> Encoded:
        pairs = enumerate(zip(prompt, whole, strict=False))
        return Encoded(whole, next((at for at, (a, b) in pairs if a != b), min(len(prompt), len(whole))))


def _said(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "\n".join(str(turn.get("content") or "") for turn in value)


# --- memory -------------------------------------------------------------------------------------------------------


def device_of(job: Mapping[str, Any]) -> str:
    """Where a job's models are asked: on the GPU, unless there is none or the job is to use none."""
    return "cuda" if torch.cuda.is_available() and (job.get("resources") or {}).get("gpu") != "none" else "cpu"


def reset_peak(device: str) -> None:
    """Forget the peak so far: of the GPU, or of this process where the kernel lets us."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_bytes(device: str) -> int:
    """The peak since then, in bytes."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
