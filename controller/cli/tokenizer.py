"""`hemma tokenizer`: a tokenizer for a model from scratch."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from controller.cli.run import settings_for
from controller.flows import tokenizer as flow
from controller.flows.train import manifest_on_host
from controller.reports import console
from manifests.commands import command


def register(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command("tokenizer")(tokenizer)


def tokenizer(
    manifest: Annotated[str, typer.Argument(metavar="MANIFEST", help="The training manifest, in the host's clone.")],
    *,
    vocab_size: Annotated[
        int, typer.Option("--vocab-size", metavar="N", help="At most this many tokens.", min=260, max=1 << 20)
    ] = 8192,
    host: Annotated[
        str | None, typer.Option("--host", "-H", metavar="NAME", help="Another host than the repository's own.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Train a byte-level BPE tokenizer on the dataset of a manifest, and save it where `model.tokenizer` says.

    It runs on the host, over every row. A tokenizer that is there already is never replaced.

    Example: hemma tokenizer manifests/runs/tiny-text.yaml --vocab-size 4096

    Exit codes: 0 made, 1 refused or failed, 2 usage.
    """
    settings = settings_for(host)
    read, name = manifest_on_host(settings, manifest)
    found = flow.make(settings, read, name, vocab_size, _silent if as_json else _show)
    if as_json:
        console.show_json(found)
        return
    console.show_progress("")
    said = f"{found['vocab_size']} tokens from {found['rows']} rows, {found['bytes_per_token']} bytes each"
    console.line(console.out(), "ok", f"{found['path']}: {said}")
    console.do(console.out(), command("hemma commit {} -m 'A tokenizer'", str(found["path"])))


def _show(event: dict[str, Any]) -> None:
    if event["kind"] == "progress":
        console.show_progress(f"{event['data']['rows']} rows read")


def _silent(_event: dict[str, Any]) -> None:
    """Under --json only the result counts."""
