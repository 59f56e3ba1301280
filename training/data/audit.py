"""The data audit: every row of every split, read once, judged by lanes, written as evidence and as a page (S5).

    evidence/data_audit.json    all numbers
    evidence/data_audit.html    the same for people, self-contained

Memory stays bounded whatever the size of the data: fingerprints of 64 bits, histograms, a few samples (P9).
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lanes.data_audit import REQUIRED, FormatVerdict, judge_format
from lanes.data_content import ContentCheck, ContentFacts, judge_content
from lanes.data_values import Kind, kind_of
from lanes.token_loss import LengthRule, rule_for
from manifests.files import atomic_write
from training.data.audit_page import page
from training.data.encoding import IdsDiffer
from training.data.row_audit import OnProgress, Rendering, RowAudit, shown
from training.data.scanning import Scan
from training.data.sources import Source, SourceMissing, open_eval_source, open_source
from training.data.splitting import HoldOut, duplicates, shared
from training.data.tokens import TokenCounter

FIRST_ROWS = 1000
MAX_ISSUES = 40


@dataclass
class _Request:
    """What is asked: the job's parts that the audit goes by."""

    method: str
    dataset: Mapping[str, Any]
    rule: LengthRule
    thresholds: Mapping[str, float]
    accepts: frozenset[str]
    seed: int
    tokenizer: Any
    is_fast: bool = True


@dataclass
class _Found:
    """What one pass found: the verdict that it rendered rows by, and the counts of both splits."""

    verdict: FormatVerdict
    is_chat: bool
    train: RowAudit
    held_out: RowAudit | None
    template_fault: str | None


def audit(
    job: Mapping[str, Any], folder: Path, tokenizer: Any = None, on_progress: OnProgress | None = None
) -> dict[str, Any]:
    """Scan the dataset of `job` as a whole; returns what evidence/data_audit.json then holds.

    `verdict` is compatible, mappable (`mapping` makes it so) or incompatible; `checks` (name, held, fact, mend) say whether
    the stage passes. Without a tokenizer no tokens are counted. Raises SourceMissing when there is nothing to read.
    """
    begun, root = time.monotonic(), Path(job["root"])
    request = _request(job, tokenizer)
    source, eval_source = open_source(request.dataset, root), open_eval_source(request.dataset, root)
    sources = [each for each in (source, eval_source) if each is not None]
    with ThreadPoolExecutor(1) as beside:
        digests = beside.submit(lambda: [each.digest() for each in sources])  # hashing leaves the interpreter free
        try:
            found = _passes(request, source, eval_source, on_progress)
        except IdsDiffer:
            found = _passes(replace(request, is_fast=False), source, eval_source, on_progress)
    facts = _facts(request, found)
    checks = (*_format_checks(request, found), *judge_content(facts, request.thresholds, request.accepts))
    result = _result(job, request, found, facts, checks)
    result["sources"] = [_of_source(*each) for each in zip(sources, digests.result(), strict=True)]
    result["seconds"] = round(time.monotonic() - begun, 3)
    _write(folder, result)
    return result


def _passes(request: _Request, source: Source, eval_source: Source | None, on_progress: OnProgress | None) -> _Found:
    found = _pass(request, _first_kinds(source), source, eval_source, on_progress)
    kinds = found.train.scan.kinds()
    if _plan(request, kinds) != (found.verdict, found.is_chat):
        # The first rows were not like the rest: what was rendered by them says nothing.
        found = _pass(request, kinds, source, eval_source, on_progress)
    return found


def _request(job: Mapping[str, Any], tokenizer: Any) -> _Request:
    arguments = job.get("arguments") or {}
    return _Request(
        method=job["method"],
        dataset=job["dataset"],
        rule=rule_for(job["method"], int(job["sequence_length"]), job.get("packing") or "none", arguments),
        thresholds=job.get("thresholds") or {},
        accepts=frozenset(job.get("accept") or {}),
        seed=int(job.get("seed") or 0),
        tokenizer=tokenizer,
    )


def _first_kinds(source: Source) -> dict[str, Kind]:
    scan = Scan()
    scan.add([row for _, row in itertools.islice(source.rows(), FIRST_ROWS)])
    return scan.kinds()


def _plan(request: _Request, kinds: Mapping[str, Kind]) -> tuple[FormatVerdict, bool]:
    """(verdict, whether rows are conversations) for columns of these kinds."""
    verdict = judge_format(request.method, kinds, request.dataset.get("mapping"))
    return verdict, verdict.is_usable and Rendering(verdict, kinds).is_chat


def _pass(
    request: _Request,
    kinds: Mapping[str, Kind],
    source: Source,
    eval_source: Source | None,
    on_progress: OnProgress | None,
) -> _Found:
    verdict, is_chat = _plan(request, kinds)
    rendering = Rendering(verdict, kinds) if verdict.is_usable else None
    counter, fault = None, None
    if rendering is not None and request.tokenizer is not None:
        counter = TokenCounter(request.tokenizer, request.method, verdict.shape, is_fast=request.is_fast)
        fault = counter.template_fault() if is_chat else None
    counter = None if fault else counter
    train = RowAudit(request.method, rendering, counter, request.rule, request.seed)
    train.run(source, on_progress)
    held_out = None
    if eval_source is not None:
        held_out = RowAudit(request.method, rendering, counter, request.rule, request.seed)
        held_out.run(eval_source, on_progress)
    return _Found(verdict, is_chat, train, held_out, fault)


def _facts(request: _Request, found: _Found) -> ContentFacts:
    train, other = found.train, found.held_out
    fraction = float(request.dataset.get("eval_fraction") or 0.0) if other is None else 0.0
    taken = HoldOut(fraction, train.found).count(train.found) if fraction else 0
    splits = [train] if other is None else [train, other]

    def of(name: str) -> int:
        return sum(split.counts[name] for split in splits)

    examples = {name: text for split in reversed(splits) for name, text in split.examples.items()}
    is_counted = request.tokenizer is not None and found.verdict.is_usable and not found.template_fault
    return ContentFacts(
        train_rows=train.usable_rows - taken if found.verdict.is_usable else 0,
        eval_rows=(taken if other is None else other.usable_rows) if found.verdict.is_usable else 0,
        unreadable_rows=of("unreadable"),
        invalid_rows=of("invalid"),
        refused_rows=of("refused"),
        odd_rows=of("odd"),
        untrainable_rows=of("untrainable"),
        total_tokens=of("tokens") if is_counted else None,
        lost_tokens=of("lost"),
        pairs=of("pairs"),
        equal_pairs=of("equal"),
        empty_sides=of("empty-side"),
        leaked_rows=shared(other.found, train.found) if other is not None else 0,
        conversations=of("conversations"),
        template_fault=found.template_fault,
        is_eval_wanted=other is not None or fraction > 0,
        examples=examples,
    )


def _format_checks(request: _Request, found: _Found) -> list[ContentCheck]:
    verdict = found.verdict
    fact = f"{verdict.verdict}: {'; '.join(verdict.reasons) or ' + '.join(verdict.shape)}"
    mend = "" if verdict.is_usable else f"dataset.mapping, or a dataset with {REQUIRED[request.method]}"
    checks = [ContentCheck("format", verdict.is_usable, fact, mend)]
    if verdict.is_usable:
        checks.append(_critic(request, found))
    return checks


def _critic(request: _Request, found: _Found) -> ContentCheck:
    """The second pass (S5-R13): what was *rendered* is judged again, as if it were a dataset of its own. No rows: a no (D11)."""
    rows = [*found.train.kept, *(found.held_out.kept if found.held_out else [])]
    faults: dict[str, None] = {}
    for row in rows:
        kinds: dict[str, Kind] = {name: kind_of(row.get(name)) for name in found.verdict.shape}
        again = judge_format(request.method, kinds)
        if again.verdict != "compatible" or set(again.shape) != set(found.verdict.shape):
            faults[f"rendered rows hold {', '.join(f'{name}: {kind}' for name, kind in kinds.items())}"] = None
    if not rows:
        faults["no row could be rendered"] = None
    fact = (
        "; ".join(itertools.islice(faults, 3)) or f"{len(rows)} rendered rows from all over the data are what is needed"
    )
    return ContentCheck("critic", not faults, fact, "dataset.mapping: check it against the samples" if faults else "")


def _result(
    job: Mapping[str, Any],
    request: _Request,
    found: _Found,
    facts: ContentFacts,
    checks: tuple[ContentCheck, ...],
) -> dict[str, Any]:
    verdict, train = found.verdict, found.train
    copies = duplicates(train.found)
    return {
        "verdict": verdict.verdict,
        "format_compatible": verdict.is_usable,
        "required_fields": REQUIRED[request.method],
        "mapping_needed": bool(verdict.mapping),
        "mapping": dict(verdict.mapping),
        "shape": list(verdict.shape),
        "reasons": list(verdict.reasons),
        "passed": all(check.held for check in checks),
        "checks": [check.as_dict() for check in checks],
        "method": request.method,
        "sequence_length": job["sequence_length"],
        "packing": request.rule.packing,
        "splits": {"train": facts.train_rows, "eval": facts.eval_rows},
        "columns": [column.as_dict(train.scan.rows) for column in train.scan.columns.values()],
        "samples": [shown(row) for row in train.samples],
        "rendered_samples": [shown(row) for row in train.kept[:3]],
        "tokens": _tokens(train, facts),
        "longest_rows": [{"tokens": size, "place": place} for size, place in sorted(train.longest, reverse=True)],
        "duplicates": copies,
        "notes": _notes(found, facts, copies),
        "issues": [f"{check.name}: {check.fact}" for check in checks if not check.held][:MAX_ISSUES],
    }


def _of_source(source: Source, digest: str) -> dict[str, Any]:
    return {
        "name": source.name,
        "format": source.format,
        "split": source.split,
        "splits": list(source.splits),
        "digest": digest,
        "files": source.report(),
        "unreadable": dict(source.faults.counts),
        "first_unreadable": source.faults.first,
    }


def _tokens(train: RowAudit, facts: ContentFacts) -> dict[str, Any] | None:
    if facts.total_tokens is None:
        return None
    return {
        **train.tokens.as_dict(),
        "lost": facts.lost_tokens,
        "share_lost": round(facts.lost_tokens / facts.total_tokens, 9) if facts.total_tokens else 0.0,
        "trainable": train.counts["trainable"],
        "rows_too_long": train.counts["long"],
        "rows_without_loss": train.counts["masked"],
    }


def _notes(found: _Found, facts: ContentFacts, copies: int) -> list[str]:
    """What a person should know and no check refuses: duplicates, imbalance, missing values, outliers, odd turns (S5-R03)."""
    train = found.train
    notes = [f"{count} conversations: {what}" for what, count in train.notes.most_common()]
    if copies:
        notes.append(f"{copies} of {train.found.rows} rows repeat an earlier one ({copies / train.found.rows:.1%})")
    for column in train.scan.columns.values():
        notes += _notes_of(column.as_dict(train.scan.rows), train.scan.rows)
    if train.counts["empty-answer"]:
        notes.append(f"{train.counts['empty-answer']} rows have an empty text or answer")
    if train.counts["empty-prompt"]:
        notes.append(f"{train.counts['empty-prompt']} rows have an empty prompt")
    if train.found.share < 1:
        notes.append(f"duplicates and leakage are counted on {train.found.share:.1%} of the rows, evenly chosen")
    if facts.total_tokens is None:
        notes.append("tokens were not counted: no tokenizer, no usable format, or no usable chat template")
    return notes


def _notes_of(column: Mapping[str, Any], rows: int) -> list[str]:
    notes: list[str] = []
    others = {kind: count for kind, count in column["kinds"].items() if kind not in {column["kind"], "null"}}
    if others:
        notes.append(f"{column['name']}: mostly {column['kind']}, but also {others}")
    if column["missing"]:
        notes.append(f"{column['name']}: missing in {column['missing']} of {rows} rows")
    if column["empty"]:
        notes.append(f"{column['name']}: empty in {column['empty']} rows")
    if column.get("imbalance", 1) > 3 and column["class_count"] <= 20:
        notes.append(f"{column['name']}: the largest class has {column['imbalance']} times the rows of the smallest")
    if column["sizes"].get("outliers"):
        notes.append(
            f"{column['name']}: {column['sizes']['outliers']} values are longer than {column['sizes']['outlier_limit']}"
        )
    return notes


def _write(folder: Path, result: dict[str, Any]) -> None:
    evidence = folder / "evidence"
    body = json.dumps(result, indent=2, default=str).encode("ascii") + b"\n"
    atomic_write(str(evidence / "data_audit.json"), body)
    atomic_write(str(evidence / "data_audit.html"), page(result).encode("utf-8", "replace"))


__all__ = ["SourceMissing", "audit"]
