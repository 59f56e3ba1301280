"""`hemma integrate`: bring a trained adapter home, checked against its base."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from controller.cli.run import settings_for
from controller.flows import integrate as flow
from controller.flows.train import manifest_on_host
from controller.reports import console
from manifests.commands import command


def register(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command("integrate")(integrate)


def integrate(
    adapter: Annotated[
        str, typer.Argument(metavar="ADAPTER", help="Its folder on the host, from the root or absolute.")
    ],
    *,
    manifest: Annotated[str, typer.Option("--manifest", "-m", metavar="FILE", help="The manifest it was trained by.")],
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Its name; else the manifest's.")] = None,
    sha256: Annotated[
        str | None, typer.Option("--sha256", metavar="DIGEST", help="The digest it must have; else its own list says.")
    ] = None,
    host: Annotated[
        str | None, typer.Option("--host", "-H", metavar="NAME", help="Another host than the repository's own.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Check an adapter on the host against its base, and register it in adapters/registry.json.

    Its bytes, its base, its weights, and the answers to the manifest's known prompts (`integrate.checks`).
    Nothing is registered that fails; the registry only grows.

    Example: hemma integrate models/tiny/last --manifest manifests/runs/tiny.yaml

    Exit codes: 0 registered, 1 a check did not hold or it was refused, 75 nothing proves its bytes.
    """
    settings = settings_for(host)
    read, path = manifest_on_host(settings, manifest)
    request = flow.request_of(read, path, adapter, called=name, sha256=sha256)
    found = flow.integrate(settings, request, _silent if as_json else _show)
    if as_json:
        console.show_json(found)
        return
    entry = found["entry"]
    console.line(
        console.out(), "ok", f"{entry['name']} is entry {entry['seq']} of {found['registry']}: {entry['path']}"
    )
    console.do(console.out(), command("hemma commit {}", str(found["registry"])))


def _show(event: dict[str, Any]) -> None:
    if event["kind"] != "check":
        return
    data = event["data"]
    console.line(console.err(), "ok" if data["held"] else "fail", f"{data['name']}: {data['fact']}")


def _silent(_event: dict[str, Any]) -> None:
    """Under --json the checks are in the result."""
