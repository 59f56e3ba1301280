"""The help page of `hemma run`, made from the option table that its own fast parser uses."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from controller.cli.run_options import OPTIONS, Option


def register(app: typer.Typer) -> None:
    """Add the page to the command line."""
    app.command("run")(command())


def command() -> Callable[..., None]:
    """A function that typer can make the page of; it is never called, since `run` does not parse through typer."""

    def run(**_: object) -> None:
        """Run a command on the host, in the repository's root there.

        Examples: hemma run -- python train.py --epochs 3

        hemma run --shell "nvidia-smi | head -15"

        Options end at the command. Exit codes: the command's own, 128+n when signal n ended it, 2 usage,
        66 root missing, 67 root is no git repository, 68 wrong directory, 124 timed out, 255 connection failed.
        """

    words = inspect.Parameter("command", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_words())
    found = [_parameter(option) for option in OPTIONS if option.name != "help"]
    run.__signature__ = inspect.Signature([words, *found])  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in (words, *found)}
    return run


def show() -> int:
    """Print the page; returns 0. For `run` itself, which must not import the whole command line."""
    page = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    page.command()(command())
    typer.main.get_command(page)(args=["--help"], prog_name="hemma run", standalone_mode=False)
    return 0


def _words() -> Any:
    return Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COMMAND", help="The command and its arguments; `--` may stand before it.", show_default=False
        ),
    ]


def _parameter(option: Option) -> inspect.Parameter:
    declared = typer.Option(*option.flags, help=option.help, metavar=option.value, show_default=False)
    kind: Any = bool if option.value is None else list[str] | None if option.is_repeated else str | None
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=False if option.value is None else None,
        annotation=Annotated[kind, declared],
    )
