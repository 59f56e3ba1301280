"""Output that cannot be written is an error, always; a reader that has gone is none."""

from __future__ import annotations

import os
import shlex
import subprocess

import pytest

from tests.support import Cli

pytestmark = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")


def to(cli: Cli, redirection: str, *arguments: str) -> tuple[int, str]:
    """(exit code, what is still to be read on stdout and stderr) of the CLI with this redirection."""
    line = f"{shlex.join(map(str, cli.argv(*arguments)))} {redirection}"
    done = subprocess.run(
        ["bash", "-c", line],
        env=cli.environ,
        cwd=cli.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.decode()


@pytest.mark.parametrize(
    "command", ["echo hello", "yes", "true; exec >&-; exit 0"], ids=["short", "endless", "nothing"]
)
def test_a_run_whose_output_is_lost_is_no_success(hemma: Cli, command: str) -> None:
    code, said = to(hemma, ">/dev/full", "run", "--shell", command)
    if command.startswith("true"):
        assert (code, said) == (0, "")
    else:
        assert code == 1
        assert said.startswith("failed   stdout cannot be written: No space left on device\ndo       ")
        assert "hemma logs " in said


def test_the_run_itself_is_whole_on_the_host(hemma: Cli) -> None:
    _, said = to(hemma, ">/dev/full", "run", "--shell", "echo hello; echo error >&2")
    run_id = said.split("hemma logs ")[1].split()[0]
    assert hemma("logs", run_id).stdout == b"hello\n"
    for verb in ("logs", "attach"):
        assert to(hemma, ">/dev/full", verb, run_id)[0] == 1


def test_stderr_that_is_lost_is_told_by_the_exit_code(hemma: Cli) -> None:
    assert to(hemma, "2>/dev/full", "run", "--shell", "echo hello; echo error >&2") == (1, "hello\n")
    assert to(hemma, ">/dev/full 2>&1", "run", "--shell", "echo hello")[0] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--json", "--", "true"),
        ("run", "--json"),
        ("run", "--help"),
        ("run", "--detach", "--", "true"),
        ("ps",),
        ("lane", "--json", "x.py"),
        ("--version",),
        ("--help",),
    ],
    ids=" ".join,
)
def test_no_verb_takes_a_lost_result_for_success(hemma: Cli, arguments: tuple[str, ...]) -> None:
    # Where the error shows: in the write itself, or when what was held back is written.
    hemma.environ["PYTHONUNBUFFERED"] = "1" if len(arguments) % 2 else ""
    code, said = to(hemma, ">/dev/full", *arguments)
    assert code not in (0, 70)
    assert "stdout cannot be written: No space left on device" in said
    assert "Traceback" not in said
    assert "Exception" not in said


@pytest.mark.parametrize(
    "arguments", [("run", "--shell", "yes"), ("ps", "--json"), ("--help",), ("run", "--json", "--", "true")]
)
def test_a_reader_that_has_gone_is_told_nothing(hemma: Cli, arguments: tuple[str, ...]) -> None:
    assert to(hemma, "| head -n 0", *arguments) == (0, "")
