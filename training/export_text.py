"""An export package as training text: the same words every time, with a fallback for what a pattern does not have (S5-R17).

Here are also the instructions that travel in the package, for whoever opens it without this program.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from manifests.errors import HemmaError
from manifests.export import ExportPackage, Pattern, Step
from manifests.files import atomic_write, read_json

Shape = Literal["text", "prompt-completion", "messages"]
SHAPES: tuple[Shape, ...] = ("text", "prompt-completion", "messages")
ABOUT = (
    "What a repository knows, gathered by `hemma export`: sections of its pages, its commits with the patches of fixes, errors "
    "of its logs with the smallest mend, and questions with their answers. One pattern is {id, source, category, context, "
    "content, decision, provenance}. Secrets are masked as [redacted: kind]. `sources` counts what each source gave, and says "
    "why one gave nothing."
)
MAPPING = (
    "text: `category: context`, a blank line, the content, a blank line, `Decision: ` and the decision; a part that is empty is "
    "left out, and content that is absent falls back to context and decision alone. prompt-completion: the prompt is `category: "
    "context`, the completion the decision, or else the content; with content and decision both there, the content ends the "
    "prompt. A pattern without context, or with nothing to complete, is left out. messages: the same as user and assistant."
)


def steps() -> tuple[Step, ...]:
    """What to do with a package, in order; a command where there is one."""
    told = (
        ("Look at it", "Read `sources`: what was found, what was skipped and why. Look for what must not leave.", None),
        ("Make training text", "One JSON object in a line, by `mapping`.", "hemma export --from export.json --text data/text.jsonl"),
        ("Write the request", "Model, dataset, method and sequence length are frozen by it.", "hemma train --example > manifests/runs/NAME.yaml"),
        ("Train behind gates", "Data audit, smoke and preflight come before the job.", "hemma train manifests/runs/NAME.yaml"),
        ("Read the result", "Metrics beside those of the base model under the same conditions.", "hemma gates last"),
        ("Integrate the adapter", "Digest, base and known prompts are checked before it is registered.", "hemma integrate ADAPTER --manifest manifests/runs/NAME.yaml"),
    )  # fmt: skip
    return tuple(
        Step(number=number, title=title, text=text, command=command)
        for number, (title, text, command) in enumerate(told, 1)
    )


def row(pattern: Pattern, shape: Shape = "text") -> dict[str, Any] | None:
    """The pattern as one row of training text in this shape, None when it says nothing in it; see MAPPING (S5-R17)."""
    return _text(pattern) if shape == "text" else _pair(pattern, shape)


def rows(patterns: Sequence[Pattern], shape: Shape = "text") -> Iterator[dict[str, Any]]:
    """The rows of these patterns, in their order."""
    return (made for made in (row(pattern, shape) for pattern in patterns) if made is not None)


def write_text(package: ExportPackage, path: Path, shape: Shape = "text") -> dict[str, int]:
    """Write the rows as JSON lines, in one step; returns {"rows", "left_out"}. Raises HemmaError when there is no row."""
    made = [json.dumps(each, ensure_ascii=False) for each in rows(package.patterns, shape)]
    if not made:
        raise HemmaError(
            f"none of {len(package.patterns)} patterns says anything as {shape}",
            remedy="hemma export --text FILE --shape text",
            code="nothing-to-train-on",
        )
    atomic_write(str(path), ("\n".join(made) + "\n").encode("utf-8"), mode=None)
    return {"rows": len(made), "left_out": len(package.patterns) - len(made)}


def read_package(path: Path) -> ExportPackage:
    """The package in a file, checked against its own digest and counts. Raises HemmaError, code file-missing or file-broken."""
    return ExportPackage.parse(read_json(str(path)), str(path))


def records(package: ExportPackage) -> dict[str, list[Any]]:
    """The patterns as a vector store takes them: ids, documents, metadata with the category (S10-R15)."""
    known = [(pattern, made["text"]) for pattern in package.patterns if (made := row(pattern)) is not None]
    return {
        "ids": [pattern.id for pattern, _ in known],
        "documents": [text for _, text in known],
        "metadatas": [
            {"category": each.category, "source": each.source, "path": each.provenance.path} for each, _ in known
        ],
    }


def _text(pattern: Pattern) -> dict[str, Any] | None:
    said = [pattern.content.strip(), f"Decision: {pattern.decision.strip()}" if pattern.decision.strip() else ""]
    if not any(said) and not pattern.context.strip():
        return None
    return {"text": "\n\n".join(part for part in (_head(pattern), *said) if part)}


def _pair(pattern: Pattern, shape: Shape) -> dict[str, Any] | None:
    content, decision = pattern.content.strip(), pattern.decision.strip()
    if not pattern.context.strip() or not (content or decision):
        return None
    prompt = f"{_head(pattern)}\n\n{content}" if content and decision else _head(pattern)
    completion = decision or content
    if shape == "prompt-completion":
        return {"prompt": prompt + "\n\n", "completion": completion}
    return {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]}


def _head(pattern: Pattern) -> str:
    context = pattern.context.strip()
    return f"{pattern.category}: {context}" if context else pattern.category
