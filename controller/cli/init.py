"""`hemma init`: make any repository one that Hemma knows."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from controller.flows import hosts_file, verify_ci
from controller.flows import init as flow
from controller.flows.host_paths import on_host
from controller.reports import console
from manifests.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add this verb to the command line."""
    app.command("init")(init)


def init(
    host: Annotated[
        str | None, typer.Option(help="Host of your config.toml, or an ssh alias.", metavar="ALIAS")
    ] = None,
    root: Annotated[str | None, typer.Option(help="The repository's path on the host.", metavar="PATH")] = None,
    env: Annotated[list[str] | None, typer.Option(help="For every command on the host.", metavar="NAME=VALUE")] = None,
    lane: Annotated[list[str] | None, typer.Option(help="Where a path's edits belong.", metavar="GLOB=LANE")] = None,
    force: Annotated[bool, typer.Option("--force", help="Change keys that say something else.")] = False,
    ci: Annotated[bool, typer.Option("--ci", help="Also the workflow and hook that run hemma verify.")] = False,
) -> None:
    """Write [tool.hemma] into pyproject.toml.

    And the run-hemma script of PDM. What is there already stays.

    Example: hemma init --host gpu-box --root '~/work/repo'

    With --ci and nothing else: only a GitHub workflow and a pre-commit hook that run `hemma verify`.

    Running it again changes nothing. Exit codes: 0 done, 2 the request or the file cannot be read.
    """
    start = os.getcwd()
    path = flow.target(start)
    if ci:
        _say_changes(os.path.dirname(path), verify_ci.write(os.path.dirname(path)))
        if not (host or root or env or lane):
            return
    text = flow.read(path)
    wanted = flow.Wanted(host, root, _pairs(env, "--env", "NAME=VALUE"), _pairs(lane, "--lane", "GLOB=LANE"))
    new, changes = flow.edited(text, _completed(wanted, text, path), path, force=force)
    if changes:
        flow.apply(path, new)
    _say_changes(path, changes)
    console.out().print("next: hemma host check", style="dim")


def _say_changes(where: str, changes: list[str]) -> None:
    out = console.out()
    console.line(out, "ok", f"{where}: {'changed' if changes else 'nothing to change'}")
    for change in changes:
        out.print(f"  + {console.printable(change)}", markup=False)


def _pairs(given: list[str] | None, option: str, form: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in given or []:
        # A glob may hold `=`, a value may too: names end at the first one, globs at the last.
        name, equals, value = text.partition("=") if option == "--env" else text.rpartition("=")
        if not equals or not name:
            raise UsageError(f"{option} needs {form}", remedy=f"hemma init {option} {form}")
        pairs[name] = value
    return pairs


def _completed(wanted: flow.Wanted, text: str | None, path: str) -> flow.Wanted:
    """What was asked for, with host and root from the file or the config, from a person at a terminal, or refused."""
    said = flow.present(text, path)
    default = hosts_file.read(hosts_file.config_path())[1].default_host
    host, root = wanted.host, on_host(wanted.root)
    if host is None and said.host is None:
        host = _ask("ssh alias of the host", default) if _is_interactive() else None
        if host is None and default is None:
            raise UsageError("no host is given", remedy="hemma init --host ALIAS --root PATH")
    if root is None and said.root is None:
        usual = f"~/work/{os.path.basename(os.path.dirname(path))}"
        if not _is_interactive():
            raise UsageError(
                "no root is given: the repository's path on the host", remedy=f"hemma init --root '{usual}'"
            )
        root = _ask("path of the repository on the host", usual)
    return flow.Wanted(host, root, wanted.env, wanted.lanes)


def _is_interactive() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _ask(question: str, default: str | None) -> str:
    return str(typer.prompt(question, default=default, err=True))
