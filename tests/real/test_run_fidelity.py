"""`hemma run` gives what the command gave: argv, stdin, both streams and the exit code, byte for byte."""

from __future__ import annotations

import base64
import json
import os
import random
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import Cli, RepositoryOnHost, wait_until

PRINT_ARGV = "import os, sys; sys.stdout.buffer.write(b'\\0'.join(map(os.fsencode, sys.argv[1:])))"
REPOSITORY = Path(__file__).resolve().parents[2]
# Every byte value, many times, in no order a line reader or a decoder would survive.
BINARY = bytes(range(256)) * 64 + random.Random(7).randbytes(300_000)


def print_argv(cli: Cli, *words: str) -> list[str]:
    python = cli.environ["HEMMA_PYTHON"]
    done = cli("run", "--", python, "-c", PRINT_ARGV, *words)
    assert (done.returncode, done.stderr) == (0, b"")
    return [os.fsdecode(word) for word in done.stdout.split(b"\0")]


# --- argv --------------------------------------------------------------------------------------------------------


@pytest.mark.req("S9-R06")
@pytest.mark.req("S9-R21")
def test_argv_arrives_byte_for_byte(hemma: Cli, hostile_argv: list[str]) -> None:
    assert print_argv(hemma, *hostile_argv) == hostile_argv


def test_a_leading_double_dash_is_optional_and_only_one_is_taken(hemma: Cli) -> None:
    assert hemma("run", "echo", "-n", "x").stdout == b"x"
    assert hemma("run", "--", "echo", "-n", "x").stdout == b"x"
    assert print_argv(hemma, "--", "a", "--") == ["--", "a", "--"]


def test_options_of_the_command_are_not_ours(hemma: Cli) -> None:
    assert hemma("run", "echo", "--json", "--timeout", "0", "-q").stdout == b"--json --timeout 0 -q\n"


@pytest.mark.req("S9-R06")
@pytest.mark.parametrize("dashes", [["--"], []])
def test_pdm_run_leaves_every_byte_as_it_is(hemma: Cli, dashes: list[str]) -> None:
    words = ["", " ", "a\nb", "it's", '"', "$HOME", "*", "{args}", "\\", "世界", "--", "-x"]
    pdm = Path(sys.executable).with_name("pdm")
    python = hemma.environ["HEMMA_PYTHON"]
    done = subprocess.run(
        [
            pdm,
            "run",
            "-p",
            REPOSITORY,
            "run-hemma",
            "-H",
            hemma.environ["HEMMA_HOST"],
            *dashes,
            python,
            "-c",
            PRINT_ARGV,
            *words,
        ],
        cwd=hemma.folder,
        env={**hemma.environ, "PDM_CHECK_UPDATE": "0"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert [os.fsdecode(word) for word in done.stdout.split(b"\0")] == words


def test_a_hundred_thousand_arguments_arrive(hemma: Cli) -> None:
    """What the host's kernel can start, Hemma can carry: 600 kB of words here."""
    words = [str(number) for number in range(100_000)]
    done = hemma("run", "--", "sh", "-c", 'echo $#; for last; do :; done; echo "$last"', "sh", *words)
    assert done.stdout == b"100000\n99999\n"


def test_arguments_larger_than_a_frame_arrive_or_are_refused_at_once(hemma: Cli) -> None:
    """The kernel takes 2 MB of words; a word of bytes outside ASCII grows sixfold in JSON."""
    words = [os.fsdecode(b"\xff" * 120_000)] * 4
    done = hemma("run", "--", "sh", "-c", 'printf "%s" "$@" | wc -c', "sh", *words, timeout_s=15)
    assert (done.returncode, done.stdout.strip()) == (0, b"480000") or done.returncode == 2, done.stderr.decode()


# --- environment -------------------------------------------------------------------------------------------------


def test_an_environment_value_arrives_byte_for_byte(hemma: Cli, hostile_argv: list[str]) -> None:
    value = hostile_argv[1]
    done = hemma("run", "-e", f"A_VALUE={value}", "--", "sh", "-c", 'printf "%s" "$A_VALUE"')
    assert (done.returncode, done.stdout) == (0, os.fsencode(value))


def test_a_named_variable_is_taken_from_here(hemma: Cli) -> None:
    done = hemma("run", "-e", "FROM_HERE", "--", "printenv", "FROM_HERE", env={"FROM_HERE": "a=b c"})
    assert done.stdout == b"a=b c\n"


def test_a_named_variable_that_is_not_set_is_a_usage_error(hemma: Cli) -> None:
    done = hemma("run", "-e", "NOT_SET_ANYWHERE", "--", "true")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"NOT_SET_ANYWHERE" in done.stderr


def test_our_own_environment_stays_here(hemma: Cli) -> None:
    assert b"STAYS_HERE" not in hemma("run", "--", "env", env={"STAYS_HERE": "1"}).stdout


# --- input -------------------------------------------------------------------------------------------------------


def test_stdin_is_binary_safe_and_ends(hemma: Cli) -> None:
    done = hemma("run", "--", "cat", stdin=BINARY)
    assert (done.returncode, done.stdout == BINARY, done.stderr) == (0, True, b"")


def test_an_empty_stdin_ends_at_once(hemma: Cli) -> None:
    assert hemma("run", "--", "wc", "-c", stdin=b"").stdout.strip() == b"0"


def test_a_command_that_reads_no_input_ends_without_its_end(hemma: Cli) -> None:
    child = hemma.start("run", "--", "sh", "-c", "echo done; exit 4")
    assert child.stdout is not None
    assert child.stdout.read() == b"done\n"  # our stdin is still open
    assert child.wait(20) == 4


def test_a_command_that_reads_a_part_of_a_long_input_ends(hemma: Cli) -> None:
    done = hemma("run", "--", "head", "-c", "5", stdin=b"x" * 5_000_000)
    assert (done.returncode, done.stdout) == (0, b"xxxxx")


def test_a_dialogue_is_not_held_back(hemma: Cli) -> None:
    child = hemma.start("run", "--", "cat")
    assert child.stdin is not None
    assert child.stdout is not None
    for line in (b"one\n", b"two\n", b"three\n"):
        child.stdin.write(line)
        assert child.stdout.read(len(line)) == line
    child.stdin.close()
    assert child.wait(20) == 0


def test_no_stdin_leaves_ours_to_the_next_program(hemma: Cli) -> None:
    line = " ".join(shlex.quote(os.fspath(word)) for word in map(os.fsdecode, hemma.argv("run", "-n", "--", "cat")))
    done = subprocess.run(
        ["bash", "-c", f"{line}; cat"],
        env=hemma.environ,
        cwd=hemma.folder,
        input=b"mine",
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.stdout == b"mine"


@pytest.mark.parametrize("closed", ["<&-", "0<&- 2>&-"])
def test_closed_streams_of_ours_do_no_harm(hemma: Cli, closed: str) -> None:
    """A descriptor that is free is given to the next socket; no byte of the command may land there."""
    argv = [os.fsdecode(word) for word in hemma.argv("run", "--", "sh", "-c", "cat; echo out; echo err >&2; exit 5")]
    done = subprocess.run(
        ["bash", "-c", f"{shlex.join(argv)} {closed}"],
        env=hemma.environ,
        cwd=hemma.folder,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (5, b"out\n")


def test_a_closed_stdout_of_ours_still_gives_the_exit_code(hemma: Cli) -> None:
    argv = [os.fsdecode(word) for word in hemma.argv("run", "--", "sh", "-c", "echo out; exit 5")]
    done = subprocess.run(
        ["bash", "-c", f"{shlex.join(argv)} >&-"],
        env=hemma.environ,
        cwd=hemma.folder,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode in (5, 141)


# --- output ------------------------------------------------------------------------------------------------------


def test_streams_are_apart_and_byte_exact(hemma: Cli) -> None:
    line = "head -c 200000 /dev/zero; printf 'no line end\\377\\0' >&2; printf '\\200\\0\\r\\n'"
    done = hemma("run", "--shell", line)
    assert done.stdout == b"\0" * 200_000 + b"\x80\0\r\n"
    assert done.stderr == b"no line end\xff\0"


def test_output_comes_as_it_is_written(hemma: Cli) -> None:
    child = hemma.start("run", "--", "sh", "-c", "printf begun; read line; echo $line")
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.read(5) == b"begun"  # without a line end, while the command waits
    child.stdin.write(b"on\n")
    assert child.stdout.read() == b"on\n"
    assert child.wait(20) == 0


def test_a_reader_that_leaves_ends_the_command_by_sigpipe(hemma: Cli) -> None:
    argv = shlex.join(os.fsdecode(word) for word in hemma.argv("run", "--", "sh", "-c", "yes; echo no >&2"))
    done = subprocess.run(
        ["bash", "-c", f"{argv} | head -n 1; exit ${{PIPESTATUS[0]}}"],
        env=hemma.environ,
        cwd=hemma.folder,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.stdout == b"y\n"
    argv = shlex.join(os.fsdecode(word) for word in hemma.argv("run", "--", "yes"))
    done = subprocess.run(
        ["bash", "-c", f"{argv} | head -n 1; exit ${{PIPESTATUS[0]}}"],
        env=hemma.environ,
        cwd=hemma.folder,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (141, b"y\n")


def test_a_background_child_does_not_hold_the_end_back(hemma: Cli, tmp_path: Path) -> None:
    done_file = tmp_path / "late"
    line = f"(sleep 2; echo late; touch {shlex.quote(str(done_file))}) & echo early; exit 6"
    done = hemma("run", "--shell", line, timeout_s=20)
    assert (done.returncode, done.stdout) == (6, b"early\n")
    assert not done_file.exists()
    wait_until(done_file.exists, 10, "the background child's work")


def test_a_command_that_closes_its_output_early_goes_on(hemma: Cli, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    line = f"echo first; exec >&- 2>&-; sleep 0.6; echo whole > {shlex.quote(str(proof))}; exit 9"
    done = hemma("run", "--shell", line)
    assert (done.returncode, done.stdout, proof.read_text()) == (9, b"first\n", "whole\n")


# --- what we say ourselves ---------------------------------------------------------------------------------------


def test_json_holds_both_streams_and_the_end(hemma: Cli) -> None:
    done = hemma("run", "--json", "--", "sh", "-c", "printf 'caf\\303\\251'; printf '\\377' >&2; exit 7")
    told = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (7, b"")
    assert (told["exit_code"], told["signal"], told["reason"]) == (7, None, "exited")
    assert (told["stdout"], told["stdout_bytes"], told["stdout_truncated"]) == ("café", 5, False)
    assert base64.b64decode(told["stderr_base64"]) == b"\xff"
    assert told["run_id"]


def test_json_of_a_refusal_is_json_too(hemma: Cli, tmp_path: Path) -> None:
    done = hemma("run", "--json", "--", "true", env={"HEMMA_ROOT": str(tmp_path / "none")})
    told = json.loads(done.stdout)
    assert (done.returncode, told["error"], told["exit_code"]) == (66, "root-missing", 66)
    assert told["remedy"]


def test_quiet_says_nothing_of_our_own(hemma: Cli) -> None:
    loud = hemma("run", "--timeout", "0.3", "--", "sleep", "20")
    quiet = hemma("run", "--quiet", "--timeout", "0.3", "--", "sleep", "20")
    assert b"--timeout" in loud.stderr
    assert (loud.returncode, quiet.returncode, quiet.stdout, quiet.stderr) == (124, 124, b"", b"")


def test_cwd_is_relative_to_the_root(hemma: Cli, repo_on_host: RepositoryOnHost) -> None:
    folder = repo_on_host.path / "a folder" / "世界"
    folder.mkdir(parents=True, exist_ok=True)
    assert hemma("run", "--", "pwd").stdout == os.fsencode(f"{repo_on_host.path}\n")
    assert hemma("run", "--cwd", "a folder/世界", "--", "pwd").stdout == os.fsencode(f"{folder}\n")
