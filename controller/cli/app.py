"""The `hemma` command line: puts the verbs together, and turns every failure into words and an exit code."""

from __future__ import annotations

import importlib
import io
import os
import sys
import traceback
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from controller.cli import known
from controller.cli.output import WatchedStdout
from controller.reports import console, surprise
from manifests import visible
from manifests.errors import HemmaError, UsageError
from manifests.places import demand_own_roots
from remote.stdio import abandon_stdout, output_lost, reader_is_gone, say

EXIT_INTERRUPTED = 130

# Where each verb lives: one verb loads one module, and the rest of the command line stays on the disk.
MODULES: dict[str, tuple[str, ...]] = {
    "run_help": ("run",),
    "runs": ("ps", "logs", "attach", "wait", "stop", "prune"),
    "sync": ("status", "sync"),
    "undo": ("undo",),
    "lane": ("lane",),
    "where": ("where",),
    "files": ("edit", "put", "get", "apply"),
    "commit": ("commit", "push"),
    "notebook": ("notebook",),
    "hooks": ("hooks", "hook"),
    "train": ("train", "gates", "watch", "report", "dashboard"),
    "tokenizer": ("tokenizer",),
    "export": ("export",),
    "integrate": ("integrate",),
    "slice": ("slice",),
    "rows": ("rows",),
    "drive": ("drive",),
    "colab": ("colab",),
    "verify": ("verify",),
    "memory": ("memory",),
    "runbook": ("runbook",),
    "gotcha": ("gotcha",),
    "init": ("init",),
    "config": ("config",),
    "trust": ("trust",),
    "host": ("host",),
    "doctor": ("doctor",),
}


# Verbs that change something. `run` is the user's own command, of which the host keeps a record.
CHANGING = frozenset(
    {
        "train",
        "sync",
        "commit",
        "push",
        "put",
        "edit",
        "apply",
        "integrate",
        "tokenizer",
        "export",
        "init",
        "prune",
        "undo",
    }
)
# Of verbs with several sub-commands, those that do.
CHANGING_WITHIN = frozenset(
    {
        ("slice", "issue"), ("slice", "localize"), ("colab", "dispatch"), ("colab", "run"), ("colab", "collect"),
        ("rows", "run"), ("notebook", "build"), ("hooks", "install"), ("hooks", "remove"),
        ("gotcha", "propose"), ("gotcha", "approve"), ("gotcha", "reject"),
    }
)  # fmt: skip
# What asks only, said with a verb that changes.
ASKING = frozenset({"--help", "--show", "--dry-run", "--list"})


def application(words: list[str] | None = None) -> typer.Typer:
    """The command line: with the one verb that `words` begin with, or whole when they begin with none (help, completion)."""
    made = typer.Typer(
        name="hemma",
        help="Work on the authoritative GPU host as if it were local.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    made.callback()(options)
    verb = words[0] if words else ""
    wanted = [module for module, verbs in MODULES.items() if verb in verbs] or list(MODULES)
    for module in wanted:
        importlib.import_module(f"controller.cli.{module}").register(made)
    return made


def __getattr__(name: str) -> Any:
    """`app`, the whole command line, for those who read its help."""
    if name == "app":
        return application()
    raise AttributeError(name)


def main(argv: list[str]) -> int:
    """Run the command line `argv` (without the program's name); returns the exit code.

    An expected failure is two lines on stderr and its own exit code. A surprise is one line, a report file and 70. A result
    that cannot be written is an error as well, unless its reader has gone (`| head`).
    """
    sys.stdout = watched = WatchedStdout(sys.stdout)
    try:
        code = _answered(argv)
        watched.flush()
    except OSError:  # of a result, or of an error's own JSON
        if watched.fault is None:
            raise
        code = 1
    finally:
        sys.stdout = watched.stream
    if watched.fault is None:
        return code
    abandon_stdout()
    if not reader_is_gone(watched.fault):
        say("failed", output_lost("stdout", watched.fault).message)
    return code or 1


def _answered(argv: list[str]) -> int:
    debug, rest = _leading_debug(argv)
    try:
        # `run` parses its own words, byte for byte; only its help page is made here.
        if rest[:1] == ["run"] and rest[1:] != ["--help"]:
            return _run([*(["--debug"] if debug else []), *rest[1:]])
        code = _remembered(rest, debug=debug)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except HemmaError as error:
        return _expected(error, rest, debug=debug)
    except OSError as error:
        if isinstance(sys.stdout, WatchedStdout) and sys.stdout.fault is not None:
            raise
        return _surprise(error, rest, debug=debug)
    except Exception as error:  # noqa: BLE001 - the last net: a surprise becomes a report
        return _surprise(error, rest, debug=debug)
    return code


def _remembered(words: list[str], *, debug: bool) -> int:
    """Run a verb; what it changed is noted in the project's memory, where there is one (S2-R11, S2-R16)."""
    code = 1
    try:
        if words and not words[0].startswith("-"):
            demand_own_roots()
        code = _code(typer.main.get_command(application(words))(args=words, prog_name="hemma", standalone_mode=False))
    except TyperException as refused:
        code = _misused(refused)
    except typer.Abort:
        console.err().print("Aborted!")
    except SystemExit as end:
        code = _code(end.code)
    except HemmaError as error:
        code = _expected(error, words, debug=debug)
    if words and not ASKING & set(words) and (words[0] in CHANGING or tuple(words[:2]) in CHANGING_WITHIN):
        from controller.flows import memory

        memory.note(words, code, os.getcwd(), os.environ)
    return code


def _misused(refused: TyperException) -> int:
    """Say what typer refused: its message names our own words, which may hold anything."""
    if type(refused).__name__ != "NoArgsIsHelpError":  # whose message is the help page
        refused.message = visible.one_line(refused.message)
    said = io.StringIO()
    show: Any = getattr(refused, "show")  # noqa: B009 - every exception of a parse has it, its base has not
    show(file=said)
    console.err().print(console.block(said.getvalue().rstrip("\n")))
    return refused.exit_code


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"hemma {_version()}")
        raise typer.Exit


def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", is_eager=True, callback=_show_version)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Work on the authoritative GPU host as if it were local.

    Example: hemma run -- nvidia-smi

    Exit codes: 0 done, 2 usage, 66 root missing, 67 no repository, 68 wrong directory, 70 internal error,
    75 a person must decide, 255 the host cannot be reached; `run` gives the command's own.
    """


def _run(arguments: list[str]) -> int:
    from controller.cli import run

    return run.main(arguments)


def _leading_debug(argv: list[str]) -> tuple[bool, list[str]]:
    """Whether --debug stands before the verb, and the rest: `run` then still gets its arguments byte for byte."""
    return (True, argv[1:]) if argv[:1] == ["--debug"] else (False, argv)


def _code(code: object) -> int:
    if code is None:
        return 0
    return code if isinstance(code, int) else 1


def _expected(error: HemmaError, argv: list[str], *, debug: bool) -> int:
    if debug:
        _show_traceback(error)
    console.show_error(error, as_json="--json" in argv)
    if argv and argv[0] != "run" and not isinstance(error, UsageError):
        known.say(error.message, error.code)
    return error.exit_code


def _surprise(error: Exception, argv: list[str], *, debug: bool) -> int:
    if debug:
        _show_traceback(error)
    return surprise.report(error, next((word for word in argv if not word.startswith("-")), ""))


def _show_traceback(error: Exception) -> None:
    console.err().print(console.block("".join(traceback.format_exception(error)).rstrip("\n")))


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("hemma")
    except metadata.PackageNotFoundError:
        return "(not installed)"
